"""How long a person waits: for an answer, for a slider, for the app.

    python -m benchmarks.latency                   # embedded model, 640 x 480, 5 classes
    python -m benchmarks.latency --without-app     # leave out starting app.py

Targets: 1 s per photo once warm, 150 ms per slider step at 1024 pixels, 15 s from `python app.py` to a page.
"""

from __future__ import annotations

import argparse
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

from benchmarks.setting import make_engine, median_seconds, photo
from ovs_core.encoders.towers import DEFAULT_ENCODER, ENCODERS
from ovs_core.engine import Engine
from ovs_core.image import display_copy
from ovs_core.methods import DEFAULT_METHOD, METHODS

CLASSES = "cat; eye; nose; ear; wall"
APP = Path(__file__).resolve().parents[1] / "app.py"
GIVE_UP_SECONDS = 120


def main() -> None:
    """Print medians beside their targets."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--encoder", default=DEFAULT_ENCODER, choices=ENCODERS)
    parser.add_argument("--method", default=DEFAULT_METHOD, choices=METHODS)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--without-app", action="store_true")
    options = parser.parse_args()
    engine, weights = make_engine(options.encoder)
    print(f"{weights}, {options.method}")
    _first_and_warm(engine, options.encoder, options.method, options.repeats)
    _slider(engine, options.encoder, options.method, options.repeats)
    if not options.without_app:
        print(f"  app answers          {_app_seconds():7.2f} s after `python app.py` (target 15)")


def _first_and_warm(engine: Engine, encoder: str, method: str, repeats: int) -> None:
    photos = iter([photo(640, 480, seed) for seed in range(2 * repeats + 1)])
    stages: list[dict[str, float]] = []
    chosen: dict[str, bool] = {}

    def answer() -> None:
        result = engine.segment(next(photos), CLASSES, method=method, encoder=encoder, options=chosen)
        stages.append(dict(result.seconds))

    first = median_seconds(answer, 1)
    warm = median_seconds(answer, repeats)
    parts = ", ".join(f"{stage} {seconds:.3f}" for stage, seconds in stages[-1].items())
    print(f"  first 640 x 480      {first:7.3f} s (loads the towers, learns the words)")
    print(f"  warm 640 x 480       {warm:7.3f} s (target 1.0); {parts}")
    if not METHODS[method].masks:
        chosen["multi_scale"] = True
        thrice = median_seconds(answer, repeats)
        print(f"  multi-scale          {thrice:7.3f} s ({thrice / warm:.1f} x)")


def _slider(engine: Engine, encoder: str, method: str, repeats: int) -> None:
    picture = photo(4000, 3000)
    result = engine.segment(picture, CLASSES, method=method, encoder=encoder)
    size = display_copy(picture.pixels, 1024).shape[:2]
    shown = engine.relabel(result, size=size)
    steps = iter(range(repeats))
    seconds = median_seconds(lambda: engine.relabel(shown, {"threshold": 0.05 * (next(steps) % 10)}), repeats)
    print(f"  slider at {size[1]} x {size[0]} {1000 * seconds:7.0f} ms (target 150)")


def _app_seconds() -> float:
    """Seconds from starting app.py until its page is served."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, str(APP), "--port", str(port), "--no-browser", "--offline"]
    started = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as app:
        try:
            while time.perf_counter() - started < GIVE_UP_SECONDS and app.poll() is None:
                try:
                    with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5):
                        return time.perf_counter() - started
                except (urllib.error.URLError, OSError):
                    time.sleep(0.1)
        finally:
            app.terminate()
    raise SystemExit("app.py did not serve its page")


if __name__ == "__main__":
    main()
