"""What the tools on an answer are worth, on two tiny photos: the counting, not the model."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from ovs_core.encoders.lone_word import MARGIN
from ovs_core.engine import Request
from ovs_core.image import read_photo
from ovs_core.labelled.datasets import FOLDER, open_dataset
from ovs_core.vocabulary import parse_vocabulary
from ovs_core.vocabulary.exemplars import Exemplar, exemplar_vocabulary, with_exemplars
from recipes.hands.__main__ import main
from recipes.hands.boxes import exemplars, train_boxes
from recipes.hands.lone_word import RULES, Rule, Scores, answers, lone_words, words_of
from recipes.hands.points import viewer_of
from recipes.hands.studies import refiners, suggestions
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


def test_every_study_counts_and_those_of_the_engine_go_on_where_they_were(engine, root, tmp_path):
    dataset = open_dataset(FOLDER, root, split="val2017")
    told, out, viewer = [], tmp_path / "out", viewer_of(engine)
    exam = questions("coco", dataset)[0]

    def all_lines():
        yield from refiners(engine, [exam], out, told.append)
        yield from suggestions(engine, dataset, out, told.append)
        yield from exemplars(viewer, root, dataset, ("dog",), told.append)
        yield from lone_words(viewer, dataset, told.append)

    lines = list(all_lines())
    asked = {(line.study, line.what) for line in lines}
    assert asked >= {("refiners", "none"), ("refiners", "guided"), ("exemplars", "box")}
    assert {line.what for line in lines if line.study == "lone word"} == {rule.name for rule in RULES}
    first = {"none", "word", RULES[0].name, "first 10"}
    for line in lines:
        assert 0 <= line.value.value <= 1
        assert (line.difference is None) == (line.what in first)
    assert {line.metric for line in lines if line.what == "box"} >= {"miou_truth", "unseen_miou"}
    assert {line.photos for line in lines if line.question == "coco val, odd"} == {1}
    files = {path: path.read_bytes() for path in out.rglob("*.jsonl")}
    assert files
    assert list(all_lines()) == lines
    assert {path: path.read_bytes() for path in out.rglob("*.jsonl")} == files  # nothing was asked again


@pytest.mark.parametrize("word", ["person", "dog | puppy", "mug"])
def test_a_lone_word_at_points_is_what_the_engine_says_there(engine, root, word):
    photo, viewer = read_photo(root / "images" / "val2017" / "a.jpg"), viewer_of(engine)
    points, (bank, [lone]) = viewer.points(photo, 20), words_of(viewer, [word.split(" | ")], "default")
    scores = Scores.of(bank @ points.flatten(1), viewer.preset.scale)
    rules = (Rule("off"), Rule("on", MARGIN))
    vocabulary = parse_vocabulary(word)
    first, *others = vocabulary.other
    # The same list as a user's own, which the rule leaves as it is: one capital more, the same row.
    written = replace(vocabulary, other=(first.capitalize(), *others))
    for name, asked in (("off", written), ("on", vocabulary)):
        for threshold in (0.0, 0.01, 0.25):  # what is probable here is so by chance: towers are random
            options = {"threshold": threshold}
            *_, result = engine.run(Request(photo, asked, options=options, side=20))
            found = answers(scores, lone, rules, viewer.preset.scale, threshold)[name]
            np.testing.assert_array_equal(found.reshape(points.shape[1:]), result.labels == 1)
            if not threshold:
                assert bool(result.vocabulary.guards) == (name == "on")


def test_boxes_at_points_are_what_the_engine_says_there(engine, root):
    photo, other = (read_photo(root / "images" / "val2017" / name) for name in ("a.jpg", "b.jpg"))
    viewer = viewer_of(engine)
    boxes = (Exemplar(other, (4, 4, 20, 30), "dog"), Exemplar(other, (20, 0, 40, 9), "mug"))
    vocabulary = exemplar_vocabulary(parse_vocabulary("dog; cat"), ["dog", "mug"], "default")
    request = Request(photo, vocabulary, options={"threshold": 0.0}, exemplars=boxes, side=20)
    *_, result = engine.run(request)
    bank = viewer.bank(viewer.asked(vocabulary))
    bank = with_exemplars(bank, [(box.name, viewer.box(box)) for box in boxes])
    points = viewer.points(photo, 20)
    scores = viewer.evidence(points, bank).class_scores
    torch.testing.assert_close(scores, result.evidence.score_maps(points.shape[1:]))
    assert not torch.equal(scores[0], viewer.evidence(points, viewer.bank(bank.vocabulary)).class_scores[0])
    viewer = replace(viewer, preset=replace(viewer.preset, threshold=0.0))
    np.testing.assert_array_equal(viewer.labels(points, bank), result.labels)


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
