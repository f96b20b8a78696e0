"""Where boxes are drawn that belong to the question of every tab: find this, too, or not this."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr

from ovs_core.image import read_photo
from ovs_core.ui.asking import PHOTO_GONE
from ovs_core.ui.boxes import DrawnBox, boxes_html, drawn_box, read_corners, with_box
from ovs_core.ui.guard import NO_FILE
from ovs_core.ui.pictures import base_picture, photo_field
from ovs_core.ui.runs import STATE_SECONDS
from ovs_core.ui.surface import BOX, Mark, drawing_surface, drawn, surface_html
from ovs_core.ui.words import note_html
from ovs_core.vocabulary.exemplars import OTHER_NAME

Source = tuple[str, tuple[int, int]] | None
FIND, AVOID = "Find this", "Not this"
HERE, ELSEWHERE = "The photo", "Another photo"
ABOUT = (
    "Draw a box round something, by a drag or by a click on two opposite corners, and add it: the next "
    "answer of Segment, Compare, Inspect or Video looks for it besides your words. Named like a class that "
    "you typed, it leans that word towards it, a little; “not this” says what is not meant. Where the model "
    "knows a word well, the word alone is better."
)
NO_PHOTO = "Choose a photo to draw on."
REMOVE_JS = """element.addEventListener("click", (event) => {
  const number = event.target.closest("[data-remove]")?.dataset.remove;
  if (number) trigger("delete", { number: Number(number) });
});"""


@dataclass(frozen=True)
class BoxFields:
    """What the panel holds.

    Attributes:
        drawn: state of a tuple of `DrawnBox`.
        listed: the list of them that the page shows; it changes with them, which a browser does not see of a
            state.
    """

    drawn: gr.State
    listed: gr.HTML


def boxes_panel(photo: gr.Image) -> BoxFields:
    """Lay out the panel and connect it; `photo` is the field of the photo that is asked about."""
    boxes = gr.State((), time_to_live=STATE_SECONDS)
    source = gr.State(None, time_to_live=STATE_SECONDS)  # path and (H, W) of the upload that is drawn on
    with gr.Accordion("Find this, too: boxes", open=False, elem_id="boxes") as area:
        gr.HTML(note_html(ABOUT), padding=False)
        with gr.Row(equal_height=False):
            with gr.Column(scale=6, min_width=280):
                surface = drawing_surface("box-surface")
            with gr.Column(scale=5, min_width=280):
                where = gr.Radio([HERE, ELSEWHERE], value=HERE, label="Draw on", elem_id="box-where")
                # Shown and hidden as a whole: gradio makes a field that it changes anew, as one of its own.
                with gr.Column(visible=False, min_width=280) as elsewhere:
                    other = photo_field(
                        label="Another photo",
                        sources=["upload", "clipboard"],
                        height=140,
                        elem_id="box-photo",
                    )
                kind = gr.Radio([FIND, AVOID], value=FIND, label="What the box shows", elem_id="box-kind")
                name = gr.Textbox(
                    label="Name (may stay empty)", max_lines=1, max_length=200, elem_id="box-name"
                )
                corners = gr.Textbox(
                    label="Left, top, right, bottom, in pixels of that photo",
                    max_lines=1,
                    elem_id="box-corners",
                )
                add = gr.Button("Add the box", size="sm", elem_id="box-add")
                note = gr.HTML("", padding=False, elem_id="box-note")
                listed = gr.HTML(
                    boxes_html((), None), padding=False, elem_id="box-list", js_on_load=REMOVE_JS
                )

    quiet: dict[str, Any] = {"show_progress": "hidden", "queue": False, "api_visibility": "private"}

    def refresh(where: str, photo: str | None, other: str | None, boxes: tuple[DrawnBox, ...]) -> list[Any]:
        path = photo if where == HERE else other
        shown, note, source = "", NO_PHOTO if path is None else PHOTO_GONE, None
        if path:
            try:
                shown, size = box_surface(path, boxes)
                note, source = "", (path, size)
            except ValueError as error:
                note = str(error)
        return [
            gr.update(visible=where == ELSEWHERE),
            shown,
            source,
            note_html(note),
            boxes_html(boxes, photo),
        ]

    def changed(source: Source, photo: str | None, boxes: tuple[DrawnBox, ...]) -> list[Any]:
        if photo == NO_FILE:
            raise gr.Error(PHOTO_GONE)
        return [boxes, "" if source is None else box_surface(source[0], boxes)[0], boxes_html(boxes, photo)]

    def write_corners(source: Source, event: gr.EventData) -> Any:
        if source is None:
            return gr.skip()
        try:
            return ", ".join(f"{number:g}" for number in drawn(event).box(source[1]))
        except ValueError:
            return gr.skip()

    def add_box(
        source: Source,
        photo: str | None,
        boxes: tuple[DrawnBox, ...],
        text: str | None,
        name: str | None,
        kind: str,
    ) -> list[Any]:
        try:
            if photo == NO_FILE:
                raise ValueError(PHOTO_GONE)
            called = OTHER_NAME if kind == AVOID else name or ""
            boxes = with_box(boxes, drawn_box(source and source[0], read_corners(text), called))
        except ValueError as error:
            return [*[gr.skip()] * 4, note_html(str(error))]
        note = "1 box" if len(boxes) == 1 else f"{len(boxes)} boxes"
        note = f"{note} in the question; the next answer looks for this, too."
        return [*changed(source, photo, boxes), "", note_html(note)]

    def remove(
        source: Source, photo: str | None, boxes: tuple[DrawnBox, ...], event: gr.EventData
    ) -> list[Any]:
        number = event._data.get("number") if isinstance(event._data, dict) else None
        kept = tuple(box for place, box in enumerate(boxes, start=1) if place != number)
        return changed(source, photo, kept)

    gr.on(
        [area.expand, where.change, photo.change, other.change],
        refresh,
        [where, photo, other, boxes],
        [elsewhere, surface, source, note, listed],
        **quiet,
    )
    kept = [boxes, surface, listed]
    surface.select(write_corners, [source], [corners], **quiet)
    gr.on(
        [add.click, name.submit, corners.submit],
        add_box,
        [source, photo, boxes, corners, name, kind],
        [*kept, corners, note],
        **quiet,
    )
    listed.delete(remove, [source, photo, boxes], kept, **quiet)
    return BoxFields(boxes, listed)


def box_surface(photo: str, boxes: tuple[DrawnBox, ...]) -> tuple[str, tuple[int, int]]:
    """The surface with a photo and the boxes that lie on it, and (H, W) of the photo.

    Raises:
        ValueError: for a photo that cannot be read.
    """
    pixels = read_photo(photo).pixels
    marks = [
        Mark("avoid" if box.negative else "find", box.box, "not this" if box.negative else box.name)
        for box in boxes
        if box.photo == photo
    ]
    size = (pixels.shape[0], pixels.shape[1])
    return surface_html(base_picture(pixels), size, "The photo to draw a box on", BOX, marks), size
