"""What a clip costs beside its photos, and that memory does not grow with its length.

    python -m benchmarks.video                     # embedded model, 40 frames of 640 x 480
    python -m benchmarks.video --frames 2000 --small   # memory alone: frames of 96 x 64, a random tiny tower

Goal: at most 10 % over the engine's own time per frame, with decoding, painting, encoding and flicker.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.setting import make_engine, photo
from ovs_core.encoders.towers import DEFAULT_ENCODER
from ovs_core.engine import Engine
from ovs_core.video.clips import ClipInfo
from ovs_core.video.mp4 import mp4_writer
from ovs_core.video.segment import VideoProgress, VideoSettings, last_result, segment_video
from ovs_core.video.smoothing import Smoothing

CLASSES = "cat; eye; nose; ear; wall"
RATE = Fraction(30)


def main() -> None:
    """Print overhead per frame and peak memory along the clip."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--frames", type=int, default=40)
    parser.add_argument("--small", action="store_true", help="small frames at a small frame of the tower")
    options = parser.parse_args()
    size = (64, 96) if options.small else (480, 640)
    engine, weights = make_engine(DEFAULT_ENCODER, cache_bytes=64 << 20)
    print(f"{weights}, {options.frames} frames of {size[1]} x {size[0]}")
    with tempfile.TemporaryDirectory() as folder:
        clip = _clip(Path(folder) / "clip.mp4", size, options.frames)
        settings = VideoSettings(options={"short_side": 64} if options.small else {})
        for smoothing in (Smoothing(), Smoothing(0.6), Smoothing(0.6, along_motion=True)):
            _run(engine, clip, Path(folder), replace(settings, smoothing=smoothing))
            if options.small:
                break


def _clip(path: Path, size: tuple[int, int], frames: int) -> Path:
    """A photo that is panned over, as MP4."""
    info = ClipInfo(path, size, RATE, 1 / RATE, frames, has_sound=False)
    with mp4_writer(path, info) as write:
        for number, pixels in enumerate(_pan(size, frames)):
            write(pixels, number / RATE)
    return path


def _pan(size: tuple[int, int], frames: int) -> Iterator[NDArray[np.uint8]]:
    height, width = size
    wide = photo(2 * width, height).pixels
    for number in range(frames):
        start = round(number % width)
        yield wide[:, start : start + width]


def _run(engine: Engine, clip: Path, out: Path, settings: VideoSettings) -> None:
    events: list[object] = []
    peaks: dict[int, float] = {}
    for event in segment_video(engine, clip, CLASSES, out / "out", settings):
        if isinstance(event, VideoProgress):
            if event.total and event.done in {event.total // 10, event.total // 2, event.total}:
                peaks[event.done] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        else:
            events.append(event)
    result = last_result(events)  # type: ignore[arg-type]
    over = (result.seconds - result.engine_seconds) / result.engine_seconds
    kind = settings.smoothing
    name = "along motion" if kind.along_motion else f"smoothing {kind.weight}" if kind.weight else "plain"
    print(
        f"  {name:<14}{1000 * result.seconds / result.frames:7.0f} ms a frame, {over:+.0%} over the engine "
        f"(goal 10 %), flicker {result.flicker or 0:.2%}"
    )
    print("  peak memory: " + ", ".join(f"{mb:.0f} MB after {frames}" for frames, mb in peaks.items()))


if __name__ == "__main__":
    main()
