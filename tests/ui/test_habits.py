"""What people do without thinking: type on, press Enter, drop, paste, reload, follow a link."""

from collections.abc import Callable
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from fake_engine import FakeEngine
from pages import PATIENCE, choose, finished, open_tab
from playwright.sync_api import Page, expect
from serving import served

from ovs_core.ui.app import build_ui, launch
from ovs_core.ui.inputs import Opening

OpenPage = Callable[..., Page]
DROP = """([name, kind, bytes]) => {
  const carrier = new DataTransfer();
  carrier.items.add(new File([new Uint8Array(bytes)], name, {type: kind}));
  for (const event of ["dragover", "drop"])
    document.querySelector("#ovs-header").dispatchEvent(
      new DragEvent(event, {bubbles: true, cancelable: true, dataTransfer: carrier}));
}"""
PASTE = """([name, kind, bytes]) => {
  const carrier = new DataTransfer();
  carrier.items.add(new File([new Uint8Array(bytes)], name, {type: kind}));
  document.body.dispatchEvent(
    new ClipboardEvent("paste", {bubbles: true, cancelable: true, clipboardData: carrier}));
}"""


def stale(page: Page, tab: str = "segment") -> None:
    page.wait_for_function(f"document.documentElement.classList.contains('ovs-stale-{tab}')")


def fresh(page: Page, tab: str = "segment") -> None:
    page.wait_for_function(f"!document.documentElement.classList.contains('ovs-stale-{tab}')")


def take_method(page: Page, title: str) -> None:
    page.click("#method input")
    page.get_by_role("option", name=title, exact=True).click()


def test_an_answer_to_other_words_is_dimmed_until_it_is_asked_anew(
    open_page: OpenPage, address: str, photo_file: Path
) -> None:
    page = open_page(address)
    choose(page, photo_file, "dog; grass")
    page.click("#segment-start")
    finished(page)
    picture = page.locator("#overlay img").first
    fresh(page)
    expect(picture).to_have_css("opacity", "1")
    page.fill("#classes textarea", "dog; cat")
    stale(page)
    expect(picture).to_have_css("opacity", "0.3")
    said = page.evaluate("getComputedStyle(document.querySelector('#segment-status'), '::after').content")
    assert "still the old one" in said
    page.fill("#classes textarea", " ; ")
    page.click("#segment-start")
    finished(page, kind="error")
    stale(page)  # a run that failed leaves the old answer, and says that it is old
    page.fill("#classes textarea", "dog; cat")
    page.press("#classes textarea", "Enter")
    fresh(page)
    expect(page.locator("#summary")).to_contain_text("cat")


@pytest.mark.parametrize("stopped", [False, True], ids=["waits", "is cancelled with it"])
def test_enter_while_an_answer_is_made(
    open_page: OpenPage,
    address: str,
    engine: FakeEngine,
    monkeypatch: pytest.MonkeyPatch,
    photo_file: Path,
    stopped: bool,
) -> None:
    page, runs = open_page(address), engine.runs
    choose(page, photo_file, "dog; grass")
    monkeypatch.setattr(engine, "delay", 0.6)  # the answer takes longer than all that is typed
    page.press("#classes textarea", "Enter")
    expect(page.locator("#segment-stop")).to_be_enabled()
    page.fill("#classes textarea", "cat; boat")
    for _ in range(3):
        page.press("#classes textarea", "Enter")
    if stopped:
        page.click("#segment-stop")
        expect(page.locator("#segment-start")).to_be_enabled(timeout=PATIENCE)
        page.wait_for_timeout(500)
        expect(page.locator("#segment-start")).to_be_enabled()
        assert engine.runs == runs + 1
    else:
        engine.delay = 0.0
        expect(page.locator("#summary")).to_contain_text("boat", timeout=PATIENCE)
        fresh(page)
        assert engine.runs == runs + 2


@pytest.mark.parametrize("tab", ["Compare", "Inspect"])
def test_the_other_tabs_dim_too(open_page: OpenPage, address: str, photo_file: Path, tab: str) -> None:
    page, name = open_page(address), tab.lower()
    choose(page, photo_file, "dog; grass")
    open_tab(page, tab)
    page.click(f"#{name}-start")
    finished(page, name)
    fresh(page, name)
    page.fill("#classes textarea", "boat")
    stale(page, name)
    page.fill("#classes textarea", "dog; grass")
    fresh(page, name)


def test_settings_belong_to_the_answer_that_is_shown(
    open_page: OpenPage, tmp_path: Path, photo_file: Path
) -> None:
    engine = FakeEngine(tmp_path, heads=("mvp_seg",), models=("vit_b16_openai",))
    with served(build_ui(engine)) as url:
        page = open_page(url)
        choose(page, photo_file, "dog; grass")
        page.click("#segment-start")
        finished(page)
        threshold = page.locator("#threshold input[type=number]")
        threshold.fill("0.2")
        page.locator("#summary").click()
        before = page.inner_text("#summary")
        take_method(page, "SCLIP")
        stale(page)
        expect(threshold).to_have_value("0.2")
        expect(page.locator("#summary")).to_have_text(before)
        page.click("#reset")
        expect(page.locator("#summary")).not_to_have_text(before)
        threshold.fill("0.2")
        page.click("#segment-start")
        fresh(page)
        expect(threshold).to_have_value("0", timeout=PATIENCE)  # another method starts with its own
        page.close()


def test_an_answer_whose_slider_ends_lower_is_measured_by_its_own_numbers(
    open_page: OpenPage, tmp_path: Path, photo_file: Path
) -> None:
    """NACLIP's scale stood in the slider when MVP-SEG's answer, whose scale ends at 2, changed the page."""
    engine = FakeEngine(tmp_path, heads=("mvp_seg",))
    with served(build_ui(engine)) as url:
        page = open_page(url)
        failed: list[str] = []
        page.on("response", lambda reply: failed.append(reply.url) if reply.status >= 500 else None)
        choose(page, photo_file, "dog; grass")
        take_method(page, "MVP-SEG")
        page.click("#segment-start")
        finished(page)
        expect(page.locator("#scale input[type=range]")).to_have_attribute("max", "2", timeout=PATIENCE)
        page.wait_for_timeout(1000)
        assert failed == []
        page.close()


def test_numbers_out_of_range_are_put_right_in_the_box_and_in_the_picture(
    open_page: OpenPage, address: str, photo_file: Path
) -> None:
    page = open_page(address)
    choose(page, photo_file, "dog; grass")
    page.click("#segment-start")
    finished(page)
    usual = page.inner_text("#summary")
    box = page.locator("#threshold input[type=number]")
    for typed, kept, said in (("7", "1", "Nothing you typed"), ("-3", "0", usual), ("", "0", usual)):
        box.fill(typed)
        expect(page.locator("#summary")).to_contain_text(said)
        box.blur()
        expect(box).to_have_value(kept)
        expect(page.locator("#summary")).to_contain_text(said)
    expect(page.locator(".toast-body")).to_have_count(0)


def test_shift_and_enter_is_a_new_line(open_page: OpenPage, address: str, engine: FakeEngine) -> None:
    page, runs = open_page(address), engine.runs
    page.fill("#classes textarea", "dog")
    page.press("#classes textarea", "Shift+Enter")
    page.type("#classes textarea", "cat")
    expect(page.locator("#classes textarea")).to_have_value("dog\ncat")
    assert engine.runs == runs


@pytest.mark.parametrize("way", [DROP, PASTE], ids=["dropped", "pasted"])
def test_a_picture_may_come_from_anywhere(
    open_page: OpenPage, address: str, photo_file: Path, way: str
) -> None:
    page = open_page(address)
    page.evaluate(way, ["letter.pdf", "application/pdf", [37, 80, 68, 70]])
    expect(page.locator("#ovs-say")).to_contain_text("letter.pdf is not a picture")
    page.evaluate(way, ["meadow.png", "image/png", list(photo_file.read_bytes())])
    expect(page.locator("#photo img")).to_be_visible()
    page.fill("#classes textarea", "dog")
    page.press("#classes textarea", "Enter")
    finished(page)


def test_a_reload_finds_words_and_choices_again(open_page: OpenPage, address: str) -> None:
    page = open_page(address)
    page.fill("#classes textarea", "dog; a | b")
    take_method(page, "SCLIP")
    page.wait_for_function("(localStorage.getItem('ovs-lens') ?? '').includes('sclip')")
    page.reload()
    page.wait_for_selector("#segment-start")
    expect(page.locator("#classes textarea")).to_have_value("dog; a | b")
    expect(page.locator("#method input")).to_have_value("SCLIP")


def test_a_link_opens_words_and_method_and_can_be_copied(open_page: OpenPage, address: str) -> None:
    page = open_page(f"{address}/?classes=dog%3B%20cat&method=clearclip&refine=nonsense&threshold=1")
    expect(page.locator("#classes textarea")).to_have_value("dog; cat")
    expect(page.locator("#method input")).to_have_value("ClearCLIP")
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.get_by_role("button", name="More options").click()
    page.click("#permalink")
    expect(page.locator("#ovs-say")).to_contain_text("copied")
    copied = urlsplit(page.evaluate("navigator.clipboard.readText()"))
    assert parse_qs(copied.query) == {"classes": ["dog; cat"], "method": ["clearclip"]}


def test_the_page_opens_with_what_the_command_named(
    open_page: OpenPage, tmp_path: Path, photo_file: Path
) -> None:
    page_of = build_ui(FakeEngine(tmp_path), opening=Opening(str(photo_file), "boat; water", "sclip"))
    url = launch(page_of, host="127.0.0.1", port=None, browser=False, shown=[photo_file])
    page = open_page(url)
    expect(page.locator("#photo img")).to_be_visible()
    expect(page.locator("#classes textarea")).to_have_value("boat; water")
    expect(page.locator("#method input")).to_have_value("SCLIP")
    page.press("#classes textarea", "Enter")
    finished(page)
    expect(page.locator("#summary")).to_contain_text("boat")
    page.close()
    page_of.close(verbose=False)


def test_what_cannot_be_refined_is_shown_as_it_is(
    open_page: OpenPage, tmp_path: Path, photo_file: Path
) -> None:
    engine = FakeEngine(tmp_path, mask_method="fc_clip")
    with served(build_ui(engine)) as url:
        page = open_page(url)
        choose(page, photo_file, "dog; grass")
        page.get_by_role("button", name="More options").click()
        page.locator("#refine").get_by_label("PAMR").check(timeout=PATIENCE)
        open_tab(page, "Compare")
        page.get_by_label("FC-CLIP").check()
        page.click("#compare-start")
        expect(finished(page, "compare")).to_contain_text("PAMR cannot refine the masks of FC-CLIP")
        expect(page.locator("#panel-fc_clip img")).to_be_visible()
        expect(page.locator("#panel-naclip img")).to_be_visible()
        open_tab(page, "Inspect")
        page.click("#inspect-method input")
        page.get_by_role("option", name="FC-CLIP", exact=True).click()
        page.click("#inspect-start")
        expect(finished(page, "inspect")).to_contain_text("PAMR cannot refine the masks of FC-CLIP")
        page.close()


def test_an_example_is_asked_at_once(open_page: OpenPage, address: str) -> None:
    page = open_page(address)
    page.click("#example-1")
    finished(page)
    expect(page.locator("#overlay img.mask").first).to_be_visible()


def test_on_a_phone_the_button_is_at_hand_and_the_answer_comes_last(
    open_page: OpenPage, address: str, photo_file: Path
) -> None:
    height = 844
    page = open_page(address, (390, height))
    choose(page, photo_file, "dog; grass")
    box = page.locator("#segment-start").bounding_box()
    assert box is not None
    assert box["y"] + box["height"] <= height  # seen without scrolling
    page.click("#segment-start")
    finished(page)
    expect(
        page.locator("#summary")
    ).to_be_in_viewport()  # the page goes there: places are measured afterwards
    tops = [page.locator(f"#{name}").bounding_box()["y"] for name in ("photo", "classes", "overlay")]
    assert tops == sorted(tops)
