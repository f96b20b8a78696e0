"""The Python in docs/evaluation.md runs, on photos made up here."""

import re
from pathlib import Path

import pytest
from labelled_toys import halves, make_folder, save_mask, save_photo

import ovs_core
from ovs_core.cli.evaluate import main

DOCS = Path(__file__).resolve().parents[2] / "docs" / "evaluation.md"


def blocks():
    return re.findall(r"```python\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)


@pytest.fixture
def names(engine, tmp_path, monkeypatch):
    """What the blocks find: a tiny engine, a folder like VOC, a photo with its truth."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(ovs_core, "Engine", lambda: engine)
    save_photo(tmp_path / "VOCdevkit/JPEGImages/a.jpg", (32, 48))
    save_mask(tmp_path / "VOCdevkit/SegmentationClass/a.png", halves(0, 15))
    lists = tmp_path / "VOCdevkit/ImageSets/Segmentation"
    lists.mkdir(parents=True)
    (lists / "val.txt").write_text("a\n")
    save_photo(tmp_path / "photo.jpg", (32, 48))
    save_mask(tmp_path / "truth.png", halves(1, 7))
    make_folder(tmp_path, {}, ("1 dog", "7 grass"))
    return {}


def test_every_block_runs(names, capsys):
    for block in blocks():
        exec(compile(block, str(DOCS), "exec"), names)
    printed = capsys.readouterr().out
    assert "Interval(value=" in printed
    assert "'missed_boundary': 20" in printed
    assert "'extra_segment': 50" in printed
    assert printed.splitlines()[-1].split()[0] in ("dog", "grass")


def test_every_flag_that_is_named_exists(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    known = set(re.findall(r"--[a-z-]+", capsys.readouterr().out))
    assert set(re.findall(r"(?<!-)--[a-z][a-z-]+", DOCS.read_text(encoding="utf-8"))) <= known
