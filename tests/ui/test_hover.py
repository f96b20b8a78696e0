"""Under the pointer: numbers that came with the answer, no request for a move, few bytes, keys, too."""

import base64
import json
import re
import zlib
from collections.abc import Callable
from html import unescape
from pathlib import Path

import numpy as np
import pytest
import torch
from fake_engine import FakeEngine
from pages import PATIENCE, PHONE, choose, finished, fits, open_tab
from PIL import Image
from playwright.sync_api import APIResponse, Page, Route, expect
from test_inspect import inspect, mvp_address, pick_class
from test_steps import question
from tiny_clip import make_model

from ovs_core.engine import Result
from ovs_core.evidence.decide import class_probabilities
from ovs_core.methods.training_free.attention_rules import RULES, attention_weights
from ovs_core.methods.training_free.model import TrainingFree, coarse_grid
from ovs_core.types import Features, Window
from ovs_core.ui.hover import MOST_BYTES_SENT, hover_html, scores_of
from ovs_core.ui.inspect_tab import CENTRE, inspect_steps

__all__ = ["mvp_address"]
OpenPage = Callable[..., Page]


def inspected(engine: FakeEngine, photo: Path, words: str = "dog; grass | lawn") -> Result:
    *_, (_, answered) = inspect_steps(engine, None, question(photo, words), "naclip", CENTRE)
    assert answered is not None
    return answered[0]


def sent(html: str) -> dict:
    return json.loads(unescape(re.search(r'class="data" hidden>(.*)</div></div>', html, re.DOTALL)[1]))


def test_numbers_are_those_of_the_evidence(engine: FakeEngine, photo_file: Path) -> None:
    result = inspected(engine, photo_file)
    shown = scores_of(result)
    grid = shown.probabilities.shape[1:]
    expected = class_probabilities(result.evidence, result.preset.scale, grid).numpy()
    assert np.abs(shown.probabilities / 255 - expected).max() <= 0.5 / 255 + 1e-6
    assert [names[0] for names in shown.names] == ["dog", "grass", "other"]
    scores = shown.low + shown.scores / 255 * (shown.high - shown.low)
    best = result.evidence.class_scores.amax(dim=(1, 2)).numpy()
    assert np.abs(scores.reshape(3, -1).max(axis=1) - best).max() < 0.02  # interpolated, in 255 steps


def test_the_winning_synonym_is_told(engine: FakeEngine, photo_file: Path) -> None:
    result = inspected(engine, photo_file, "dog; grass | lawn")
    rows = result.evidence.rows.clone()
    rows[result.vocabulary.rows.index("lawn")] += 0.05
    shown = scores_of(Result(**{**vars(result), "evidence": result.evidence.with_rows(rows)}))
    assert set(np.unique(shown.winners[1])) == {1}


def test_a_payload_has_its_limit_for_many_classes_and_large_photos(
    tmp_path: Path, engine: FakeEngine
) -> None:
    photo = tmp_path / "large.png"
    Image.new("RGB", (4000, 3000)).save(photo)
    result = inspected(engine, photo, "; ".join(f"thing {number}" for number in range(60)))
    affinity = next(view for view in result.views if view.kind == "affinity")
    full = torch.rand(768, 24, 32)
    views = tuple(view for view in result.views if view is not affinity)
    largest = type(affinity)("affinity", "", full, ("place",) * 768)
    html = hover_html(Result(**{**vars(result), "views": (*views, largest)}), CENTRE)
    assert len(html.encode()) <= MOST_BYTES_SENT
    data = sent(html)
    assert len(data["names"]) == 25  # 24 classes and other
    assert min(data["grid"]) >= 64
    packed = np.frombuffer(zlib.decompress(base64.b64decode(data["affinity"])), np.uint8).reshape(768, -1)
    seen = packed / 255 * np.array(data["peaks"])[:, None]
    assert np.abs(seen - full.reshape(768, -1).numpy()).max() < 0.01


def test_names_are_text(engine: FakeEngine, photo_file: Path) -> None:
    html = hover_html(inspected(engine, photo_file, "</div><b id=planted>; grass"), CENTRE)
    assert "<b id=planted>" not in html
    assert sent(html)["names"][0] == ["</div><b id=planted>"]


@pytest.mark.parametrize(
    ("grid", "most", "expected"), [((24, 32), 768, (24, 32)), ((1, 5000), 768, (1, 768))]
)
def test_a_coarse_grid_has_the_shape_and_few_places(grid, most, expected) -> None:
    assert coarse_grid(grid, most) == expected
    rows, columns = coarse_grid((60, 90), 768)
    assert rows * columns <= 768
    assert columns / rows == pytest.approx(1.5, abs=0.1)


def test_the_affinity_of_a_place_is_the_attention_of_its_token() -> None:
    model = make_model()
    width = model.visual.class_embedding.shape[0]
    tokens = torch.randn(1 + 3 * 4, width, generator=torch.Generator().manual_seed(1))
    features = Features("tiny", (48, 64), (3, 4), (Window(0, 0, (3, 4), tokens),))
    method = TrainingFree(model.visual, RULES["naclip"])
    with torch.no_grad():
        view = method.affinity_view(features, {})
        whole = attention_weights(RULES["naclip"], model.visual.transformer.resblocks[-1], tokens, (3, 4))
        at = method.attention_view(features, (0.5, 0.9), {}).maps
    torch.testing.assert_close(view.maps.flatten(1), whole[1:, 1:])
    torch.testing.assert_close(view.maps[7:8], at)  # row 1, column 3


def asked(page: Page, photo: Path, words: str) -> None:
    choose(page, photo, words)
    open_tab(page, "Inspect")
    page.click("#inspect-start")
    finished(page, "inspect")
    expect(page.locator("#hover .bar")).to_have_count(words.count(";") + 2, timeout=PATIENCE)


def test_an_answer_comes_once(
    open_page: OpenPage, mvp_address: str, engine: FakeEngine, photo_file: Path
) -> None:
    """Gradio sends the last values of a generator twice, megabytes of them, unless the last ones are none."""
    page = open_page(mvp_address)
    wire = page.context.new_cdp_session(page)
    wire.send("Network.enable")
    streams: dict[str, int] = {}

    def came(event: dict) -> None:
        if "queue/data" in event["response"]["url"]:
            streams[event["requestId"]] = 0

    def more(event: dict) -> None:
        if event["requestId"] in streams:
            streams[event["requestId"]] += event["dataLength"]

    wire.on("Network.responseReceived", came)
    wire.on("Network.dataReceived", more)
    inspect(page, photo_file, "dog; grass | lawn")
    page.wait_for_timeout(1000)
    once = len(hover_html(inspected(engine, photo_file), (0.5, 0.5)))
    assert 0.7 * once < sum(streams.values()) < 2.2 * once  # with the other views; all twice is above 3


def test_moving_shows_scores_and_asks_nothing(
    open_page: OpenPage, address: str, engine: FakeEngine, photo_file: Path
) -> None:
    page = open_page(address)
    asked(page, photo_file, "dog; grass")
    stage, verdict = page.locator("#hover .stage").first, page.locator("#hover .verdict")
    requests: list[str] = []
    questions = ("fetch", "xhr", "eventsource")  # the page may still be showing its pictures
    page.on("request", lambda one: requests.append(one.url) if one.resource_type in questions else None)
    stage.scroll_into_view_if_needed()
    box = stage.bounding_box()
    assert box is not None
    for across, name in ((0.25, "dog"), (0.75, "grass")):  # the middles of their discs
        page.mouse.move(box["x"] + across * box["width"], box["y"] + 0.5 * box["height"])
        expect(verdict).to_contain_text(re.compile(f"^{name} .* ahead of "))
        expect(page.locator("#hover .bar.first .of")).to_have_text(name)
    bright = page.evaluate(
        """() => { const c = document.querySelector('#hover .stage.map canvas');
        const p = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;
        let best = 0; for (let i = 0; i < p.length; i += 4) if (p[i] > p[best]) best = i;
        return [(best / 4) % c.width / c.width, Math.floor(best / 4 / c.width) / c.height]; }"""
    )
    assert bright == pytest.approx([0.75, 0.5], abs=0.06)  # a patch of the toy looks at itself alone
    stage.focus()
    for _ in range(14):
        page.keyboard.press("ArrowLeft")
    expect(verdict).to_contain_text(re.compile(r"^dog .* at \d+ % across, 52 % down"))
    assert requests == []  # a click may ask: the method has views of one place
    before = str(page.locator("#hover .ovs-hover").get_attribute("data-answer"))
    page.mouse.click(box["x"] + 0.25 * box["width"], box["y"] + 0.5 * box["height"])
    expect(verdict).to_contain_text("Pinned: dog")
    page.mouse.move(box["x"] + 0.75 * box["width"], box["y"] + 0.5 * box["height"])
    expect(verdict).to_contain_text("Pinned: dog")
    expect(page.locator("#hover .ovs-hover")).not_to_have_attribute("data-answer", before, timeout=PATIENCE)
    stage.focus()
    page.keyboard.press("Escape")
    for _ in range(14):
        page.keyboard.press("ArrowRight")
    expect(verdict).to_contain_text(re.compile(r"^grass .* at \d+ % across, 48 % down"))


def test_a_tap_pins_and_a_second_one_moves_the_pin(
    open_page: OpenPage, address: str, photo_file: Path
) -> None:
    page = open_page(address, PHONE, touch=True)
    asked(page, photo_file, "dog; grass")
    stage, verdict = page.locator("#hover .stage").first, page.locator("#hover .verdict")
    for across, name in ((0.25, "dog"), (0.75, "grass")):
        stage.scroll_into_view_if_needed()
        box = stage.bounding_box()
        assert box is not None
        page.touchscreen.tap(box["x"] + across * box["width"], box["y"] + 0.5 * box["height"])
        expect(verdict).to_contain_text(f"Pinned: {name}")
    assert fits(page)


def test_a_late_reply_does_not_show_the_class_of_other_words(
    open_page: OpenPage, mvp_address: str, photo_file: Path
) -> None:
    page = open_page(mvp_address)
    inspect(page, photo_file, "dog; grass; sky")
    captions = page.locator("[data-kind=view_maps] figcaption")
    held: list[tuple[Route, APIResponse]] = []

    def hold(route: Route) -> None:
        """Keep the first reply about the sky on its way."""
        if held:
            route.continue_()
            return
        reply = route.fetch()
        if "sky, view" in reply.text():
            held.append((route, reply))
        else:
            route.fulfill(response=reply)

    page.route(re.compile("/gradio_api/run/"), hold)
    pick_class(page, "sky")
    for _ in range(PATIENCE // 100):
        if held:
            break
        page.wait_for_timeout(100)
    page.fill("#classes textarea", "boat; water")
    page.click("#inspect-start")
    expect(page.locator("[data-kind=class_gates] tbody tr")).to_have_count(2, timeout=PATIENCE)
    route, reply = held[0]
    route.fulfill(response=reply)
    expect(captions.first).to_contain_text("boat", timeout=PATIENCE)
