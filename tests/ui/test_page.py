"""The page in a real browser, on an engine without a model."""

import hashlib
import json
import re
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from fake_engine import FakeEngine
from pages import PATIENCE, PHONE, choose, finished, fits, open_tab
from PIL import Image
from playwright.sync_api import Download, Page, expect
from serving import PHOTO_SIZE, served

from ovs_core.checkpoints import load_catalogue
from ovs_core.engine import Engine
from ovs_core.refine import REFINERS
from ovs_core.ui.app import build_ui

OpenPage = Callable[..., Page]


@pytest.fixture(scope="module")
def slow_engine(tmp_path_factory: pytest.TempPathFactory) -> FakeEngine:
    return FakeEngine(tmp_path_factory.mktemp("weights"), delay=1.0)


@pytest.fixture(scope="module")
def slow_address(slow_engine: FakeEngine) -> Iterator[str]:
    with served(build_ui(slow_engine)) as url:
        yield url


def segment(page: Page, photo: Path, words: str = "dog; grass; sky | clouds") -> None:
    choose(page, photo, words)
    page.click("#segment-start")
    finished(page)


def download(page: Page, kind: str, to: Path) -> Path:
    with page.expect_download() as waiting:
        page.click(f"#save-{kind}")
    received: Download = waiting.value
    path = to / received.suggested_filename
    received.save_as(path)
    return path


def test_segment_shows_picture_summary_and_table(open_page: OpenPage, address: str, photo_file: Path) -> None:
    page = open_page(address)
    expect(page.locator("#hint")).to_contain_text("press Segment")
    segment(page, photo_file)
    expect(page.locator("#overlay img.mask")).to_have_count(3)
    expect(page.locator(".ovs-words button")).to_have_count(3)  # its legend
    expect(page.locator("#overlay .legend-item")).to_have_count(0)
    expect(page.locator("#summary")).to_contain_text("of the photo")
    expect(page.locator("#classes-table tbody tr")).to_have_count(4)
    expect(page.locator("#classes-table")).to_contain_text("| clouds")
    said = page.locator("#summary").inner_text().strip()
    picture = page.locator("#overlay .base-image")
    expect(picture).to_have_attribute("alt", f"The labelled photo: {said}")
    page.fill("#threshold input[type=number]", "1")
    page.keyboard.press("Tab")
    expect(picture).to_have_attribute("alt", re.compile("Nothing you typed won a pixel"))
    expect(page.locator("#ovs-header")).to_contain_text("Weights in use")


def test_sliders_answer_without_the_model(
    open_page: OpenPage, address: str, engine: FakeEngine, photo_file: Path
) -> None:
    page = open_page(address)
    segment(page, photo_file)
    before, runs = page.inner_text("#summary"), engine.runs
    page.fill("#threshold input[type=number]", "0.2")
    expect(page.locator("#summary")).not_to_have_text(before)
    page.fill("#threshold input[type=number]", "1")
    expect(page.locator("#summary")).to_contain_text("Lower the threshold")
    page.click("#reset")
    expect(page.locator("#summary")).to_have_text(before)
    assert engine.runs == runs


def test_options_have_fields_and_reach_the_methods_that_declare_them(
    open_page: OpenPage, address: str, photo_file: Path, tmp_path: Path
) -> None:
    page = open_page(address)
    page.get_by_role("button", name="More options").click()
    page.get_by_role("button", name="Options of single methods").click()
    page.locator("#option-key-smoothing").get_by_role("checkbox").check(timeout=PATIENCE)
    for title, name, switched in (("MaskCLIP", "maskclip", ["key_smoothing"]), ("NACLIP", "naclip", [])):
        page.click("#method input")
        page.get_by_role("option", name=title, exact=True).click()
        segment(page, photo_file)
        for _ in range(20):  # "done" may still be that of the answer before
            report = json.loads(download(page, "json", tmp_path).read_text(encoding="utf-8"))
            if report["method"] == name:
                break
            page.wait_for_timeout(500)
        assert (report["method"], report["switches"]) == (name, switched)


def test_opacity_is_settled_in_the_browser(open_page: OpenPage, address: str, photo_file: Path) -> None:
    page = open_page(address)
    segment(page, photo_file)
    page.fill("#opacity input[type=number]", "0.3")
    page.mouse.move(0, 0)
    expect(page.locator("#overlay img.mask").first).to_have_css("opacity", "0.3")


def test_compare_shows_a_panel_per_method_and_where_they_differ(
    open_page: OpenPage, address: str, photo_file: Path
) -> None:
    page = open_page(address)
    choose(page, photo_file, "dog; grass")
    open_tab(page, "Compare")
    expect(page.locator("#compare-note")).to_contain_text("give nearly the labels of NACLIP")
    expect(page.locator("#compare-methods input:checked")).to_have_count(1)
    for title in ("CLIP as it is", "MaskCLIP", "ClearCLIP"):
        page.get_by_role("checkbox", name=title, exact=True).check()
    page.click("#compare-start")
    expect(finished(page, "compare")).to_contain_text("disagree on")
    for name in ("clip", "maskclip", "clearclip", "naclip", "consensus", "disagreement"):
        expect(page.locator(f"#panel-{name} img")).to_be_visible()
    expect(page.locator("#panel-sclip img")).to_have_count(0)
    expect(page.locator("#compare-table tbody tr")).to_have_count(4)
    expect(page.locator("#compare-agreement tbody td")).to_have_count(16)
    expect(page.locator("#compare-key")).to_contain_text("4 of 4 agree")
    open_tab(page, "Segment")
    expect(page.locator("#classes textarea")).to_have_value("dog; grass")
    expect(page.locator("#photo img")).to_be_visible()


def test_downloads_have_the_size_of_the_photo(
    open_page: OpenPage, address: str, photo_file: Path, tmp_path: Path
) -> None:
    page = open_page(address)
    segment(page, photo_file)
    labels = download(page, "labels", tmp_path)
    assert labels.name == "meadow.naclip.labels.png"
    with Image.open(labels) as opened:
        assert opened.size == PHOTO_SIZE[::-1]
        assert set(np.unique(np.asarray(opened))) <= {0, 1, 2, 3}
    report = json.loads(download(page, "json", tmp_path).read_text(encoding="utf-8"))
    assert [entry["names"] for entry in report["classes"]][:3] == [["dog"], ["grass"], ["sky", "clouds"]]
    page.get_by_label("yolo").check()
    with zipfile.ZipFile(download(page, "zip", tmp_path)) as archive:
        assert "naclip.yolo/meadow.txt" in archive.namelist()


def test_a_long_name_wraps_in_its_sentence(open_page: OpenPage, address: str, tmp_path: Path) -> None:
    path = tmp_path / f"{'letter' * 20}.png"
    path.write_text("This is not a picture.", encoding="utf-8")
    page = open_page(address, PHONE)
    choose(page, path, "dog")
    page.click("#segment-start")
    expect(finished(page, kind="error")).to_contain_text("letterletter")
    assert page.locator("#segment-status .line").evaluate("(line) => line.scrollWidth <= line.clientWidth")


def test_a_photo_that_browsers_cannot_draw_is_shown_and_asked_as_it_is(
    open_page: OpenPage, address: str, tmp_path: Path
) -> None:
    path = tmp_path / "meadow.tiff"
    Image.new("RGB", PHOTO_SIZE[::-1], (10, 200, 30)).save(path)
    page = open_page(address)
    segment(page, path)
    page.wait_for_function("document.querySelector('#photo img').naturalWidth > 0")
    report = json.loads(download(page, "json", tmp_path).read_text())
    assert report["image"]["sha256"] == hashlib.sha256(bytes((10, 200, 30)) * np.prod(PHOTO_SIZE)).hexdigest()


def test_a_missing_photo_keeps_the_words(open_page: OpenPage, address: str) -> None:
    page = open_page(address)
    page.fill("#classes textarea", "dog; grass")
    page.click("#segment-start")
    expect(finished(page, kind="error")).to_contain_text("Choose a photo first")
    expect(page.locator("#classes textarea")).to_have_value("dog; grass")


def test_a_file_that_is_no_picture_is_named(open_page: OpenPage, address: str, tmp_path: Path) -> None:
    path = tmp_path / "letter.png"
    path.write_text("Dear reader, this is not a picture.", encoding="utf-8")
    page = open_page(address)
    choose(page, path, "dog")
    page.click("#segment-start")
    expect(finished(page, kind="error")).to_contain_text("letter.png")
    expect(page.locator("#classes textarea")).to_have_value("dog")


def test_class_names_are_text(open_page: OpenPage, address: str, photo_file: Path) -> None:
    nasty = "<b id='planted'>dog</b> ${1+1} {{2}}"
    page = open_page(address)
    segment(page, photo_file, f"{nasty}; grass")
    expect(page.locator("#classes-table")).to_contain_text(nasty)
    expect(page.locator("#summary")).to_contain_text("<b id='planted'>")
    assert page.locator("#planted").count() == 0


def test_an_example_fills_in_photo_and_words(open_page: OpenPage, address: str) -> None:
    page = open_page(address)
    page.click("#example-1")
    expect(page.locator("#photo img")).to_be_visible()
    expect(page.locator("#classes textarea")).not_to_have_value("")
    page.click("#segment-start")
    finished(page)


def test_cancel_stops_between_windows(
    open_page: OpenPage, slow_address: str, slow_engine: FakeEngine, photo_file: Path
) -> None:
    page = open_page(slow_address)
    choose(page, photo_file, "dog")
    page.click("#segment-start")
    expect(page.locator("#segment-status")).to_contain_text("Looking at the photo")
    page.click("#segment-stop")
    expect(finished(page, kind="warning")).to_contain_text("Stopped")
    expect(page.locator("#segment-start")).to_be_enabled()
    expect(page.locator("#overlay img.mask")).to_have_count(0)
    slow_engine.delay = 0.0
    page.click("#segment-start")
    finished(page)


def test_two_people_keep_their_own_answers(open_page: OpenPage, address: str, photo_file: Path) -> None:
    first, second = open_page(address), open_page(address)
    segment(first, photo_file, "dog; grass")
    segment(second, photo_file, "boat; water; sky")
    first.fill("#threshold input[type=number]", "0.15")
    expect(first.locator("#classes-table")).to_contain_text("grass")
    expect(first.locator("#classes-table")).not_to_contain_text("boat")


@pytest.mark.parametrize("tab", ["Segment", "Compare", "Inspect", "Models"])
def test_nothing_sticks_out_on_a_phone(open_page: OpenPage, address: str, photo_file: Path, tab: str) -> None:
    page = open_page(address, PHONE)
    choose(page, photo_file, "dog; " + "a very long name without end " * 6)
    open_tab(page, tab)
    if tab != "Models":
        page.click(f"#{tab.lower()}-start")
        finished(page, tab.lower())
    assert fits(page)


def test_every_file_that_a_refiner_waits_for_can_be_had_on_the_page(
    open_page: OpenPage, address: str
) -> None:
    page = open_page(address)
    open_tab(page, "Models")
    shown = page.get_by_role("tabpanel").filter(has_text="Nothing is fetched").inner_text()
    catalogue = load_catalogue()
    wanted = {catalogue[name].title for spec in REFINERS.values() for name in spec.weights}
    assert wanted
    assert {title for title in wanted if title not in shown} == set()


def test_reading_order_is_keyboard_order(open_page: OpenPage, address: str, photo_file: Path) -> None:
    page = open_page(address)
    segment(page, photo_file)
    page.focus("#classes textarea")
    wanted = ["classes", "example-1", "more", "method", "segment-start", "threshold", "save-labels"]
    seen: list[str] = []
    script = "(ids) => ids.find(id => document.activeElement.closest('#' + id)) || ''"
    for _ in range(60):
        name = page.evaluate(script, wanted)
        if name and name not in seen:
            seen.append(name)
        page.keyboard.press("Tab")
    assert seen == wanted


def test_missing_weights_are_explained(open_page: OpenPage, tmp_path: Path, photo_file: Path) -> None:
    with served(build_ui(FakeEngine(tmp_path, missing=True))) as url:
        page = open_page(url)
        expect(page.locator("#ovs-header")).to_contain_text("No weights yet")
        choose(page, photo_file, "dog")
        page.click("#segment-start")
        expect(finished(page, kind="error")).to_contain_text("restore")
        page.close()  # before its server goes, which it would complain about


def test_the_real_engine_answers(open_page: OpenPage, tmp_path: Path) -> None:
    with served(build_ui(Engine(device="cpu", text_dir=tmp_path))) as url:
        page = open_page(url)
        page.get_by_role("button", name="Temple").click()
        expect(page.locator("#photo img")).to_be_visible()
        page.click("#segment-start")
        finished(page)
        expect(page.locator("#summary")).to_contain_text("temple")
        expect(page.locator("#overlay img.mask").first).to_be_visible()
        page.close()


def test_a_mistake_in_the_program_frees_the_page(
    open_page: OpenPage, tmp_path: Path, photo_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def break_down(*_: object) -> None:
        raise RuntimeError("internal detail")

    engine = FakeEngine(tmp_path)
    monkeypatch.setattr(engine, "run", break_down)
    with served(build_ui(engine)) as url:
        page = open_page(url)
        choose(page, photo_file, "dog")
        page.click("#segment-start")
        expect(finished(page, kind="error")).to_contain_text("unexpected")
        expect(page.locator("body")).not_to_contain_text("internal detail")
        expect(page.locator("#segment-start")).to_be_enabled()
        page.close()


def test_objects_are_told_apart_where_a_method_gives_masks(
    open_page: OpenPage, tmp_path: Path, photo_file: Path
) -> None:
    engine = FakeEngine(tmp_path, mask_method="naclip")
    with served(build_ui(engine)) as url:
        page = open_page(url)
        segment(page, photo_file, "dog; grass")
        expect(page.locator("#overlay img.mask")).to_have_count(2)
        page.locator("#look").get_by_label("Panoptic").check()
        expect(page.locator("#overlay img.mask")).to_have_count(3)
        page.locator("#overlay .legend-item").first.focus()
        expect(page.locator("#overlay img.mask.active")).to_have_count(1)
        expect(page.locator("#overlay img.mask.inactive")).to_have_count(2)
        expect(page.locator("#summary")).to_contain_text("dog (2) covers")
        assert download(page, "overlay", tmp_path).name == "meadow.naclip.panoptic.overlay.png"
        page.locator("#look").get_by_label("Instances").check()
        expect(page.locator("#overlay img.mask")).to_have_count(2)
        page.fill("#stuff textarea", "dogs; grass")
        page.focus("#classes textarea")
        expect(page.locator("#summary")).to_contain_text("No mask is sure enough")
        page.locator("#formats").get_by_label("instances").check()
        assert engine.runs == 1
        page.click("#method input")
        page.get_by_role("option", name="SCLIP", exact=True).click()
        page.click("#segment-start")
        expect(page.locator("#looks")).to_be_hidden()
        expect(page.locator("#formats").get_by_label("instances")).to_have_count(0)
        assert download(page, "overlay", tmp_path).name == "meadow.sclip.overlay.png"


def test_closing_the_tab_stops_its_work(open_page: OpenPage, photo_file: Path, tmp_path: Path) -> None:
    engine = FakeEngine(tmp_path, delay=3)
    with served(build_ui(engine)) as url:
        page = open_page(url)
        choose(page, photo_file, "dog")
        page.click("#segment-start")
        expect(page.locator("#segment-status")).to_contain_text("2 of", timeout=PATIENCE)
        assert not engine.stopped.is_set()
        page.close()
        assert engine.stopped.wait(2.5 * engine.delay)  # the window that ran is finished, no other begins
