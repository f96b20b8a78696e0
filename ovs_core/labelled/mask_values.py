"""What the numbers in a mask mean: tables from mask value to class, for every way benchmarks write them.

Classes are numbered as labels are: 0 = other (background), k = k-th class of the list. What a table does not
name is not known; that is a mask of its own, `known`, and not a number.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from ovs_core.types import LabelClass, LabelMap

LARGEST_VALUE = np.iinfo(np.uint16).max

# Thing ids of COCO's 1..91 that were never used; in the pixel maps every id is one lower.
_UNUSED_COCO_IDS = frozenset({12, 26, 29, 30, 45, 66, 68, 69, 71, 83, 91})
_COCO_LAST_ID = 182
# cityscapesScripts, helpers/labels.py: the labelIds of train ids 0..18.
_CITYSCAPES_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
_MASK_MODES = ("1", "L", "P", "I;16", "I;16B", "I")


@dataclass(frozen=True, eq=False)
class MaskValues:
    """Class of every mask value.

    Attributes:
        labels: (65536,) uint16, 0 where a value means no class.
        known: (65536,), False for values that mean "not known".
    """

    labels: NDArray[np.uint16]
    known: NDArray[np.bool_]

    def truth(self, mask: NDArray[np.uint16], classes: tuple[LabelClass, ...]) -> LabelMap:
        """Ground truth of a mask (H, W); labels are 0 where it is not known."""
        return LabelMap(self.labels[mask], classes, self.known[mask])

    def pairs(self) -> tuple[tuple[int, int], ...]:
        """Every known value and its class."""
        return tuple((int(value), int(self.labels[value])) for value in np.flatnonzero(self.known))


def known_pixels(truth: LabelMap) -> NDArray[np.bool_]:
    """Where the truth is known, (H, W)."""
    return np.ones(truth.shape, bool) if truth.known is None else truth.known


def mask_values(pairs: Iterable[tuple[int, int]]) -> MaskValues:
    """Table of (mask value, class) pairs; other values are not known."""
    labels, known = np.zeros(LARGEST_VALUE + 1, np.uint16), np.zeros(LARGEST_VALUE + 1, bool)
    for value, label in pairs:
        labels[value], known[value] = label, True
    return MaskValues(labels, known)


def from_zero(count: int, background: bool) -> MaskValues:
    """Values 0..count-1 are the classes ("train ids", as detectron2 wants them); there is no background."""
    del background
    return mask_values((value, value + 1) for value in range(count))


def from_one(count: int, background: bool) -> MaskValues:
    """Values 1..count are the classes; 0 is background, or not known where background is no class."""
    start = 0 if background else 1
    return mask_values((value, value) for value in range(start, count + 1))


def coco_stuff_ids(count: int, background: bool) -> MaskValues:
    """COCO-Stuff's pixel maps: official id - 1, with the holes of COCO's numbering."""
    del count, background
    return mask_values(_coco_pairs())


def coco_object_ids(count: int, background: bool) -> MaskValues:
    """The same pixel maps read for things alone: stuff is background, or not known."""
    pairs = ((value, label if label <= count else 0) for value, label in _coco_pairs())
    return mask_values((value, label) for value, label in pairs if label or background)


def cityscapes_ids(count: int, background: bool) -> MaskValues:
    """Cityscapes' labelIds; the ids that its benchmark leaves out are not known."""
    del count, background
    return mask_values((value, label) for label, value in enumerate(_CITYSCAPES_IDS, start=1))


def _coco_pairs() -> Iterable[tuple[int, int]]:
    used = (number for number in range(1, _COCO_LAST_ID + 1) if number not in _UNUSED_COCO_IDS)
    return ((number - 1, label) for label, number in enumerate(used, start=1))


def why_unreadable(error: Exception, path: Path) -> str:
    """What went wrong with a picture, without the place where it lies."""
    if isinstance(error, UnidentifiedImageError):
        return "it is no picture"
    return str(error).replace(str(path), path.name).rstrip(".")


def read_mask(path: Path, size: tuple[int, int] | None = None) -> NDArray[np.uint16]:
    """Mask values as they stand in the file, (H, W).

    Args:
        path: one channel of 1, 2, 4, 8 or 16 bits, grey or with a palette (whose colours do not matter).
        size: (H, W) of its photo; None takes any.

    Raises:
        ValueError: if the mask is missing, damaged, not one channel of whole numbers or of another size.
    """
    try:
        with Image.open(path) as picture:
            mode, packing, shape = picture.mode, _packing(picture), picture.size[::-1]
            if mode not in _MASK_MODES or (size is not None and shape != size):  # before it fills the memory
                expected = "any size" if size is None else f"{size} pixels"
                raise ValueError(
                    f"the mask {path.name} must be one 8- or 16-bit channel of {expected}, "
                    f"got {mode} {shape}."
                )
            mask = np.asarray(picture)
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"the mask {path.name} cannot be read: {why_unreadable(error, path)}.") from error
    if mask.dtype.kind == "i" and (mask.min() < 0 or mask.max() > LARGEST_VALUE):
        raise ValueError(f"the mask {path.name} must hold values in 0..{LARGEST_VALUE}.")
    return _unpacked(mask, mode, packing)


def _packing(picture: Image.Image) -> str:
    """How the file packs its values, in Pillow's words: "L;4" is grey of 4 bits, "L;I" inverted grey."""
    tiles = getattr(picture, "tile", ())
    if not tiles:
        return ""
    arguments = tiles[0][3]
    first = arguments[0] if isinstance(arguments, tuple) and arguments else arguments
    return first if isinstance(first, str) else ""


def _unpacked(mask: NDArray[np.generic], mode: str, packing: str) -> NDArray[np.uint16]:
    """Values as the file has them: Pillow stretches grey of few bits to 0..255, and turns inverted grey."""
    values = mask.astype(np.uint16)
    how = packing.partition(";")[2] if mode in ("1", "L") else ""
    largest = 1 if mode == "1" else (1 << int(how[0])) - 1 if how[:1] in ("2", "4") else 255
    if mode == "L":
        values = values // (255 // largest)
    return np.uint16(largest) - values if "I" in how else values
