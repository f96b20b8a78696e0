"""Panels of Compare: one cursor, one zoom, a wipe of any two pictures or of one and the truth."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pages import PHONE, choose, finished, fits, open_tab
from PIL import Image
from playwright.sync_api import Page, expect
from serving import PHOTO_SIZE
from test_inspect import inspect, mvp_address

from ovs_core.image import read_photo
from ovs_core.ui.linked import Panel, linked_panels
from ovs_core.ui.pictures import store_png, store_shown

__all__ = ["mvp_address"]
OpenPage = Callable[..., Page]
CAT = Path(__file__).resolve().parents[2] / "assets" / "photos" / "cat.jpg"
VIEW = """(name) => { const s = document.querySelector("#compare-panels .ovs-linked").style;
  return ['zoom', 'left', 'top', 'x', 'y'].map(n => Number(s.getPropertyValue('--' + n))); }"""
CURSORS = """() => [...document.querySelectorAll('#compare-panels .stage')].map(stage => {
  const a = stage.getBoundingClientRect(), c = stage.querySelector('.cursor').getBoundingClientRect();
  return [(c.left - a.left) / a.width, (c.top - a.top) / a.height]; })"""


def compared(page: Page, photo: Path, words: str = "dog; grass") -> None:
    choose(page, photo, words)
    open_tab(page, "Compare")
    page.get_by_role("checkbox", name="CLIP as it is", exact=True).check()
    page.click("#compare-start")
    finished(page, "compare")
    expect(page.locator("#panel-disagreement img")).to_be_visible()


def test_names_and_titles_are_text() -> None:
    html = linked_panels([Panel("a", "<b id=planted>", "/tmp/x y.png", '"<i>')])
    assert "<b id=planted>" not in html
    assert "<i>&quot;" not in html
    assert "/tmp/x%20y.png" in html
    assert linked_panels([]) == linked_panels([Panel("photo", "Photo", "p.png", "", listed=False)]) == ""


def test_a_panel_shows_a_small_file_and_saves_the_exact_one():
    html = linked_panels([Panel("a", "A", "/tmp/a.jpg", "", saved="/tmp/a.png")])
    assert '/tmp/a.jpg" alt' in html
    assert 'a.png" download="a.png"' in html


def test_what_is_shown_is_a_quarter_of_a_png_and_looks_the_same():
    pixels = read_photo(CAT).pixels
    shown, saved = store_shown(pixels, "cat"), store_png(pixels, "cat.png")
    assert 4 * Path(shown).stat().st_size < Path(saved).stat().st_size
    with Image.open(shown) as picture, Image.open(saved) as exact:
        assert np.array_equal(np.asarray(exact), pixels)
        off = np.abs(np.asarray(picture).astype(int) - pixels)
    assert off.mean() < 2
    edge = np.zeros((32, 32, 3), np.uint8)
    edge[:, 9:, 0] = 255  # one pixel off an even column: colours at half of the size would be grey there
    with Image.open(store_shown(edge, "edge")) as picture:
        assert np.asarray(picture)[:, 9, 0].min() > 200


@pytest.mark.parametrize(
    ("names", "right"),
    [
        (["clip"], "photo"),
        (["clip", "naclip"], "naclip"),
        (["clip", "naclip", "truth", "consensus"], "truth"),
    ],
)
def test_the_wipe_begins_where_it_says_most(names: list[str], right: str) -> None:
    panels = [Panel("photo", "Photo", "photo.png", "", listed=False)]
    html = linked_panels([*panels, *(Panel(name, name, f"{name}.png", name) for name in names)])
    chosen = [part.split('"')[0] for part in html.split('value="') if "selected" in part.split(">")[0]]
    assert chosen == ["clip", right]
    assert 'id="panel-photo"' not in html


def test_one_cursor_one_zoom_and_no_request(open_page: OpenPage, address: str, photo_file: Path) -> None:
    page = open_page(address)
    compared(page, photo_file)
    stage = page.locator("#panel-clip .stage")
    stage.scroll_into_view_if_needed()
    box = stage.bounding_box()
    assert box is not None
    asked: list[str] = []
    page.on("request", lambda one: asked.append(one.url))
    page.mouse.move(box["x"] + 0.25 * box["width"], box["y"] + 0.5 * box["height"])
    expect(page.locator("#panel-naclip .cursor")).to_be_visible()
    cursors = page.evaluate(CURSORS)
    assert len(cursors) == 5  # wipe, two methods, consensus, disagreement
    assert all(cursor == pytest.approx([0.25, 0.5], abs=0.02) for cursor in cursors)
    page.mouse.dblclick(box["x"] + 0.25 * box["width"], box["y"] + 0.5 * box["height"])
    expect(page.locator("#compare-panels [data-zoomed]")).to_be_visible()
    zoom, left, top, *_ = page.evaluate(VIEW)
    assert [zoom, left, top] == pytest.approx([2, 0.125, 0.25], abs=0.02)  # the place stays where it was
    assert page.evaluate(CURSORS)[3] == pytest.approx([0.25, 0.5], abs=0.02)
    widths = "() => [...document.querySelectorAll('.ovs-panels .stage')].map(s => s.querySelector('img')"
    ratios = page.evaluate(f"{widths}.getBoundingClientRect().width / s.getBoundingClientRect().width)")
    assert ratios == pytest.approx([2, 2, 2, 2], abs=0.02)
    page.mouse.down()
    page.mouse.move(box["x"] + 0.35 * box["width"], box["y"] + 0.4 * box["height"], steps=4)
    page.mouse.up()
    assert page.evaluate(VIEW)[1:3] == pytest.approx([0.075, 0.3], abs=0.02)
    page.click("#compare-panels [data-zoom=whole]")
    expect(page.locator("#compare-panels [data-zoomed]")).to_have_count(0)
    page.mouse.move(0, 0)
    expect(page.locator("#panel-naclip .cursor")).to_be_hidden()
    stage.focus()
    for key in ("+", "ArrowRight", "ArrowRight"):
        page.keyboard.press(key)
    expect(page.locator("#panel-naclip .cursor")).to_be_visible()
    assert page.evaluate(VIEW)[0] == pytest.approx(1.5)
    page.keyboard.press("0")
    expect(page.locator("#compare-panels [data-zoomed]")).to_have_count(0)
    assert asked == []


def test_any_two_pictures_are_wiped_and_the_choice_stays(
    open_page: OpenPage, address: str, photo_file: Path, tmp_path: Path
) -> None:
    page = open_page(address)
    compared(page, photo_file)
    wipe = page.locator(".wipe")
    left, right = wipe.locator("[data-side=left]"), wipe.locator("[data-side=right]")
    expect(left).to_have_value("clip")
    expect(right).to_have_value("naclip")
    left.select_option("photo")
    assert "photo.jpg" in str(wipe.locator("img.left").get_attribute("src"))
    seen = "() => getComputedStyle(document.querySelector('.wipe .over')).clipPath"
    wipe.locator("input").fill("20")
    page.wait_for_function(f"({seen})().includes('80%')")
    edge = wipe.locator(".edge").bounding_box()
    around = wipe.locator(".stage").bounding_box()
    assert edge is not None
    assert around is not None
    page.mouse.move(edge["x"] + edge["width"] / 2, edge["y"] + 20)
    page.mouse.down()
    page.mouse.move(around["x"] + 0.7 * around["width"], edge["y"] + 30, steps=3)
    page.mouse.up()
    assert float(wipe.locator("input").input_value()) == pytest.approx(70, abs=1)
    truth = np.zeros(PHOTO_SIZE, np.uint8)
    truth[:, 45:] = 2
    Image.fromarray(truth).save(tmp_path / "truth.png")
    page.get_by_role("button", name="Ground truth").click()
    page.set_input_files("#truth-mask input[type=file]", tmp_path / "truth.png")
    expect(page.locator("#panel-truth img")).to_be_visible()
    expect(left).to_have_value("photo")
    right.select_option("truth")
    assert "truth.jpg" in str(wipe.locator("img.right").get_attribute("src"))
    assert float(wipe.locator("input").input_value()) == pytest.approx(70, abs=1)


def test_a_finger_moves_cursor_and_wipe(open_page: OpenPage, address: str, photo_file: Path) -> None:
    page = open_page(address, PHONE, touch=True)
    compared(page, photo_file)
    stage = page.locator("#panel-clip .stage")
    stage.scroll_into_view_if_needed()
    box = stage.bounding_box()
    assert box is not None
    page.touchscreen.tap(box["x"] + 0.75 * box["width"], box["y"] + 0.5 * box["height"])
    expect(page.locator("#panel-naclip .cursor")).to_be_visible()
    assert page.evaluate(CURSORS)[0] == pytest.approx([0.75, 0.5], abs=0.03)
    page.locator("#compare-panels [data-zoom=in]").tap()
    expect(page.locator("#compare-panels [data-zoomed]")).to_have_count(1)
    assert page.evaluate(VIEW)[0] == pytest.approx(1.5)
    assert fits(page)


INSIDE = """([across, down, zoom]) => {
  const all = [...document.querySelectorAll('.ovs-linked .stage')].filter(one => one.offsetParent);
  return all.length >= 9 && all.every(stage => {
    const a = stage.getBoundingClientRect(), c = stage.querySelector('.cursor').getBoundingClientRect();
    const p = stage.querySelector('img').getBoundingClientRect();
    const off = [(c.left - a.left) / a.width - across, (c.top - a.top) / a.height - down,
      p.width / a.width - zoom];
    return off.every(part => Math.abs(part) < 0.03);
  }); }"""


def inside(page: Page, across: float, down: float, zoom: float) -> None:
    """Wait until every panel of Inspect has its cursor there and is enlarged so."""
    page.wait_for_function(INSIDE, arg=[across, down, zoom])


def test_panels_of_inspect_share_cursor_and_zoom_and_any_of_them_asks_the_bars(
    open_page: OpenPage, mvp_address: str, photo_file: Path
) -> None:
    page = open_page(mvp_address)
    inspect(page, photo_file, "dog; grass")
    verdict = page.locator("#hover .verdict")
    expect(verdict).to_contain_text("at 50 % across")
    inside(page, 0.5, 0.5, 1)
    page.locator("#similarity .stage img").last.scroll_into_view_if_needed()
    page.wait_for_timeout(500)  # pictures come one by one and move what lies below
    box = page.locator("#similarity .stage").last.bounding_box()
    assert box is not None
    at = (box["x"] + 0.25 * box["width"], box["y"] + 0.5 * box["height"])
    asked: list[str] = []
    page.on("request", lambda one: asked.append(one.url) if one.resource_type in ("fetch", "xhr") else None)
    page.mouse.move(*at)
    expect(verdict).to_contain_text("dog")
    expect(verdict).to_contain_text("at 25 % across")
    inside(page, 0.25, 0.5, 1)
    page.mouse.dblclick(*at)
    expect(page.locator(".ovs-linked[data-zoomed][data-pinned]")).to_have_count(1)
    inside(page, 0.25, 0.5, 2)  # the place stays where it is seen
    page.mouse.down()
    page.mouse.move(at[0] + 0.1 * box["width"], at[1], steps=4)
    page.mouse.up()
    expect(verdict).to_contain_text("Pinned: dog")  # a drag is no click
    inside(page, 0.35, 0.5, 2)
    page.locator("#hover .stage").first.focus()
    page.keyboard.press("Escape")  # takes the pin out first, then the zoom
    expect(page.locator(".ovs-linked[data-pinned]")).to_have_count(0)
    for _ in range(14):
        page.keyboard.press("ArrowRight")
    expect(verdict).to_contain_text("grass")
    page.keyboard.press("Escape")
    expect(page.locator(".ovs-linked[data-zoomed]")).to_have_count(0)
    assert asked == []


def test_a_finger_on_any_map_of_inspect_moves_all(
    open_page: OpenPage, mvp_address: str, photo_file: Path
) -> None:
    page = open_page(mvp_address, PHONE, touch=True)
    inspect(page, photo_file, "dog; grass")
    stage = page.locator("#similarity .stage").first
    stage.scroll_into_view_if_needed()
    box = stage.bounding_box()
    assert box is not None
    page.touchscreen.tap(box["x"] + 0.75 * box["width"], box["y"] + 0.5 * box["height"])
    expect(page.locator("#hover .verdict")).to_contain_text("Pinned: grass")
    page.locator("#inspect-zooms [data-zoom=in]").tap()
    expect(page.locator(".ovs-linked[data-zoomed]")).to_have_count(1)
    assert fits(page)
