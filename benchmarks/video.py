"""What a clip costs beside its photos, and that memory does not grow with its length.

    python -m benchmarks.video                     # embedded model, 12 frames of 640 x 480
    python -m benchmarks.video --frames 2000 --small   # memory alone: frames of 96 x 64 at a small frame

Goal: a clip takes at most 10 % longer than its frames do as photos, with decoding, painting, encoding and
flicker. Seconds are those that the processor worked, threads of the codecs included: other programs hardly
change them, and with more cores a part of them costs no time. With smoothing a photo costs less: its own
labels are not decided.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.setting import make_engine, photo
from ovs_core.encoders.towers import DEFAULT_ENCODER
from ovs_core.engine import Engine, Result
from ovs_core.image import Photo
from ovs_core.video.clips import ClipInfo, inspect_clip, read_frames
from ovs_core.video.mp4 import mp4_writer
from ovs_core.video.segment import VideoProgress, VideoSettings, last_result, segment_video
from ovs_core.video.smoothing import Smoothing

CLASSES = "cat; eye; nose; ear; wall"
RATE = Fraction(30)
KINDS: Mapping[str, Smoothing] = MappingProxyType(
    {
        "plain": Smoothing(),
        "smoothing 0.6": Smoothing(0.6),
        "along motion": Smoothing(0.6, along_motion=True),
    }
)


def main() -> None:
    """Print overhead per frame, or peak memory along the clip."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--frames", type=int, default=12)
    parser.add_argument("--small", action="store_true", help="small frames at a small frame of the tower")
    options = parser.parse_args()
    size = (64, 96) if options.small else (480, 640)
    engine, weights = make_engine(DEFAULT_ENCODER, cache_bytes=64 << 20)
    print(f"{weights}, {options.frames} frames of {size[1]} x {size[0]}")
    with tempfile.TemporaryDirectory() as folder:
        clip = _clip(Path(folder) / "clip.mp4", size, options.frames)
        if options.small:
            _memory(engine, clip, Path(folder) / "out")
        else:
            _overhead(engine, clip, Path(folder) / "out")


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


def _overhead(engine: Engine, clip: Path, out: Path) -> None:
    """What all threads work for a clip beside what the main one works for its photos."""
    torch.set_num_threads(1)  # photos then are work of the main thread alone, codecs have their own
    frame = next(read_frames(inspect_clip(clip)))
    engine.segment(Photo(frame.pixels), CLASSES)  # loads the tower, encodes the words
    seconds = _timed_photos(engine)
    for name, smoothing in KINDS.items():
        for kind in ("features", "scores"):
            engine.cache.drop(kind)
        seconds.clear()
        began = time.process_time()
        events = list(segment_video(engine, clip, CLASSES, out, VideoSettings(smoothing=smoothing)))
        total, result = time.process_time() - began, last_result(events)
        photo_ms = 1000 * sum(seconds) / result.frames
        rest_ms = 1000 * total / result.frames - photo_ms
        print(
            f"  {name:<14}{photo_ms:6.0f} ms a photo, {rest_ms:5.1f} ms more a frame: "
            f"{rest_ms / photo_ms:+.1%} (goal 10 %), flicker {result.flicker or 0:.2%}"
        )


def _timed_photos(engine: Engine) -> list[float]:
    """Let an engine note the seconds that its caller's thread works for each photo."""
    seconds: list[float] = []
    answer = engine.segment

    def segment(*asked: Any, **how: Any) -> Result:
        began = time.thread_time()
        result = answer(*asked, **how)
        seconds.append(time.thread_time() - began)
        return result

    engine.segment = segment  # type: ignore[method-assign]
    return seconds


def _memory(engine: Engine, clip: Path, out: Path) -> None:
    settings = replace(VideoSettings(), options={"short_side": 64})
    peaks: dict[int, float] = {}
    for event in segment_video(engine, clip, CLASSES, out, settings):
        total = event.total if isinstance(event, VideoProgress) else None
        if total and event.done in {total // 10, total // 2, total}:
            peaks[event.done] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print("  peak memory: " + ", ".join(f"{mb:.0f} MB after {frames}" for frames, mb in peaks.items()))


if __name__ == "__main__":
    main()
