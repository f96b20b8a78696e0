"""What is declared of an intermediate quantity: what is said of it, where it comes from, how it is drawn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ovs_core.types import ViewKind

Drawing = Literal["heat", "numbered", "labels", "crops", "bars", "matrix", "words"]
"""Maps over the photo on a colour scale, as numbered areas or as labels of classes; what lies where a map is
above one half, alone on grey; numbers; words."""


@dataclass(frozen=True)
class Source:
    """Where a view comes from.

    Attributes:
        shows: the equation or the quantity, as the paper writes it; "" for the method's own rule.
        arxiv: id of the paper; "" for the method's own.
        title: of the paper; "" for the method's own.
    """

    shows: str = ""
    arxiv: str = ""
    title: str = ""


@dataclass(frozen=True)
class ViewSpec:
    """An intermediate quantity that a method can show: what is said about it, and how it is drawn.

    Attributes:
        kind: its name.
        drawing: see `Drawing`.
        heading: what it is, in plain words.
        sentence: what one sees, what bright means, which symbol of the paper it is.
        per_class: its maps come class by class, the same number for each; one class is shown at a time.
        noun: what the numbers of a "numbered" drawing count.
        most: maps, bars or rows of words that are shown.
        ranked: bars come best first; otherwise the largest ones are shown where there are too many.
        peaks: captions of maps name their largest value.
        titled: the view's own title is shown too: it says what differs from answer to answer.
        about_point: what a clicked place of the photo is good for; "" where it is good for nothing.
        special: shown in a place of its own on the page (cosines of every class, affinity of a point).
        beside: registry name of a method whose view of this kind is shown beside, on the same colour scale,
            where it can be asked; "" for none.
        source: the paper and its equation; what is left out of it is the method's own.
    """

    kind: ViewKind
    drawing: Drawing
    heading: str
    sentence: str
    per_class: bool = False
    noun: str = ""
    most: int = 24
    ranked: bool = False
    peaks: bool = True
    titled: bool = False
    about_point: str = ""
    special: bool = False
    beside: str = ""
    source: Source = Source()
