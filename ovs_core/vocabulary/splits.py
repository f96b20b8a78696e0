"""Seen and unseen classes of data sets that are split for zero-shot learning.

VOC 2012, COCO-Stuff and Pascal-Context are split as MaskCLIP+ and ZegCLIP do (Cascade-CLIP uses another ten
of Context: numbers of the two are not comparable). `coco_mini` and `nyuv2` are this project's, for a few
hundred photos of things, and for materials.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True)
class Split:
    """Which classes of a data set are never learnt.

    Attributes:
        unseen: names, as the data set writes them.
        classes: how many classes there are in all, background not counted.
    """

    unseen: tuple[str, ...]
    classes: int


SPLITS: Mapping[str, Split] = MappingProxyType(
    {
        "voc": Split(("pottedplant", "sheep", "sofa", "train", "tvmonitor"), 20),
        "coco_stuff": Split(
            (
                *("cow", "giraffe", "suitcase", "frisbee", "skateboard", "carrot", "scissors", "cardboard"),
                *("clouds", "grass", "playingfield", "river", "road", "tree", "wall-concrete"),
            ),
            171,
        ),
        "context": Split(
            (
                *("cow", "motorbike", "sofa", "cat", "boat"),
                *("fence", "bird", "tvmonitor", "keyboard", "aeroplane"),
            ),
            59,
        ),
        "coco_mini": Split(
            (
                *("zebra", "giraffe", "elephant", "bear", "pizza", "donut", "laptop", "umbrella", "truck"),
                *("bed", "toilet", "suitcase", "teddy bear", "refrigerator", "broccoli"),
            ),
            80,
        ),
        "nyuv2": Split(("counter", "blinds", "curtain", "floor-mat", "ceiling", "paper", "towel"), 37),
    }
)
_PLAIN_WORDS: Mapping[str, str] = MappingProxyType(
    {
        "aeroplane": "airplane",
        "diningtable": "dining table",
        "pottedplant": "potted plant",
        "tvmonitor": "tv monitor",
        "playingfield": "playing field",
        "waterdrops": "water drops",
        "window-blind": "window blind",
        "bedclothes": "bed clothes",
    }
)


def spoken_name(name: str) -> str:
    """What to say for a data set's name: "tv monitor" for "tvmonitor", "brick wall" for "wall-brick".

    MaskCLIP words names for people, ZegCLIP takes them raw; results differ.
    """
    if name in _PLAIN_WORDS:
        return _PLAIN_WORDS[name]
    thing, mark, kind = name.partition("-")
    if not mark:
        return name
    return thing if kind in ("other", "stuff") else f"{kind} {thing}"
