"""Work that was started from the keyboard: the answer gets the focus, or is read out to whoever types on."""

from collections.abc import Callable
from pathlib import Path

import pytest
from fake_engine import FakeEngine
from pages import PHONE, choose, finished, open_tab
from playwright.sync_api import Page, expect

OpenPage = Callable[..., Page]
FOCUSED = "document.activeElement.innerText"


@pytest.mark.parametrize(
    ("tab", "answer", "says"),
    [
        ("Segment", "#summary [role=status]", "covers"),
        ("Compare", "#compare-table .ovs-table", "NACLIP"),
        ("Inspect", "#inspect-status .line", "Done"),
    ],
)
@pytest.mark.parametrize("key", ["Enter", "Space"])
def test_a_key_on_the_button_leads_to_the_answer(
    open_page: OpenPage, address: str, photo_file: Path, tab: str, answer: str, says: str, key: str
) -> None:
    page = open_page(address)
    choose(page, photo_file, "dog; grass")
    open_tab(page, tab)
    page.focus(f"#{tab.lower()}-start")
    page.keyboard.press(key)
    finished(page, tab.lower())
    expect(page.locator(answer)).to_be_focused()
    assert says in page.evaluate(FOCUSED)
    expect(page.locator(answer)).to_be_in_viewport()
    page.evaluate("window.answer = document.activeElement")
    page.keyboard.press("Tab")  # goes on behind the answer, not from the top of the page
    assert page.evaluate(
        "answer.compareDocumentPosition(document.activeElement) & Node.DOCUMENT_POSITION_FOLLOWING"
    )


def test_on_a_phone_what_inspect_shows_is_in_sight(
    open_page: OpenPage, address: str, photo_file: Path
) -> None:
    page = open_page(address, PHONE)
    choose(page, photo_file, "dog; grass")
    open_tab(page, "Inspect")
    page.click("#inspect-start")
    finished(page, "inspect")
    expect(page.locator("#inspect-status .line")).to_be_focused()
    expect(page.locator("#hover .stage img").first).to_be_in_viewport(ratio=0.5)


def test_an_example_leads_to_the_answer(open_page: OpenPage, address: str) -> None:
    page = open_page(address)
    page.focus("#example-1")
    page.keyboard.press("Enter")
    finished(page)
    expect(page.locator("#summary [role=status]")).to_be_focused()


def test_who_types_on_keeps_the_focus_and_the_answer_is_read_out(
    open_page: OpenPage,
    address: str,
    engine: FakeEngine,
    photo_file: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(engine, "delay", 0.15)
    page = open_page(address)
    choose(page, photo_file, "dog; grass")
    words = page.locator("#classes textarea")
    for run in range(2):
        words.press("Enter")
        region = page.locator("#ovs-read-out")
        expect(region).to_have_text("")  # there before it speaks, and silent before it says the same again
        expect(region).to_have_attribute("aria-live", "polite")
        expect(region).to_contain_text("covers")
        words.press_sequentially("; sky" if run else "; cat")
        expect(words).to_be_focused()
        expect(words).to_have_value("dog; grass; cat" + "; sky" * run)
