"""Clips in: frames of a video file or of a folder of pictures, upright RGB, each with its time.

Files are decoded by PyAV, which is looked for when a clip is opened: photos do not need it. A frame that
cannot be decoded is left out and told; the frame before it stays on the screen, as players do it.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ovs_core.image import ImageError, read_photo

FOLDER_RATE = Fraction(25)
"""Frames a second of a folder of pictures, unless one is given."""
PICTURES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"})
_NUMBERS = re.compile(r"(\d+)")


class VideoError(ValueError):
    """A clip that cannot be used; the message is one sentence for the user."""


@dataclass(frozen=True)
class ClipInfo:
    """What is known of a clip before it is read.

    Attributes:
        path: file or folder.
        size: (H, W) of its upright frames, in pixels.
        rate: mean frames a second.
        time_base: seconds of one tick; times of frames are whole ticks.
        frames: how many, as the file says or as its length lets expect; None where it says neither.
        has_sound: whether a sound track comes with it.
    """

    path: Path
    size: tuple[int, int]
    rate: Fraction
    time_base: Fraction
    frames: int | None
    has_sound: bool


@dataclass(frozen=True, eq=False)
class Frame:
    """One frame.

    Attributes:
        number: from 0, in the order they are shown; frames that could not be read are not counted.
        time: seconds since the first frame.
        pixels: (H, W, 3) uint8 RGB, upright.
        unreadable: frames just before this one that could not be decoded.
    """

    number: int
    time: Fraction
    pixels: NDArray[np.uint8]
    unreadable: int = 0


def pyav() -> Any:
    """The package `av`.

    Raises:
        VideoError: if it is not installed.
    """
    try:
        return importlib.import_module("av")
    except ImportError as error:
        raise VideoError('Videos need PyAV; install it with pip install "ovs-lens[video]".') from error


def inspect_clip(path: Path, rate: Fraction | None = None) -> ClipInfo:
    """Look at a clip without reading it.

    Args:
        path: video file, or folder of pictures in the order of their names.
        rate: frames a second of a folder; None takes 25. A file has its own.

    Raises:
        VideoError: if there is no clip, or nothing in it to see.
    """
    if path.is_dir():
        return _inspect_folder(path, FOLDER_RATE if rate is None else rate)
    first = next(_file_frames(path), None)
    if first is None:
        raise VideoError(f'"{path.name}" holds no frame that can be read.')
    with _opened(path) as container:
        stream = container.streams.video[0]
        mean = Fraction(stream.average_rate or stream.guessed_rate or FOLDER_RATE)
        length = None if stream.duration is None else stream.duration * stream.time_base
        if length is None and container.duration is not None:
            length = Fraction(container.duration, pyav().time_base)
        frames = stream.frames or (None if length is None else max(1, round(length * mean)))
        height, width = first.pixels.shape[:2]
        sound = bool(container.streams.audio)
        return ClipInfo(path, (height, width), mean, Fraction(stream.time_base), frames, sound)


def read_frames(info: ClipInfo) -> Iterator[Frame]:
    """Frames of a clip in order, one in memory at a time.

    Raises:
        VideoError: if the file is gone or is none, or pictures of a folder differ in size.
    """
    return _folder_frames(info) if info.path.is_dir() else _file_frames(info.path)


def _inspect_folder(path: Path, rate: Fraction) -> ClipInfo:
    if not rate > 0:
        raise VideoError(f"Frames a second must be above 0, got {rate}.")
    pictures = _pictures(path)
    if not pictures:
        raise VideoError(f'There is no picture in the folder "{path}".')
    size = _read(pictures[0]).shape[:2]
    return ClipInfo(path, (size[0], size[1]), rate, 1 / rate, len(pictures), has_sound=False)


def _pictures(path: Path) -> list[Path]:
    """Picture files by name, 9 before 10."""
    files = (file for file in path.iterdir() if file.suffix.lower() in PICTURES and file.is_file())
    return sorted(files, key=lambda file: [part.zfill(20) for part in _NUMBERS.split(file.name)])


def _read(path: Path) -> NDArray[np.uint8]:
    try:
        return read_photo(path).pixels
    except ImageError as error:
        raise VideoError(str(error)) from error


def _folder_frames(info: ClipInfo) -> Iterator[Frame]:
    number, unreadable = 0, 0
    for place, path in enumerate(_pictures(info.path)):
        try:
            pixels = read_photo(path).pixels
        except ImageError:
            unreadable += 1
            continue
        if pixels.shape[:2] != info.size:
            height, width = pixels.shape[:2]
            raise VideoError(
                f"Frames of a clip must be of one size: {path.name} has {width} x {height} pixels, "
                f"the first one {info.size[1]} x {info.size[0]}."
            )
        yield Frame(number, place / info.rate, pixels, unreadable)
        number, unreadable = number + 1, 0


def _opened(path: Path) -> Any:
    """An open container with a video stream in it.

    Raises:
        VideoError: telling apart all the ways in which a path is no video.
    """
    av = pyav()
    if not path.exists():
        raise VideoError(f'There is no file "{path}".')
    if not path.is_file() or not path.stat().st_size:
        raise VideoError(f'"{path.name}" is empty or not an ordinary file.')
    try:
        container = av.open(str(path))
    except (av.FFmpegError, ValueError) as error:
        raise VideoError(f'"{path.name}" is not a video that can be read; save it as MP4.') from error
    if not container.streams.video:
        container.close()
        raise VideoError(f'"{path.name}" holds sound and no picture.')
    return container


def _file_frames(path: Path) -> Iterator[Frame]:
    """Frames of a file; those after the first have its size even where the stream changes it."""
    with _opened(path) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        start: Fraction | None = None
        size: tuple[int, int] | None = None
        number, last = 0, Fraction(-1)
        for frame, unreadable in _decoded(container, stream):
            size = size or (frame.width, frame.height)
            ticks = frame.pts if frame.pts is not None else frame.dts
            time = Fraction(number) / (stream.average_rate or FOLDER_RATE)
            if ticks is not None:
                time = ticks * Fraction(frame.time_base or stream.time_base)
                start = time if start is None else start
                time -= start
            if time <= last:  # a file that runs backwards: players go on, so do we
                time = last + Fraction(stream.time_base)
            shown = frame.reformat(width=size[0], height=size[1], format="rgb24").to_ndarray()
            yield Frame(number, time, _upright(shown, frame.rotation), unreadable)
            number, last = number + 1, time


def _decoded(container: Any, stream: Any) -> Iterator[tuple[Any, int]]:
    """Frames that can be decoded, each with the number of those just before it that cannot."""
    av = pyav()
    unreadable = 0
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets)
        except (StopIteration, av.FFmpegError):  # cut short: what came before is good
            return
        try:
            frames = packet.decode()
        except av.FFmpegError:
            unreadable += 1
            continue
        for frame in frames:
            if frame.is_corrupt:
                unreadable += 1
                continue
            yield frame, unreadable
            unreadable = 0


def _upright(pixels: NDArray[np.uint8], rotation: int) -> NDArray[np.uint8]:
    """Turn a frame as its file says, by `rotation` degrees against the clock."""
    quarters = round(rotation / 90) % 4
    return np.ascontiguousarray(np.rot90(pixels, quarters))


def thumbnail(pixels: NDArray[np.uint8], longest: int) -> NDArray[np.uint8]:
    """A frame's small copy whose longer side is at most `longest` pixels, for comparing frames."""
    height, width = pixels.shape[:2]
    scale = min(1.0, longest / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BOX))
