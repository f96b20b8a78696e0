"""When memory that nobody uses goes back to the system."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ovs_core.engine.heap import Heap

ROOT = Path(__file__).resolve().parents[1]
MB = 1_000_000


@pytest.fixture
def process():
    """A process of 500 MB, and how often it gave memory back."""

    class Process:
        held, used, given = 500 * MB, 500 * MB, 0

        def give_back(self):
            self.held = self.used
            self.given += 1

    return Process()


def heap_of(process):
    return Heap(lambda: process.held, process.give_back, much=300 * MB)


def test_little_is_kept_and_much_goes_back_at_once(process):
    heap = heap_of(process)
    for held, given in ((700, 0), (799, 0), (800, 1), (700, 1), (799, 1), (900, 2)):
        process.held = held * MB
        heap.tidy()
        assert process.given == given


def test_what_is_in_use_is_asked_for_once(process):
    heap = heap_of(process)
    process.held = process.used = 900 * MB  # a model was loaded
    for _ in range(3):
        heap.tidy()
    assert process.given == 1
    process.held = 1_200 * MB
    heap.tidy()
    assert process.given == 2


def test_a_model_that_goes_lowers_what_counts_as_much(process):
    heap = heap_of(process)
    for held in (400, 650, 699):
        process.held = held * MB
        heap.tidy()
    assert not process.given
    process.held = 700 * MB
    heap.tidy()
    assert process.given == 1


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux says what a process holds")
def test_a_process_says_what_it_holds_and_gives_back():
    """In one of its own: in this one, threads of other tests free memory meanwhile."""
    code = (
        "import numpy as np; from ovs_core.engine.heap import bytes_held, trim; MB = 1_000_000; "
        "before = bytes_held(); block = np.ones(50 * MB, np.uint8); assert bytes_held() > before + 40 * MB; "
        "del block; trim(); assert bytes_held() < before + 20 * MB"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_an_engine_tidies_after_each_answer(engine, monkeypatch):
    tidied = []
    monkeypatch.setattr(engine.heap, "tidy", lambda: tidied.append(1))
    photo = np.zeros((32, 48, 3), np.uint8)
    for word in ("cat", "dog"):
        engine.segment(photo, word)
    assert len(tidied) == 2
