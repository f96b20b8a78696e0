"""What a person at a browser waits for and is sent, with a photo of 12 megapixels; needs Chromium.

    python -m benchmarks.page

The app is started as people start it. Bytes are those of all that comes, as the browser counts them before
compression, from a click until nothing comes any more. Seconds are the page's own, from the click to the
frame that shows it. Targets: an answer sends at most 1 MB; the first panel of Compare is there within 1 s of
an idle machine.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

from benchmarks.setting import photo
from ovs_core.cli.loading import yield_soon

ROOT = Path(__file__).resolve().parents[1]
CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
SIZE, CLASSES = (4000, 3000), "cat; eye; nose; ear; wall"
PATIENCE = 120  # seconds
QUIET = 1.5  # seconds in which nothing came
ANSWERS = {"segment": "Segment", "inspect": "Inspect", "compare": "Compare"}
# Looks at every frame: the first panels are fewer than those of the answer before.
WATCH = """(tab) => {
  const seconds = (window.seconds = {});
  const pictures = () => [...document.querySelectorAll("#compare-panels img")];
  const before = pictures().length || Infinity;
  document.querySelector(`#${tab}-start`).addEventListener("click", () => {
    const clicked = performance.now();
    let begun = false;
    const look = () => {
      const now = (performance.now() - clicked) / 1000;
      const over = document.querySelector(`#${tab}-status .done`);
      const shown = pictures();
      begun ||= !over;
      if (shown.length && shown.length < before && shown.every((one) => one.complete)) seconds.panel ??= now;
      if (begun && over) seconds.done = now;
      else requestAnimationFrame(look);
    };
    requestAnimationFrame(look);
  }, { capture: true, once: true });
}"""


class Wire:
    """Bytes that a page was sent."""

    def __init__(self, page: Page) -> None:
        self.sent, self.last = 0, time.perf_counter()
        self._page = page
        session = page.context.new_cdp_session(page)
        session.send("Network.enable")
        session.on("Network.dataReceived", lambda event: self._more(event["dataLength"]))

    def _more(self, count: int) -> None:
        self.sent += count
        self.last = time.perf_counter()

    def during(self, act: Callable[[], None]) -> float:
        """Megabytes that came while something was done, and after it until nothing came any more."""
        before = self.sent
        act()
        self.last = time.perf_counter()
        while time.perf_counter() - self.last < QUIET:
            self._page.wait_for_timeout(100)
        return (self.sent - before) / 1e6


def main() -> None:
    """Print seconds and megabytes beside their targets."""
    yield_soon()
    with tempfile.TemporaryDirectory(prefix="ovs-lens-benchmark-") as folder:
        picture = Path(folder, "photo.jpg")
        Image.fromarray(photo(*SIZE).pixels).save(picture, quality=92)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        command = [sys.executable, str(ROOT / "app.py"), "--port", str(port), "--no-browser", "--offline"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as app:
            try:
                next(line for line in app.stdout or () if str(port) in line)
                _visit(f"http://127.0.0.1:{port}/", picture)
            finally:
                app.terminate()


def _visit(address: str, picture: Path) -> None:
    browser_path = next(filter(None, map(shutil.which, CHROMIUM)), None)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        wire = Wire(page)

        def load() -> None:
            page.goto(address)
            page.wait_for_selector("#classes textarea")

        def choose() -> None:
            page.set_input_files("#photo input[type=file]", picture)
            page.wait_for_selector("#photo img")
            page.fill("#classes textarea", CLASSES)

        print(f"{SIZE[0]} x {SIZE[1]}, {picture.stat().st_size / 1e6:.1f} MB as JPEG, {CLASSES}")
        print(f"  page                 {wire.during(load):6.2f} MB, once")
        print(f"  photo shown          {wire.during(choose):6.2f} MB")
        for tab, name in ANSWERS.items():
            page.get_by_role("tab", name=name).click()
            page.wait_for_timeout(300)
            _answer(page, wire, tab)
        browser.close()


def _answer(page: Page, wire: Wire, tab: str) -> None:
    """Ask on a tab, twice: the second time all but the labels is known."""
    for asked in ("asked", "asked again"):

        def ask() -> None:
            page.evaluate(WATCH, tab)
            page.click(f"#{tab}-start")
            page.wait_for_function("window.seconds.done", timeout=1000 * PATIENCE)

        sent = wire.during(ask)
        seconds = page.evaluate("window.seconds")
        if tab != "compare":
            seconds.pop("panel", None)
        parts = ", ".join(f"{name} {seconds[name]:.2f} s" for name in ("panel", "done") if name in seconds)
        print(f"  {tab:8} {asked:11} {sent:6.2f} MB (target 1); {parts}")


if __name__ == "__main__":
    main()
