"""The model card's numbers: texts from numbers made up here, and a small run on tiny towers."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from recipe_toys import make_msrc
from training_toys import save_mask, save_photo

from ovs_core.evaluation.run import function_subject
from ovs_core.types import ClassSummary
from recipes.mini import __main__ as command
from recipes.mini import card, closed_set
from recipes.mini.card_pictures import CASES, GAP, PHOTOS, side_by_side, write_pictures
from recipes.mini.card_text import BEGIN, END, held_out_table, readme_line, replaced, results
from recipes.mini.exam import VOC_IN_COCO

HALF = {"value": 0.5, "low": 0.25, "high": 0.75}


def score(percent, classes, photos=9):
    value = {"value": percent / 100, "low": (percent - 1) / 100, "high": (percent + 1) / 100}
    return {"value": value, "photos": photos, "classes": classes}


@pytest.fixture
def numbers():
    own = {"other": 0.9, "cat": 0.8, "dog": 0.66, "tie": 0.004, "cup": 0.3}
    everything = {"other": 0.9, "cat": 0.79, "dog": 0.06, "tie": 0.0, "cup": 0.295}
    grades = {
        "coco a": score(40, own),
        "coco b": score(20, everything, 10),
        "camvid": score(45, {"pole": 0.03, "sky": 0.9}, 7),
    }
    return {
        "size": {
            "parameters": 25_700_000,
            "bytes": 51_500_000,
            "sha256": "0123456789abcdef",
            "words": "fedcba9876543210",
        },
        "rules": {"naclip": grades},
        "several_frames": {"coco a": score(43, own)},
        "closed_set": {
            "theirs": {"value": 0.6, "low": 0.5, "high": 0.7},
            "ours": HALF,
            "difference": {"value": -0.1, "low": -0.2, "high": 0.01},
        },
        "wording": {"plural": {"kept": {"value": 0.99, "low": 0.9, "high": 1.01}, "classes": 3}},
        "rooms": {"nyu": score(31, {"floor": 0.85, "bag": 0.0}, 150)},
        "distractors": {
            "count": 20,
            "alone": {"miou_truth": HALF},
            "beside": {"miou_truth": HALF, "false_area": {"value": 0.062, "low": 0.019, "high": 0.121}},
            "difference": {"miou_truth": {"value": -0.024, "low": -0.03, "high": -0.001}},
        },
    }


def test_results_hold_every_number(numbers):
    text = results(numbers)
    assert "10 COCO val2017 photos and 7 CamVid frames; SHA-256 `0123456789ab`, 25.7 M parameters" in text
    assert "51.5 MB; tuned words `fedcba987654`." in text
    row = "| naclip | 40.0 [39.0, 41.0] | - | 20.0 [19.0, 21.0] | - | 45.0 [44.0, 46.0] |"
    assert row in text.splitlines()
    assert "| naclip, three frames | 43.0 [42.0, 44.0] | - | - | - | - |" in text.splitlines()
    assert "has 60.0 [50.0, 70.0], ours 50.0 [25.0, 75.0]" in text
    assert "paired by photo, -10.0 [-20.0, 1.0]." in text
    assert "plural 99 [90, 101] (3 classes)" in text
    assert "they take 6.2 [1.9, 12.1] % of the area; - % of them take no pixel" in text
    assert "paired difference -2.4 [-3.0, -0.1]." in text
    assert "65 and more): cat, dog." in text  # the background is no thing
    assert "below 0.5): tie." in text
    assert "(IoU from a to b): dog 66 to 6, cat 80 to 79," in text
    assert "sky 90, pole 3." in text
    assert "**31.0 [30.0, 32.0] on NYUv2's 2 names (150 photos)**" in text
    assert "IoU: floor 85, bag 0." in text


def test_the_readmes_sentence(numbers):
    line = readme_line(numbers["rules"]["naclip"], numbers["rooms"])
    assert "40.0 [39.0, 41.0] with a photo's own COCO classes" in line
    assert "20.0 [19.0, 21.0] with all 80 typed + other (10 COCO val2017 photos)" in line
    assert "45.0 [44.0, 46.0] on CamVid (7 frames)" in line
    assert line.endswith("31.0 [30.0, 32.0] on NYUv2's 2 names (150 photos).")


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


def make_val(root, names, split):
    """One photo of 24 x 32 a split, its left half of class 1."""
    mask = np.zeros((24, 32), np.uint8)
    mask[:, :16] = 1
    save_photo(root / "images" / split / "one.jpg", 24, 32)
    save_mask(root / "masks" / split / "one.png", mask)
    lines = [f"{value} {name}" for value, name in enumerate(names)]
    (root / "classes.txt").write_text("\n".join(lines) + "\n")
    return root


def test_one_command_measures_everything_and_goes_on_where_it_stopped(tmp_path, engine, monkeypatch, capsys):
    """Tiny towers stand for the shipped ones, a plain function for DeepLab."""
    asked = []

    def deeplab(pretrained):
        def labels(photo, vocabulary):
            asked.append(photo.size)
            return np.full(photo.size, VOC_IN_COCO.index("person") + 1, np.int64)

        return function_subject(closed_set.NAME, labels, {})

    monkeypatch.setattr(card, "engine_of", lambda weights: engine)
    monkeypatch.setattr(closed_set, "closed_set_subject", deeplab)
    names = ("background", "person", *(name for name in VOC_IN_COCO if name != "person"))
    folders = {
        "coco": make_val(tmp_path / "coco", names, "val2017"),
        "camvid": make_val(tmp_path / "camvid", ("sky", "road"), "val"),
        "pretrained": tmp_path,
        "msrc": make_msrc(tmp_path / "msrc"),
    }
    given = ["card", *(f"--data={name}={folder}" for name, folder in folders.items())]
    page = tmp_path / "card.md"
    marks = [BEGIN.format(name="results"), END.format(name="results")]
    page.write_text("\n".join(["head", *marks, "tail"]))
    for _ in range(2):
        assert command.main([*given, "--out", str(tmp_path / "out"), "--card", str(page)]) == 0
    assert asked == [(24, 32)]  # the second run found every record
    content = json.loads((tmp_path / "out" / "card.json").read_text())
    assert set(content["rules"]) == set(card.RULES)
    assert set(content["rules"]["naclip"]) == {"coco a", "coco a, foreground", "coco b", "coco c", "camvid"}
    assert set(content["rooms"]) == {"msrc"}
    assert set(content["wording"]) == {"synonym", "rarer word", "plural", "adjective"}
    text = (tmp_path / "out" / "results.md").read_text()
    assert text.strip() in page.read_text()
    assert "naclip, three frames" in text
    assert "1 COCO val2017 photos and 1 CamVid frames" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["--limit", "0"], "--limit must be at least 1"), (["--card", "no such card"], "There is no card")],
)
def test_bad_input_is_one_line_and_2(tmp_path, capsys, arguments, message):
    folders = [f"--data={name}={tmp_path}" for name in ("coco", "camvid", "pretrained")]
    assert command.main(["card", *folders, "--out", str(tmp_path / "out"), *arguments]) == 2
    assert message in capsys.readouterr().err


def test_a_folder_that_is_missing_is_named(tmp_path, capsys):
    assert command.main(["card", f"--data=coco={tmp_path}", "--out", str(tmp_path / "out")]) == 2
    assert "--data is needed for camvid, pretrained" in capsys.readouterr().err


def test_every_picture_has_its_photo_and_a_name_of_its_own():
    assert all((PHOTOS / case.photo).is_file() for case in CASES)
    assert len({case.name for case in CASES}) == len(CASES)


def test_pictures_are_photo_answer_and_legend():
    """A white photo whose lower half is red: left white, right half tinted, then the legend."""

    class Answer:
        image = np.full((100, 300, 3), 255, np.uint8)
        labels = np.repeat([0, 1], 50).astype(np.uint8)[:, None].repeat(300, axis=1)
        classes = (
            ClassSummary(1, ("cat",), (200, 0, 0), 0.5, 0.9),
            ClassSummary(0, ("other",), (9, 9, 9), 0.5, None),
        )
        label_map = SimpleNamespace(color_table=np.array([[9, 9, 9], [200, 0, 0]]))

    picture = side_by_side(Answer, side=300)
    assert picture.shape[1] == 300 + GAP + 300
    assert (picture[75, :308] == 255).all()
    assert picture[75, 400].tolist() != [255, 255, 255]
    assert (picture[25, 400] == 255).all()
    assert picture.shape[0] > 100


def test_every_picture_is_written_and_told(tmp_path, engine):
    lines = list(write_pictures(engine, tmp_path / "pictures"))
    assert {path.stem for path in (tmp_path / "pictures").iterdir()} == {case.name for case in CASES}
    assert len(lines) == len(CASES)
    assert "typed `cat`; " in lines[0]
