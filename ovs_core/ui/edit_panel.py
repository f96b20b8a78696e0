"""The part of the Segment tab where an answer is put right by hand."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from types import MappingProxyType
from typing import Any

import gradio as gr
from PIL import ImageColor

from ovs_core.engine import Engine
from ovs_core.engine.clicks import clicks_are_ready
from ovs_core.options import Options
from ovs_core.refine.sam.prompts import Click
from ovs_core.render.overlay import paint
from ovs_core.types import Color
from ovs_core.ui import edit_steps
from ovs_core.ui.answer import Answer
from ovs_core.ui.edit_steps import PointedObject
from ovs_core.ui.option_fields import quick_options
from ovs_core.ui.pictures import DISPLAY_SIDE, resampled_labels, shown_copy, store_png
from ovs_core.ui.places import without_places
from ovs_core.ui.runs import STATE_SECONDS, clamped
from ovs_core.ui.surface import BOX, PLACE, STROKE, Mark, drawing_surface, drawn, surface_html
from ovs_core.ui.words import note_html

Shown = Callable[[Answer, Sequence[Any]], list[Any]]
"""From an answer and the values of the look, new values for the result's components."""
ABOUT = (
    "Click or paint on the picture, or use the buttons. Files are written as you leave it; undo goes back "
    "20 steps."
)
LOOKING = "Segment Anything looks at the photo; of the same photo it does so once."
TOOLS = MappingProxyType(
    {
        **dict.fromkeys(edit_steps.ACTIONS, PLACE),
        edit_steps.PAINT: STROKE,
        edit_steps.RUB: STROKE,
        edit_steps.ROUND: BOX,
    }
)
SET_TOOL = (
    "(action) => { document.getElementById('edit-picture').dataset.tool = "
    f"{json.dumps(dict(TOOLS))}[action]; }}"
)
SET_RADIUS = "(radius) => { document.getElementById('edit-picture').dataset.radius = radius; }"
FIRST_RADIUS = 12  # of the brush, in pixels of the photo


@dataclass(frozen=True)
class EditPanel:
    """Where an answer is edited.

    Attributes:
        area: closed until a person opens it; a new answer closes it.
        picture: the labelled photo, to be drawn on.
        label, into: which class an edit is about, and which one takes it.
        note: what happened.
    """

    area: gr.Accordion
    picture: gr.HTML
    label: gr.Dropdown
    into: gr.Dropdown
    note: gr.HTML


def edit_picture(answer: Answer, pointed: PointedObject | None = None) -> str:
    """The labelled photo as it stands, to be drawn on, with the places of the object that is pointed at."""
    result = answer.result
    copy = shown_copy(result.image, DISPLAY_SIDE)
    labels = resampled_labels(result.labels, copy.shape[:2])
    picture = store_png(paint(copy, labels, result.label_map.color_table), "edit.png")
    marks = []
    if pointed is not None:
        clicks, box = pointed.prompt.clicks, pointed.prompt.box
        marks = [Mark("plus" if click.inside else "minus", (click.x, click.y)) for click in clicks]
        marks += [] if box is None else [Mark("find", box)]
    return surface_html(
        picture, result.photo_size, "The labelled photo, to be put right", PLACE, marks, FIRST_RADIUS
    )


def class_choices(answer: Answer) -> list[tuple[str, int]]:
    """Name and id of every class of an answer."""
    return [(entry.names[0], entry.id) for entry in answer.result.label_map.classes]


def edits_text(answer: Answer) -> str:
    """How much was put right so far, in one sentence."""
    count = len(answer.result.edits)
    return f"{count} edit{'' if count == 1 else 's'} by hand." if count else "As the model gave it."


def parsed_color(text: str | None) -> Color:
    """A colour as a colour field gives it: "#rrggbb" or "rgb(r, g, b)".

    Raises:
        ValueError: for anything else.
    """
    numbers = (text or "").removeprefix("rgba(").removesuffix(")").split(",")
    if len(numbers) == 4:  # some browsers give an opacity, and fractions
        return tuple(min(255, max(0, round(float(part)))) for part in numbers[:3])  # type: ignore[return-value]
    try:
        red, green, blue = ImageColor.getrgb(text or "")[:3]
    except ValueError as error:
        raise ValueError("Choose a colour.") from error
    return red, green, blue


def edit_panel(
    engine: Engine,
    answer: gr.State,
    sliders: Mapping[str, gr.Slider],
    looks: Sequence[Any],
    result: Sequence[Any],
    shown: Shown,
) -> EditPanel:
    """Lay out the panel and connect it.

    Args:
        engine: the engine.
        answer: state that holds the `Answer`.
        sliders: of the options that need no model.
        looks: components whose values `shown` takes.
        result: components that `shown` gives values for.
        shown: how an answer is shown.
    """
    with gr.Accordion("Put it right by hand", open=False, elem_id="edit") as area:
        gr.HTML(note_html(ABOUT), padding=False)
        with gr.Row(equal_height=False):
            with gr.Column(scale=6, min_width=280):
                picture = drawing_surface("edit-picture")
                note = gr.HTML("", padding=False, elem_id="edit-note")  # in sight of who taps on a phone
                with gr.Row():
                    fresh = gr.Button("Next object", size="sm", min_width=80, elem_id="edit-next")
                    back = gr.Button("Undo", size="sm", min_width=80, elem_id="edit-undo")
                    forth = gr.Button("Redo", size="sm", min_width=80, elem_id="edit-redo")
            with gr.Column(scale=5, min_width=280):
                label = gr.Dropdown([], label="Class", elem_id="edit-class")
                action = gr.Radio(
                    list(edit_steps.ACTIONS),
                    value=edit_steps.GIVE,
                    label="A click or a stroke on the picture",
                    info="Objects are found by Segment Anything, once a file of its weights is here.",
                    elem_id="edit-action",
                )
                radius = gr.Slider(
                    1,
                    200,
                    FIRST_RADIUS,
                    step=1,
                    label="Brush radius, in pixels of the photo",
                    elem_id="edit-radius",
                )
        with gr.Row(equal_height=False):
            with gr.Column(min_width=200):
                into = gr.Dropdown([], label="Merge the class into", elem_id="edit-into")
                merge = gr.Button("Merge", size="sm", elem_id="edit-merge")
            with gr.Column(min_width=200):
                name = gr.Textbox(label="New name of the class", max_lines=1, elem_id="edit-name")
                rename = gr.Button("Rename", size="sm", elem_id="edit-rename")
            with gr.Column(min_width=200):
                color = gr.ColorPicker(label="New colour of the class", elem_id="edit-color")
                recolour = gr.Button("Recolour", size="sm", elem_id="edit-recolour")
        with gr.Row(equal_height=False):
            with gr.Column(min_width=200):
                own = gr.Slider(0, 1, 0.5, step=0.01, label="The class's own threshold")
                threshold = gr.Button("Apply the threshold", size="sm", elem_id="edit-threshold")
            with gr.Column(min_width=200):
                least = gr.Number(100, label="Smallest area, in pixels", precision=0, minimum=1)
                islands = gr.Button("Drop smaller areas", size="sm", elem_id="edit-islands")
            with gr.Column(min_width=200):
                delete = gr.Button("Delete the class", size="sm", elem_id="edit-delete")

    pointed = gr.State(None, time_to_live=STATE_SECONDS)
    own_outputs = [picture, pointed, label, into, note]
    quiet: dict[str, Any] = {"show_progress": "hidden", "queue": False, "api_visibility": "private"}
    # One after the other, and none is dropped: a stroke that comes while the last one is painted waits.
    in_turn: dict[str, Any] = {
        "concurrency_id": "edits",
        "concurrency_limit": 1,
        "trigger_mode": "multiple",
        "show_progress": "hidden",
        "api_visibility": "private",
    }

    def refreshed(answer: Answer | None, sentence: str, pointed: PointedObject | None = None) -> list[Any]:
        if answer is None:
            return ["", None, gr.update(choices=[]), gr.update(choices=[]), note_html(sentence)]
        choices = gr.update(choices=class_choices(answer))
        return [edit_picture(answer, pointed), pointed, choices, choices, note_html(sentence)]

    def options_of(answer: Answer | None, values: Sequence[Any]) -> Options:
        if answer is None:
            raise ValueError(edit_steps.NO_ANSWER)
        asked = answer.result
        return quick_options(engine, asked.method, asked.encoder, sliders, values)

    def refused(error: ValueError) -> list[Any]:
        return [*[gr.skip()] * len(own_outputs), note_html(without_places(str(error), engine.store))]

    def connect(event: Any, change: Callable[..., Answer], *fields: Any) -> None:
        """Let an event change the answer: `change` takes answer, options and the values of `fields`."""

        def run(answer: Answer | None, *values: Any) -> list[Any]:
            quick, rest = values[: len(sliders)], values[len(sliders) :]
            try:
                new = change(answer, options_of(answer, quick), *rest)
            except ValueError as error:
                return refused(error)
            return [new, *refreshed(new, edits_text(new))]

        event(
            run,
            [answer, *sliders.values(), *fields],
            [answer, *own_outputs],
            js=clamped([answer, *sliders.values(), *fields]),
            **in_turn,
        ).then(render, [answer, *sliders.values(), *looks], result, postprocess=False, **quiet)

    def render(answer: Answer | None, *values: Any) -> list[Any]:
        if answer is None:
            return [gr.skip()] * len(result)
        options = options_of(answer, values[: len(sliders)])
        return shown(edit_steps.as_shown(engine, answer, options), values[len(sliders) :])

    def by(make: Callable[..., Any]) -> Callable[..., Answer]:
        """A change by the edit that some fields make."""
        return lambda answer, options, *values: edit_steps.edited(engine, answer, options, make(*values))

    connect(merge.click, by(edit_steps.merge_edit), label, into)
    connect(rename.click, by(edit_steps.rename_edit), label, name)
    connect(delete.click, by(edit_steps.delete_edit), label)
    connect(
        recolour.click,
        by(lambda label, text: edit_steps.recolour_edit(label, parsed_color(text))),
        label,
        color,
    )
    connect(islands.click, by(edit_steps.islands_edit), least)
    connect(threshold.click, by(edit_steps.threshold_edit), label, own)
    connect(back.click, lambda answer, options: edit_steps.undo(engine, answer, options))
    connect(forth.click, lambda answer, options: edit_steps.redo(engine, answer, options))

    def draw(
        event: gr.EventData,
        answer: Answer | None,
        pointed: PointedObject | None,
        action: str,
        label: int | None,
        radius: float,
        *values: Any,
    ) -> list[Any]:
        try:
            options, what = options_of(answer, values), drawn(event)
            if answer is None:
                raise ValueError(edit_steps.NO_ANSWER)
            size = answer.result.photo_size
            places = what.places(size)
            if action not in edit_steps.OBJECT:
                edit = edit_steps.drawn_edit(action, places, label, float(radius))
                new = edit_steps.edited(engine, answer, options, edit)
                return [new, *refreshed(new, edits_text(new))]
            around = what.tool == BOX
            click = None if around else Click(*places[-1], inside=action == edit_steps.PLUS)
            box = what.box(size) if around else None
            told = edit_steps.pointed_object(engine, answer, options, pointed, label, click, box)
        except ValueError as error:
            return refused(error)
        return [told.after, *refreshed(told.after, edits_text(told.after), told)]

    def looking(action: str) -> Any:
        here = action in edit_steps.OBJECT and clicks_are_ready(engine)
        return note_html(LOOKING) if here else gr.skip()

    picture.select(looking, [action], [note], **quiet)
    drawing = [answer, pointed, action, label, radius, *sliders.values()]
    picture.select(
        draw,
        drawing,
        [answer, *own_outputs],
        js=clamped(drawing),
        **in_turn,
    ).then(render, [answer, *sliders.values(), *looks], result, postprocess=False, **quiet)
    action.change(None, [action], None, js=SET_TOOL)
    radius.change(None, [radius], None, js=SET_RADIUS)

    def next_object(answer: Answer | None) -> list[Any]:
        sentence = "The next place begins another object." if answer else edit_steps.NO_ANSWER
        return refreshed(answer, sentence)

    fresh.click(next_object, [answer], own_outputs, **quiet)

    def opened(answer: Answer | None, *values: Any) -> list[Any]:
        try:
            options = options_of(answer, values)
        except ValueError as error:
            return refreshed(None, escape(str(error)))
        if answer is None:
            return refreshed(None, edit_steps.NO_ANSWER)
        current = edit_steps.as_shown(engine, answer, options)
        return refreshed(current, "")

    gr.on(
        [area.expand, *(slider.release for slider in sliders.values())],
        opened,
        [answer, *sliders.values()],
        own_outputs,
        js=clamped([answer, *sliders.values()]),
        **quiet,
    )
    return EditPanel(area, picture, label, into, note)
