"""`segment --resume`, `--shard` and the list of failures: what is whole is not done again."""

from pathlib import Path

import numpy as np
import pytest
from fake_engine import FakeEngine
from PIL import Image

from ovs_core.cli.segment import main


def photo(path: Path, value: int) -> Path:
    Image.fromarray(np.full((24, 32, 3), value, np.uint8)).save(path)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(3):
        photo(folder / f"{number}.png", 40 * number)
    return folder


@pytest.fixture
def engine(tmp_path: Path) -> FakeEngine:
    return FakeEngine(tmp_path)


def run(engine: FakeEngine, folder: Path, *more: str, words: str = "dog; grass") -> int:
    """Photos that the model looked at."""
    before = engine.runs
    code = main([str(folder), "--classes", words, "--out", str(folder.parent / "out"), *more], engine)
    assert code == 0
    return engine.runs - before


def test_what_is_whole_is_not_done_again(engine: FakeEngine, folder: Path) -> None:
    out = folder.parent / "out"
    assert run(engine, folder) == 3
    before = {path: path.stat().st_mtime_ns for path in out.glob("*.png")}
    assert run(engine, folder, "--resume") == 1  # the square that names the weights
    assert {path: path.stat().st_mtime_ns for path in out.glob("*.png")} == before
    (out / "1.naclip.overlay.png").unlink()
    assert run(engine, folder, "--resume") == 2
    assert (out / "1.naclip.overlay.png").is_file()


@pytest.mark.parametrize(
    "more", [("--threshold", "0.2"), ("--export", "coco"), ("--method", "sclip"), ("--background", "none")]
)
def test_another_question_is_another_run(engine: FakeEngine, folder: Path, more: tuple[str, ...]) -> None:
    run(engine, folder)
    assert run(engine, folder, "--resume", *more) == 4
    assert run(engine, folder, "--resume", *more) == 1


def test_contents_are_known_and_not_names(engine: FakeEngine, folder: Path) -> None:
    run(engine, folder)
    photo(folder / "1.png", 200)
    assert run(engine, folder, "--resume") == 2
    assert run(engine, folder, "--resume", words="dog; cat") == 4


def test_a_name_that_another_photo_took_in_between_is_asked_again(engine: FakeEngine, folder: Path) -> None:
    run(engine, folder)
    Image.open(folder / "1.png").save(folder / "1.bmp")  # sorted before 1.png: takes its stem
    photo(folder / "1.bmp", 90)
    assert run(engine, folder, "--resume") == 3  # the square, 1.bmp as "1", 1.png as "photos-1"
    (folder / "1.bmp").unlink()
    assert run(engine, folder, "--resume") == 2


def test_half_a_line_and_a_foreign_one_count_for_nothing(engine: FakeEngine, folder: Path) -> None:
    run(engine, folder)
    journal = folder.parent / "out" / ".ovs-lens.jsonl"
    lines = [line for line in journal.read_text(encoding="utf-8").splitlines() if line]
    journal.write_text(f"{lines[0]}\n[1]\n" + '{"stem": 1}\n' + lines[2][:40], encoding="utf-8")
    assert run(engine, folder, "--resume") == 3
    assert run(engine, folder, "--resume") == 1


def test_shards_together_are_all_photos_and_never_share_a_file(engine: FakeEngine, folder: Path) -> None:
    photo(folder / "1.bmp", 7)
    assert run(engine, folder, "--shard", "1/2") + run(engine, folder, "--shard", "2/2") == 4
    names = {path.name for path in (folder.parent / "out").glob("*.labels.png")}
    assert names == {f"{stem}.naclip.labels.png" for stem in ("0", "1", "2", "photos-1")}
    assert run(engine, folder, "--resume") == 1


def test_what_cannot_be_done_is_listed(
    engine: FakeEngine, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "bad.png").write_bytes(b"not a picture")
    out = folder.parent / "out"
    command = [str(folder), "--classes", "dog", "--out", str(out)]
    assert main(command, engine) == 1
    assert "1 of 4 photos could not be done; they are listed in" in capsys.readouterr().err
    place, reason = (out / "failed.txt").read_text(encoding="utf-8").rstrip("\n").split("\t")
    assert place == str(folder / "bad.png")
    assert "not a picture" in reason
    (folder / "bad.png").unlink()
    assert main([*command, "--resume"], engine) == 0
    assert not (out / "failed.txt").exists()


def test_a_wrong_shard_is_refused(
    engine: FakeEngine, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [str(folder), "--classes", "dog", "--out", str(folder.parent / "out"), "--shard", "3/2"]
    assert main(command, engine) == 2
    assert "--shard must be" in capsys.readouterr().err


def test_a_run_that_was_stopped_goes_on(
    engine: FakeEngine, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [str(folder), "--classes", "dog; grass", "--out", str(folder.parent / "out")]
    answer, asked = engine.segment, []

    def stopped(*values: object, **more: object) -> object:
        asked.append(values)
        if len(asked) == 3:
            raise KeyboardInterrupt
        return answer(*values, **more)

    monkeypatch.setattr(engine, "segment", stopped)
    assert main(command, engine) == 130
    assert "2 of 3 photos are done. --resume goes on from there." in capsys.readouterr().err
    monkeypatch.undo()
    assert run(engine, folder, "--resume") == 2
    assert len(list((folder.parent / "out").glob("*.labels.png"))) == 3
