"""axe on every tab, in light and dark, with an answer on it and everything unfolded."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from fake_engine import FakeEngine
from pages import choose, finished, open_tab
from playwright.sync_api import Browser, Page, expect
from serving import served

from ovs_core.ui.app import build_ui, launch

OpenPage = Callable[..., Page]
COLORS = ("light", "dark")
DARK = "rgb(10, 15, 30)"  # behind everything
UNFOLD = (
    "document.querySelectorAll('button.label-wrap:not(.open)')"
    ".forEach(one => one.offsetParent && one.click());"
    "document.querySelectorAll('details').forEach(one => one.open = true)"
)


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    engine = FakeEngine(tmp_path_factory.mktemp("weights"), mask_method="fc_clip")
    with served(build_ui(engine)) as url:
        yield url


SCROLLED = 4000  # ms: a step brings its view into sight smoothly, and buttons that were off come back


def complaints(page: Page) -> list[str]:
    """What axe finds, all rules and every weight, in light and dark, and finds again a second later."""
    page.evaluate(UNFOLD)
    page.mouse.move(0, 0)  # axe scrolls, and buttons that come under the pointer fade, too
    return [*_found(page), *(f"dark, {one}" for one in _found_in_the_dark(page))]


def _found(page: Page) -> list[str]:
    found: list[dict[str, Any]] = []
    for _ in range(2):  # what unfolds or was just asked fades, and half-faded text has little contrast
        page.wait_for_timeout(1000 if found else 700)
        found = Axe().run(page).response["violations"]
        if not found:
            break
    return [f"{rule['id']}: {node['html'][:200]}" for rule in found for node in rule["nodes"]]


def _found_in_the_dark(page: Page) -> list[str]:
    """The same page as gradio shows it to those who like it dark, which a class of its body does."""
    page.evaluate("document.body.classList.add('dark')")
    found = _found(page)
    assert page.evaluate("getComputedStyle(document.querySelector('gradio-app')).backgroundColor") == DARK
    page.evaluate("document.body.classList.remove('dark')")
    return found


def test_axe_finds_nothing_on_any_tab(open_page: OpenPage, address: str, photo_file: Path) -> None:
    page = open_page(address)
    choose(page, photo_file, "dog; grass; sky | clouds")
    page.click("#segment-start")
    finished(page)
    assert complaints(page) == []
    for tab in ("Compare", "Inspect"):
        open_tab(page, tab)
        page.click(f"#{tab.lower()}-start")
        finished(page, tab.lower())
        assert complaints(page) == [], tab
    for tab in ("Video", "Models"):
        open_tab(page, tab)
        expect(page.locator({"Video": "#video-start", "Models": ".ovs-card"}[tab]).first).to_be_visible()
        if tab == "Models":
            page.get_by_role("button", name="Model card").click()
            expect(page.locator(".ovs-model-card table").first).to_be_visible()
        assert complaints(page) == [], tab


def test_who_likes_it_dark_gets_it_dark(open_page: OpenPage, address: str) -> None:
    page = open_page(address, colors="dark")
    assert page.locator("body.dark").count() == 1
    assert page.evaluate("getComputedStyle(document.querySelector('gradio-app')).backgroundColor") == DARK
    assert _found(page) == []


def test_axe_finds_nothing_in_the_views_of_masks(open_page: OpenPage, address: str, photo_file: Path) -> None:
    page = open_page(f"{address}/?classes=dog%3B+grass&method=fc_clip")
    choose(page, photo_file, "dog; grass")
    open_tab(page, "Inspect")
    page.locator("#inspect-method input").click()
    page.get_by_role("option", name="FC-CLIP").click()
    page.click("#inspect-start")
    finished(page, "inspect")
    expect(page.locator(".ovs-view h2").first).to_be_visible()
    assert complaints(page) == []


def test_axe_finds_nothing_on_the_opened_tour(open_page: OpenPage, address: str) -> None:
    page = open_page(address)
    open_tab(page, "Inspect")
    page.click("#tour-start")
    finished(page, "inspect")
    expect(page.locator("#hover.ovs-toured")).to_be_visible()
    page.wait_for_timeout(SCROLLED)
    assert complaints(page) == []
    for step in range(2, 6):
        finished(page, "inspect")
        page.click("#tour-next")
        expect(page.locator(".ovs-tour h2")).to_contain_text(f"{step} of 6")
    expect(page.locator(".ovs-tour")).to_contain_text("needs a trained head")
    page.wait_for_timeout(SCROLLED)
    assert complaints(page) == []


@pytest.mark.parametrize("colors", COLORS)
def test_axe_finds_nothing_on_the_page_of_the_endpoints(
    browser: Browser, tmp_path: Path, colors: str
) -> None:
    engine = FakeEngine(tmp_path)
    ui = build_ui(engine)
    address = launch(ui, host="127.0.0.1", port=None, browser=False, engine=engine)
    context = browser.new_context(color_scheme=colors, viewport={"width": 390, "height": 844})
    page = context.new_page()
    page.goto(f"{address}docs")
    assert _found(page) == []
    context.close()
    ui.close(verbose=False)
