"""What the numbers in a mask mean: tables from mask value to class, for every way benchmarks write them.

Classes are numbered as labels are: 0 = background ("other"), k = k-th class of the list, -1 = does not count.
A table has an entry for every 16-bit value; what it does not name does not count.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

VOID = -1

Codes = NDArray[np.int16]
"""Mask value -> class, (65536,)."""

Truth = NDArray[np.int16]
"""Class of each pixel, (H, W); -1 where it does not count."""

_VALUES = 1 << 16
# Thing ids of COCO's 1..91 that were never used; in the pixel maps every id is one lower.
_UNUSED_COCO_IDS = frozenset({12, 26, 29, 30, 45, 66, 68, 69, 71, 83, 91})
_COCO_THINGS, _COCO_LAST_ID = 91, 182
# cityscapesScripts, helpers/labels.py: the labelIds of train ids 0..18.
_CITYSCAPES_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
_MASK_MODES = ("L", "P", "I;16", "I;16B", "I")


def codes(pairs: Iterable[tuple[int, int]]) -> Codes:
    """Table of (mask value, class) pairs."""
    table = np.full(_VALUES, VOID, np.int16)
    for value, label in pairs:
        table[value] = label
    return table


def from_zero(count: int, background: bool) -> Codes:
    """Values 0..count-1 are the classes ("train ids", as detectron2 wants them); there is no background."""
    del background
    return codes((value, value + 1) for value in range(count))


def from_one(count: int, background: bool) -> Codes:
    """Values 1..count are the classes; 0 is background, or does not count where background is no class."""
    start = 0 if background else 1
    return codes((value, value) for value in range(start, count + 1))


def coco_stuff_ids(count: int, background: bool) -> Codes:
    """COCO-Stuff's pixel maps: official id - 1, with the holes of COCO's numbering."""
    del count, background
    used = [number for number in range(1, _COCO_LAST_ID + 1) if number not in _UNUSED_COCO_IDS]
    return codes((number - 1, label) for label, number in enumerate(used, start=1))


def coco_object_ids(count: int, background: bool) -> Codes:
    """The same pixel maps read for things alone: stuff is background, or does not count."""
    stuff = 0 if background else VOID
    table = coco_stuff_ids(count, background)
    return np.where(table > count, stuff, table).astype(np.int16)


def cityscapes_ids(count: int, background: bool) -> Codes:
    """Cityscapes' labelIds; the ids that its benchmark leaves out do not count."""
    del count, background
    return codes((value, label) for label, value in enumerate(_CITYSCAPES_IDS, start=1))


def read_mask(path: Path, size: tuple[int, int]) -> NDArray[np.uint16]:
    """Mask values of a photo of `size` (H, W).

    Raises:
        ValueError: if the mask is missing, damaged, not one channel of whole numbers or of another size.
    """
    try:
        with Image.open(path) as picture:
            mode, mask = picture.mode, np.asarray(picture)
    except (OSError, SyntaxError) as error:
        raise ValueError(f"the mask {path.name} cannot be read: {error}.") from error
    if mode not in _MASK_MODES or mask.shape != size:
        got = f"{mode} {mask.shape}"
        raise ValueError(
            f"the mask {path.name} must be one 8- or 16-bit channel of {size} pixels, got {got}."
        )
    if mask.dtype.kind == "i" and (mask.min() < 0 or mask.max() >= _VALUES):
        raise ValueError(f"the mask {path.name} must hold values in 0..{_VALUES - 1}.")
    return mask.astype(np.uint16)
