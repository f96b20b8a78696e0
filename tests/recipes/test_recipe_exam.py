"""The exam of a tower: which photos are asked about, what is typed, and what is said of the answers."""

import json

import pytest
from recipe_toys import make_coco128, make_msrc

from recipes.mini import __main__ as command
from recipes.mini.exam import exams, grades


def test_only_photos_that_did_not_teach_are_asked_about(tmp_path):
    folders = {"msrc": make_msrc(tmp_path / "msrc"), "coco128": make_coco128(tmp_path / "coco128")}
    (kept,) = exams(folders, "kept")
    assert kept.name == "msrc"
    assert [example.key for example in kept.dataset.examples] == ["0"]
    choose = exams(folders, "choose")
    assert [exam.name for exam in choose] == ["msrc", "coco128 a", "coco128 a, foreground", "coco128 b"]
    assert [example.key for example in choose[0].dataset.examples] == ["1"]
    assert [example.key for example in choose[1].dataset.examples] == ["0", "4"]


def test_photos_of_things_are_asked_in_three_ways(tmp_path):
    own, foreground, everything = exams({"coco128": make_coco128(tmp_path)}, "choose")
    assert own.settings.classes_in_image
    assert foreground.settings.classes_in_image
    assert not everything.settings.classes_in_image
    assert own.dataset.background
    assert everything.dataset.background
    assert foreground.dataset.background == ""


def test_names_that_are_too_rare_are_left_out(tmp_path):
    (exam,) = exams({"msrc": make_msrc(tmp_path)}, "kept")
    assert len(exam.dataset.classes) == 21
    assert "horse" not in exam.dataset.names
    assert "mountain" not in exam.dataset.names
    assert exam.dataset.background == ""  # nothing there is "none of them"


@pytest.mark.parametrize(("limit", "keys"), [(1, ["0"]), (2, ["0", "4"]), (9, ["0", "4"])])
def test_photos_are_thinned_evenly(tmp_path, limit, keys):
    own = exams({"coco128": make_coco128(tmp_path)}, "choose", limit)[0]
    assert [example.key for example in own.dataset.examples] == keys


def test_a_tower_is_compared_with_itself_to_no_difference(tmp_path, engine):
    asked = exams({"coco128": make_coco128(tmp_path)}, "choose")
    found = list(grades(engine, engine, asked))
    assert [grade.exam for grade in found] == ["coco128 a", "coco128 a, foreground", "coco128 b"]
    for grade in found:
        assert grade.photos == 2
        assert grade.difference.value == 0
        assert 0 <= grade.value.low <= grade.value.value <= grade.value.high <= 1
    assert set(found[1].classes) == {"person"}  # pixels without a name do not count
    assert found[1].value.value == 1.0  # one name, no other: every pixel of it is right


def test_the_command_prints_a_line_for_each_question(tmp_path, engine, monkeypatch, capsys):
    monkeypatch.setattr(command, "engine_of", lambda weights: engine)
    root = make_coco128(tmp_path / "coco128")
    given = [
        f"--data=coco128={root}",
        "--part",
        "choose",
        "--weights",
        "new",
        "--json",
        str(tmp_path / "out"),
    ]
    assert command.main(["exam", *given]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert lines[1].startswith("coco128 a, foreground: 100.0 [100.0, 100.0], paired +0.0 [+0.0, +0.0] (2 ")
    content = json.loads((tmp_path / "out").read_text())
    assert [grade["exam"] for grade in content] == ["coco128 a", "coco128 a, foreground", "coco128 b"]


@pytest.mark.parametrize(
    ("data", "said"), [([], "names no set"), (["movies=."], "with NAME one of coco, camvid, nyu")]
)
def test_bad_data_is_one_line(capsys, data, said):
    assert command.main(["exam", *(f"--data={pair}" for pair in data)]) == 2
    assert said in capsys.readouterr().err
