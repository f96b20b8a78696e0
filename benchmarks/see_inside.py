"""What a look inside costs: a move over the photo in a browser, and relabelling, beside a fresh answer.

    python -m benchmarks.see_inside                # embedded model, a photo of 12 megapixels, 5 classes

A move is what the page's own scripts do from the pointer's event until style and layout are done, in headless
Chromium; painting is not in it. Needs `requirements-dev.txt` and Chromium. Targets: 16 ms a move, 2 MB sent
once, a relabel at the size of the page's picture in 150 ms.
"""

from __future__ import annotations

import argparse
import base64
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from playwright.sync_api import sync_playwright

from benchmarks.setting import make_engine, median_seconds, photo
from ovs_core.engine import Engine, Request, Result
from ovs_core.engine.beside import patch_cosines
from ovs_core.ui.hover import SecondPhoto, hover_html
from ovs_core.ui.linked import LINKED
from ovs_core.ui.pictures import DISPLAY_SIDE, base_picture
from ovs_core.ui.theme import STYLE_SHEET
from ovs_core.ui.view_html import file_url
from ovs_core.vocabulary import parse_vocabulary

CLASSES = "cat; eye; nose; ear; wall"
SIZE, SECOND_SIZE = (4000, 3000), (1600, 1200)
UI = Path(__file__).resolve().parents[1] / "ovs_core" / "ui"
CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
# The scripts as gradio runs them; a frame comes at once, so that a move ends with its event.
RUN = """(scripts) => {
  window.requestAnimationFrame = (draw) => { draw(); return 0; };
  for (const script of scripts)
    new Function("element", "watch", "trigger", script)(document.querySelector("#hover"), () => {}, () => {});
}"""
MOVES = """(count) => {
  const stage = document.querySelector(".stage"), around = stage.getBoundingClientRect(), times = [];
  for (let move = 0; move < count; move += 1) {
    const where = { clientX: around.left + ((move * 0.618) % 1) * around.width,
      clientY: around.top + ((move * 0.414) % 1) * around.height, bubbles: true, pointerId: 1 };
    const before = performance.now();
    stage.dispatchEvent(new PointerEvent("pointermove", where));
    document.body.getBoundingClientRect();
    times.push(performance.now() - before);
  }
  return times.sort((a, b) => a - b);
}"""


def main() -> None:
    """Print medians beside their targets."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--moves", type=int, default=300)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ovs-lens-benchmark-") as folder:
        os.environ["GRADIO_TEMP_DIR"] = folder  # pictures of the page
        engine, weights = make_engine("mini")
        print(f"{weights}, naclip, {SIZE[0]} x {SIZE[1]}, {CLASSES.count(';') + 1} classes")
        result = _answer(engine, seed=0)
        _relabelling(engine, result, options.repeats)
        for name, html in _pages(engine, result):
            times = _moves(html, options.moves)
            middle, late = times[len(times) // 2], times[int(0.95 * len(times))]
            sent = len(html.encode()) / 1e6
            spread = f"95 % within {late:.1f} ms (target 16)"
            print(f"  move, {name:12} {middle:7.1f} ms, {spread}; {sent:.2f} MB sent (target 2)")


def _request(seed: int) -> Request:
    views = frozenset({"similarity", "affinity"})
    return Request(photo(*SIZE, seed), parse_vocabulary(CLASSES), views=views, side=DISPLAY_SIDE)


def _answer(engine: Engine, seed: int) -> Result:
    return next(event for event in engine.run(_request(seed)) if isinstance(event, Result))


def _relabelling(engine: Engine, result: Result, repeats: int) -> None:
    """A fresh answer as Inspect asks for it, a word switched off, a step of a slider."""
    seeds = iter(range(1, repeats + 1))
    fresh = median_seconds(lambda: _answer(engine, next(seeds)), repeats)
    off = median_seconds(lambda: engine.relabel(result, without=["nose"]), repeats)
    steps = iter(range(repeats))
    slider = median_seconds(lambda: engine.relabel(result, {"threshold": 0.05 * next(steps)}), repeats)
    height, width = result.labels.shape
    print(f"  fresh answer with its maps  {1000 * fresh:7.0f} ms, labelled at {width} x {height}")
    print(f"  a word switched off         {1000 * off:7.0f} ms (target 150), 1/{fresh / off:.0f} of it")
    print(f"  a step of the threshold     {1000 * slider:7.0f} ms (target 150), 1/{fresh / slider:.0f} of it")


def _pages(engine: Engine, result: Result) -> Iterator[tuple[str, str]]:
    """The value of the field alone and with a second photo, pictures inside."""
    second = photo(*SECOND_SIZE, seed=100)
    request = replace(_request(0), views=frozenset())
    beside = SecondPhoto(base_picture(second.pixels), patch_cosines(engine, request, second))
    for name, shown in (("alone", None), ("two photos", beside)):
        yield name, hover_html(result, (0.5, 0.5), second=shown)


def _moves(html: str, count: int) -> list[float]:
    """Milliseconds of each move, sorted; the pictures are put into the page, which is no server."""
    for path in Path(os.environ["GRADIO_TEMP_DIR"]).rglob("*.jpg"):
        data = base64.b64encode(path.read_bytes()).decode("ascii")
        html = html.replace(file_url(str(path)), f"data:image/jpeg;base64,{data}")
    style = STYLE_SHEET.read_text(encoding="utf-8")
    scripts = [(UI / name).read_text(encoding="utf-8") for name in ("linked.js", "hover.js")]
    browser_path = next(filter(None, map(shutil.which, CHROMIUM)), None)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        field = f'<div class="{LINKED}"><div id="hover">{html}</div></div>'
        page.set_content(f"<style>{style}</style>{field}", wait_until="load")
        page.evaluate(RUN, scripts)
        page.evaluate(MOVES, count // 10)  # warm
        times = page.evaluate(MOVES, count)
        browser.close()
    return [float(time) for time in times]


if __name__ == "__main__":
    main()
