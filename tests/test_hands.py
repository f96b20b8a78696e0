"""What the tools on an answer are worth, on two tiny photos: the counting, not the model."""

import json

import numpy as np
import pytest
from PIL import Image

from ovs_core.labelled.datasets import FOLDER, open_dataset
from recipes.hands.__main__ import main
from recipes.hands.studies import exemplars, lone_words, refiners, suggestions, train_boxes
from recipes.mini.exam import questions


@pytest.fixture
def root(tmp_path):
    random = np.random.default_rng(0)
    for split in ("train2017", "val2017"):
        for kind in ("images", "masks"):
            (tmp_path / kind / split).mkdir(parents=True)
        for name in ("a", "b"):
            pixels = random.integers(0, 256, (32, 48, 3)).astype(np.uint8)
            mask = np.zeros((32, 48), np.uint8)
            mask[:, 24:] = 1 if name == "a" else 2
            Image.fromarray(pixels).save(tmp_path / "images" / split / f"{name}.jpg")
            Image.fromarray(mask).save(tmp_path / "masks" / split / f"{name}.png")
    (tmp_path / "classes.txt").write_text("0 background\n1 person\n2 dog\n3 cat\n", encoding="utf-8")
    box = {"image_id": 7, "iscrowd": 0}
    instances = {
        "images": [{"id": 7, "file_name": "a.jpg", "width": 48, "height": 32}],
        "categories": [{"id": 1, "name": "person"}, {"id": 18, "name": "dog"}, {"id": 17, "name": "cat"}],
        "annotations": [
            {**box, "id": 1, "category_id": 1, "area": 99, "bbox": [0, 0, 10, 10]},
            {**box, "id": 2, "category_id": 1, "area": 500, "bbox": [24, 2, 25, 28]},
            {**box, "id": 3, "category_id": 18, "area": 1500, "bbox": [0, 0, 48, 32]},
            {**box, "id": 4, "category_id": 18, "area": 90, "bbox": [1, 2, 10, 9]},
        ],
    }
    (tmp_path / "instances.json").write_text(json.dumps(instances), encoding="utf-8")
    return tmp_path


def test_the_largest_box_that_is_not_the_whole_photo_is_taken(root):
    found = train_boxes(root, ("person", "dog", "cat"))
    photo = root / "images" / "train2017" / "a.jpg"
    assert found == {"person": (photo, (24, 2, 48, 30)), "dog": (photo, (1, 2, 11, 11))}
    (root / "instances.json").write_text("[]", encoding="utf-8")
    with pytest.raises(ValueError, match="holds no instances"):
        train_boxes(root, ("dog",))


def test_every_study_counts_and_goes_on_where_it_was(engine, root, tmp_path):
    dataset = open_dataset(FOLDER, root, split="val2017")
    told, out = [], tmp_path / "out"
    exam = questions("coco", dataset)[0]

    def all_lines():
        yield from refiners(engine, [exam], out, told.append)
        yield from exemplars(engine, root, dataset, ("dog",), out, told.append)
        yield from suggestions(engine, dataset, out, told.append)
        yield from lone_words(engine, dataset, out, told.append)

    lines = list(all_lines())
    asked = {(line.study, line.what) for line in lines}
    assert asked >= {("refiners", "none"), ("refiners", "guided"), ("exemplars", "word and box")}
    assert {line.what for line in lines if line.study == "lone word"} == {"rule off", "rule on"}
    for line in lines:
        assert 0 <= line.value.value <= 1
        assert (line.difference is None) == (line.what in ("none", "word", "rule off", "first 10"))
    assert {line.metric for line in lines if line.what == "box"} >= {"miou_truth", "unseen_miou"}
    files = {path: path.read_bytes() for path in out.rglob("*.jsonl")}
    assert list(all_lines()) == lines
    assert {path: path.read_bytes() for path in out.rglob("*.jsonl")} == files  # nothing was asked again


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["exemplars"], "--data coco=DIR is needed"),
        (["refiners"], "names no set"),
        (["refiners", "--data", "coco=/nowhere"], "is not NAME=DIR"),
        (["suggestions", "--limit", "0"], "--limit must be at least 1"),
    ],
)
def test_bad_input_is_one_line(tmp_path, capsys, arguments, sentence):
    assert main([*arguments, "--out", str(tmp_path)]) == 2
    assert sentence in capsys.readouterr().err
