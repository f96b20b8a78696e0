"""The guided tour: six steps that exist, say two sentences each and ask what they are about."""

from collections.abc import Callable, Iterator

import pytest
from fake_engine import FakeEngine
from pages import PATIENCE, finished, open_tab
from playwright.sync_api import Page, expect
from serving import served

from ovs_core.engine import Engine
from ovs_core.methods import METHODS
from ovs_core.ui.app import build_ui
from ovs_core.ui.asking import Question
from ovs_core.ui.inspect_tab import CENTRE, inspect_steps
from ovs_core.ui.tour import ALIKE, PHOTO, STOPS, WORDS, tour_html
from ovs_core.ui.view_html import section_html
from ovs_core.ui.view_pictures import sections

OpenPage = Callable[..., Page]


@pytest.fixture(scope="module")
def headed(tmp_path_factory: pytest.TempPathFactory) -> FakeEngine:
    return FakeEngine(tmp_path_factory.mktemp("weights"), heads=("ldvc",))


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    return Engine("cpu", offline=True, text_dir=tmp_path_factory.mktemp("text"))


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


@pytest.mark.parametrize("step", [4, 5])
def test_the_last_steps_show_what_they_speak_of(step: int, embedded: Engine) -> None:
    stop = STOPS[step]
    words = Question(str(PHOTO), WORDS, "default", "mini", "none")
    *_, (status, answered) = inspect_steps(embedded, None, words, stop.method, CENTRE)
    assert status.kind == "done"
    assert answered is not None
    kept = answered[1].seen
    (section,) = (one for one in sections(kept, kept.first) if one.kind in stop.view)
    assert f'data-kind="{section.kind}"' in section_html(section)
    if step == 4:
        maps = next(view.maps for view in answered[0].views if view.kind == section.kind)
        assert len(maps) == 3
        assert 0 <= float(maps.min()) < 0.2 < 0.5 < float(maps.max()) <= 1
    else:
        assert section.table is not None
        names, values = zip(*section.table.rows, strict=True)
        assert names == ("before", "after block 1", "after block 2", "after block 3")
        assert float(values[-1]) <= float(values[0])  # as the step says of this head


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
    page.evaluate("document.querySelector('#hover').style.marginBottom = '900px'")  # a view above comes late
    expect(page.locator("#similarity")).to_be_in_viewport(ratio=0.3)
    page.mouse.move(600, 400)
    page.mouse.wheel(0, -5000)  # who looks elsewhere stays there
    page.evaluate("document.querySelector('#hover').style.marginBottom = ''")
    page.wait_for_timeout(300)
    expect(page.locator("#similarity")).not_to_be_in_viewport()
    headed.delay = 0.1  # an answer takes longer than the clicks
    page.evaluate("for (let step = 0; step < 4; step++) document.querySelector('#tour-next').click()")
    expect(page.locator(".ovs-tour h2")).to_contain_text("6 of 6 · LDVC")
    expect(page.locator("#tour-next")).to_be_disabled()
    expect(page.locator("#inspect-method input")).to_have_value("LDVC")
    expect(page.locator("#hover")).to_contain_text(
        "which windows", timeout=PATIENCE
    )  # LDVC's answer, no earlier one
    assert headed.runs > before
    page.click("#tour-end")
    expect(page.locator(".ovs-tour")).to_be_hidden()
