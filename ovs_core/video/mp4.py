"""Clips out: an MP4 with the times of the clip it came from, and its sound.

Frames keep their own times, so a clip of variable frame rate stays one. Sound that MP4 can hold is copied as
it is, other sound becomes AAC. A file appears under its name when it is whole.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ovs_core.video.clips import ClipInfo, VideoError, pyav

COPIED_SOUND = frozenset({"aac", "ac3", "alac", "eac3", "flac", "mp3", "opus"})
ENCODERS = ("libx264", "libopenh264", "mpeg4")  # the first one that this PyAV has
QUALITY = "18"  # constant rate factor of H.264: losses hardly seen

WriteFrame = Callable[[NDArray[np.uint8], Fraction], None]
"""Takes pixels (H, W, 3) and seconds since the first frame."""


@dataclass(eq=False)
class _Sound:
    """A sound track on its way into a file: packets up to a time, then the rest."""

    packets: Iterator[Any]
    mux: Callable[[Any], None]
    waiting: list[Any] = field(default_factory=list)

    def write_until(self, seconds: float | None) -> None:
        """Pass on packets that begin before `seconds`; None passes on all."""
        while True:
            packet = self.waiting.pop() if self.waiting else next(self.packets, None)
            if packet is None:
                return
            begins = float(packet.dts * packet.time_base) if packet.dts is not None else 0.0
            if seconds is not None and begins > seconds:
                self.waiting.append(packet)
                return
            self.mux(packet)


@contextmanager
def mp4_writer(path: Path, info: ClipInfo) -> Iterator[WriteFrame]:
    """Write frames of a clip's size into `path`, with the clip's sound.

    Sides of an odd number of pixels get one more row or column, the last one again: the codec knows even
    sides alone.

    Args:
        path: of the MP4; its folder is made.
        info: the clip whose times and sound it gets.

    Raises:
        VideoError: if the file cannot be written.
    """
    av = pyav()
    part = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as opened:
            output = opened.enter_context(av.open(str(part), "w", format="mp4"))
            video = _video_stream(output, info)
            sound = _sound(output, opened, info) if info.has_sound else None
            last = -1

            def write(pixels: NDArray[np.uint8], time: Fraction) -> None:
                nonlocal last
                last = max(round(time / info.time_base), last + 1)
                frame = av.VideoFrame.from_ndarray(_even(pixels), format="rgb24")
                frame.pts, frame.time_base = last, info.time_base
                if sound is not None:
                    sound.write_until(float(time))
                output.mux(video.encode(frame))

            yield write
            output.mux(video.encode())
            if sound is not None:
                sound.write_until(None)
        part.replace(path)
    except (OSError, av.FFmpegError) as error:
        reason = getattr(error, "strerror", None) or error
        raise VideoError(f"{path} cannot be written: {reason}.") from error
    finally:
        if part.exists():
            part.unlink()


def _video_stream(output: Any, info: ClipInfo) -> Any:
    av = pyav()
    codec = next((name for name in ENCODERS if name in av.codecs_available), None)
    if codec is None:
        raise VideoError(f"This PyAV has no encoder for MP4; one of {', '.join(ENCODERS)} is needed.")
    quality = {"crf": QUALITY, "preset": "veryfast"} if codec == "libx264" else {}
    stream = output.add_stream(codec, rate=info.rate, options=quality)
    height, width = info.size
    stream.width, stream.height = width + width % 2, height + height % 2
    stream.pix_fmt = "yuv420p"
    stream.codec_context.time_base = info.time_base
    return stream


def _sound(output: Any, opened: contextlib.ExitStack, info: ClipInfo) -> _Sound:
    source = opened.enter_context(pyav().open(str(info.path)))
    track = source.streams.audio[0]
    if track.codec_context.name in COPIED_SOUND:
        copy = output.add_stream_from_template(track)
        return _Sound(_copied(source, track, copy), output.mux)
    stream = output.add_stream("aac", rate=track.codec_context.sample_rate)
    return _Sound(_encoded(source, track, stream), output.mux)


def _copied(source: Any, track: Any, copy: Any) -> Iterator[Any]:
    """Packets of a track, for another stream; a track that breaks off ends there."""
    with contextlib.suppress(pyav().FFmpegError):
        for packet in source.demux(track):
            if packet.dts is not None:
                packet.stream = copy
                yield packet


def _encoded(source: Any, track: Any, stream: Any) -> Iterator[Any]:
    """Packets of a track in another codec."""
    with contextlib.suppress(pyav().FFmpegError):
        for frame in source.decode(track):
            yield from stream.encode(frame)
    yield from stream.encode()


def _even(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Pixels (H, W, 3) with both sides even; the last row and column are repeated where needed."""
    height, width = pixels.shape[:2]
    if not height % 2 and not width % 2:
        return np.ascontiguousarray(pixels)
    return np.pad(pixels, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
