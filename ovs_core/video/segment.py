"""Label every frame of a clip: a loop round the engine, with an MP4 and a line of JSON per frame.

Words are encoded once, since the engine remembers them. A frame that equals the one before is not looked at
again. One frame is held at a time, so memory does not grow with the clip; the engine's cache has a budget.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Collection, Generator, Mapping
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from ovs_core.devices import stop_if_cancelled
from ovs_core.encoders.towers import DEFAULT_ENCODER
from ovs_core.engine import Engine, Result
from ovs_core.engine.labelling import label
from ovs_core.export.names import photo_stem
from ovs_core.image import Photo
from ovs_core.methods import DEFAULT_METHOD
from ovs_core.options import Options
from ovs_core.refine import NO_REFINER
from ovs_core.render.overlay import OPACITY, paint
from ovs_core.types import ClassSummary, Vocabulary
from ovs_core.video.clips import ClipInfo, Frame, VideoError, inspect_clip, read_frames
from ovs_core.video.consistency import FlickerCount
from ovs_core.video.mp4 import WriteFrame, mp4_writer
from ovs_core.video.smoothing import Remembered, Smoothing, as_evidence, remember
from ovs_core.vocabulary.exemplars import Exemplar, asked_vocabulary

SCHEMA = "ovs-lens/video/1"
"""Changes whenever a field is renamed, removed or changes its meaning; new fields may come without notice."""


@dataclass(frozen=True)
class VideoSettings:
    """What is asked of every frame, and how answers follow each other.

    Attributes:
        method, encoder, refiner, options: as in `Engine.segment`.
        smoothing: how quiet.
        opacity: of the class colours over the frames.
        exemplars: boxes on photos to be found too, as in `Engine.segment`.
    """

    method: str = DEFAULT_METHOD
    encoder: str = DEFAULT_ENCODER
    refiner: str = NO_REFINER
    options: Options = field(default_factory=lambda: MappingProxyType({}))
    smoothing: Smoothing = field(default_factory=Smoothing)
    opacity: float = OPACITY
    exemplars: tuple[Exemplar, ...] = ()


@dataclass(frozen=True, eq=False)
class VideoProgress:
    """How far a clip is.

    Attributes:
        done, total: frames; None where nobody knows how many there are.
        seconds_left: at the pace so far; None at the start or where nobody knows.
        labels: of the frame just done, (H, W).
        picture: that frame with its labels over it, (H, W, 3).
    """

    done: int
    total: int | None
    seconds_left: float | None
    labels: NDArray[np.integer]
    picture: NDArray[np.uint8]


@dataclass(frozen=True)
class VideoResult:
    """A clip that is done.

    Attributes:
        video, report: files written: MP4, and JSON lines (docs/formats.md).
        frames: how many were labelled.
        seconds: that the work took in all.
        engine_seconds: part of it that the engine took.
        flicker: share of unmoved pixels whose label changed from frame to frame, in [0, 1]; None for a clip
            in which nothing stays.
        notes: what was out of the ordinary, one sentence each.
    """

    video: Path
    report: Path
    frames: int
    seconds: float
    engine_seconds: float
    flicker: float | None
    notes: tuple[str, ...] = ()


@dataclass(eq=False)
class _Run:
    """What a clip on its way amounts to."""

    total: int | None
    started: float = field(default_factory=time.perf_counter)
    frames: int = 0
    unreadable: int = 0
    repeated: int = 0
    engine_seconds: float = 0.0
    flicker: FlickerCount = field(default_factory=FlickerCount)
    remembered: Remembered | None = None
    last: tuple[Photo, Result] | None = None
    notes: dict[str, None] = field(default_factory=dict)


def segment_video(
    engine: Engine,
    source: str | Path,
    classes: str | Vocabulary,
    out: str | Path,
    settings: VideoSettings,
    *,
    background: str = "default",
    frame_rate: Fraction | None = None,
    cancel: threading.Event | None = None,
) -> Generator[VideoProgress | VideoResult, None, None]:
    """Label a clip frame by frame: VideoProgress after each, and last the VideoResult.

    Writes `<stem>.<method>.mp4` with the frame times and the sound of the clip, and
    `<stem>.<method>.frames.jsonl`. What was cut short leaves no file of these names.

    Args:
        engine: answers.
        source: video file or folder of pictures.
        classes: as in `Engine.segment`; may be empty beside exemplars.
        out: folder to write into.
        settings: what is asked.
        background: as in `Engine.segment`.
        frame_rate: frames a second of a folder; None takes 25.
        cancel: set it to stop after the frame at work.

    Raises:
        VideoError: if the clip cannot be used or a file not be written.
        ValueError: as `Engine.segment`.
        Cancelled: if `cancel` was set.
    """
    source = Path(source)
    vocabulary = asked_vocabulary(classes, [box.name for box in settings.exemplars], background)
    info = inspect_clip(source, frame_rate)
    stem = f"{photo_stem(source.stem)}.{photo_stem(settings.method, 40)}"
    video, report = Path(out) / f"{stem}.mp4", Path(out) / f"{stem}.frames.jsonl"
    run = _Run(info.frames)
    run.notes.update(dict.fromkeys(vocabulary.notes))
    part = report.with_name(f".{report.name}.part")
    try:
        report.parent.mkdir(parents=True, exist_ok=True)
        with mp4_writer(video, info) as write, part.open("w", encoding="utf-8") as lines:
            for frame in read_frames(info):
                stop_if_cancelled(cancel)
                yield _frame(engine, frame, vocabulary, settings, run, write, lines, info)
            if not run.frames:
                raise VideoError(f'"{source.name}" holds no frame that can be read.')
        part.replace(report)
    except OSError as error:
        raise VideoError(f"Cannot write into {report.parent}: {error.strerror or error}.") from error
    finally:
        if part.exists():
            part.unlink()
    yield _result(run, video, report)


def _frame(
    engine: Engine,
    frame: Frame,
    vocabulary: Vocabulary,
    settings: VideoSettings,
    run: _Run,
    write: WriteFrame,
    lines: IO[str],
    info: ClipInfo,
) -> VideoProgress:
    """Label one frame and write it."""
    result = _asked(engine, frame, vocabulary, settings, run)
    labels, summaries = _quiet(engine, result, frame, settings, run)
    picture = paint(frame.pixels, labels, result.label_map.color_table, settings.opacity)
    write(picture, frame.time)
    if not run.frames:
        _write_line(lines, _head(result, info, settings))
    _write_line(lines, _line(frame, summaries))
    run.frames += 1
    run.unreadable += frame.unreadable
    run.flicker.add(labels, frame.pixels)
    run.notes.update(dict.fromkeys((*result.vocabulary.notes, *result.notes)))
    return VideoProgress(run.frames, run.total, _left(run), labels, picture)


def _asked(
    engine: Engine, frame: Frame, vocabulary: Vocabulary, settings: VideoSettings, run: _Run
) -> Result:
    """The engine's answer, or the last one again where nothing changed."""
    photo = Photo(frame.pixels, f"frame-{frame.number}")
    if run.last is not None and run.last[0].key == photo.key:
        run.repeated += 1
        return run.last[1]
    started = time.perf_counter()
    result = engine.segment(
        photo,
        vocabulary,
        method=settings.method,
        encoder=settings.encoder,
        refiner=settings.refiner,
        options=settings.options,
        exemplars=settings.exemplars,
        side=1 if settings.smoothing.weight else None,  # labels come from the average (`_quiet`)
    )
    run.engine_seconds += time.perf_counter() - started
    run.last = (photo, result)
    return result


def _quiet(
    engine: Engine, result: Result, frame: Frame, settings: VideoSettings, run: _Run
) -> tuple[NDArray[np.integer], tuple[ClassSummary, ...]]:
    """Labels and legend of a frame, smoothed over those before it where that is asked for."""
    if not settings.smoothing.weight:
        return result.labels, result.classes
    evidence, scale = result.evidence, result.preset.scale
    run.remembered = remember(run.remembered, evidence, scale, frame.pixels, settings.smoothing)
    smooth = as_evidence(run.remembered, result.vocabulary, evidence.image_size)
    calibrated = engine.method_specs[result.method].calibrate(smooth, result.options)
    labelled = label(calibrated, result.preset, evidence.image_size)
    return labelled.label_map.labels, labelled.classes


def _left(run: _Run) -> float | None:
    if run.total is None:
        return None
    pace = (time.perf_counter() - run.started) / run.frames
    return max(0, run.total - run.frames) * pace


def _head(result: Result, info: ClipInfo, settings: VideoSettings) -> dict[str, Any]:
    """First line of the report: what holds for all frames."""
    height, width = info.size
    return {
        "schema": SCHEMA,
        "source": info.path.name,
        "image": {"width": width, "height": height},
        "frame_rate": float(info.rate),
        "method": result.method,
        "encoder": result.encoder,
        "weights": {name: {"sha256": digest} for name, digest in result.weights.items()},
        "preset": asdict(result.preset),
        "refiner": result.refiner,
        "options": dict(result.options),
        "smoothing": asdict(settings.smoothing),
        "vocabulary": {
            "classes": [list(names) for names in result.vocabulary.classes],
            "other": list(result.vocabulary.other),
        },
        "exemplars": [{"name": name, "photo_sha256": digest} for name, digest in result.exemplars],
        "colors": result.label_map.color_table.tolist(),
    }


def _line(frame: Frame, summaries: tuple[ClassSummary, ...]) -> dict[str, Any]:
    """One frame of the report: classes that are in it."""
    return {
        "frame": frame.number,
        "seconds": round(float(frame.time), 6),
        "classes": [
            {
                "id": summary.label,
                "name": summary.names[0],
                "area_share": summary.area_share,
                "mean_score": summary.mean_score,
            }
            for summary in summaries
            if summary.area_share
        ],
    }


def _write_line(lines: IO[str], document: Mapping[str, Any]) -> None:
    text = json.dumps(document, ensure_ascii=False, allow_nan=False)
    lines.write(text.encode("utf-8", "backslashreplace").decode("utf-8") + "\n")


def _result(run: _Run, video: Path, report: Path) -> VideoResult:
    notes = list(run.notes)
    if run.unreadable:
        notes.append(f"{run.unreadable} frames could not be read; the frame before each stays on the screen.")
    seconds = time.perf_counter() - run.started
    return VideoResult(
        video, report, run.frames, seconds, run.engine_seconds, run.flicker.share, tuple(notes)
    )


def last_result(events: Collection[VideoProgress | VideoResult]) -> VideoResult:
    """The VideoResult at the end of what `segment_video` yields.

    Raises:
        ValueError: if there is none.
    """
    results = [event for event in events if isinstance(event, VideoResult)]
    if not results:
        raise ValueError("the clip was not done")
    return results[-1]
