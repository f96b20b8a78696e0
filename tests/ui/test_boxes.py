"""Boxes: drawn on the page by mouse and finger, sent over HTTP, refused in one sentence."""

import base64
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from fake_engine import FakeEngine
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from pages import PATIENCE, PHONE, choose, finished, fits, open_tab
from PIL import Image
from playwright.sync_api import Locator, Page, expect
from serving import PHOTO_SIZE

from ovs_core.ui.asking import Question
from ovs_core.ui.boxes import DrawnBox, drawn_box, sent_boxes, with_box
from ovs_core.ui.compare_tab import compare_steps

DESKTOP = (1280, 900)
OpenPage = Callable[..., Page]
HEIGHT, WIDTH = PHOTO_SIZE


@pytest.fixture(scope="module")
def other_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("others") / "kitchen.png"
    Image.fromarray(np.full((50, 80, 3), 90, np.uint8)).save(path)
    return path


def open_panel(page: Page) -> Locator:
    page.locator("#boxes button").first.click()
    picture = page.locator("#box-surface .ovs-surface img")
    expect(picture).to_be_visible(timeout=PATIENCE)
    picture.scroll_into_view_if_needed()
    return picture


def drag(page: Page, picture: Locator, start: tuple[float, float], end: tuple[float, float]) -> None:
    """From one place of a picture to another, both in [0, 1]."""
    frame = picture.bounding_box()
    assert frame is not None
    at = [(frame["x"] + x * frame["width"], frame["y"] + y * frame["height"]) for x, y in (start, end)]
    page.mouse.move(*at[0])
    page.mouse.down()
    page.mouse.move(*at[1], steps=4)
    page.mouse.up()


def click(picture: Locator, x: float, y: float, *, touch: bool = False) -> None:
    frame = picture.bounding_box()
    assert frame is not None
    position = {"x": x * frame["width"], "y": y * frame["height"]}
    picture.tap(position=position) if touch else picture.click(position=position)


def corners(page: Page) -> list[float]:
    field = page.locator("#box-corners input, #box-corners textarea")
    expect(field).not_to_have_value("", timeout=PATIENCE)
    return [float(part) for part in field.input_value().split(",")]


def fill(page: Page, field: str, text: str) -> None:
    page.fill(f"#{field} input, #{field} textarea", text)


def test_a_dragged_box_is_asked_and_can_be_removed(
    open_page: OpenPage, address: str, photo_file: Path, tmp_path: Path
) -> None:
    page = open_page(address)
    choose(page, photo_file, "dog; grass")
    picture = open_panel(page)
    drag(page, picture, (0.1, 0.2), (0.5, 0.7))
    drawn = corners(page)
    assert drawn == pytest.approx([0.1 * WIDTH, 0.2 * HEIGHT, 0.5 * WIDTH, 0.7 * HEIGHT], abs=1)
    fill(page, "box-name", "<b>mug</b>")
    page.click("#box-add")
    expect(page.locator("#box-list li")).to_have_count(1, timeout=PATIENCE)
    expect(page.locator("#box-list")).to_contain_text("<b>mug</b>")  # a name is text
    expect(page.locator("#box-surface .marks rect")).to_have_count(1)
    click(picture, 0.6, 0.1)  # two corners do the same as a drag, in any order
    click(picture, 0.3, 0.4)
    assert corners(page) == pytest.approx([0.3 * WIDTH, 0.1 * HEIGHT, 0.6 * WIDTH, 0.4 * HEIGHT], abs=1)
    page.get_by_label("Not this").check()
    page.click("#box-add")
    expect(page.locator("#box-list li")).to_have_count(2, timeout=PATIENCE)
    page.click("#segment-start")
    finished(page)
    expect(page.locator("#classes-table")).to_contain_text("<b>mug</b> (box)")
    with page.expect_download() as waiting:
        page.click("#save-json")
    waiting.value.save_as(tmp_path / "report.json")
    report = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert [box["name"] for box in report["exemplars"]] == ["<b>mug</b>", "other"]
    page.locator("[data-remove='1']").click()
    expect(page.locator("#box-list li")).to_have_count(1, timeout=PATIENCE)
    expect(page.locator("#box-list")).to_contain_text("not this")


def test_boxes_alone_on_another_photo_by_finger(
    open_page: OpenPage, browser, address: str, photo_file: Path, other_file: Path
) -> None:
    page = open_page(address, PHONE, touch=True)
    choose(page, photo_file, "")
    page.locator("#boxes button").first.tap()
    page.get_by_label("Another photo", exact=True).check()
    expect(page.locator("#box-note")).to_contain_text("Choose a photo to draw on")
    page.set_input_files("#box-photo input[type=file]", other_file)
    picture = page.locator("#box-surface .ovs-surface img")
    expect(picture).to_be_visible(timeout=PATIENCE)
    picture.scroll_into_view_if_needed()
    click(picture, 0.25, 0.2, touch=True)
    expect(page.locator("#box-surface .live circle")).to_have_count(1)
    click(picture, 0.75, 0.8, touch=True)
    assert corners(page) == pytest.approx([20, 10, 60, 40], abs=1)
    page.locator("#box-add").tap()
    expect(page.locator("#box-list")).to_contain_text("kitchen.png", timeout=PATIENCE)
    page.locator("#segment-start").tap()
    finished(page)
    expect(page.locator("#classes-table")).to_contain_text("box 1 (box)")
    assert fits(page)


def test_one_box_is_asked_in_every_tab(open_page: OpenPage, address: str, photo_file: Path) -> None:
    page = open_page(address)
    choose(page, photo_file, "dog")
    drag(page, open_panel(page), (0.1, 0.2), (0.5, 0.7))
    corners(page)
    fill(page, "box-name", "mug")
    page.click("#box-add")
    expect(page.locator("#box-note")).to_contain_text("1 box in the question", timeout=PATIENCE)
    answers = {"Segment": "#classes-table", "Compare": "#compare-legend", "Inspect": ".ovs-hover .bars"}
    for tab, answer in answers.items():
        open_tab(page, tab)
        expect(page.locator("#box-surface .ovs-surface img")).to_be_visible()
        page.click(f"#{tab.lower()}-start")
        finished(page, tab.lower())
        expect(page.locator(answer)).to_contain_text("mug (box)")
        assert not is_dimmed(page, tab)
    page.locator("[data-remove='1']").click()
    expect(page.locator("#box-list li")).to_have_count(0, timeout=PATIENCE)
    for tab in answers:
        page.wait_for_function(f"document.documentElement.classList.contains('ovs-stale-{tab.lower()}')")
        assert is_dimmed(page, tab)  # its answer is that of the question before
    page.click("#inspect-start")
    finished(page, "inspect")
    expect(page.locator(".ovs-hover .bars")).not_to_contain_text("mug")


def is_dimmed(page: Page, tab: str) -> bool:
    classes = page.evaluate("[...document.documentElement.classList]")
    return f"ovs-stale-{tab.lower()}" in classes


def test_compare_leaves_out_and_names_methods_that_take_no_boxes(photo_file: Path, tmp_path: Path) -> None:
    engine = FakeEngine(tmp_path, mask_method="fc_clip")
    box = DrawnBox(str(photo_file), (5, 5, 30, 40), "mug")
    asked = Question(str(photo_file), "dog", "default", "mini", "none", boxes=(box,))
    *_, (status, found) = compare_steps(engine, None, asked, ["naclip", "fc_clip", "clip"])
    assert found is not None
    assert [result.method for result in found.results] == ["naclip", "clip"]
    assert status.text.endswith("Not asked, because boxes go with rules on tokens alone: FC-CLIP.")
    *_, (status, found) = compare_steps(engine, None, asked, ["naclip", "fc_clip"])
    assert "FC-CLIP" in status.text
    ((status, found),) = compare_steps(engine, None, asked, ["fc_clip"])
    assert (status.kind, found) == ("error", None)
    assert "FC-CLIP" in status.text


def test_a_bad_box_is_one_sentence_and_nothing_is_lost(
    open_page: OpenPage, address: str, photo_file: Path
) -> None:
    page = open_page(address)
    choose(page, photo_file, "dog")
    open_panel(page)
    for text, sentence in (
        ("", "Draw a box first"),
        ("1, 2, x, 4", "write its left, top, right and bottom"),
        ("5, 5, 5, 9", "has no area"),
        ("0, 0, 900, 9", f"reaches out of the photo of {WIDTH} x {HEIGHT} pixels"),
    ):
        fill(page, "box-corners", text)
        fill(page, "box-name", "mug")
        page.click("#box-add")
        expect(page.locator("#box-note")).to_contain_text(sentence, timeout=PATIENCE)
        expect(page.locator("#box-name input, #box-name textarea")).to_have_value("mug")
    fill(page, "box-corners", "5, 5, 20, 30")
    page.click("#box-add")
    expect(page.locator("#box-list li")).to_have_count(1, timeout=PATIENCE)
    fill(page, "box-corners", "5, 5, 20, 30")
    page.click("#box-add")
    expect(page.locator("#box-note")).to_contain_text("in the list already", timeout=PATIENCE)


def test_boxes_come_over_http(address: str, photo_file: Path, other_file: Path) -> None:
    client = Client(address, verbose=False)
    boxes = [
        {"box": [5, 5, 30, 40], "name": "mug"},
        {"box": [0, 0, 40, 40], "image": handle_file(other_file)},
        {"box": [1, 1, 2, 2], "image": data_url(other_file), "name": "other"},
    ]
    _, report = client.predict(
        image=handle_file(photo_file), classes="dog", exemplars=boxes, api_name="/segment"
    )
    assert [entry["names"][0] for entry in report["classes"]] == ["dog", "mug (box)", "box 2 (box)", "other"]
    assert [box["name"] for box in report["exemplars"]] == ["mug", "", "other"]
    assert len({box["photo_sha256"] for box in report["exemplars"]}) == 2
    _, report = client.predict(
        image=handle_file(photo_file), classes="", exemplars=boxes[:1], api_name="/segment"
    )
    assert report["classes"][0]["names"] == ["mug (box)"]


def test_boxes_reach_compare_and_inspect_over_http(address: str, photo_file: Path, other_file: Path) -> None:
    client = Client(address, verbose=False)
    asked = {
        "image": handle_file(photo_file),
        "classes": "dog",
        "exemplars": [{"box": [0, 0, 40, 40], "image": handle_file(other_file), "name": "mug"}],
    }
    _, _, report = client.predict(**asked, methods=["clip", "naclip"], api_name="/compare")
    for entry in report["methods"].values():
        assert [summary["names"][0] for summary in entry["classes"]] == ["dog", "mug (box)", "other"]
        assert [box["name"] for box in entry["exemplars"]] == ["mug"]
    _, _, report = client.predict(**asked, api_name="/inspect")
    assert report["classes"] == ["dog", "mug (box)"]
    for name in ("/compare", "/inspect"):
        with pytest.raises(AppError, match="reaches out of the photo"):
            client.predict(**{**asked, "exemplars": [{"box": [0, 0, 900, 9]}]}, api_name=name)
        with pytest.raises(AppError, match="was not uploaded here"):
            client.predict(
                **{**asked, "exemplars": [{"box": [1, 2, 3, 4], "image": {"path": __file__}}]}, api_name=name
            )


def data_url(path: Path) -> str:
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()


@pytest.mark.parametrize(
    ("exemplars", "sentence"),
    [
        ("mug", "exemplars must be a list of boxes"),
        ([{"box": [1, 2, 3]}], "each exemplar must be"),
        ([{"box": [1, 2, 3, True]}], "each exemplar must be"),
        ([{"box": [1, 2, 3, 4], "name": 7}], "each exemplar must be"),
        ([{"box": [1, 2, 3, 4], "photo": "a.png"}], "each exemplar must be"),
        ([{"box": [5, 5, 5, 9]}], "has no area"),
        ([{"box": [0, 0, 900, 9]}], "reaches out of the photo"),
        ([{"box": [1, 2, 3, 4]}] * 101, "at most 100 boxes; these are 101"),
        ([{"box": [1, 2, 3, 4], "image": "/etc/hostname"}], "was not uploaded here"),
        ([{"box": [1, 2, 3, 4], "image": {"path": "/etc/hostname"}}], "was not uploaded here"),
        ([{"box": [1, 2, 3, 4], "image": {"path": __file__}}], "was not uploaded here"),
        ([{"box": [1, 2, 3, 4], "image": "data:image/png;base64,AAAA"}], "not a picture that can be read"),
    ],
)
def test_what_is_no_box_is_refused_in_one_sentence(address, photo_file, exemplars, sentence) -> None:
    client = Client(address, verbose=False)
    with pytest.raises(AppError, match=sentence):
        client.predict(image=handle_file(photo_file), classes="dog", exemplars=exemplars, api_name="/segment")


def test_a_photo_of_a_box_that_is_gone_is_said(engine: FakeEngine, photo_file: Path, tmp_path: Path) -> None:
    gone = DrawnBox(str(tmp_path / "gone.png"), (1, 1, 5, 5), "mug")
    question = Question(str(photo_file), "dog", "default", "mini", "none", boxes=(gone,))
    with pytest.raises(ValueError, match="no longer kept: remove the box"):
        question.request(engine, "naclip")
    with pytest.raises(ValueError, match="Choose a photo to draw on first"):
        drawn_box(None, (1, 1, 5, 5), "")


def test_a_hundred_boxes_are_enough(photo_file: Path) -> None:
    many = sent_boxes([{"box": [0, 0, 1 + n, 5]} for n in range(40)], str(photo_file))
    assert len({box.box for box in many}) == 40
    full = tuple(DrawnBox("a", (0, 0, 1 + n, 5)) for n in range(100))
    with pytest.raises(ValueError, match="Up to 100 boxes"):
        with_box(full, DrawnBox("b", (0, 0, 1, 1)))
