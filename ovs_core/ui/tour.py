"""A guided tour in six steps, from plain CLIP to NACLIP to LDVC, on one sample photo: Inspect shows it."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr

from ovs_core.engine import Engine
from ovs_core.methods.ldvc.views import CLASS_PROBABILITY, CONTRACTION
from ovs_core.ui.inputs import PHOTOS, InputPanel
from ovs_core.ui.offered import method_infos
from ovs_core.ui.runs import STATE_SECONDS
from ovs_core.ui.words import note_html

PHOTO = PHOTOS / "temple.jpg"
WORDS = "temple | building; sky; trees"
_SCRIPT = Path(__file__).with_name("tour.js")


@dataclass(frozen=True)
class Stop:
    """One step.

    Attributes:
        method: registry name.
        view: CSS selector of what is looked at.
        title: heading.
        text: two sentences.
    """

    method: str
    view: str
    title: str
    text: str


STOPS = (
    Stop(
        "clip",
        "#hover",
        "CLIP as it is",
        "The last block gathers the photo into one vector, so every patch mixes in what lies far away. "
        "Move over the temple: the right picture shows what the patch there takes from others.",
    ),
    Stop(
        "maskclip",
        "#similarity",
        "MaskCLIP: every patch for itself",
        "Queries and keys of the last block are left out: every patch keeps its own value alone. "
        "The maps of the words become local, but nothing smooths them.",
    ),
    Stop(
        "clearclip",
        "#hover",
        "ClearCLIP: patches that ask alike",
        "Queries are compared with queries, so patches that look for the same share their values. "
        "The block's residual connection and its MLP, which serve the one vector, are dropped.",
    ),
    Stop(
        "naclip",
        "#hover",
        "NACLIP: near patches that are alike",
        "Keys are compared with keys, and a Gaussian of 5 patches round each patch is added. "
        "Move over the photo: near patches that look alike take part most, so areas are smooth.",
    ),
    Stop(
        "ldvc",
        f'[data-kind="{CLASS_PROBABILITY}"]',
        "LDVC: a decoder that was trained",
        "Prompts in both towers are learned, and a small decoder moves patches towards the words. "
        "Each map says how probable a word is on its own: a sigmoid, not parts of one whole.",
    ),
    Stop(
        "ldvc",
        f'[data-kind="{CONTRACTION}"]',
        "LDVC: how near patches and words come",
        "The bars are the mean cosine of patches with their nearest word, before and after each block: "
        "in the paper it rises, with the embedded model's own head it does not. "
        "Route attention lets a window read related windows alone: click a place of the photo to see which.",
    ),
)
ALIKE = "This model was trained through the rules of steps 1 to 4: they differ more on CLIP's own weights."


def tour_html(engine: Engine, step: int, encoder: str) -> str:
    """What a step says: heading, two sentences, and where the method is missing, why."""
    stop = STOPS[step]
    info = next(info for info in method_infos(engine, encoder) if info.name == stop.method)
    alike = any(info.alike for info in method_infos(engine, encoder)) and step < 4
    note = info.reason if not info.available else ALIKE if alike else ""
    return (
        f'<section class="ovs-tour" data-view="{escape(stop.view)}" aria-label="Guided tour">'
        f"<h2>{step + 1} of {len(STOPS)} · {escape(stop.title)}</h2>"
        f'<p role="status">{escape(stop.text)}</p>{note_html(note)}</section>'
    )


def tour_panel(engine: Engine, inputs: InputPanel, method: gr.Dropdown) -> None:
    """Lay out the button and the steps; each fills in photo, words and method, and asks."""
    begin = gr.Button(
        "Guided tour: CLIP, NACLIP, LDVC in six steps", size="sm", elem_id="tour-start", variant="secondary"
    )
    step = gr.State(0, time_to_live=STATE_SECONDS)
    with gr.Column(visible=False, elem_id="tour") as area:
        lines = gr.HTML("", padding=False, js_on_load=_SCRIPT.read_text(encoding="utf-8"))
        with gr.Row():
            back = gr.Button("Back", size="sm", min_width=80, elem_id="tour-back", interactive=False)
            forth = gr.Button("Next", size="sm", min_width=80, elem_id="tour-next")
            leave = gr.Button("End the tour", size="sm", min_width=80, elem_id="tour-end")

    def to(step: int, encoder: str) -> list[Any]:
        name = STOPS[step].method
        able = any(info.name == name and info.available for info in method_infos(engine, encoder))
        return [
            step,
            gr.update(visible=True),
            tour_html(engine, step, encoder),
            gr.update(interactive=step > 0),
            gr.update(interactive=step < len(STOPS) - 1),
            gr.update(value=name) if able else gr.skip(),
        ]

    outputs = [step, area, lines, back, forth, method]
    quiet: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
    # One after the other, and none is dropped: of two quick clicks each is a step.
    in_turn: dict[str, Any] = {
        **quiet,
        "queue": True,
        "concurrency_id": "tour",
        "concurrency_limit": 1,
        "trigger_mode": "multiple",
    }
    run: dict[str, Any] = {"fn": None, "inputs": None, "outputs": None, "js": "() => ovs.run()"}
    begin.click(
        lambda encoder: [str(PHOTO), WORDS, *to(0, encoder)],
        [inputs.encoder],
        [inputs.photo, inputs.classes, *outputs],
        **quiet,
    ).then(**run)
    for button, by in ((back, -1), (forth, 1)):

        def move(step: int, encoder: str, by: int = by) -> list[Any]:
            return to(min(max(step + by, 0), len(STOPS) - 1), encoder)

        button.click(move, [step, inputs.encoder], outputs, **in_turn).then(**run)
    leave.click(lambda: gr.update(visible=False), None, [area], **quiet)
