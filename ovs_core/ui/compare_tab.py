"""Compare: several methods on the same photo and words, panels as they come, and where they disagree."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
from numpy.typing import NDArray

from ovs_core.engine import Engine, MethodInfo, Progress, Result
from ovs_core.image import display_copy
from ovs_core.methods.spec import GROUPS, Group
from ovs_core.render.disagreement import consensus_picture, disagreement_picture
from ovs_core.render.legend import percent
from ovs_core.render.overlay import OPACITY, overlay
from ovs_core.types import LabelMap
from ovs_core.ui.asking import Question, answers, askable
from ovs_core.ui.compare_words import (
    agreement_key,
    agreement_table,
    grouped,
    keep_selection,
    likeness_note,
    usual_ticks,
)
from ovs_core.ui.inputs import InputPanel
from ovs_core.ui.linked import Panel, linked_field, linked_panels
from ovs_core.ui.offered import method_choices, method_infos, unavailable_html
from ovs_core.ui.pictures import at_size, store_png, store_shown
from ovs_core.ui.runs import STATE_SECONDS, RunBar, Step, run_bar, status_line, wire
from ovs_core.ui.truth import (
    MEASURED_SIDE,
    TRUTH_GONE,
    TruthFiles,
    measured,
    measured_copy,
    measured_html,
    truth_picture,
)
from ovs_core.ui.words import Status, compare_table, legend_html, note_html, status_html, summary_text

PANEL_SIDE = 768  # longer side of a panel, in pixels
SAME_FRAME = "All look at the same photo in the same windows, each with its own scale and threshold."
NO_METHOD = "Tick at least one method to compare."


@dataclass(frozen=True, eq=False)
class Comparison:
    """What is known so far.

    Attributes:
        results: one per finished method, shrunk to panel size, in the order they came.
        disagreement: picture (h, w, 3) of where methods differ, None before the last one.
        consensus: picture (h, w, 3) of the label that most methods give, None before the last one.
        votes: how many methods give it, (h, w), None before the last one.
        share: part of the pixels on which not all agree, in [0, 1].
        photo_name: file name of the photo without the end.
        answers: labels of each result at the size in which they are compared with a truth.
        pictures: of each result, files of the app's own cache: as it is shown and as it is saved.
    """

    results: tuple[Result, ...] = ()
    disagreement: NDArray[np.uint8] | None = field(default=None)
    consensus: NDArray[np.uint8] | None = field(default=None)
    votes: NDArray[np.integer] | None = field(default=None)
    share: float = 0.0
    photo_name: str = ""
    answers: tuple[LabelMap, ...] = ()
    pictures: tuple[tuple[str, str], ...] = ()


def panel_copy(result: Result) -> Result:
    """Shrink photo and labels of a result to panel size; shares and scores stay as they are."""
    image = display_copy(result.image, PANEL_SIDE)
    return at_size(result, image)


def compare_steps(
    engine: Engine, token: threading.Event | None, question: Question, methods: Sequence[str]
) -> Iterator[tuple[Status, Comparison | None]]:
    """Answer one question with several methods, one new panel at a time, then show where they disagree.

    Of a question with boxes, methods that take none are left out, and named.
    """
    methods, note = askable(engine, question, methods)
    if not methods:
        yield Status(note or NO_METHOD, "error"), None
        return

    def ask() -> Iterator[Progress | Result]:
        photo, vocabulary = question.read(engine)
        return question.compare(engine, photo, vocabulary, methods, token, MEASURED_SIDE)

    comparison = Comparison()
    for event in answers(engine, ask, len(methods)):
        if isinstance(event, Status):
            yield event, None
            if event.kind != "busy":
                return
            continue
        result = panel_copy(event)
        drawn = overlay(result)
        comparison = Comparison(
            (*comparison.results, result),
            photo_name=Path(event.source).stem,
            answers=(*comparison.answers, measured_copy(event.label_map)),
            pictures=(*comparison.pictures, _stored(drawn, result.method)),
        )
        done = len(comparison.results)
        if done < len(methods):  # the last one comes with the verdict: a page may lose one of two at once
            yield Status(f"{done} of {len(methods)} methods done", "busy", done / len(methods)), comparison
    yield _verdict(comparison, note)


def _verdict(comparison: Comparison, note: str) -> tuple[Status, Comparison]:
    """The last step; `note` is a sentence about the question."""
    seconds = sum(sum(result.seconds.values()) for result in comparison.results)
    if len(comparison.results) < 2:
        text = f"Done in {seconds:.2f} s. Tick a second method to see where they disagree. {note}"
        return Status(text.strip()), comparison
    picture, disagreement = disagreement_picture(comparison.results)
    consensus, votes = consensus_picture(comparison.results)
    share = float((disagreement > 0).mean())
    where = f"{percent(share)} of the photo, bright in the last panel"
    text = f"Done in {seconds:.2f} s. The methods disagree on {where}."
    notes = dict.fromkeys(
        note for result in comparison.results for note in (*result.vocabulary.notes, *result.notes)
    )
    return Status(" ".join((text, *notes, note)).strip()), replace(
        comparison, disagreement=picture, consensus=consensus, votes=votes, share=share
    )


def shown_comparison(comparison: Comparison, titles: Mapping[str, str]) -> list[Any]:
    """Give new values for legend, panels, key of the two maps, and tables."""
    legend = legend_html(comparison.results[0].classes) if comparison.results else ""
    key = "" if comparison.votes is None else agreement_key(comparison.votes, len(comparison.results))
    matrix = "" if comparison.votes is None else agreement_table(comparison.results, titles)
    table = compare_table(comparison.results, titles)
    return [legend, linked_panels(compared_panels(comparison, titles)), key, table, matrix]


def compared_panels(
    comparison: Comparison, titles: Mapping[str, str], truth: LabelMap | None = None
) -> list[Panel]:
    """The photo, the answers in the order of `titles`, the truth, and what the answers have in common."""
    if not comparison.results:
        return []
    photo = comparison.results[0].image
    by_method = {
        result.method: Panel(
            result.method,
            titles[result.method],
            picture,
            f"{titles[result.method]}: {summary_text(result.classes)}",
            saved=saved,
        )
        for result, (picture, saved) in zip(comparison.results, comparison.pictures, strict=True)
    }
    panels = [Panel("photo", "Photo", store_shown(photo, "photo"), "The photo", listed=False)]
    panels += [by_method[name] for name in titles if name in by_method]
    if truth is not None:
        drawn, unknown = truth_picture(truth, photo, OPACITY)
        alt = "The truth" + (", not known in white" if unknown.any() else "")
        panels.append(_panel("truth", "Truth", drawn, alt))
    if comparison.consensus is not None and comparison.disagreement is not None:
        agree, differ = percent(1 - comparison.share), percent(comparison.share)
        alt = f"The label that most methods give; all agree on {agree} of the photo"
        panels.append(_panel("consensus", "Consensus", comparison.consensus, alt))
        alt = f"Where the methods disagree: {differ} of the photo"
        panels.append(_panel("disagreement", "Disagreement", comparison.disagreement, alt))
    return panels


def _stored(pixels: NDArray[np.uint8], name: str) -> tuple[str, str]:
    """Paths of a picture as it is shown and as it is saved."""
    return store_shown(pixels, name), store_png(pixels, f"{name}.png")


def _panel(name: str, title: str, pixels: NDArray[np.uint8], alt: str) -> Panel:
    shown, saved = _stored(pixels, name)
    return Panel(name, title, shown, alt, saved=saved)


def compare_tab(engine: Engine, inputs: InputPanel) -> None:
    """Lay out the tab and connect it."""
    infos = method_infos(engine, inputs.encoder.value)
    titles = {info.name: info.title for info in infos}
    with gr.Row(elem_classes="ovs-run", equal_height=False):
        with gr.Column(elem_id="compare-methods", scale=3, min_width=220):
            gr.HTML(note_html(SAME_FRAME), padding=False)
            ticks = [_ticks(group, members) for group, members in grouped(infos).items()]
        start, stop = run_bar("Compare", "compare")
    missing = gr.HTML(unavailable_html(infos), padding=False, elem_id="compare-missing")
    known = gr.State(infos, time_to_live=STATE_SECONDS)
    status, token = status_line("compare")
    likeness = likeness_note(infos, engine.encoder_specs[inputs.encoder.value].title)
    note = gr.HTML(likeness, padding=False, elem_id="compare-note")
    legend = gr.HTML("", padding=False, elem_id="compare-legend")
    panels = linked_field("compare-panels")
    key = gr.HTML("", padding=False, elem_id="compare-key")
    table = gr.HTML("", padding=False, elem_id="compare-table")
    matrix = gr.HTML("", padding=False, elem_id="compare-agreement")
    truth = gr.HTML("", padding=False, elem_id="truth-compare")
    shown = gr.State(None, time_to_live=STATE_SECONDS)

    def work(token: threading.Event, *values: Any) -> Iterator[Step]:
        asked, ticked = values[: -len(ticks)], values[-len(ticks) :]
        chosen = [name for name in titles if any(name in names for names in ticked)]
        try:
            question = inputs.question(asked)
        except ValueError as error:
            yield Status(str(error), "error"), None
            return
        for status, comparison in compare_steps(engine, token, question, chosen):
            yield status, None if comparison is None else (*shown_comparison(comparison, titles), comparison)

    wire(
        RunBar(start, stop, status, token),
        work,
        [*inputs.components, *ticks],
        [legend, panels, key, table, matrix, shown],
        tab="compare",
        asked=[*inputs.watched, *ticks],
    )

    def beside_truth(comparison: Comparison | None, *files: str | None) -> list[Any]:
        return _beside_truth(comparison, TruthFiles(*files), titles)

    def new_beside_truth(comparison: Comparison | None, *files: str | None) -> list[Any]:
        html, drawn = beside_truth(comparison, *files)
        return [html, drawn if TruthFiles(*files).given else gr.skip()]  # the panels came with the answer

    for triggers, compared in ((table.change, new_beside_truth), (inputs.truth.changes, beside_truth)):
        gr.on(
            triggers,
            compared,
            [shown, *inputs.truth.components],
            [truth, panels],
            trigger_mode="always_last",
            queue=False,
            show_progress="hidden",
            api_visibility="private",
        )

    def follow(encoder: str, before: tuple[MethodInfo, ...], *ticked: list[str]) -> list[Any]:
        infos = method_infos(engine, encoder)
        kept = keep_selection(infos, [name for names in ticked for name in names], before)
        updates = [
            gr.update(
                choices=method_choices(members),
                value=[info.name for info in members if info.name in kept],
                visible=any(info.available for info in members),
            )
            for members in grouped(infos).values()
        ]
        note = likeness_note(infos, engine.encoder_specs[encoder].title)
        return [*updates, unavailable_html(infos), note, infos]

    gr.on(
        inputs.offer_changes,
        follow,
        [inputs.encoder, known, *ticks],
        [*ticks, missing, note, known],
        queue=False,
        show_progress="hidden",
        api_visibility="private",
    )


def _beside_truth(comparison: Comparison | None, files: TruthFiles, titles: Mapping[str, str]) -> list[Any]:
    """Compare every answer with the truth, which has a panel of its own; neither where one is missing."""
    gone = "" if files.may_be_opened else status_html(Status(TRUTH_GONE, "error"))
    if comparison is None or not comparison.results:
        return [gone, gr.skip()]
    html, truth = gone, None
    first = comparison.results[0]
    size = first.evidence.image_size
    named = (titles[result.method] for result in comparison.results)
    answers = dict(zip(named, comparison.answers, strict=True))
    if files.given and not gone:
        try:
            compared = measured(files, size, first.vocabulary, comparison.photo_name, answers)
            html = measured_html(compared, first.image, size, first.vocabulary)
            truth = compared[0].agreement.truth
        except ValueError as error:
            html = status_html(Status(str(error), "error"))
    return [html, linked_panels(compared_panels(comparison, titles, truth))]


def _ticks(group: Group, infos: Sequence[MethodInfo]) -> gr.CheckboxGroup:
    return gr.CheckboxGroup(
        method_choices(infos),
        value=usual_ticks(infos),
        label=GROUPS[group],
        visible=any(info.available for info in infos),
        elem_id=f"compare-methods-{group}",
    )
