"""A model's card opens on the page: keys reach all of it, and no file but its pictures comes with it."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from fake_engine import FakeEngine
from pages import PHONE, fits, open_tab
from playwright.sync_api import Page, expect
from serving import png, served

from ovs_core.checkpoints import WeightStore
from ovs_core.ui.app import build_ui
from ovs_core.ui.model_card import card_markdown

OpenPage = Callable[..., Page]
CARD = """# Card

[The numbers](#numbers), [docs](../../docs/a.md#b), [a page](https://example.org/x).

![a cat](cat.png)

![a dog](gone.png)

## Numbers

| a |
|---|
| 1 |

| b |
|---|
"""

OUT_OF_REACH = """() => [...document.querySelectorAll(".ovs-model-card *")]
    .filter((one) => one.clientWidth > 0 && one.scrollWidth > one.clientWidth + 1 && one.tabIndex < 0)
    .filter((one) => getComputedStyle(one).overflowX !== "visible")
    .map((one) => one.outerHTML.slice(0, 200))"""


def test_links_pictures_tables_and_headings_are_those_of_the_page(tmp_path: Path) -> None:
    card = tmp_path / "MODEL_CARD.md"
    card.write_text(CARD, encoding="utf-8")
    (tmp_path / "cat.png").write_bytes(png(np.zeros((4, 6, 3), np.uint8)))
    shown = card_markdown(card)
    picture = re.search(r"!\[a cat\]\(gradio_api/file=([^)]+)\)", shown)
    assert picture is not None
    assert not Path(picture[1]).is_relative_to(tmp_path)  # a copy in the app's own cache
    assert shown.replace(picture[0], "PICTURE") == (
        "## Card\n\nThe numbers, docs, [a page](https://example.org/x).\n\n"
        "PICTURE\n\na dog\n\n### Numbers\n\n"
        '<div class="ovs-table" tabindex="0">\n\n| a |\n|---|\n| 1 |\n\n</div>\n\n'
        '<div class="ovs-table" tabindex="0">\n\n| b |\n|---|\n\n</div>\n'
    )


def test_cards_are_those_that_came_with_the_program(tmp_path: Path) -> None:
    own = tmp_path / "mini" / "MODEL_CARD.md"
    own.parent.mkdir()
    own.write_text("# Not ours", encoding="utf-8")
    store = WeightStore(tmp_path, offline=True)
    card = store.card("mini")
    assert card is not None
    assert card != own
    assert store.card("mini-gkc") == card  # a head lies beside its model
    assert store.card("sam-vit-b") is None


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with served(build_ui(FakeEngine(tmp_path_factory.mktemp("weights")))) as url:
        yield url


@pytest.mark.parametrize("size", [(1280, 900), PHONE], ids=["desktop", "phone"])
def test_the_card_opens_by_a_key_and_is_whole(
    open_page: OpenPage, address: str, size: tuple[int, int]
) -> None:
    page = open_page(address, size)
    open_tab(page, "Models")
    fold = page.locator(".ovs-model-card").get_by_role("button", name="Model card: OVS Lens mini")
    expect(page.get_by_text("What it learnt from")).not_to_be_visible()
    fold.press("Enter")
    card = page.locator(".ovs-model-card")
    expect(card.get_by_role("heading", name="What it learnt from")).to_be_visible()
    expect(card.locator("img")).to_have_count(8)
    for picture in card.locator("img").all():
        picture.scroll_into_view_if_needed()
        page.wait_for_function("(one) => one.naturalWidth > 0", arg=picture.element_handle())
    assert page.evaluate(OUT_OF_REACH) == []
    assert fits(page)
    links = card.get_by_role("link").evaluate_all("(all) => all.map((one) => one.getAttribute('href'))")
    assert all(link.startswith("https://") for link in links)


def test_nothing_that_is_sent_chooses_the_file(tmp_path: Path) -> None:
    ui = build_ui(FakeEngine(tmp_path))
    (opened,) = [
        one for one in ui.fns.values() if [type(field).__name__ for field in one.outputs] == ["Markdown"]
    ]
    assert opened.inputs == []
    secret = tmp_path / "secret.md"
    secret.write_text("secret words", encoding="utf-8")
    with served(ui) as url:
        for data in ([], [str(secret)], [{"path": str(secret), "meta": {"_type": "gradio.FileData"}}]):
            body = {"data": data, "fn_index": opened._id, "event_data": str(secret), "session_hash": "s"}
            told = httpx.post(f"{url}/gradio_api/run/predict", json=body).text
            assert "secret words" not in told
            assert ("What it learnt from" in told) or data
