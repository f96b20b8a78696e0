"""Segment: one method, one label map, sliders that answer without a model, files to take away."""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from html import escape
from typing import Any
from zlib import crc32

import gradio as gr

from ovs_core.engine import Engine, MethodInfo, Result
from ovs_core.methods import DEFAULT_METHOD
from ovs_core.options import Options
from ovs_core.ui.answer import Answer, relabelled
from ovs_core.ui.answer_words import WordFields, maps_html, switched, word_fields, words_html
from ovs_core.ui.asking import Question, answers
from ovs_core.ui.downloads import downloads
from ovs_core.ui.edit_panel import edit_panel
from ovs_core.ui.edit_steps import would_lose
from ovs_core.ui.inputs import InputPanel
from ovs_core.ui.offered import (
    chosen_method,
    method_choices,
    method_infos,
    method_update,
    unavailable_html,
)
from ovs_core.ui.option_fields import quick_options, quick_sliders, slider_values
from ovs_core.ui.pictures import DISPLAY_SIDE, SLIDER_SIDE, base_picture, overlay_update
from ovs_core.ui.runs import STATE_SECONDS, RunBar, Step, clamped, run_bar, settled, status_line, wire
from ovs_core.ui.segment_views import (
    PLAIN,
    Look,
    LookBar,
    formats_update,
    has_masks,
    look_bar,
    looked_at,
)
from ovs_core.ui.suggestions import suggestion_steps
from ovs_core.ui.truth import MEASURED_SIDE, TRUTH_GONE, TruthFiles, measured_copy, truth_html
from ovs_core.ui.words import NOTHING_WON, Status, class_table, is_empty, note_html, seconds_text, status_html

HINT = (
    '<div class="ovs-hint">Choose a photo, type what to look for, press Segment.<br>'
    "The labelled photo appears here.</div>"
)
OPACITY_JS = "(v) => { document.documentElement.style.setProperty('--ovs-opacity', v); }"


@dataclass(frozen=True)
class ResultPanel:
    """Where a result is shown, in the order of `shown_result`."""

    picture: gr.AnnotatedImage
    words: WordFields
    summary: gr.HTML
    table: gr.HTML
    details: gr.HTML

    @property
    def components(self) -> list[Any]:
        """Components in the order of `shown_result`."""
        return [self.picture, self.words.chips, self.summary, self.table, self.details]


def segment_steps(
    engine: Engine,
    token: threading.Event | None,
    question: Question,
    method: str,
    options: Options | None = None,
) -> Iterator[tuple[Status, Answer | None]]:
    """Answer a question with one method; progress first, then the answer, or a sentence saying why not."""
    try:
        request = replace(question.request(engine, method, options), side=DISPLAY_SIDE)
    except ValueError as error:
        yield Status(str(error), "error"), None
        return
    for event in answers(engine, lambda: engine.run(request, token)):
        if isinstance(event, Status):
            yield event, None
            continue
        answer = Answer(event, request.photo.name, base_picture(event.image))
        notes = " ".join((*request.photo.notes, *event.vocabulary.notes, *event.notes))
        yield _outcome(event, notes), answer


def _outcome(result: Result, notes: str) -> Status:
    if is_empty(result.classes):
        return Status(f"{NOTHING_WON} {notes}".strip(), "warning")
    return Status(f"Done in {seconds_text(result.seconds)}. {notes}".strip())


def shown_result(engine: Engine, answer: Answer | None, side: int, look: Look = PLAIN) -> list[Any]:
    """Give new values for the components of `ResultPanel`."""
    if answer is None:
        return [gr.skip()] * 5
    picture, classes, summary = looked_at(answer.base, answer.result, look, side)
    weights = ", ".join(answer.result.weights) or "none"
    return [
        overlay_update(picture),
        words_html(engine, answer.result, shares=look.kind(answer.result) is None),
        _summary_html(summary, answer.result),
        class_table(classes),
        note_html(f"{_size_text(answer.result)}Weights that made this: {weights}."),
    ]


def _size_text(result: Result) -> str:
    """Say that the page shows fewer pixels than files hold, where it does."""
    if result.photo is None:
        return ""
    (height, width), (rows, columns) = result.photo_size, result.labels.shape
    return (
        f"Labelled at {columns} x {rows} pixels for this page; files are made at the photo's own size, "
        f"{width} x {height}. "
    )


def _summary_html(summary: str, result: Result) -> str:
    """The sentence, marked with its labels: what follows the summary also follows a change of few pixels."""
    mark = crc32(result.labels.tobytes())
    return f'<div role="status" tabindex="-1" data-labels="{mark}">{note_html(summary)}</div>'


def segment_tab(engine: Engine, inputs: InputPanel) -> gr.Dropdown:
    """Lay out the tab and connect it; gives the choice of a method."""
    answer = gr.State(None, time_to_live=STATE_SECONDS)
    infos = method_infos(engine, inputs.encoder.value)
    first = chosen_method(infos, DEFAULT_METHOD)
    with gr.Row(elem_classes="ovs-run", equal_height=False):
        method = gr.Dropdown(
            method_choices(infos),
            value=first,
            label="Method",
            elem_id="method",
            scale=3,
            min_width=180,
        )
        start, stop = run_bar("Segment", "segment")
    about = gr.HTML(note_html(_description(infos, first)), padding=False)
    missing = gr.HTML(unavailable_html(infos), padding=False, elem_id="segment-missing")
    status, token = status_line("segment")
    hint = gr.HTML(HINT, padding=False, elem_id="hint")
    with gr.Column(visible=False, elem_id="result") as area:
        bar = look_bar()
        panel = _result_panel()
        with gr.Row(equal_height=False):
            with gr.Column(scale=5, min_width=280):
                sliders = _settings(engine, panel, answer, inputs, bar)
            with gr.Column(scale=6, min_width=280):
                panel.table.render()  # type: ignore[no-untyped-call]
                panel.details.render()  # type: ignore[no-untyped-call]
        by_hand = edit_panel(
            engine,
            answer,
            sliders,
            bar.inputs,
            panel.components,
            lambda new, look: shown_result(engine, new, DISPLAY_SIDE, Look(*look)),
        )
        truth = gr.HTML("", padding=False, elem_id="truth-segment")
        formats = downloads(engine, answer, sliders, bar)
    _connect_words(engine, panel, answer, sliders, bar, by_hand.area)

    # Whose the values of the sliders are: those of another method say nothing about this one.
    owner = gr.State((first, inputs.encoder.value), time_to_live=STATE_SECONDS)
    outputs = [answer, hint, area, bar.row, formats, by_hand.area, *panel.components]
    outputs += [panel.words.maps, owner, *sliders.values(), inputs.chips]

    def work(token: threading.Event, *values: Any) -> Iterator[Step]:
        *fields, method, picture, stuff, ticked, before, owner = values
        if lost := would_lose(before):
            told = replace(before, warned=True)
            yield Status(lost, "warning", answers=False), (told, *[gr.skip()] * (len(outputs) - 1))
            return
        asked, quick = fields[: -len(sliders)], fields[-len(sliders) :]
        look = Look(picture, stuff)
        try:
            question = inputs.question(asked)
            asker = (method, question.encoder)
            options = quick_options(engine, *asker, sliders, quick) if asker == owner else {}
        except ValueError as error:
            yield Status(str(error), "error"), None
            return
        if question.is_empty:
            for status, chips in suggestion_steps(engine, token, question):
                outcome = None if chips is None else (*[gr.skip()] * (len(outputs) - 1), chips)
                yield status, outcome
            return
        for status, new in segment_steps(engine, token, question, method, options):
            if new is None:
                yield status, None
                continue
            seen = [gr.update(visible=visible) for visible in (False, True, has_masks(new.result))]
            offered = formats_update(new.result, ticked)
            closed = gr.update(open=False)  # opened again, it shows the new answer
            settings = [gr.skip()] * len(sliders)
            if asker != owner:
                settings = _own_settings(engine, sliders, *asker)
            shown = (*shown_result(engine, new, DISPLAY_SIDE, look), maps_html(new.result))
            yield status, (new, *seen, offered, closed, *shown, asker, *settings, gr.skip())

    wire(
        RunBar(start, stop, status, token),
        work,
        [*inputs.components, *sliders.values(), method, *bar.inputs, formats, answer, owner],
        outputs,
        postprocess=False,  # see `overlay_update`
        tab="segment",
        asked=[*inputs.watched, method],
    )

    def described(encoder: str, name: str | None) -> str:
        return note_html(_description(method_infos(engine, encoder), name))

    def follow(encoder: str, wanted: str | None) -> list[Any]:
        infos = method_infos(engine, encoder)
        return [method_update(infos, wanted), unavailable_html(infos)]

    def beside_truth(answer: Answer | None, *values: Any) -> str:
        *quick, mask, class_list = values
        return _beside_truth(engine, answer, TruthFiles(mask, class_list), sliders, quick)

    quick: dict[str, Any] = {"show_progress": "hidden", "queue": False, "api_visibility": "private"}
    gr.on(
        [panel.summary.change, *inputs.truth.changes],
        beside_truth,
        [answer, *sliders.values(), *inputs.truth.components],
        [truth],
        js=settled([answer, *sliders.values(), *inputs.truth.components]),
        trigger_mode="always_last",
        **quick,
    )
    panel.summary.change(None, None, None, js="() => setTimeout(ovs.describe, 150)")
    method.change(described, [inputs.encoder, method], [about], **quick)
    gr.on(inputs.offer_changes, follow, [inputs.encoder, method], [method, missing], **quick)
    return method


def _connect_words(
    engine: Engine,
    panel: ResultPanel,
    answer: gr.State,
    sliders: Mapping[str, gr.Slider],
    bar: LookBar,
    by_hand: gr.Accordion,
) -> None:
    """Let a click on a word switch it off or on; what is put right by hand is opened anew on the answer."""
    outputs = [answer, by_hand, *panel.components]

    def switch(event: gr.EventData, answer: Answer | None, *values: Any) -> list[Any]:
        *quick, picture, stuff = values
        off = None if answer is None else switched(event, answer.result.evidence.excluded)
        if answer is None or off is None:
            return [gr.skip()] * len(outputs)
        asked = answer.result
        try:
            options = quick_options(engine, asked.method, asked.encoder, sliders, quick)
            new = relabelled(engine, answer, options, DISPLAY_SIDE, off)
        except ValueError as error:
            gr.Warning(escape(str(error)), title="That did not work")
            return [gr.skip()] * len(outputs)
        shown = shown_result(engine, new, DISPLAY_SIDE, Look(picture, stuff))
        return [new, gr.update(open=False), *shown]

    given = [answer, *sliders.values(), *bar.inputs]
    panel.words.chips.select(
        switch,
        given,
        outputs,
        js=clamped(given),
        postprocess=False,
        concurrency_id="edits",  # one after the other, with edits by hand
        concurrency_limit=1,
        trigger_mode="multiple",
        show_progress="hidden",
        api_visibility="private",
    )


def _beside_truth(
    engine: Engine,
    answer: Answer | None,
    files: TruthFiles,
    sliders: Mapping[str, gr.Slider],
    values: Sequence[Any],
) -> str:
    """Compare the answer as it is shown with the truth; nothing where either is missing."""
    if not files.may_be_opened:
        return status_html(Status(TRUTH_GONE, "error"))
    if answer is None or not files.given:
        return ""
    asked = answer.result
    options = quick_options(engine, asked.method, asked.encoder, sliders, values)
    shown = measured_copy(relabelled(engine, answer, options, MEASURED_SIDE).result.label_map)
    title = engine.method_specs[asked.method].title
    size = asked.evidence.image_size
    return truth_html(files, asked.image, size, asked.vocabulary, answer.name, {title: shown})


def _description(infos: Collection[MethodInfo], name: str | None) -> str:
    """Say what a method does; "" where there is none."""
    return next((info.description for info in infos if info.name == name), "")


def _result_panel() -> ResultPanel:
    """Lay out picture and summary; table and details are rendered where there is room for them."""
    return ResultPanel(
        picture=gr.AnnotatedImage(
            label="Labelled photo",
            show_label=False,
            format="png",
            elem_id="overlay",
            elem_classes="ovs-picture",
            buttons=["fullscreen"],
        ),
        words=word_fields(),
        summary=gr.HTML("", elem_id="summary", padding=False),
        table=gr.HTML("", elem_id="classes-table", padding=False, render=False),
        details=gr.HTML("", elem_id="details", padding=False, render=False),
    )


def _settings(
    engine: Engine,
    panel: ResultPanel,
    answer: gr.State,
    inputs: InputPanel,
    bar: LookBar,
) -> dict[str, gr.Slider]:
    """Lay out the sliders that re-label the last answer at once; the look is connected here, too."""
    usual = chosen_method(engine.methods(inputs.encoder.value), DEFAULT_METHOD) or DEFAULT_METHOD
    with gr.Accordion("Settings (answer at once, no model runs)", open=True, elem_id="settings"):
        sliders = quick_sliders(engine, usual, inputs.encoder.value)
        opacity = gr.Slider(
            0,
            1,
            0.65,
            step=0.05,
            label="Overlay opacity",
            info="How strongly the colours cover the photo.",
            elem_id="opacity",
        )
        reset = gr.Button("Back to the method's own settings", size="sm", elem_id="reset")

    def slide(answer: Answer | None, *values: Any, side: int = SLIDER_SIDE) -> list[Any]:
        *quick, picture, stuff = values
        if answer is None:
            return shown_result(engine, None, side)
        result = answer.result
        options = quick_options(engine, result.method, result.encoder, sliders, quick)
        return shown_result(engine, relabelled(engine, answer, options, side), side, Look(picture, stuff))

    def own(answer: Answer | None) -> list[Any]:
        if answer is None:
            return [gr.skip()] * len(sliders)
        return _own_settings(engine, sliders, answer.result.method, answer.result.encoder)

    inputs_of_slide = [answer, *sliders.values(), *bar.inputs]
    quick: dict[str, Any] = {"show_progress": "hidden", "queue": False, "api_visibility": "private"}
    fitting = clamped(inputs_of_slide)
    shown: dict[str, Any] = {"trigger_mode": "always_last", "postprocess": False, "js": fitting, **quick}
    gr.on([s.input for s in sliders.values()], slide, inputs_of_slide, panel.components, **shown)
    gr.on(
        [bar.picture.input, bar.stuff.submit, bar.stuff.blur],
        partial(slide, side=DISPLAY_SIDE),
        inputs_of_slide,
        panel.components,
        **shown,
    )
    reset.click(own, [answer], list(sliders.values()), **quick).then(
        slide, inputs_of_slide, panel.components, postprocess=False, js=fitting, **quick
    )
    opacity.input(None, [opacity], None, js=OPACITY_JS)
    return sliders


def _own_settings(
    engine: Engine, sliders: Mapping[str, gr.Slider], method: str | None, encoder: str
) -> list[Any]:
    """Sliders as they suit a method on an encoder; they stay where there is no method."""
    values = slider_values(engine, method, encoder)
    return [gr.update(**values[name]) if name in values else gr.skip() for name in sliders]
