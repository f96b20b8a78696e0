"""Putting an answer right in a real browser, on an engine without a model."""

import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from fake_engine import FakeEngine
from PIL import Image
from playwright.sync_api import Page, expect

from ovs_core.cli.segment import main

PHONE = (390, 844)
DESKTOP = (1280, 900)
PATIENCE = 60_000  # milliseconds
OpenPage = Callable[..., Page]


def segment(page: Page, photo: Path, words: str = "dog; grass") -> None:
    page.set_input_files("#photo input[type=file]", photo)
    page.wait_for_selector("#photo img")
    page.fill("#classes textarea", words)
    page.click("#segment-start")
    expect(page.locator("#segment-status .done")).to_be_visible(timeout=PATIENCE)


def open_panel(page: Page) -> None:
    page.locator("#edit button").first.click()
    expect(page.locator("#edit-picture img")).to_be_visible()


def said(page: Page, sentence: str) -> None:
    expect(page.locator("#edit-note")).to_contain_text(sentence, timeout=PATIENCE)


def choose_class(page: Page, name: str, field: str = "edit-class") -> None:
    page.click(f"#{field} input")
    page.locator(f"#{field}").get_by_role("option", name=name, exact=True).click()


def saved(page: Page, kind: str, folder: Path) -> Path:
    with page.expect_download() as waiting:
        page.click(f"#save-{kind}")
    path = folder / waiting.value.suggested_filename
    waiting.value.save_as(path)
    return path


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_clicks_and_buttons_put_it_right_and_files_are_as_shown(
    open_page: OpenPage, address: str, photo_file: Path, tmp_path: Path, size: tuple[int, int]
) -> None:
    page = open_page(address, size)
    segment(page, photo_file)
    before = np.array(Image.open(saved(page, "labels", tmp_path)))
    open_panel(page)
    page.get_by_label("Paint", exact=True).check()
    page.click("#edit-picture img", position={"x": 5, "y": 5})
    said(page, "Choose a class first")
    if size == PHONE:
        expect(page.locator("#edit-note")).to_be_in_viewport()
    choose_class(page, "grass")
    page.fill("#edit-radius input[type=number]", "3")
    page.click("#edit-picture img", position={"x": 5, "y": 5})
    said(page, "1 edit by hand")
    page.fill("#edit-name textarea, #edit-name input", "meadow")
    page.click("#edit-rename")
    said(page, "2 edits by hand")
    expect(page.locator("#classes-table")).to_contain_text("meadow")
    expect(page.locator("#summary")).to_contain_text("meadow")
    after = np.array(Image.open(saved(page, "labels", tmp_path)))
    assert (after[:3, :3] == 2).all()  # a disc of 3 pixels round the pixel in the corner
    assert not np.array_equal(before, after)
    report = json.loads(saved(page, "json", tmp_path).read_text())
    assert [edit["edit"] for edit in report["edits"]] == ["brush", "rename"]
    page.click("#edit-undo")
    page.click("#edit-undo")
    said(page, "As the model gave it")
    assert np.array_equal(np.array(Image.open(saved(page, "labels", tmp_path))), before)
    page.click("#edit-redo")
    said(page, "1 edit by hand")
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def test_a_new_answer_asks_first(open_page: OpenPage, address: str, photo_file: Path) -> None:
    page = open_page(address)
    segment(page, photo_file)
    open_panel(page)
    choose_class(page, "dog")
    choose_class(page, "grass", "edit-into")
    page.click("#edit-merge")
    said(page, "1 edit by hand")
    expect(page.locator("#classes-table tbody tr")).to_have_count(2)
    page.click("#segment-start")
    expect(page.locator("#segment-status")).to_contain_text("deletes 1 edit by hand", timeout=PATIENCE)
    expect(page.locator("#classes-table tbody tr")).to_have_count(2)
    page.click("#segment-start")
    expect(page.locator("#segment-status .done")).to_be_visible(timeout=PATIENCE)
    expect(page.locator("#classes-table tbody tr")).to_have_count(3)


def at(page: Page, x: float, y: float) -> tuple[float, float]:
    """A place of the picture, in [0, 1], on the screen."""
    frame = page.locator("#edit-picture img").bounding_box()
    assert frame is not None
    return frame["x"] + x * frame["width"], frame["y"] + y * frame["height"]


def from_settings(packed: Path, photo: Path, engine: FakeEngine) -> np.ndarray:
    """Labels that the command line makes of the settings in a ZIP."""
    with zipfile.ZipFile(packed) as archive:
        settings = Path(archive.extract("settings.json", packed.parent))
    out = packed.parent / "again"
    assert main([str(photo), "--settings", str(settings), "--out", str(out)], engine) == 0
    return np.array(Image.open(out / f"{photo.stem}.naclip.labels.png"))


def finger_stroke(page: Page, *places: tuple[float, float]) -> None:
    """A finger that goes over the picture, as the browser itself sees it."""
    session = page.context.new_cdp_session(page)
    for number, place in enumerate(places):
        x, y = at(page, *place)
        kind = "touchMove" if number else "touchStart"
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [{"x": x, "y": y}]})
    session.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})


def mouse_stroke(page: Page, *places: tuple[float, float]) -> None:
    page.mouse.move(*at(page, *places[0]))
    page.mouse.down()
    for place in places[1:]:
        page.mouse.move(*at(page, *place), steps=5)
    page.mouse.up()


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["mouse", "finger"])
def test_strokes_paint_and_rub_out_at_the_size_of_the_photo(
    open_page: OpenPage,
    address: str,
    engine: FakeEngine,
    photo_file: Path,
    tmp_path: Path,
    size: tuple[int, int],
) -> None:
    page = open_page(address, size, touch=size == PHONE)
    stroke = finger_stroke if size == PHONE else mouse_stroke
    segment(page, photo_file)
    open_panel(page)
    choose_class(page, "dog")
    page.fill("#edit-radius input[type=number]", "2")
    page.get_by_label("Paint", exact=True).check()
    before = np.array(Image.open(saved(page, "labels", tmp_path)))
    page.locator("#edit-picture img").scroll_into_view_if_needed()
    top = page.evaluate("window.scrollY")
    stroke(page, (0.1, 0.1), (0.5, 0.1), (0.9, 0.1))
    stroke(page, (0.1, 0.9), (0.9, 0.9))  # at once: no stroke waits for the last one, none is lost
    said(page, "2 edits by hand")
    assert page.evaluate("window.scrollY") == top  # the finger drew and did not scroll
    painted = np.array(Image.open(saved(page, "labels", tmp_path)))
    assert (painted[6, 10:80] == 1).all()
    assert (painted[54, 10:80] == 1).all()
    assert np.array_equal(painted[12:48], before[12:48])
    page.get_by_label("Rub out", exact=True).check()
    page.locator("#edit-picture img").scroll_into_view_if_needed()
    stroke(page, (0.5, 0.05), (0.5, 0.15))
    said(page, "3 edits by hand")
    rubbed = np.array(Image.open(saved(page, "labels", tmp_path)))
    assert np.array_equal(from_settings(saved(page, "zip", tmp_path), photo_file, engine), rubbed)
    assert not rubbed[6, 44:47].any()
    assert (rubbed[6, 10:40] == 1).all()
    page.click("#edit-undo")
    said(page, "2 edits by hand")
    assert np.array_equal(np.array(Image.open(saved(page, "labels", tmp_path))), painted)


def test_without_weights_an_object_is_refused_in_one_sentence(
    open_page: OpenPage, address: str, photo_file: Path
) -> None:
    page = open_page(address)
    segment(page, photo_file)
    open_panel(page)
    choose_class(page, "dog")
    page.get_by_label("Object: this (+)").check()
    page.click("#edit-picture img", position={"x": 50, "y": 50})
    said(page, "weights get mobile-sam")
    page.get_by_label("Object: in a box").check()
    mouse_stroke(page, (0.2, 0.2), (0.6, 0.7))
    expect(page.locator("#edit-picture .live rect")).to_have_count(1)
    page.get_by_label("Erase the area").check()
    page.click("#edit-picture img", position={"x": 50, "y": 50})
    expect(page.locator("#edit-picture .live rect")).to_have_count(0)  # the box that was refused is gone
    said(page, "1 edit by hand")
