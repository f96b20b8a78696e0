"""The terminal: what is measured, written and said, and which exit code ends it. Tiny towers answer."""

import json

import numpy as np
import pytest
from labelled_toys import halves, make_folder, save_mask, save_photo

from ovs_core.checkpoints import CheckpointError
from ovs_core.cli.evaluate import main

FAST = ("--short-side", "64")


@pytest.fixture
def folder(tmp_path):
    return make_folder(tmp_path / "set", {"1": halves(1, 2), "2": halves(0, 2)})


@pytest.fixture
def run(engine, tmp_path):
    def call(*arguments, dataset="folder", root=None, out="report.json"):
        given = ["--dataset", dataset, "--root", root or tmp_path / "set", "--out", tmp_path / out]
        return main([str(one) for one in (*given, *FAST, *arguments)], engine)

    return call


def test_two_methods_become_a_table_a_report_and_a_page(folder, run, tmp_path, capsys):
    assert run("--method", "clip", "--method", "naclip", "--html", tmp_path / "report.html") == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].startswith("| method | miou_truth | miou_either |")
    assert [line.split(" | ")[0] for line in printed[2:]] == ["| clip", "| naclip"]
    content = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert set(content["subjects"]) == {"clip", "naclip"}
    about = content["subjects"]["clip"]["about"]
    assert about["preset"]["short_side"] == 64
    assert about["device"] == "cpu, float32"
    assert len(about["weights"]["tiny-0.safetensors"]["sha256"]) == 64
    assert "<!DOCTYPE html>" in (tmp_path / "report.html").read_text(encoding="utf-8")
    files = {"set", "text", "report.json", "report.html", "report.clip.jsonl", "report.naclip.jsonl"}
    assert {path.name for path in tmp_path.iterdir()} == files


def test_the_same_command_continues(folder, run, tmp_path, monkeypatch):
    assert run() == 0
    before = (tmp_path / "report.json").read_text(encoding="utf-8")

    def forbidden(*arguments):
        raise AssertionError("a photo was measured again")

    monkeypatch.setattr("ovs_core.evaluation.run.read_example", forbidden)
    assert run() == 0
    assert (tmp_path / "report.json").read_text(encoding="utf-8") == before


def test_corrected_masks_give_new_numbers(folder, run, tmp_path):
    def truth_share(name):
        content = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
        classes = content["subjects"]["naclip"]["classes"]
        return {numbers["name"]: numbers["truth_share"] for numbers in classes}.get(name)

    assert run() == 0
    assert truth_share("dog") == 0.5
    for name in ("1", "2"):
        save_mask(folder / f"masks/{name}.png", halves(1, 1))
    assert run() == 0
    assert (truth_share("cat"), truth_share("dog")) in {(1.0, 0.0), (1.0, None)}


def test_predictions_stand_in_the_same_report(folder, run, tmp_path, capsys):
    for key, mask in {"1": halves(1, 2), "2": halves(0, 2)}.items():
        save_mask(tmp_path / "theirs" / f"{key}.png", mask)
    theirs = ("--predictions", f"theirs={tmp_path / 'theirs'}")
    assert run("--method", "clip", *theirs, "--html", tmp_path / "report.html") == 0
    rows = capsys.readouterr().out.splitlines()[2:]
    assert [row.split(" | ")[0] for row in rows] == ["| clip", "| theirs"]
    assert "| theirs | 100.0 [100.0, 100.0] |" in rows[1]
    content = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert content["differences"][0]["second"] == "theirs"
    assert content["differences"][0]["metrics"]["miou_truth"]["value"] < 0
    assert content["subjects"]["theirs"]["about"]["predictions"] == "theirs"
    assert (tmp_path / "report.theirs.jsonl").is_file()


def test_predictions_alone_need_no_engine(folder, tmp_path, capsys):
    save_mask(tmp_path / "theirs/1.png", halves(1, 2))
    out = tmp_path / "report.json"
    arguments = ["--dataset", "folder", "--root", folder, "--out", out]
    arguments += ["--predictions", f"a b={tmp_path / 'theirs'}", "--device", "cuda"]
    assert main([str(argument) for argument in arguments]) == 1  # photo 2 has no map
    printed = capsys.readouterr()
    assert "Left out 2: theirs holds no label map of 2." in printed.err
    assert printed.out.splitlines()[-1].startswith("| a b | 100.0")


@pytest.mark.parametrize("text", ["theirs", "=x", "a/b=x", "a=", ".=x"])
def test_predictions_must_be_a_name_and_a_folder(folder, run, text, capsys):
    with pytest.raises(SystemExit) as stop:
        run("--predictions", text)
    assert stop.value.code == 2
    assert "must be NAME=DIR" in capsys.readouterr().err


def test_two_things_cannot_have_one_name(folder, run, tmp_path, capsys):
    assert run("--method", "clip", "--predictions", f"clip={tmp_path / 'set/masks'}") == 2
    assert "two things cannot both be called 'clip'" in capsys.readouterr().err


def test_another_setting_needs_another_file(folder, run, tmp_path, capsys):
    assert run() == 0
    assert run("--classes-in-image") == 2
    said = capsys.readouterr().err
    assert "another classes_in_image (false, now true)" in said
    assert run("--classes-in-image", out="other.json") == 0


def test_distractors_tell_how_many_names_were_silent(folder, run, capsys):
    assert run("--classes-in-image", "--distractors", "1") == 0
    head, _, row = capsys.readouterr().out.splitlines()
    place = head.split(" | ").index("absent_silent")
    assert row.split(" | ")[place][0].isdigit()


def test_unseen_classes(folder, run, tmp_path, capsys):
    (tmp_path / "unseen.txt").write_text("Dog\n", encoding="utf-8")
    assert run("--unseen", f"@{tmp_path / 'unseen.txt'}") == 0
    assert "harmonic_miou" in capsys.readouterr().out
    content = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert content["settings"]["unseen"] == ["dog"]
    assert "unseen_miou" in content["subjects"]["naclip"]["metrics"]


def test_a_benchmark_and_its_split(run, tmp_path):
    for number in range(4):
        save_photo(tmp_path / f"camvid/test/{number}.png", (32, 48), number)
        save_mask(tmp_path / f"camvid/testannot/{number}.png", halves(number, 11))
    assert run("--split", "test", "--limit", "2", dataset="camvid11", root=tmp_path / "camvid") == 0
    content = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert content["dataset"]["photos"] == 2
    assert content["subjects"]["naclip"]["about"]["preset"]["threshold"] == 0.0
    assert list(content["subjects"]["naclip"]["photo_iou"]) == ["0", "2"]


def test_a_sweep_is_in_report_and_page(folder, run, tmp_path):
    assert run("--sweep", "--html", tmp_path / "report.html") == 0
    content = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    sweep = content["subjects"]["naclip"]["sweep"]
    assert [step["threshold"] for step in sweep][:2] == [0.0, 0.02]
    assert sweep[0].keys() == {"threshold", "value", "low", "high"}
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert 'alt="mIoU over thresholds"' in page
    assert run("--sweep") == 0
    assert run() == 2  # a run without is another run


def test_a_broken_photo_is_named_and_ends_with_1(folder, run, capsys):
    (folder / "images/2.jpg").write_bytes(b"no picture")
    assert run() == 1
    said = capsys.readouterr()
    assert "Left out 2:" in said.err
    assert "1 of 2 photos could not be used" in said.err
    assert said.out.splitlines()[-1].endswith("| 1 |")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--unseen", "horse"), "has no class 'horse'"),
        (("--unseen", "@absent.txt"), "cannot be read"),
        (("--unseen", " ; "), "at least one class"),
        (("--split", "test"), "must hold images/test"),
        (("--limit", "0"), "at least 1 photo"),
        (("--distractors", "3"), "go with classes_in_image"),
        (("--threshold", "2"), "threshold must be a number in"),
        (("--html", "no such folder/report.html"), "--html must name a file in a folder that exists"),
    ],
)
def test_bad_input_is_one_line_and_2(folder, run, tmp_path, capsys, arguments, message):
    assert run(*arguments) == 2
    said = capsys.readouterr()
    assert message in said.err
    assert said.err.count("\n") == 1
    assert said.out == ""
    assert not (tmp_path / "report.json").exists()


def test_a_folder_for_out_is_refused_before_any_work(folder, run, tmp_path, capsys):
    assert run(out="set") == 2
    assert "--out must name a file" in capsys.readouterr().err


def test_all_photos_broken(folder, run, capsys):
    for name in ("1", "2"):
        (folder / f"masks/{name}.png").write_bytes(b"")
    assert run() == 2
    assert "No photo could be measured" in capsys.readouterr().err


def test_unknown_names_are_refused_by_the_parser(run, capsys):
    for arguments in ({"dataset": "coco"}, {}):
        with pytest.raises(SystemExit) as stop:
            run(*(() if arguments else ("--method", "magic")), **arguments)
        assert stop.value.code == 2
    assert capsys.readouterr().err.count("See --help.") == 2


@pytest.mark.parametrize(
    ("trouble", "code", "message"),
    [
        (CheckpointError("The weights are not here."), 2, "The weights are not here."),
        (KeyboardInterrupt(), 130, "Run the same command again to continue"),
    ],
)
def test_trouble_in_the_engine(folder, run, engine, monkeypatch, capsys, trouble, code, message):
    def segment(*arguments, **settings):
        raise trouble

    monkeypatch.setattr(engine, "segment", segment)
    assert run() == code
    assert message in capsys.readouterr().err


def test_class_lists_name_trimaps(tmp_path, run):
    make_folder(tmp_path / "set", {"1": np.where(halves(0, 1), 1, 2)})
    (tmp_path / "set/classes.txt").unlink()
    (tmp_path / "pets.txt").write_text("1 pet|animal\n2 background\n3 void\n", encoding="utf-8")
    assert run("--class-list", tmp_path / "pets.txt", "--classes-in-image") == 0
    content = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert content["dataset"]["classes"] == [["pet", "animal"]]
