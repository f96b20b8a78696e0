"""A folder is read, looked at, labelled and written at the same time; nothing that comes out shows it."""

import json
import threading
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from fake_engine import FakeEngine
from PIL import Image

from ovs_core.cli.segment import main
from ovs_core.engine import Engine, NotEnoughMemory
from ovs_core.export.files import save_result
from ovs_core.image import Photo, read_photo

PHOTOS = Path(__file__).resolve().parents[1] / "assets" / "photos"
GREY = "the square that names the weights"
WAIT = 20  # seconds; only a failing test waits so long


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(6):
        Image.fromarray(np.full((24, 32, 3), 40 * number, np.uint8)).save(folder / f"{number}.png")
    return folder


class Watched(FakeEngine):
    """Knows which photos it was asked about, and how many at the same time; `on` is called inside."""

    def __init__(self, folder: Path, on=lambda name: None) -> None:
        super().__init__(folder)
        self.asked: list[str] = []
        self.now: set[str] = set()
        self.most = self.beside_the_first = 0
        self._on = on
        self._lock = threading.Lock()

    def segment(self, photo, *values, **more):
        name = photo.name if isinstance(photo, Photo) else GREY
        with self._lock:
            self.asked.append(name)
            self.now.add(name)
            self.most = max(self.most, len(self.now))
            if name == "0":
                self.beside_the_first = len(self.now) - 1
        try:
            self._on(name)
            return super().segment(photo, *values, **more)
        finally:
            with self._lock:
                self.now.discard(name)


def run(engine: Engine, folder: Path, *more: str) -> int:
    return main([str(folder), "--classes", "dog; grass", "--out", str(folder.parent / "out"), *more], engine)


def test_answers_are_those_of_one_photo_after_another_bit_for_bit(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for name, size in (("cat", (96, 64)), ("coffee", (80, 80)), ("flower", (64, 112)), ("temple", (112, 64))):
        Image.open(PHOTOS / f"{name}.jpg").convert("RGB").resize(size).save(photos / f"{name}.png")
    one, together = (
        Engine("cpu", offline=True, text_dir=tmp_path / "text", at_once=number) for number in (1, 2)
    )
    threads = torch.get_num_threads()
    assert run(together, photos, "--export", "npz", "coco", "--method", "naclip", "--method", "clip") == 0
    assert torch.get_num_threads() == threads
    for path in sorted(photos.iterdir()):
        for method in ("naclip", "clip"):
            result = one.segment(read_photo(path), "dog; grass", method=method)
            save_result(result, tmp_path / "alone", path.stem, ("npz", "coco"), path.name)
    names = {path.name for path in (tmp_path / "alone").iterdir()}
    assert len(names) == 40
    for name in names:
        alone, beside = ((tmp_path / place / name).read_bytes() for place in ("alone", "out"))
        if name.endswith(("clip.json",)):
            alone, beside = (without_seconds(content) for content in (alone, beside))
        assert alone == beside, name


def without_seconds(content: bytes) -> dict[str, object]:
    return {name: value for name, value in json.loads(content).items() if name != "seconds"}


def test_two_photos_are_under_way_at_the_same_time(folder: Path) -> None:
    meet = threading.Barrier(2)
    engine = Watched(folder.parent, lambda name: name in "12" and meet.wait(WAIT))
    assert run(engine, folder) == 0  # a pair that never meets breaks the barrier


def test_never_more_than_two_and_the_first_alone(folder: Path) -> None:
    engine = Watched(folder.parent, lambda name: threading.Event().wait(0.02))
    assert run(engine, folder) == 0
    assert engine.most == 2
    assert engine.asked[0] == "0"
    assert engine.beside_the_first == 0


def test_large_photos_wait_for_each_other(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ovs_core.cli.folder._PIXELS", 24 * 32)
    engine = Watched(folder.parent, lambda name: threading.Event().wait(0.01))
    assert run(engine, folder) == 0
    assert engine.most == 1


def test_lines_come_in_the_order_of_the_photos(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    late = threading.Event()

    def slow_second(name: str) -> None:
        if name == "1":
            assert late.wait(WAIT)
        elif name == "3":
            late.set()
            raise NotEnoughMemory("This photo does not fit.")

    engine = Watched(folder.parent, slow_second)
    (folder / "2b.png").write_bytes(b"no picture")
    assert run(engine, folder) == 1
    said = capsys.readouterr()
    assert [line[0] for line in said.out.splitlines()] == list("01245")
    assert [line.split(":")[0] for line in said.err.splitlines()[:2]] == [
        f"Skipped {folder / name}" for name in ("2b.png", "3.png")
    ]
    listed = (folder.parent / "out" / "failed.txt").read_text(encoding="utf-8").splitlines()
    assert [line.split("\t")[0] for line in listed] == [str(folder / name) for name in ("2b.png", "3.png")]


def test_what_is_under_way_when_a_run_is_stopped_is_finished_and_nothing_is_begun(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(6, 30):
        Image.fromarray(np.full((24, 32, 3), number, np.uint8)).save(folder / f"{number}.png")

    def stopped(name: str) -> None:
        if name == "1":
            raise KeyboardInterrupt

    engine = Watched(folder.parent, stopped)
    assert run(engine, folder) == 130
    done = len(list((folder.parent / "out").glob("*.labels.png")))
    assert done == len(engine.asked) - 1
    assert done < 10
    assert f"Stopped; {done} of 30 photos are done." in capsys.readouterr().err
    again = Watched(folder.parent)
    assert run(again, folder, "--resume") == 0
    left = {path.stem for path in folder.iterdir()} - set(engine.asked) | {"1"}
    assert Counter(again.asked) == Counter([GREY, *left])
