"""A browser for the session, a page served to it, and a watch on what the page does."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from fake_engine import FakeEngine
from PIL import Image
from playwright.sync_api import Browser, ConsoleMessage, Page, Request, expect, sync_playwright
from serving import PHOTO_SIZE, served

from ovs_core.ui.app import build_ui

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
QUIET_BROWSER = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--no-first-run",
    "--disable-component-update",
    "--disable-sync",
]
DESKTOP = (1280, 900)

expect.set_options(timeout=30_000)  # milliseconds; a busy machine needs more than the usual 5 s


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        pytest.fail("These tests drive a real browser: install the system package 'chromium'.")
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=path, args=QUIET_BROWSER)
        yield running
        running.close()


@pytest.fixture(scope="session")
def photo_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("photos") / "meadow.png"
    height, width = PHOTO_SIZE
    ramp = np.linspace(0, 255, width, dtype=np.uint8)
    pixels = np.repeat(np.repeat(ramp[None, :, None], height, axis=0), 3, axis=2)
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture(scope="session")
def engine(tmp_path_factory: pytest.TempPathFactory) -> FakeEngine:
    return FakeEngine(tmp_path_factory.mktemp("weights"))


@pytest.fixture(scope="session")
def address(engine: FakeEngine) -> Iterator[str]:
    with served(build_ui(engine)) as url:
        yield url


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Callable[..., Page]]:
    """Open pages; at the end of the test no page may have complained or asked for anything outside."""
    complaints: list[str] = []
    outside: list[str] = []
    contexts = []

    def watch_console(message: ConsoleMessage) -> None:
        if message.type == "error":
            complaints.append(message.text)

    def watch_requests(request: Request) -> None:
        if not request.url.startswith(("http://127.0.0.1:", "ws://127.0.0.1:", "data:", "blob:")):
            outside.append(request.url)

    def open_one(
        url: str, size: tuple[int, int] = DESKTOP, *, touch: bool = False, colors: str = "light"
    ) -> Page:
        context = browser.new_context(
            viewport={"width": size[0], "height": size[1]}, has_touch=touch, color_scheme=colors
        )
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(60_000)
        page.on("console", watch_console)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", watch_requests)
        page.goto(url)
        page.wait_for_selector("#segment-start")
        return page

    yield open_one
    for context in contexts:
        context.close()
    assert complaints == []
    assert outside == []
