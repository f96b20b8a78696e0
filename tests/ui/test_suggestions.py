"""Words that a photo may hold, as chips to be clicked into the class box."""

import re

import pytest
from fake_engine import FakeEngine
from pages import PHONE, choose, finished, fits
from playwright.sync_api import expect

from ovs_core.ui.asking import Question
from ovs_core.ui.suggestions import chips_html, suggestion_steps
from ovs_core.vocabulary import common_words


def test_ten_words_of_the_lists_are_chips(engine: FakeEngine, photo_file) -> None:
    *_, (status, chips) = suggestion_steps(engine, None, Question(str(photo_file), "", "", "", ""))
    assert status.kind == "warning"
    words = re.findall(r'data-word="([^"]+)"', chips)
    assert len(words) == 10
    assert set(words) <= set(common_words().names)
    assert "<b>" not in chips_html(["<b>"])


@pytest.mark.parametrize(
    ("photo", "sentence"), [(None, "Choose a photo first"), ("", "choose it again"), ("gone.png", "again")]
)
def test_without_a_photo_the_sentence_says_so(engine: FakeEngine, photo, sentence) -> None:
    ((status, chips),) = suggestion_steps(engine, None, Question(photo, "dog", "", "", ""))
    assert (status.kind, chips) == ("error", None)
    assert sentence in status.text


@pytest.mark.parametrize("size", [(1280, 900), PHONE], ids=["desktop", "phone"])
def test_an_empty_box_asks_what_is_there_and_chips_fill_it(open_page, address, photo_file, size) -> None:
    page = open_page(address, size)
    choose(page, photo_file, "  ")
    page.click("#segment-start")
    expect(finished(page, kind="warning")).to_contain_text("Nothing was typed")
    chips = page.locator("#chips [data-word]")
    expect(chips).to_have_count(10)
    first, second = (chips.nth(place).inner_text() for place in (0, 1))
    chips.nth(0).click()
    box = page.locator("#classes textarea")
    expect(box).to_have_value(first)
    chips.nth(1).click()
    expect(box).to_have_value(f"{first}; {second}")
    page.click("#segment-start")
    finished(page)
    expect(page.locator("#classes-table")).to_contain_text(first)
    assert fits(page)
    page.click("#suggest")
    expect(chips).to_have_count(10)
    expect(box).to_have_value(f"{first}; {second}")


def test_a_word_comes_once_behind_what_is_typed(open_page, address, photo_file) -> None:
    page = open_page(address)
    choose(page, photo_file, "")
    page.click("#suggest")
    chips = page.locator("#chips [data-word]")
    expect(chips).to_have_count(10)
    word = chips.nth(0).inner_text()
    box = page.locator("#classes textarea")
    for typed, after in (
        ("my own | mine;", f"my own | mine; {word}"),
        (f"mine; {word.upper()}", f"mine; {word.upper()}"),
        (f"mine | {word}", f"mine | {word}"),
        (f"{word}\nmine ", f"{word}\nmine "),
    ):
        box.fill(typed)
        chips.nth(0).click()
        expect(box).to_have_value(after)


def test_quick_clicks_and_letters_all_count(open_page, address, photo_file) -> None:
    page = open_page(address)
    choose(page, photo_file, "")
    page.click("#suggest")
    chips = page.locator("#chips [data-word]")
    expect(chips).to_have_count(10)
    words = chips.all_inner_texts()
    typed = page.evaluate(
        """() => {
          const box = document.querySelector("#classes textarea");
          const chips = document.querySelectorAll("#chips [data-word]");
          for (const place of [0, 1, 2]) chips[place].click();
          box.value += "; mine";
          box.dispatchEvent(new Event("input", { bubbles: true }));
          return box.value;
        }"""
    )
    assert typed == "; ".join([*words[:3], "mine"])
    page.click("#segment-start")
    finished(page)
    expect(page.locator("#classes textarea")).to_have_value(typed)
    expect(page.locator("#classes-table")).to_contain_text("mine")
