"""The choice of an image-text model: hidden where there is one, followed by every tab if there are more."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from fake_engine import FakeEngine
from pages import PATIENCE, choose, finished, open_tab
from playwright.sync_api import Page, expect
from serving import served

from ovs_core.methods.mvp_seg.contexts import Contexts, save_contexts
from ovs_core.ui.app import build_ui

OpenPage = Callable[..., Page]
FULL = "CLIP ViT-B/16, OpenAI"
NEW = "ZegCLIP, LDVC, GKC, Two stages (SimBaseline)"
TICKS = "#compare-methods input"


@pytest.fixture(scope="module")
def two_models(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    engine = FakeEngine(
        tmp_path_factory.mktemp("weights"), heads=("mvp_seg", "fc_clip"), models=("vit_b16_openai",)
    )
    with served(build_ui(engine)) as url:
        yield url


def take_model(page: Page, title: str) -> None:
    page.click("#encoder input")
    page.get_by_role("option", name=title, exact=True).click()
    expect(page.locator("#ovs-header")).to_contain_text(title, timeout=PATIENCE)


def take_method(page: Page, title: str, field: str = "method") -> None:
    page.click(f"#{field} input")
    page.get_by_role("option", name=title, exact=True).click()


def test_one_model_is_no_choice(open_page: OpenPage, address: str) -> None:
    page = open_page(address)
    expect(page.locator("#ovs-header")).to_contain_text("Weights in use")
    open_tab(page, "Models")
    expect(page.locator("#encoder")).to_be_hidden()


def test_segment_follows_the_model(open_page: OpenPage, two_models: str, photo_file: Path) -> None:
    page = open_page(two_models)
    expect(page.locator("#segment-missing")).to_contain_text(
        f"Not offered here: MVP-SEG+, MAFT+, {NEW}. Why?"
    )
    take_method(page, "MVP-SEG")
    take_model(page, FULL)
    method = page.locator("#method input")
    expect(method).to_have_value("NACLIP", timeout=PATIENCE)  # the one that was chosen does not run there
    expect(page.locator("#segment-missing")).to_contain_text(
        f"MVP-SEG, MVP-SEG+, FC-CLIP, MAFT+, {NEW}. Why?"
    )
    method.click()
    expect(page.get_by_role("option", name="ClearCLIP")).to_be_visible()
    expect(page.get_by_role("option", name="MVP-SEG")).to_have_count(0)
    page.get_by_role("option", name="ClearCLIP").click()
    choose(page, photo_file, "dog; grass")
    page.click("#segment-start")
    finished(page)
    expect(page.locator("#scale input[type=number]")).to_have_value("55")
    take_model(page, "Embedded model")
    expect(method).to_have_value("ClearCLIP")  # what runs on both stays
    expect(page.locator("#scale input[type=number]")).to_have_value("55")  # the answer's
    page.click("#segment-start")
    expect(page.locator("#scale input[type=number]")).to_have_value("40", timeout=PATIENCE)


def test_compare_follows_the_model(open_page: OpenPage, two_models: str, photo_file: Path) -> None:
    page = open_page(two_models)
    choose(page, photo_file, "dog; grass")
    open_tab(page, "Compare")
    expect(page.locator(TICKS)).to_have_count(10)
    expect(page.locator(f"{TICKS}:checked")).to_have_count(3)  # NACLIP stands for the rules like it
    note = page.locator("#compare-note")
    expect(note).to_contain_text("Embedded model: CLIP as it is, MaskCLIP")
    take_model(page, FULL)
    expect(page.locator(f"{TICKS}:checked")).to_have_count(5, timeout=PATIENCE)
    expect(note).to_contain_text("was trained for none of the rules")
    page.get_by_role("checkbox", name="SCLIP", exact=True).uncheck()
    reasons = page.locator("#compare-missing")
    reasons.locator("summary").click()
    expect(reasons).to_contain_text("FC-CLIP: FC-CLIP does not run on CLIP ViT-B/16")
    page.click("#compare-start")
    finished(page, "compare")
    expect(page.locator("#compare-table tbody tr")).to_have_count(4)
    take_model(page, "Embedded model")
    expect(page.locator(TICKS)).to_have_count(10, timeout=PATIENCE)
    expect(page.locator(f"{TICKS}:checked")).to_have_count(6)  # SCLIP stays out, the others are back
    page.click("#compare-start")
    expect(page.locator("#panel-fc_clip img")).to_be_visible(timeout=PATIENCE)


def test_inspect_follows_the_model(open_page: OpenPage, two_models: str) -> None:
    page = open_page(two_models)
    open_tab(page, "Inspect")
    take_method(page, "FC-CLIP", "inspect-method")
    take_model(page, FULL)
    expect(page.locator("#inspect-method input")).to_have_value("NACLIP", timeout=PATIENCE)
    expect(page.locator("#inspect-missing")).to_contain_text(
        f"MVP-SEG, MVP-SEG+, FC-CLIP, MAFT+, {NEW}. Why?"
    )


def test_a_model_that_came_later_is_offered_on_the_next_visit(open_page: OpenPage, tmp_path: Path) -> None:
    engine = FakeEngine(tmp_path)
    with served(build_ui(engine)) as url:
        engine.models = ("vit_b32_openai",)
        page = open_page(url)
        expect(page.locator("#encoder")).to_be_visible(timeout=PATIENCE)
        take_model(page, "CLIP ViT-B/32, OpenAI")
        page.close()  # before its server goes, which it would complain about


def test_a_head_that_is_added_is_offered_at_once(open_page: OpenPage, tmp_path: Path) -> None:
    engine = FakeEngine(tmp_path)
    tower = engine.store.entry("mini").sha256
    save_contexts(Contexts(torch.ones(1, 2, 4), None, str(tower), 1, 1, 1), tmp_path / "mine.safetensors")
    with served(build_ui(engine)) as url:
        page = open_page(url)
        expect(page.locator("#segment-missing")).to_contain_text("MVP-SEG")
        open_tab(page, "Models")
        page.get_by_text("Heads you trained yourself").click()
        page.fill("#own-head textarea, #own-head input", "absent.safetensors")
        page.click("#add-head-start")
        expect(finished(page, "add-head", "error")).to_contain_text("type its name alone")
        engine.heads = ("mvp_seg",)
        page.fill("#own-head textarea, #own-head input", "mine.safetensors")
        page.click("#add-head-start")
        expect(finished(page, "add-head")).to_contain_text("MVP-SEG on Embedded model (mini)")
        expect(page.locator("#own-heads")).to_contain_text("heads/mvp_seg-")
        open_tab(page, "Segment")
        expect(page.locator("#segment-missing")).not_to_contain_text("MVP-SEG needs", timeout=PATIENCE)
        take_method(page, "MVP-SEG")
        open_tab(page, "Compare")
        expect(page.get_by_role("checkbox", name="MVP-SEG")).to_be_checked()
        page.close()
