"""The guided tour: six steps that exist, say two sentences each and ask what they are about."""

from collections.abc import Callable, Iterator

import pytest
from fake_engine import FakeEngine
from pages import PATIENCE, finished, open_tab
from playwright.sync_api import Page, expect
from serving import served

from ovs_core.methods import METHODS
from ovs_core.ui.app import build_ui
from ovs_core.ui.tour import ALIKE, PHOTO, STOPS, tour_html

OpenPage = Callable[..., Page]


@pytest.fixture(scope="module")
def headed(tmp_path_factory: pytest.TempPathFactory) -> FakeEngine:
    return FakeEngine(tmp_path_factory.mktemp("weights"), heads=("ldvc",))


@pytest.fixture(scope="module")
def headed_address(headed: FakeEngine) -> Iterator[str]:
    with served(build_ui(headed)) as url:
        yield url


def test_every_step_is_about_something_that_is_there() -> None:
    assert PHOTO.is_file()
    order = [stop.method for stop in STOPS]
    assert (len(STOPS), order[0], order[-1]) == (6, "clip", "ldvc")
    assert "naclip" in order
    for stop in STOPS:
        kinds = METHODS[stop.method].view_kinds
        kind = {"#hover": "affinity", "#similarity": "similarity"}.get(stop.view, stop.view.split('"')[1:2])
        assert (kind if isinstance(kind, str) else kind[0]) in kinds
        assert stop.text.count(". ") + stop.text.count(": ") >= 1
        assert stop.text.count(". ") == 1  # two sentences
        assert stop.text.endswith(".")


def test_a_step_without_its_method_says_why(engine: FakeEngine, headed: FakeEngine) -> None:
    assert "needs a trained head, which &lt;is not&gt; here." in tour_html(engine, 5, "mini")
    assert "needs a trained head" not in tour_html(headed, 5, "mini")
    assert ALIKE.replace("'", "&#x27;") in tour_html(headed, 0, "mini")
    assert "own weights" not in tour_html(headed, 4, "mini")


def test_the_tour_is_walked(open_page: OpenPage, headed_address: str, headed: FakeEngine) -> None:
    page = open_page(headed_address)
    open_tab(page, "Inspect")
    before = headed.runs
    page.click("#tour-start")
    expect(page.locator(".ovs-tour h2")).to_contain_text("1 of 6")
    finished(page, "inspect")
    expect(page.locator("#hover.ovs-toured")).to_be_visible(timeout=PATIENCE)
    expect(page.locator("#classes textarea")).to_have_value("temple | building; sky; trees")
    expect(page.locator("#tour-back")).to_be_disabled()
    page.click("#tour-next")
    expect(page.locator("#inspect-method input")).to_have_value("MaskCLIP")
    expect(page.locator("#similarity.ovs-toured")).to_be_visible(timeout=PATIENCE)
    expect(page.locator("#hover.ovs-toured")).to_have_count(0)
    for _ in range(4):
        page.click("#tour-next")
    expect(page.locator(".ovs-tour h2")).to_contain_text("6 of 6 · LDVC")
    expect(page.locator("#tour-next")).to_be_disabled()
    expect(page.locator("#inspect-method input")).to_have_value("LDVC")
    assert headed.runs > before
    page.click("#tour-end")
    expect(page.locator(".ovs-tour")).to_be_hidden()
