"""The left side of the page: photo and words, shared by all tabs so that nothing typed is lost."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from ovs_core.engine import Engine
from ovs_core.folders import shipped_folder
from ovs_core.ui.asking import Question
from ovs_core.ui.boxes_panel import BoxFields, boxes_panel
from ovs_core.ui.option_fields import OptionFields, option_fields
from ovs_core.ui.pictures import photo_field
from ovs_core.ui.suggestions import connect_suggestions, suggestion_fields
from ovs_core.ui.truth import TruthFields, truth_fields
from ovs_core.vocabulary import default_background

PHOTOS = shipped_folder("assets") / "photos"


@dataclass(frozen=True)
class Example:
    """A sample photo and words that suit it."""

    file: Path
    classes: str
    title: str


@dataclass(frozen=True)
class Opening:
    """What the page opens with, "" for what is not said: a picture's path, the class box, a method."""

    photo: str = ""
    classes: str = ""
    method: str = ""


NOTHING_SAID = Opening()


@dataclass(frozen=True)
class InputPanel:
    """The shared inputs; `components` lists them, `question` makes a value of theirs.

    `arrivals` counts what came to this page's weights: whoever adds some counts on. `chips` are words that
    can be clicked into the classes.
    """

    photo: gr.Image
    classes: gr.Textbox
    background: gr.Textbox
    encoder: gr.Dropdown
    refiner: gr.Radio
    boxes: BoxFields
    options: OptionFields
    truth: TruthFields
    examples: tuple[gr.Button, ...]
    arrivals: gr.State
    more: gr.Accordion
    chips: gr.HTML

    @property
    def offer_changes(self) -> list[Any]:
        """Events after which other methods may be offered."""
        return [self.encoder.change, self.arrivals.change]

    @property
    def components(self) -> list[Any]:
        """Components whose values `question` takes."""
        return [*self.watched, self.boxes.drawn]

    @property
    def watched(self) -> list[Any]:
        """Those of the components whose changes a browser sees; one of them changes with every question."""
        fields = [self.photo, self.classes, self.background, self.encoder, self.refiner]
        return [*fields, *self.options.components, self.boxes.listed]

    def question(self, values: Sequence[Any]) -> Question:
        """The question that stands in the fields.

        Raises:
            ValueError: for an option out of range; one sentence.
        """
        photo, classes, background, encoder, refiner, *chosen, _, boxes = values
        return Question(photo, classes, background, encoder, refiner, self.options.read(chosen), boxes)


def load_examples(folder: Path = PHOTOS) -> tuple[Example, ...]:
    """Read `examples.json` in the photo folder; none if it is not there, and none without its photo."""
    index = folder / "examples.json"
    if not index.is_file():
        return ()
    entries = json.loads(index.read_text(encoding="utf-8"))
    examples = (Example(folder / entry["file"], entry["classes"], entry["title"]) for entry in entries)
    return tuple(example for example in examples if example.file.is_file())


def input_panel(
    engine: Engine,
    encoders: Sequence[tuple[str, str]],
    refiners: Sequence[tuple[str, str]],
    examples: Sequence[Example],
    *,
    choose_encoder: bool,
    opening: Opening = NOTHING_SAID,
) -> InputPanel:
    """Lay out the shared inputs.

    Args:
        engine: whose options there are fields for.
        encoders: (title, name), the first one preselected.
        refiners: the same.
        examples: photos to start from.
        choose_encoder: show the choice of an encoder.
        opening: photo and words that are there from the start.
    """
    photo = photo_field(
        value=opening.photo or None,
        label="Photo",
        sources=["upload", "clipboard"],
        height=300,
        buttons=["fullscreen"],
        elem_id="photo",
        placeholder="Drop a photo anywhere, click to choose one, or paste it",
        alt_text="The photo you chose",
    )
    classes = gr.Textbox(
        opening.classes,
        label="Classes",
        info="What to look for, in English: classes by ; or a new line, synonyms of one class by |. "
        "Enter answers, Shift+Enter is a new line.",
        placeholder="dog; grass; sky | clouds",
        lines=2,
        max_lines=8,
        elem_id="classes",
    )
    suggest, chips = suggestion_fields()
    connect_suggestions(engine, suggest, chips, photo)
    buttons = _example_buttons(examples)
    encoder = gr.Dropdown(
        choices=list(encoders),
        value=encoders[0][1],
        label="Image-text model",
        info="Of those on this machine; more can be fetched in the Models tab.",
        visible=choose_encoder,
        elem_id="encoder",
    )
    boxes = boxes_panel(photo)
    with gr.Accordion("More options", open=False, elem_id="more") as more:
        background = gr.Textbox(
            value="; ".join(default_background()),
            label="“Everything else” words",
            info="Hidden words that catch what none of your classes claims, so that one class alone works. "
            "Leave empty, or write none, to share every pixel among your classes.",
            lines=3,
            max_lines=8,
            elem_id="background",
        )
        refiner = gr.Radio(
            choices=list(refiners),
            value=refiners[0][1],
            label="Edge refinement",
            info="The guided filter and PAMR pull borders towards edges of the photo; Segment Anything draws "
            "its own, once a file of its weights is here (Models tab).",
            elem_id="refine",
        )
        options = option_fields(engine)
    truth = truth_fields()
    return InputPanel(
        photo, classes, background, encoder, refiner, boxes, options, truth, buttons, gr.State(0), more, chips
    )


def _example_buttons(examples: Sequence[Example]) -> tuple[gr.Button, ...]:
    if not examples:
        return ()
    gr.HTML('<p class="ovs-note">Or take an example:</p>', padding=False)
    with gr.Row(elem_classes="ovs-examples"):
        return tuple(_example_button(example, number) for number, example in enumerate(examples, start=1))


def _example_button(example: Example, number: int) -> gr.Button:
    button = gr.Button(example.title, icon=str(example.file), size="sm", elem_id=f"example-{number}")
    if button.icon is not None:  # else the sweep of old files takes it from the pages of the next day
        button.keep_in_cache.add(button.icon["path"])
    return button
