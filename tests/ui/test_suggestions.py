"""Words that a photo holds, written into the class box."""

import pytest
from fake_engine import FakeEngine
from playwright.sync_api import expect

from ovs_core.ui.suggestions import with_suggestions
from ovs_core.vocabulary import common_words


def test_words_come_behind_what_is_typed(engine: FakeEngine, photo_file) -> None:
    names = set(common_words().names)
    alone = with_suggestions(engine, str(photo_file), "", 3).split("; ")
    assert len(alone) == 3
    assert set(alone) <= names
    typed = with_suggestions(engine, str(photo_file), f"my cat | {alone[0].upper()};", 3)
    assert typed.split("; ")[0] == f"my cat | {alone[0].upper()}"
    assert typed.split("; ")[1:] == alone[1:]


@pytest.mark.parametrize(
    ("photo", "sentence"), [(None, "Choose a photo first"), ("", "choose it again"), ("gone.png", "again")]
)
def test_without_a_photo_the_sentence_says_so(engine: FakeEngine, photo, sentence) -> None:
    with pytest.raises(ValueError, match=sentence):
        with_suggestions(engine, photo, "dog")


def test_one_button_fills_the_box(open_page, address, photo_file) -> None:
    page = open_page(address)
    page.set_input_files("#photo input[type=file]", photo_file)
    page.wait_for_selector("#photo img")
    page.click("#suggest")
    box = page.locator("#classes textarea")
    expect(box).not_to_have_value("", timeout=60_000)
    assert len(box.input_value().split("; ")) == 10
