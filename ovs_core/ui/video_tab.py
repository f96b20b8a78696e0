"""Video: a clip labelled frame by frame; the newest frame as it comes, then clip and report as files."""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
from numpy.typing import NDArray

from ovs_core.engine import Cancelled, Engine
from ovs_core.image import display_copy
from ovs_core.ui.asking import Question, asked_words
from ovs_core.ui.boxes import exemplars_of
from ovs_core.ui.inputs import InputPanel
from ovs_core.ui.offered import method_choices, method_infos, method_update
from ovs_core.ui.option_fields import declared_only
from ovs_core.ui.pictures import MOST_BYTES, sent_file
from ovs_core.ui.places import without_places
from ovs_core.ui.runs import RunBar, Step, run_bar, status_line, wire
from ovs_core.ui.words import STOPPED, Status
from ovs_core.video.segment import VideoProgress, VideoResult, VideoSettings, segment_video
from ovs_core.video.smoothing import Smoothing

NO_CLIP = "Choose a clip first: drop a video file on the field above."
CLIP_GONE = "This clip was not uploaded here by you, or is no longer kept: choose it again."
CLIP_LABEL = f"Clip, up to {MOST_BYTES // 1_000_000} MB"
PREVIEW_SIDE = 768  # longer side of the newest frame, in pixels
PREVIEW_SECONDS = 0.5  # between two previews: sending each would cost more than some frames do
SUFFIXES = (".avi", ".gif", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".ts", ".webm")

Shown = tuple[NDArray[np.uint8] | None, list[str]]
"""The newest frame with its labels, and paths of finished files."""


def video_steps(
    engine: Engine,
    token: threading.Event | None,
    clip: str | None,
    question: Question,
    method: str,
    smoothing: Smoothing,
    out: Path,
) -> Iterator[tuple[Status, Shown | None]]:
    """Label a clip, with progress as sentences; no gradio here.

    Args:
        engine: answers.
        token: set to stop.
        clip: path of the uploaded file, None if there is none, "" for one that may not be opened.
        question: words, boxes, encoder and options; its photo is looked at for boxes alone.
        method: registry name.
        smoothing: how quiet.
        out: folder to write into.
    """
    if not clip or not Path(clip).is_file():
        yield Status(NO_CLIP if clip is None else CLIP_GONE, "error"), None
        return
    try:
        vocabulary = asked_words(question.classes or "", question.background, question.boxes)
        options = declared_only(engine, method, question.encoder, question.refiner, question.options)
        boxes = exemplars_of(question.boxes)
        settings = VideoSettings(
            method, question.encoder, question.refiner, options, smoothing, exemplars=boxes
        )
        last_shown = 0.0
        for event in segment_video(engine, clip, vocabulary, out, settings, cancel=token):
            if isinstance(event, VideoResult):
                yield _done(event), (None, [str(event.video), str(event.report)])
                return
            shown: Shown | None = None
            if time.monotonic() - last_shown > PREVIEW_SECONDS:
                last_shown = time.monotonic()
                shown = display_copy(event.picture, PREVIEW_SIDE), []
            yield progress_status(event), shown
    except Cancelled:
        yield Status(STOPPED, "warning"), None
    except ValueError as error:
        yield Status(without_places(str(error), engine.store), "error"), None


def progress_status(progress: VideoProgress) -> Status:
    """Say how many frames are done and how long the others will take."""
    if not progress.total:
        return Status(f"{progress.done} frames done", "busy")
    total = max(progress.total, progress.done)
    left = "" if progress.seconds_left is None else f", {_duration(progress.seconds_left)} left"
    return Status(f"Frame {progress.done} of {total}{left}", "busy", progress.done / total)


def _duration(seconds: float) -> str:
    """Seconds as a person says them."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{round(seconds / 60)} min"


def _done(result: VideoResult) -> Status:
    pace = result.frames / result.seconds if result.seconds else 0.0
    text = f"{result.frames} frames done, {pace:.1f} a second."
    if result.flicker is not None:
        text += f" Flicker: {result.flicker:.2%} of unmoved pixels change their label from frame to frame."
    return Status(" ".join((text, *result.notes)))


def video_tab(engine: Engine, inputs: InputPanel) -> None:
    """Lay out the tab and connect it."""
    infos = method_infos(engine, inputs.encoder.value)
    choices = method_choices(infos)
    with gr.Row(elem_classes="ovs-run", equal_height=False):
        clip = sent_file(
            gr.File(
                label=CLIP_LABEL, file_types=list(SUFFIXES), type="filepath", elem_id="video-clip", height=110
            )
        )
        method = gr.Dropdown(
            choices, value=choices[0][1] if choices else None, label="Method", elem_id="video-method"
        )
        start, stop = run_bar("Label the clip", "video")
    with gr.Row(equal_height=False):
        weight = gr.Slider(
            0,
            0.95,
            0.5,
            step=0.05,
            label="Smoothing",
            info="How much the frames before count; 0 labels every frame alone.",
            elem_id="video-smoothing",
        )
        along = gr.Checkbox(
            False,
            label="Follow motion",
            info="Carry what was before along with what moves.",
            elem_id="video-along-motion",
        )
    status, token = status_line("video")
    newest = gr.Image(
        label="Newest frame",
        alt_text="The newest frame, labelled",
        format="jpeg",
        interactive=False,
        visible=False,
        elem_id="video-newest",
        buttons=["fullscreen"],
    )
    files = gr.File(label="Labelled clip and report", interactive=False, visible=False, elem_id="video-files")

    def work(token: threading.Event, *values: Any) -> Iterator[Step]:
        *asked, path, chosen, quiet, follow = values
        with tempfile.TemporaryDirectory(prefix="ovs-lens-video-") as folder:
            try:
                question = inputs.question(asked)
                smoothing = Smoothing(float(quiet), bool(follow))
            except ValueError as error:
                yield Status(str(error), "error"), None
                return
            steps = video_steps(engine, token, path, question, chosen, smoothing, Path(folder))
            for status, shown in steps:
                yield status, None if shown is None else _updates(shown)

    wire(
        RunBar(start, stop, status, token),
        work,
        [*inputs.components, clip, method, weight, along],
        [newest, files],
    )
    gr.on(
        inputs.offer_changes,
        lambda encoder, wanted: method_update(method_infos(engine, encoder), wanted),
        [inputs.encoder, method],
        [method],
        queue=False,
        show_progress="hidden",
        api_visibility="private",
    )


def _updates(shown: Shown) -> tuple[Any, ...]:
    picture, files = shown
    newest = gr.skip() if picture is None else gr.update(value=picture, visible=True)
    return newest, gr.update(value=files or None, visible=bool(files))
