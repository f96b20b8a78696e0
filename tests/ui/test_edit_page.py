"""Putting an answer right in a real browser, on an engine without a model."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Page, expect

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
    choose_class(page, "grass")
    page.click("#edit-picture img", position={"x": 5, "y": 5})
    said(page, "1 edit by hand")
    page.fill("#edit-name textarea, #edit-name input", "meadow")
    page.click("#edit-rename")
    said(page, "2 edits by hand")
    expect(page.locator("#classes-table")).to_contain_text("meadow")
    expect(page.locator("#summary")).to_contain_text("meadow")
    after = np.array(Image.open(saved(page, "labels", tmp_path)))
    assert (after[:4, :4] == 2).all()
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
