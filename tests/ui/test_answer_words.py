"""Words of an answer as chips: maps that came with it, who inherits, files that are what is shown."""

import base64
import json
import re
from collections.abc import Callable
from html import unescape
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from fake_engine import FakeEngine
from pages import PHONE, choose, finished, fits
from PIL import Image
from playwright.sync_api import Page, expect
from test_page import download, segment
from test_steps import question

from ovs_core.ui.answer import Answer, relabelled
from ovs_core.ui.answer_words import maps_html, switched, words_html
from ovs_core.ui.pictures import DISPLAY_SIDE
from ovs_core.ui.segment_tab import segment_steps, shown_result
from ovs_core.ui.segment_views import Look

OpenPage = Callable[..., Page]


def answered(engine: FakeEngine, photo: Path, words: str = "dog; grass; sky | clouds") -> Answer:
    *_, (_, answer) = segment_steps(engine, None, question(photo, words), "naclip")
    assert answer is not None
    return answer


def sent(html: str) -> dict:
    return json.loads(unescape(re.search(r"hidden>(.*)</div>", html, re.DOTALL)[1]))


def test_maps_are_the_scores_of_the_evidence(engine: FakeEngine, photo_file: Path) -> None:
    result = answered(engine, photo_file).result
    data = sent(maps_html(result))
    rows, columns = data["grid"]
    low, high = data["range"]
    packed = np.frombuffer(base64.b64decode(data["maps"]), np.uint8).reshape(3, rows, columns)
    expected = result.evidence.score_maps((rows, columns))[:3].numpy()
    assert np.abs(low + packed / 255 * (high - low) - expected).max() <= (high - low) / 255
    assert columns / rows == pytest.approx(1.5, abs=0.1)


def test_maps_of_many_words_stay_small(engine: FakeEngine, photo_file: Path) -> None:
    many = answered(engine, photo_file, "; ".join(f"thing {number}" for number in range(500)))
    html = maps_html(many.result)
    assert len(html) < 420_000
    assert min(sent(html)["grid"]) >= 15
    assert words_html(engine, many.result).count("<button") == 500


def test_names_are_text(engine: FakeEngine, photo_file: Path) -> None:
    assert "<b id=planted>" not in words_html(engine, answered(engine, photo_file, "<b id=planted>").result)


def test_it_says_who_inherited_how_much(engine: FakeEngine, photo_file: Path) -> None:
    answer = answered(engine, photo_file)
    before = answer.result.labels
    less = relabelled(engine, answer, {}, DISPLAY_SIDE, {2}).result
    shares = [float((less.labels[before == 2] == label).mean()) for label in (1, 3, 0)]
    assert min(shares) > 0.1
    said = re.search(r"<p>(grass .*)</p>", words_html(engine, less))[1]
    parts = sorted(zip(shares, ("dog", "sky", "other"), strict=True), key=lambda part: -part[0])
    assert said == "grass → " + ", ".join(f"{name} {share:.0%}".replace("%", " %") for share, name in parts)
    both = relabelled(engine, answer, {}, DISPLAY_SIDE, {1, 2})
    assert words_html(engine, both.result).count("→") == 2
    summary = shown_result(engine, both, DISPLAY_SIDE)[2]
    assert "Switched off: dog, grass." in summary
    assert "Not found" not in summary


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ({"label": 2, "on": False}, {1, 2}),
        ({"label": 1, "on": True}, set()),
        ({"label": "2", "on": False}, None),
        ({"label": 2}, None),
        (None, None),
    ],
)
def test_clicks_switch_and_other_events_do_not(data: object, expected: set[int] | None) -> None:
    assert switched(SimpleNamespace(_data=data), frozenset({1})) == expected


def test_objects_of_a_word_that_is_off_become_those_of_others(tmp_path: Path, photo_file: Path) -> None:
    engine = FakeEngine(tmp_path, mask_method="naclip")
    answer = answered(engine, photo_file, "dog; grass")
    less = relabelled(engine, answer, {}, DISPLAY_SIDE, {1})
    picture, chips, summary, *_ = shown_result(engine, less, DISPLAY_SIDE, Look("panoptic"))
    assert [part["label"].split(" · ")[0] for part in picture["value"]["annotations"]] == ["grass"]
    assert picture["show_legend"]
    assert 'class="share"' not in chips
    assert "Switched off: dog." in summary


def test_pointing_shows_a_map_and_a_click_who_inherits(
    open_page: OpenPage, address: str, engine: FakeEngine, photo_file: Path, tmp_path: Path
) -> None:
    page = open_page(address)
    segment(page, photo_file)
    runs, before = engine.runs, page.inner_text("#summary")
    chips, said = page.locator(".ovs-words button"), page.locator("#answer-words .said")
    expect(chips).to_have_count(3)
    asked: list[str] = []
    page.on("request", lambda one: asked.append(one.url))
    chips.nth(1).hover()
    expect(page.locator("#overlay canvas")).to_be_visible()
    expect(said).to_contain_text("Scores of “grass”")
    brightest = page.evaluate(
        """() => { const c = document.querySelector('#overlay canvas');
        const p = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;
        const yellow = (i) => p[i] - p[i + 2];
        let best = 0; for (let i = 0; i < p.length; i += 4) if (yellow(i) > yellow(best)) best = i;
        return [(best / 4) % c.width / c.width, Math.floor(best / 4 / c.width) / c.height]; }"""
    )
    assert brightest == pytest.approx([0.5, 0.5], abs=0.1)  # the middle of its disc is yellow
    assert asked == []
    chips.nth(1).click()
    expect(page.locator(".heirs")).to_contain_text("grass → ")
    expect(page.locator("#summary")).to_contain_text("Switched off: grass.")
    expect(page.locator("#overlay img.mask")).to_have_count(2)
    page.mouse.move(0, 0)
    expect(page.locator("#overlay canvas")).to_have_count(0)
    page.fill("#threshold input[type=number]", "0.1")  # a slider leaves it off
    with Image.open(download(page, "labels", tmp_path)) as labels:
        assert 2 not in np.asarray(labels)
    page.fill("#threshold input[type=number]", "0")
    expect(page.locator("#summary")).to_contain_text("Switched off: grass.")
    chips.nth(0).focus()
    page.keyboard.press("Tab")
    expect(said).to_contain_text("Scores of “grass”")
    page.keyboard.press("Enter")
    expect(page.locator("#summary")).to_have_text(before)
    expect(chips.nth(1)).to_be_focused()
    expect(chips.nth(1)).to_have_attribute("aria-pressed", "true")
    assert engine.runs == runs


def test_a_first_tap_shows_and_a_second_one_switches(
    open_page: OpenPage, address: str, photo_file: Path
) -> None:
    page = open_page(address, PHONE, touch=True)
    choose(page, photo_file, "dog; grass; sky | clouds")
    page.press("#classes textarea", "Enter")
    finished(page)
    sky = page.locator(".ovs-words button").nth(2)
    sky.tap()
    expect(page.locator("#answer-words .said")).to_contain_text("Scores of “sky”")
    expect(sky).to_have_attribute("aria-pressed", "true")
    sky.tap()
    expect(sky).to_have_attribute("aria-pressed", "false")
    expect(page.locator(".heirs")).to_contain_text("sky → ")
    assert fits(page)
