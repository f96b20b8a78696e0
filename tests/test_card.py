"""The command that makes the model card's numbers: texts from numbers made up here, no photo, no weights."""

import json

import numpy as np
import pytest

from benchmarks import card, closed_set
from benchmarks.card import BEGIN, END, Job, held_out_table, readme_line, replaced, results
from benchmarks.card_pictures import CASES, GAP, PHOTOS, side_by_side
from ovs_core.types import ClassSummary, LabelClass, LabelMap

HALF = {"value": 0.5, "low": 0.25, "high": 0.75}


def score(miou, iou, photos=9):
    return {"miou": miou, "low": miou - 1, "high": miou + 1, "photos": photos, "classes": 2, "iou": iou}


@pytest.fixture
def numbers():
    own = {"background": 90.0, "cat": 80.0, "dog": 66.0, "tie": 0.4, "cup": 30.0}
    everything = {"background": 90.0, "cat": 79.0, "dog": 6.0, "tie": 0.0, "cup": 29.5}
    coco = {"a": score(40, own), "b": score(20, everything, 10)}
    camvid = {"camvid": score(45, {"pole": 3.0, "sky": 90.0}, 7)}
    return {
        "size": {"parameters": 25_700_000, "bytes": 51_500_000, "sha256": "0123456789abcdef"},
        "rules": {"methods": {"naclip": {"coco": {"scores": coco}, "camvid": {"scores": camvid}}}},
        "several_frames": {
            "methods": {"naclip": {"coco": {"scores": {"a": score(43, own)}}, "camvid": {"scores": {}}}}
        },
        "closed_set": {
            "miou": {closed_set.OURS: HALF, closed_set.PUBLISHED: {"value": 0.6, "low": 0.5, "high": 0.7}},
            "ours_minus": {closed_set.PUBLISHED: {"value": -0.1, "low": -0.2, "high": 0.01}},
        },
        "wording": {
            "wordings": {"plural": {"kept": {"value": 0.99, "low": 0.9, "high": 1.01}, "classes": 3}}
        },
        "distractors": {
            "alone": {"miou_truth": HALF},
            "beside": {"miou_truth": HALF, "false_area": {"value": 0.062, "low": 0.019, "high": 0.121}},
            "difference": {"miou_truth": {"value": -0.024, "low": -0.03, "high": -0.001}},
        },
    }


def test_results_hold_every_number(numbers):
    text = results(numbers)
    assert "10 COCO val2017 photos and 7 CamVid frames; SHA-256 `0123456789ab`, 25.7 M parameters" in text
    row = "| naclip | 40.0 [39.0, 41.0] | - | 20.0 [19.0, 21.0] | - | - | 45.0 [44.0, 46.0] |"
    assert row in text.splitlines()
    assert "| naclip, three frames | 43.0 [42.0, 44.0] | - | - | - | - | - |" in text.splitlines()
    assert "has 60.0 [50.0, 70.0], ours 50.0 [25.0, 75.0]" in text
    assert "paired by photo, -10.0 [-20.0, 1.0]." in text
    assert "plural 99 [90, 101] (3 classes)" in text
    assert "they take 6.2 [1.9, 12.1] % of the area; - % of them take no pixel" in text
    assert "paired difference -2.4 [-3.0, -0.1]." in text
    assert "65 and more): cat, dog." in text  # the background is no thing
    assert "below 0.5): tie." in text
    assert "(IoU from a to b): dog 66 to 6, cat 80 to 79," in text
    assert "sky 90, pole 3." in text


def test_the_readmes_sentence(numbers):
    line = readme_line(numbers["rules"])
    assert "40.0 [39.0, 41.0] with a photo's own COCO classes" in line
    assert "20.0 [19.0, 21.0] with all 80 typed + other (10 COCO val2017 photos)" in line
    assert "45.0 [44.0, 46.0] on CamVid (7 frames)" in line


def test_unknown_numbers_are_a_dash():
    table = held_out_table({"without the 15 names": {"miou_truth": HALF}})
    assert table.splitlines()[-1] == "| without the 15 names | 50.0 [25.0, 75.0] | - | - | - |"


def test_text_between_the_marks_is_replaced_and_nothing_else():
    begin, end = BEGIN.format(name="results"), END.format(name="results")
    once = replaced(f"head\n{begin}\nold\n{end}\ntail\n", "results", "new")
    assert once == f"head\n{begin}\n\nnew\n\n{end}\ntail\n"
    assert replaced(once, "results", "new") == once
    for wrong in ("no marks", f"{end} {begin}", f"{begin} {end} {end}", f"{begin} {begin} {end}"):
        with pytest.raises(ValueError, match="once each"):
            replaced(wrong, "results", "new")


def test_the_shipped_card_has_the_marks():
    text = (card.CHECKPOINTS / "mini" / "MODEL_CARD.md").read_text(encoding="utf-8")
    for name in ("results", "held out"):
        assert "new" in replaced(text, name, "new")


def test_a_part_is_measured_once_and_half_of_one_is_none(tmp_path):
    job = Job(tmp_path, tmp_path, tmp_path, None, None, tmp_path)
    asked = []

    def measure(path):
        asked.append(path)
        path.write_text(json.dumps({"a": len(asked)}))
        if len(asked) == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        job.part("rules", measure)
    assert [job.part("rules", measure), job.part("rules", measure)] == [{"a": 2}, {"a": 2}]
    assert len(asked) == 2


def test_a_part_that_fails_ends_the_run():
    with pytest.raises(ValueError, match="parts before it are kept"):
        card._run(lambda arguments: 2, ["--coco", 1])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["--photos", "0"], "--photos must be at least 1"), (["--card", "no such card"], "There is no card")],
)
def test_bad_input_is_one_line_and_2(tmp_path, capsys, arguments, message):
    folders = [
        word for name in ("coco", "camvid", "pretrained", "out") for word in (f"--{name}", str(tmp_path))
    ]
    assert card.main([*folders, *arguments]) == 2
    assert message in capsys.readouterr().err


def test_every_picture_has_its_photo_and_a_name_of_its_own():
    assert all((PHOTOS / case.photo).is_file() for case in CASES)
    assert len({case.name for case in CASES}) == len(CASES)


def test_pictures_are_photo_answer_and_legend():
    """A white photo whose lower half is red: left white, right half tinted, then the legend."""

    class Answer:
        image = np.full((100, 300, 3), 255, np.uint8)
        labels = np.repeat([0, 1], 50).astype(np.uint8)[:, None].repeat(300, axis=1)
        label_map = LabelMap(labels, (LabelClass(1, ("cat",), (200, 0, 0)),))
        classes = (
            ClassSummary(1, ("cat",), (200, 0, 0), 0.5, 0.9),
            ClassSummary(0, ("other",), (9, 9, 9), 0.5, None),
        )

    picture = side_by_side(Answer, side=300)
    assert picture.shape[1] == 300 + GAP + 300
    assert (picture[75, :308] == 255).all()
    assert picture[75, 400].tolist() != [255, 255, 255]
    assert (picture[25, 400] == 255).all()
    assert picture.shape[0] > 100
