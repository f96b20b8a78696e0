"""A report read back: the same question, refinement and edits give the same bits."""

import json
import zipfile

import numpy as np
import pytest
from PIL import Image
from towers import random_photo

from ovs_core.cli.segment import main
from ovs_core.edit.record import Brush, DropIslands, Merge, Reassign, Recolour, Rename, Threshold
from ovs_core.engine.saved import read_saved
from ovs_core.export.files import save_result, zip_result

EDITS = (
    Brush(((2.0, 3.0), (30.5, 20.25)), 4.0, 2),
    Rename(2, "meadow"),
    Threshold(1, 0.4),
    Reassign((40.0, 30.0), 1),
    Recolour(1, (1, 2, 3)),
    DropIslands(6),
)


@pytest.fixture
def photo_file(tmp_path):
    path = tmp_path / "photo.png"
    Image.fromarray(random_photo(40, 56).pixels).save(path)
    return path


def saved_answer(engine, path, folder, edits=EDITS, **asked):
    result = engine.segment(path, "dog; grass | lawn; sky", **asked).edited(edits)
    save_result(result, folder, "photo", source=path.name)
    return result, folder / f"photo.{result.method}.json"


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"method": "maskclip", "options": {"key_smoothing": True, "threshold": 0.0}},
        {"refiner": "guided", "options": {"guided_radius": 2}},
        {"background": "none"},
    ],
    ids=["plain", "another method and switches", "refined", "no background"],
)
def test_the_command_line_does_it_all_again(make_engine, photo_file, tmp_path, asked):
    result, settings = saved_answer(make_engine(), photo_file, tmp_path / "first", **asked)
    arguments = [str(photo_file), "--settings", str(settings), "--out", str(tmp_path / "again")]
    assert main(arguments, make_engine()) == 0
    name = f"photo.{result.method}"
    for ending in ("labels.png", "overlay.png"):
        first, again = (tmp_path / folder / f"{name}.{ending}" for folder in ("first", "again"))
        assert first.read_bytes() == again.read_bytes()
    before, after = (json.loads((tmp_path / f / f"{name}.json").read_text()) for f in ("first", "again"))
    for key in ("vocabulary", "options", "edits", "classes", "refine", "weights"):
        assert before[key] == after[key]
    assert before["classes"][1]["names"][0] == "meadow"


def test_the_settings_of_a_zip_do_the_same(make_engine, photo_file, tmp_path):
    engine = make_engine()
    asked = engine.segment(photo_file, "dog; grass | lawn; sky", refiner="guided")
    shown = engine.relabel(asked, {"threshold": 0.2}, without=["sky"]).edited(EDITS)
    with zipfile.ZipFile(zip_result(shown, tmp_path / "photo.zip")) as archive:
        archive.extractall(tmp_path / "first")
    arguments = [str(photo_file), "--settings", str(tmp_path / "first" / "settings.json")]
    assert main([*arguments, "--out", str(tmp_path / "again")], make_engine()) == 0
    first, again = (tmp_path / folder / "photo.naclip.labels.png" for folder in ("first", "again"))
    assert first.read_bytes() == again.read_bytes()
    labels = np.array(Image.open(again))
    assert np.array_equal(labels, shown.labels)
    assert labels[3, 2] == 2  # where the brush began


def test_one_word_alone_keeps_its_guards(make_engine, photo_file, tmp_path):
    result = make_engine().segment(photo_file, "dog")
    assert result.vocabulary.guards
    save_result(result, tmp_path / "first", "photo")
    settings = tmp_path / "first" / "photo.naclip.json"
    assert read_saved(settings).vocabulary == result.vocabulary
    assert (
        main([str(photo_file), "--settings", str(settings), "--out", str(tmp_path / "b")], make_engine()) == 0
    )
    first, again = (tmp_path / folder / "photo.naclip.labels.png" for folder in ("first", "b"))
    assert first.read_bytes() == again.read_bytes()


def test_a_flag_goes_before_the_file(make_engine, photo_file, tmp_path):
    _, settings = saved_answer(make_engine(), photo_file, tmp_path / "first", edits=())
    arguments = [
        str(photo_file),
        "--settings",
        str(settings),
        "--out",
        str(tmp_path / "b"),
        "--threshold",
        "1",
    ]
    assert main(arguments, make_engine()) == 0
    labels = np.array(Image.open(tmp_path / "b" / "photo.naclip.labels.png"))
    assert not labels.any()


def test_edits_are_measured_anew(make_engine, photo_file):
    result = make_engine().segment(photo_file, "dog; grass", options={"threshold": 0.0})
    merged = result.edited([Merge((1,), 2)])
    assert merged.label_map.classes[0].names == ("grass", "dog")
    both = sum(summary.area_share for summary in result.classes if summary.label)
    assert merged.classes[0].area_share == pytest.approx(both)
    assert merged.edited([Rename(2, "lawn")]).edits == (Merge((1,), 2), Rename(2, "lawn"))
    assert result.edits == ()


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("not json", "are no JSON"),
        ("[]", "is no report of this program"),
        ('{"schema": "ovs-lens/result/0"}', "is no report of this program"),
        ('{"schema": "ovs-lens/result/1"}', "are incomplete: KeyError"),
    ],
)
def test_a_file_that_is_none_is_refused(make_engine, photo_file, tmp_path, capsys, content, sentence):
    wrong = tmp_path / "wrong.json"
    wrong.write_text(content)
    with pytest.raises(ValueError, match=sentence):
        read_saved(wrong)
    assert main([str(photo_file), "--settings", str(wrong), "--out", str(tmp_path)], make_engine()) == 2
    assert sentence in capsys.readouterr().err
    with pytest.raises(ValueError, match="cannot be read"):
        read_saved(tmp_path / "absent.json")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"method": "melt"}, "method must be one of"),
        ({"encoder": "melt"}, "encoder must be one of"),
        ({"refine": "melt"}, "refiner must be one of"),
        ({"options": {"melt": 1}}, "melt"),
        ({"edits": [{"edit": "delete", "label": 9}]}, "There is no class 9"),
        ({"exemplars": [{"name": "mug"}]}, 'go with boxes called: "mug"'),
        ({"vocabulary": {"classes": [["a", 1]], "other": []}}, "are incomplete"),
    ],
)
def test_what_a_file_asks_is_checked_like_everything_else(
    make_engine, photo_file, tmp_path, capsys, change, sentence
):
    _, settings = saved_answer(make_engine(), photo_file, tmp_path / "first", edits=())
    settings.write_text(json.dumps({**json.loads(settings.read_text()), **change}))
    arguments = [str(photo_file), "--settings", str(settings), "--out", str(tmp_path / "b")]
    assert main(arguments, make_engine()) == 2
    assert sentence in capsys.readouterr().err


def test_a_file_and_other_words_contradict_each_other(make_engine, photo_file, tmp_path, capsys):
    _, settings = saved_answer(make_engine(), photo_file, tmp_path / "first", edits=())
    arguments = [str(photo_file), "--settings", str(settings), "--out", str(tmp_path), "--classes", "dog"]
    assert main(arguments, make_engine()) == 2
    assert "leave out --classes" in capsys.readouterr().err
