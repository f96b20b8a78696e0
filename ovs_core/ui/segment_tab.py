"""Segment: one method, one label map, sliders that answer without a model, files to take away."""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from html import escape
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType
from typing import Any

import gradio as gr

from ovs_core.build import DEFAULT_METHOD
from ovs_core.engine import Engine, MethodInfo
from ovs_core.export.files import FORMATS, MASK_FORMATS, result_files, zip_result
from ovs_core.types import Result
from ovs_core.ui.asking import Question, answers
from ovs_core.ui.inputs import InputPanel
from ovs_core.ui.offered import (
    chosen_method,
    method_choices,
    method_infos,
    method_update,
    unavailable_html,
)
from ovs_core.ui.pictures import DISPLAY_SIDE, SLIDER_SIDE, base_picture, fitted, overlay_update, store
from ovs_core.ui.runs import STATE_SECONDS, RunBar, Step, run_bar, status_line, wire
from ovs_core.ui.segment_views import (
    PLAIN,
    Look,
    LookBar,
    formats_update,
    formats_with,
    has_masks,
    look_bar,
    looked_at,
)
from ovs_core.ui.words import NOTHING_WON, Status, class_table, is_empty, note_html, seconds_text

HINT = (
    '<div class="ovs-hint">Choose a photo, type what to look for, press Segment.<br>'
    "The labelled photo appears here.</div>"
)
SCALE_MAX = 200  # of the slider
NO_ANSWER = "There is nothing to save yet: press Segment first."
OPACITY_JS = "(v) => { document.documentElement.style.setProperty('--ovs-opacity', v); }"
DOWNLOADS: Mapping[str, str] = MappingProxyType(
    {"labels": "Label map PNG", "overlay": "Overlay PNG", "json": "JSON", "zip": "ZIP"}
)
ENDINGS: Mapping[str, str] = MappingProxyType(
    {"labels": ".labels.png", "overlay": ".overlay.png", "json": ".json"}
)
CLICK_LINK_JS = "() => { setTimeout(() => document.querySelector('#file-link').click(), 150); }"


@dataclass(frozen=True, eq=False)
class Answer:
    """What a browser tab remembers about its last result: enough for the sliders and the downloads.

    Attributes:
        result: as the model gave it.
        name: photo's name, used in file names.
        base: path of the display copy of the photo.
    """

    result: Result
    name: str
    base: str


@dataclass(frozen=True)
class ResultPanel:
    """Where a result is shown, in the order of `shown_result`."""

    picture: gr.AnnotatedImage
    summary: gr.HTML
    table: gr.HTML
    details: gr.HTML

    @property
    def components(self) -> list[Any]:
        """Components in the order of `shown_result`."""
        return [self.picture, self.summary, self.table, self.details]


def segment_steps(
    engine: Engine,
    token: threading.Event | None,
    question: Question,
    method: str,
    scale: float,
    threshold: float,
    switches: Collection[str] = (),
) -> Iterator[tuple[Status, Answer | None]]:
    """Answer a question with one method; progress first, then the answer, or a sentence saying why not."""
    try:
        request = question.request(engine, method, scale, threshold, switches)
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


def relabelled(engine: Engine, answer: Answer, scale: float, threshold: float, side: int | None) -> Answer:
    """Label the answer's evidence again with other settings; runs no model.

    Args:
        engine: the engine.
        answer: the answer as the model gave it.
        scale: see `Preset`.
        threshold: see `Preset`.
        side: longer side of the new label map in pixels; None for the photo's own size.
    """
    size = None if side is None else fitted(answer.result.labels.shape, side)
    return replace(answer, result=engine.relabel(answer.result, scale=scale, threshold=threshold, size=size))


def shown_result(answer: Answer | None, side: int, look: Look = PLAIN) -> list[Any]:
    """Give new values for the components of `ResultPanel`."""
    if answer is None:
        return [gr.skip()] * 4
    picture, classes, said = looked_at(answer.base, answer.result, look, side)
    weights = ", ".join(answer.result.weights) or "none"
    return [
        overlay_update(picture),
        f'<p role="status">{note_html(said)}</p>',
        class_table(classes),
        note_html(f"Weights that made this: {weights}."),
    ]


def export_file(
    engine: Engine,
    answer: Answer | None,
    scale: float,
    threshold: float,
    kind: str,
    formats: Sequence[str] = (),
    look: Look = PLAIN,
) -> str:
    """Write one file at the photo's own size with the settings as they stand, and give its path.

    Args:
        engine: the engine.
        answer: what to save.
        scale: see `Preset`.
        threshold: see `Preset`.
        kind: "labels", "overlay", "json" or "zip".
        formats: names from `FORMATS`, for the ZIP.
        look: the overlay is the picture on the page; the ZIP holds its files, too.

    Raises:
        ValueError: nothing to save yet.
    """
    if answer is None:
        raise ValueError(NO_ANSWER)
    result = relabelled(engine, answer, scale, threshold, None).result
    if kind != "zip":
        segments = look.kind(result) if kind == "overlay" else None
        ending = ENDINGS[kind] if segments is None else f".{segments}{ENDINGS[kind]}"
        files = result_files(result, answer.name, () if segments is None else (segments,), stuff=look.stuff)
        return next(store(content, name) for name, content in files if name.endswith(ending))
    with TemporaryDirectory(prefix="ovs-lens-") as folder:
        path = Path(folder) / f"{answer.name}.{result.method}.zip"
        zip_result(result, path, answer.name, formats_with(look, result, formats), stuff=look.stuff)
        return store(path.read_bytes(), path.name)


def segment_tab(engine: Engine, inputs: InputPanel) -> None:
    """Lay out the tab and connect it."""
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
    switches = gr.CheckboxGroup([], label="Optional parts of this method", elem_id="switches", visible=False)
    status, token = status_line("segment")
    hint = gr.HTML(HINT, padding=False, elem_id="hint")
    with gr.Column(visible=False, elem_id="result") as area:
        bar = look_bar()
        panel = _result_panel()
        with gr.Row(equal_height=False):
            with gr.Column(scale=5, min_width=280):
                scale, threshold = _settings(engine, panel, answer, inputs, method, bar)
            with gr.Column(scale=6, min_width=280):
                panel.table.render()  # type: ignore[no-untyped-call]
                panel.details.render()  # type: ignore[no-untyped-call]
        formats = _downloads(engine, answer, scale, threshold, bar)

    def work(token: threading.Event, *values: Any) -> Iterator[Step]:
        *asked, method, scale, threshold, switches, picture, stuff, ticked = values
        look = Look(picture, stuff)
        for status, new in segment_steps(engine, token, Question(*asked), method, scale, threshold, switches):
            if new is None:
                yield status, None
                continue
            seen = [gr.update(visible=visible) for visible in (False, True, has_masks(new.result))]
            offered = formats_update(new.result, ticked)
            yield status, (new, *seen, offered, *shown_result(new, DISPLAY_SIDE, look))

    wire(
        RunBar(start, stop, status, token),
        work,
        [*inputs.question, method, scale, threshold, switches, *bar.inputs, formats],
        [answer, hint, area, bar.row, formats, *panel.components],
        triggers=[inputs.classes.submit],
        postprocess=False,  # see `overlay_update`
    )

    def described(encoder: str, name: str | None) -> list[Any]:
        infos = method_infos(engine, encoder)
        return [note_html(_description(infos, name)), _switches_update(infos, name)]

    def follow(encoder: str, wanted: str | None) -> list[Any]:
        infos = method_infos(engine, encoder)
        settings = _own_settings(engine, chosen_method(infos, wanted), encoder)
        return [method_update(infos, wanted), unavailable_html(infos), *settings]

    quick: dict[str, Any] = {"show_progress": "hidden", "queue": False, "api_visibility": "private"}
    method.change(described, [inputs.encoder, method], [about, switches], **quick)
    gr.on(
        inputs.offer_changes,
        follow,
        [inputs.encoder, method],
        [method, missing, scale, threshold],
        **quick,
    )


def _description(infos: Collection[MethodInfo], name: str | None) -> str:
    """Say what a method does; "" where there is none."""
    return next((info.description for info in infos if info.name == name), "")


def _switches_update(infos: Collection[MethodInfo], method: str | None) -> Any:
    """Show a method's switches, all off; nothing where it has none."""
    choices = [
        (f"{name.replace('_', ' ').capitalize()}: {sentence}", name)
        for info in infos
        if info.name == method
        for name, sentence in info.switches.items()
    ]
    return gr.update(choices=choices, value=[], visible=bool(choices))


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
        summary=gr.HTML("", elem_id="summary", padding=False),
        table=gr.HTML("", elem_id="classes-table", padding=False, render=False),
        details=gr.HTML("", elem_id="details", padding=False, render=False),
    )


def _settings(
    engine: Engine,
    panel: ResultPanel,
    answer: gr.State,
    inputs: InputPanel,
    method: gr.Dropdown,
    bar: LookBar,
) -> tuple[gr.Slider, gr.Slider]:
    """Lay out the sliders that re-label the last answer at once; the look is connected here, too."""
    usual = chosen_method(engine.methods(inputs.encoder.value), DEFAULT_METHOD) or DEFAULT_METHOD
    first = engine.preset(usual, inputs.encoder.value)
    with gr.Accordion("Settings (answer at once, no model runs)", open=True, elem_id="settings"):
        threshold = gr.Slider(
            0,
            1,
            first.threshold,
            step=0.01,
            label="Threshold",
            info="A pixel whose best class is less sure than this becomes other.",
            elem_id="threshold",
        )
        scale = gr.Slider(
            1,
            SCALE_MAX,
            first.scale,
            step=1,
            label="Scale",
            info="Higher lets the best word take more of each pixel.",
            elem_id="scale",
        )
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
    sliders = [scale, threshold]

    def slide(
        answer: Answer | None,
        scale: float,
        threshold: float,
        picture: str,
        stuff: str,
        side: int = SLIDER_SIDE,
    ) -> list[Any]:
        answer = answer and relabelled(engine, answer, scale, threshold, side)
        return shown_result(answer, side, Look(picture, stuff))

    own_settings = partial(_own_settings, engine)
    quick: dict[str, Any] = {"show_progress": "hidden", "queue": False, "api_visibility": "private"}
    gr.on(
        [scale.input, threshold.input],
        slide,
        [answer, *sliders, *bar.inputs],
        panel.components,
        trigger_mode="always_last",
        postprocess=False,
        **quick,
    )
    gr.on(
        [bar.picture.input, bar.stuff.submit, bar.stuff.blur],
        partial(slide, side=DISPLAY_SIDE),
        [answer, *sliders, *bar.inputs],
        panel.components,
        trigger_mode="always_last",
        postprocess=False,
        **quick,
    )
    method.change(own_settings, [method, inputs.encoder], sliders, **quick)
    reset.click(own_settings, [method, inputs.encoder], sliders, **quick).then(
        slide, [answer, *sliders, *bar.inputs], panel.components, postprocess=False, **quick
    )
    opacity.input(None, [opacity], None, js=OPACITY_JS)
    return scale, threshold


def _own_settings(engine: Engine, method: str | None, encoder: str) -> list[Any]:
    """Scale and threshold that suit a method on an encoder; they stay where there is no method."""
    if method is None:
        return [gr.skip()] * 2
    preset = engine.preset(method, encoder)
    return [preset.scale, preset.threshold]


def _downloads(
    engine: Engine, answer: gr.State, scale: gr.Slider, threshold: gr.Slider, bar: LookBar
) -> gr.CheckboxGroup:
    """Lay out the downloads: a click makes the file, then the hidden link hands it over.

    Gives the field of further formats.
    """
    with gr.Accordion("Download", open=True, elem_id="downloads"):
        with gr.Row():
            buttons = {
                kind: gr.Button(label, size="sm", min_width=120, elem_id=f"save-{kind}")
                for kind, label in DOWNLOADS.items()
            }
        formats = gr.CheckboxGroup(
            [name for name in FORMATS if name not in MASK_FORMATS],
            value=[],
            label="Also in the ZIP",
            info="The ZIP always holds label map, overlay and JSON, and the files of the picture shown.",
            elem_id="formats",
        )
    link = gr.DownloadButton("File", elem_id="file-link", elem_classes="ovs-offstage")

    for kind, button in buttons.items():

        def make(
            answer: Answer | None,
            scale: float,
            threshold: float,
            formats: list[str],
            picture: str,
            stuff: str,
            kind: str = kind,
        ) -> str:
            try:
                return export_file(engine, answer, scale, threshold, kind, formats, Look(picture, stuff))
            except ValueError as error:
                raise gr.Error(escape(str(error)), title="Nothing to save", print_exception=False) from error

        button.click(
            make,
            [answer, scale, threshold, formats, *bar.inputs],
            [link],
            concurrency_id="files",
            concurrency_limit=2,
            api_visibility="private",
        ).success(None, None, None, js=CLICK_LINK_JS)
    return formats
