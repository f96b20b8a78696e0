"""Inspect with a method that has views of its own: what is offered, shown, changed and taken away."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from fake_engine import FakeEngine
from pages import PATIENCE, PHONE, choose, finished, fits, open_tab
from PIL import Image
from playwright.sync_api import Page, expect
from serving import PHOTO_SIZE, served

from ovs_core.methods.mvp_seg.captions import MVP_SEG_VIEWS
from ovs_core.ui.app import build_ui

SHOWN = {view.kind: view for view in MVP_SEG_VIEWS if not view.special}
OWN_VIEWS = "#class-views .ovs-view, #shared-views .ovs-view"
OpenPage = Callable[..., Page]


# Until the end of the session: a server that closes may still answer on its port when the next one takes it.
@pytest.fixture(scope="session")
def mvp_address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    engine = FakeEngine(tmp_path_factory.mktemp("weights"), heads=("mvp_seg",))
    with served(build_ui(engine)) as url:
        yield url


def inspect(page: Page, photo: Path, words: str, method: str = "MVP-SEG") -> None:
    choose(page, photo, words)
    open_tab(page, "Inspect")
    page.click("#inspect-method input")
    page.get_by_role("option", name=method, exact=True).click()
    page.click("#inspect-start")
    finished(page, "inspect")


def pick_class(page: Page, name: str) -> None:
    page.click("#inspect-class input")
    page.get_by_role("option", name=name, exact=True).click()


def test_only_methods_that_can_be_asked_are_offered(open_page: OpenPage, mvp_address: str) -> None:
    page = open_page(mvp_address)
    open_tab(page, "Inspect")
    page.click("#inspect-method input")
    expect(page.get_by_role("option", name="MVP-SEG")).to_be_visible()
    expect(page.get_by_role("option", name="MAFT+")).to_have_count(0)
    page.keyboard.press("Escape")
    reasons = page.locator("#inspect-missing")
    expect(reasons.locator("li").first).to_be_hidden()
    reasons.locator("summary").focus()
    page.keyboard.press("Enter")
    expect(reasons).to_contain_text("MAFT+: MAFT+ needs a trained head, which <is not> here.")


def test_every_view_of_a_method_has_its_section(
    open_page: OpenPage, mvp_address: str, photo_file: Path
) -> None:
    page = open_page(mvp_address)
    inspect(page, photo_file, "dog; grass | lawn; <b>sky</b>")
    expect(page.locator(OWN_VIEWS)).to_have_count(len(SHOWN))
    for kind, look in SHOWN.items():
        section = page.locator(f".ovs-view[data-kind={kind}]")
        expect(section.locator("h2")).to_have_text(look.heading)
    views = page.locator("[data-kind=view_maps]")
    expect(views.locator("figure img")).to_have_count(3)
    expect(views.locator(".ovs-scale")).to_have_count(1)
    expect(page.locator("[data-kind=class_gates] tbody tr")).to_have_count(3)
    expect(page.locator("[data-kind=class_gates]")).to_contain_text("<b>sky</b>")
    expect(page.locator("[data-kind=context_cosines] tbody td")).to_have_count(16)
    expect(page.locator("[data-kind=context_words]")).to_contain_text("<b>bold</b>")
    expect(page.locator("#similarity .stage img")).to_have_count(3)
    expect(page.locator("#hover .stage.map canvas")).to_be_visible()
    for picture in page.locator(f":is({OWN_VIEWS}) img").all():  # each is sent when it is scrolled to
        picture.scroll_into_view_if_needed()
        page.wait_for_function("(one) => one.naturalWidth > 300", arg=picture.element_handle())


def test_one_class_is_shown_at_a_time(open_page: OpenPage, mvp_address: str, photo_file: Path) -> None:
    page = open_page(mvp_address)
    inspect(page, photo_file, "dog; grass; sky")
    captions = page.locator("[data-kind=view_maps] figcaption")
    scale = page.locator("[data-kind=view_maps] .ovs-scale")
    pick_class(page, "sky")
    expect(captions.first).to_contain_text("sky, view 1", timeout=PATIENCE)
    expect(captions).to_have_count(3)
    own = scale.inner_text()
    page.get_by_label("Same colour scale for all classes").check()
    expect(scale).not_to_have_text(own, timeout=PATIENCE)
    page.click("#inspect-start")
    finished(page, "inspect")
    expect(captions.first).to_contain_text("sky, view 1")  # what was chosen stays
    expect(page.locator("#classes textarea")).to_have_value("dog; grass; sky")


def test_two_quick_changes_both_count(open_page: OpenPage, mvp_address: str, photo_file: Path) -> None:
    page = open_page(mvp_address)
    inspect(page, photo_file, "dog; grass; sky")
    captions = page.locator("[data-kind=view_maps] figcaption")
    pick_class(page, "grass")
    page.get_by_label("Same colour scale for all classes").check()
    pick_class(page, "sky")
    expect(captions.first).to_contain_text("sky, view 1", timeout=PATIENCE)
    together = page.locator("[data-kind=view_maps] .ovs-scale").inner_text()
    page.get_by_label("Same colour scale for all classes").uncheck()
    expect(page.locator("[data-kind=view_maps] .ovs-scale")).not_to_have_text(together, timeout=PATIENCE)


def test_other_words_and_methods_start_anew(open_page: OpenPage, mvp_address: str, photo_file: Path) -> None:
    page = open_page(mvp_address)
    inspect(page, photo_file, "dog; grass; sky")
    pick_class(page, "sky")
    expect(page.locator("[data-kind=view_maps] figcaption").first).to_contain_text("sky", timeout=PATIENCE)
    page.fill("#classes textarea", "boat; water")
    page.click("#inspect-start")
    expect(page.locator("[data-kind=class_gates] tbody tr")).to_have_count(2, timeout=PATIENCE)
    expect(page.locator("[data-kind=view_maps] figcaption").first).to_contain_text("boat")
    inspect(page, photo_file, "boat; water", "NACLIP")
    expect(page.locator(OWN_VIEWS)).to_have_count(0, timeout=PATIENCE)
    expect(page.locator("#class-picker")).to_be_hidden()


def test_pictures_can_be_taken_away(
    open_page: OpenPage, mvp_address: str, photo_file: Path, tmp_path: Path
) -> None:
    page = open_page(mvp_address)
    inspect(page, photo_file, "dog; grass")
    expect(page.locator("a.save")).to_have_count(len(SHOWN) - 1)  # words are text already
    with page.expect_download() as waiting:
        page.locator("[data-kind=view_maps] a.save").click()
    assert waiting.value.suggested_filename == "view_maps.png"
    waiting.value.save_as(tmp_path / "taken.png")
    with Image.open(tmp_path / "taken.png") as opened:
        assert opened.width > 3 * 300
        assert np.asarray(opened).std() > 10


def test_maps_of_the_chosen_view_can_be_taken_away(
    open_page: OpenPage, mvp_address: str, photo_file: Path, tmp_path: Path
) -> None:
    page = open_page(mvp_address)
    inspect(page, photo_file, "dog; grass")
    page.click("#maps-view input")
    page.get_by_role("option", name=SHOWN["view_maps"].heading, exact=True).click()
    for end in ("npz", "png"):
        with page.expect_download() as waiting:
            page.click(f"#maps-{end}")
        assert waiting.value.suggested_filename == f"meadow.mvp_seg.view_maps.{end}"
        waiting.value.save_as(tmp_path / f"maps.{end}")
    with np.load(tmp_path / "maps.npz", allow_pickle=False) as file:
        assert file["maps"].ndim == 3
        assert len(file["labels"]) == len(file["maps"]) > 2
        assert file["classes"].tolist() == ["dog", "grass"]
        assert file["photo_size"].tolist() == list(PHOTO_SIZE)
    with Image.open(tmp_path / "maps.png") as picture:
        assert min(picture.size) > 200
    page.click("#maps-view input")
    page.get_by_role("option", name=SHOWN["context_words"].heading, exact=True).click()
    page.click("#maps-png")
    expect(page.get_by_text("take its NPZ")).to_be_visible()
    links = page.locator(".ovs-view .ovs-source a, .ovs-hover .ovs-source a")
    assert set(links.evaluate_all("all => all.map(one => one.rel)")) == {"noopener noreferrer"}
    addresses = set(links.evaluate_all("all => all.map(one => one.href)"))
    papers = ("2304.06957", "2109.01134", "2112.01071")  # its own, CoOp, MaskCLIP
    assert addresses == {f"https://arxiv.org/abs/{paper}" for paper in papers}
    assert page.locator(".ovs-view").count() == page.locator(".ovs-view .ovs-source").count()


def test_views_fit_on_a_phone(open_page: OpenPage, mvp_address: str, photo_file: Path) -> None:
    page = open_page(mvp_address, PHONE)
    inspect(page, photo_file, "dog; " + "a very long name without end " * 6)
    expect(page.locator(OWN_VIEWS)).to_have_count(len(SHOWN))
    assert fits(page)
    box = page.locator("#inspect-class").bounding_box()
    assert box is not None
    assert box["width"] > 250


def test_captions_of_wide_tables_can_be_read_on_a_phone(
    open_page: OpenPage, address: str, photo_file: Path
) -> None:
    page = open_page(address, PHONE)
    choose(page, photo_file, "dog; grass; sky; water; sand; boat")
    open_tab(page, "Compare")
    page.click("#compare-start")
    finished(page, "compare")
    table = page.locator("#compare-table .ovs-table").bounding_box()
    caption = page.locator("#compare-table caption span").bounding_box()
    assert table is not None
    assert caption is not None
    assert page.evaluate(
        "(e => e.scrollWidth > e.clientWidth)(document.querySelector('#compare-table .ovs-table'))"
    )
    assert caption["x"] + caption["width"] <= table["x"] + table["width"] + 1
