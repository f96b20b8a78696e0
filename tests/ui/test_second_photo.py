"""A second photo in Inspect: the patch under the pointer is found there, few bytes, no request for a move."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from fake_engine import FakeEngine
from pages import PATIENCE, PHONE, choose, finished, fits, open_tab
from PIL import Image
from playwright.sync_api import Page, expect
from test_hover import inspected
from test_steps import question

from ovs_core.engine import Result
from ovs_core.engine.beside import MOST_PLACES_BESIDE, PatchCosines
from ovs_core.methods.base import MOST_PLACES
from ovs_core.ui.asking import PHOTO_GONE
from ovs_core.ui.hover import MOST_BYTES_SENT, SecondPhoto, hover_html
from ovs_core.ui.inspect_tab import CENTRE, inspect_steps

OpenPage = Callable[..., Page]


@pytest.fixture
def second_file(tmp_path: Path) -> Path:
    path = tmp_path / "second.png"
    Image.fromarray(np.full((80, 60, 3), 120, np.uint8)).save(path)
    return path


def test_a_payload_holds_both_photos_of_many_classes(tmp_path: Path, engine: FakeEngine) -> None:
    photo = tmp_path / "large.png"
    Image.new("RGB", (4000, 3000)).save(photo)
    result = inspected(engine, photo, "; ".join(f"thing {number}" for number in range(60)))
    affinity = next(view for view in result.views if view.kind == "affinity")
    largest = type(affinity)("affinity", "", torch.rand(MOST_PLACES, 24, 32), ("place",) * MOST_PLACES)
    result = Result(**{**vars(result), "views": (largest,)})
    alike = PatchCosines(torch.rand(24, 32, 18, MOST_PLACES_BESIDE // 18), "naclip")
    html = hover_html(result, CENTRE, second=SecondPhoto(str(photo), alike))
    assert len(html.encode()) <= MOST_BYTES_SENT
    assert html.count("<canvas>") == 2


def test_what_cannot_be_compared_is_said_and_the_rest_is_shown(
    tmp_path: Path, engine: FakeEngine, photo_file: Path
) -> None:
    masks = FakeEngine(tmp_path, mask_method="fc_clip")
    asked = question(photo_file, "dog; grass")
    for which, method, path, sentence in (
        (
            masks,
            "fc_clip",
            str(photo_file),
            "Second photo: FC-CLIP has no patches to compare between photos;",
        ),
        (engine, "naclip", "", f"Second photo: {PHOTO_GONE}"),
    ):
        *_, (status, answered) = inspect_steps(which, None, asked, method, CENTRE, path)
        assert status.kind == "done"
        assert sentence in status.text
        assert answered is not None
        assert answered[1].second is None
        assert "Where this patch is" not in hover_html(answered[0], CENTRE, second=answered[1].second)


def searching(page: Page, photo: Path, second: Path) -> None:
    choose(page, photo, "dog; grass")
    open_tab(page, "Inspect")
    page.get_by_role("button", name="A second photo").click()
    page.set_input_files("#beside-photo input[type=file]", second)
    expect(page.locator("#beside-photo img")).to_be_visible()
    page.click("#inspect-start")
    finished(page, "inspect")
    expect(page.locator("#hover .beside img")).to_be_visible(timeout=PATIENCE)


def test_the_patch_under_the_pointer_is_found_there(
    open_page: OpenPage, address: str, photo_file: Path, second_file: Path
) -> None:
    page = open_page(address)
    searching(page, photo_file, second_file)
    stage, found = page.locator("#hover .stage").first, page.locator("#hover .alike")
    stage.scroll_into_view_if_needed()
    box = stage.bounding_box()
    assert box is not None
    asked: list[str] = []
    page.on("request", lambda one: asked.append(one.url) if one.resource_type in ("fetch", "xhr") else None)
    for part in (0.2, 0.8):
        page.mouse.move(box["x"] + part * box["width"], box["y"] + 0.5 * box["height"])
        expect(page.locator("#hover .verdict")).to_contain_text(f"at {part:.0%}"[:-1])
        seen = re.search(r"most at (\d+) % across, \d+ % down, cosine 1\.00", found.inner_text())
        assert seen
        assert int(seen[1]) == pytest.approx(100 * part, abs=6)  # a patch of the toy knows its column
    before = found.inner_text()
    stage.focus()
    for _ in range(6):
        page.keyboard.press("ArrowLeft")
    expect(found).not_to_have_text(before)
    brightest = page.evaluate(
        """() => { const c = document.querySelector('#hover .beside canvas');
        const p = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;
        const light = (i) => p[i] + p[i + 1];
        let best = 0; for (let i = 0; i < p.length; i += 4) if (light(i) > light(best)) best = i;
        const around = c.parentElement.getBoundingClientRect();
        const found = c.parentElement.querySelector('.found').getBoundingClientRect();
        return [((best / 4) % c.width + 0.5) / c.width, (found.left - around.left) / around.width]; }"""
    )
    assert brightest[0] == pytest.approx(brightest[1], abs=0.06)
    assert asked == []


def test_a_second_photo_on_a_phone(
    open_page: OpenPage, address: str, photo_file: Path, second_file: Path
) -> None:
    page = open_page(address, PHONE, touch=True)
    searching(page, photo_file, second_file)
    stage = page.locator("#hover .stage").first
    stage.scroll_into_view_if_needed()
    box = stage.bounding_box()
    assert box is not None
    page.touchscreen.tap(box["x"] + 0.8 * box["width"], box["y"] + 0.5 * box["height"])
    expect(page.locator("#hover .alike")).to_contain_text(re.compile(r"most at (7[5-9]|8[0-5]) % across"))
    assert fits(page)
