"""One answer of a mask method seen three ways: a class per pixel, objects and materials, objects alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import gradio as gr

from ovs_core.engine import Result
from ovs_core.evidence.segments import SegmentKind, segments_of
from ovs_core.export.files import FORMATS, MASK_FORMATS
from ovs_core.image import fitted
from ovs_core.render.segments import segment_colors, segment_names, segment_summaries
from ovs_core.types import ClassSummary
from ovs_core.ui.pictures import LabelledPicture, labelled_picture, region_picture
from ovs_core.ui.words import is_empty, summary_text
from ovs_core.vocabulary import default_stuff, thing_labels

SEMANTIC = "semantic"
KINDS: Mapping[str, SegmentKind] = MappingProxyType({"panoptic": "panoptic", "instances": "instances"})
NO_OBJECT = (
    "No mask is sure enough to be one object of your classes. The semantic picture shows the best class of "
    "every pixel."
)


@dataclass(frozen=True)
class Look:
    """How an answer is looked at.

    Attributes:
        picture: "semantic", "panoptic" or "instances"; an answer without masks has only the first.
        stuff: classes that are not counted, as typed.
    """

    picture: str = SEMANTIC
    stuff: str = "default"

    def kind(self, result: Result) -> SegmentKind | None:
        """Which segments of this result are looked at; None for its labels."""
        return KINDS.get(self.picture) if has_masks(result) else None


PLAIN = Look()


@dataclass(frozen=True)
class LookBar:
    """Where the look is chosen; `inputs` are in the order of `Look`'s fields."""

    row: gr.Row
    picture: gr.Radio
    stuff: gr.Textbox

    @property
    def inputs(self) -> list[Any]:
        """Components in the order of the fields of `Look`."""
        return [self.picture, self.stuff]


def has_masks(result: Result) -> bool:
    """Tell whether a result has objects to tell apart."""
    return result.evidence.proposals is not None


def looked_at(
    base: str, result: Result, look: Look, side: int
) -> tuple[LabelledPicture, tuple[ClassSummary, ...], str]:
    """Give picture, legend and summary sentence of a result.

    Args:
        base: path of the display copy of the photo.
        result: what was answered.
        look: how to see it.
        side: longer side of the map of labels or segments, in pixels.
    """
    kind = look.kind(result)
    if kind is None:
        summary = summary_text(result.classes, result.evidence.excluded)
        return labelled_picture(base, result, side), result.classes, summary
    things = thing_labels(result.vocabulary, look.stuff)
    segments = segments_of(result.evidence, kind, things, fitted(result.labels.shape, side))
    classes = segment_summaries(segments, result)
    names, colors = segment_names(segments, result), segment_colors(segments, result)
    summary = NO_OBJECT if is_empty(classes) else summary_text(classes, result.evidence.excluded)
    return region_picture(base, segments, names, colors), classes, summary


def look_bar() -> LookBar:
    """Lay out the choice, hidden until an answer has masks."""
    with gr.Row(visible=False, equal_height=False, elem_id="looks") as row:
        picture = gr.Radio(
            [(name.capitalize(), name) for name in (SEMANTIC, *KINDS)],
            value=SEMANTIC,
            label="Picture",
            info="Semantic: a class for every pixel. Panoptic: objects one by one, materials in one piece. "
            "Instances: objects alone. Threshold and scale change the semantic picture only.",
            elem_id="look",
            scale=5,
            min_width=280,
        )
        stuff = gr.Textbox(
            "; ".join(default_stuff()),
            label="Materials (stuff)",
            info="Classes that are not counted; also where one ends in such a word, as “blue sky”. "
            "Empty, or none: every class is counted.",
            lines=2,
            max_lines=4,
            elem_id="stuff",
            scale=6,
            min_width=280,
        )
    return LookBar(row, picture, stuff)


def formats_update(result: Result, ticked: Sequence[str]) -> Any:
    """Offer the formats that a result can be written as, ticked as before."""
    able = _able(result, FORMATS)
    return gr.update(choices=list(able), value=[name for name in ticked if name in able])


def formats_with(look: Look, result: Result, formats: Sequence[str]) -> tuple[str, ...]:
    """Give the formats for the ZIP: those ticked, and the one that is looked at."""
    kind = look.kind(result)
    return tuple(dict.fromkeys((*_able(result, formats), *([] if kind is None else [kind]))))


def _able(result: Result, formats: Sequence[str]) -> tuple[str, ...]:
    """Those of the formats that a result can be written as."""
    return tuple(name for name in formats if has_masks(result) or name not in MASK_FORMATS)
