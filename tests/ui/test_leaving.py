"""A closed tab leaves nothing behind, and an app that nobody asks rests."""

import gc
import threading
import time
import weakref
from collections.abc import Callable
from pathlib import Path

import pytest
from fake_engine import FakeEngine
from pages import choose, finished
from playwright.sync_api import Page
from serving import served

from ovs_core.engine import Result
from ovs_core.ui import app

WAIT = 30  # seconds; only a failing test waits so long


class Watched(FakeEngine):
    """Knows which of its answers somebody still holds."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.answers: list[weakref.ref[Result]] = []

    def _answer(self, request, settings, job) -> Result:
        result = super()._answer(request, settings, job)
        self.answers.append(weakref.ref(result))
        return result

    def held(self) -> int:
        gc.collect()
        return sum(answer() is not None for answer in self.answers)


def test_the_answer_of_a_closed_tab_is_forgotten(
    open_page: Callable[..., Page], photo_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "CLOSED_SECONDS", 0)
    engine = Watched(tmp_path)
    page = app.build_ui(engine)
    with served(page) as url:
        tab = open_page(url)
        choose(tab, photo_file, "dog; grass")
        tab.click("#segment-start")
        finished(tab)
        holder = page.app.state_holder
        holder.delete_all_expired_state()  # as the server does once a minute
        assert engine.held() > 0
        tab.close()
        until = time.monotonic() + WAIT
        while engine.held() and time.monotonic() < until:
            time.sleep(0.2)
            holder.delete_all_expired_state()
        assert engine.held() == 0


def test_an_app_that_nobody_asks_rests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = app.build_ui(FakeEngine(tmp_path))
    line = page.queue()._queue
    looks: list[float] = []
    enough = threading.Event()
    plain = type(line).__len__

    def look(asked) -> int:
        if asked is page._queue:
            looks.append(time.monotonic())
            if len(looks) == 60:
                enough.set()
        return plain(asked)

    monkeypatch.setattr(type(line), "__len__", look)
    with served(page):
        assert enough.wait(WAIT)
    assert looks[59] - looks[0] > 60 / 150  # gradio itself looks 1,000 times a second
