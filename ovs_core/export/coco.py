"""COCO object annotations: https://cocodataset.org/#format-data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ovs_core.export.answered import Answered
from ovs_core.export.numbers import class_numbers
from ovs_core.export.outlines import TOLERANCE, outlines


def coco_document(
    result: Answered, file_name: str, polygons: bool = False, tolerance: float = TOLERANCE
) -> dict[str, Any]:
    """One image, one category per class as typed, one annotation per class that won at least one pixel.

    Args:
        result: what to describe.
        file_name: of the photo, as the document names it.
        polygons: segmentation as polygons, one per region; otherwise as uncompressed run lengths.
        tolerance: of polygons, in pixels (`ovs_core.export.outlines`).
    """
    numbers = class_numbers(result)
    masks = ((k, result.labels == k) for k in np.unique(result.labels).tolist() if k)
    return document(result, file_name) | {
        "annotations": [_annotation(k, numbers[k], mask, polygons, tolerance) for k, mask in masks]
    }


def document(result: Answered, file_name: str) -> dict[str, Any]:
    """What every COCO document begins with: one image, one category per class as typed."""
    height, width = result.labels.shape
    numbers = class_numbers(result)
    return {
        "info": {"description": f"OVS Lens, {result.method} on {result.encoder}", "version": "1"},
        "licenses": [],
        "images": [{"id": 1, "file_name": file_name, "width": width, "height": height}],
        "categories": [
            {"id": numbers[entry.id], "name": entry.names[0], "supercategory": ""}
            for entry in result.label_map.classes
        ],
    }


def run_lengths(mask: NDArray[np.bool_]) -> list[int]:
    """COCO run lengths of a mask (H, W): column by column, outside and inside in turn, outside first."""
    flat = mask.ravel(order="F")
    turns = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    lengths: list[int] = np.diff(turns, prepend=0, append=flat.size).tolist()
    return [0, *lengths] if flat.size and flat[0] else lengths


def compressed(lengths: Sequence[int]) -> str:
    """Run lengths as the text that COCO calls compressed.

    From the fourth on, a length is written as its difference from the one two before it. A number becomes
    letters of five bits each, the lowest ones first, chr(48 + bits); bit 32 says that more letters follow,
    bit 16 of the last one is the sign.
    """
    letters = []
    for place, length in enumerate(lengths):
        rest = length - (lengths[place - 2] if place > 2 else 0)
        more = True
        while more:
            bits, rest = rest & 31, rest >> 5
            more = rest != (-1 if bits & 16 else 0)
            letters.append(chr(48 + bits + 32 * more))
    return "".join(letters)


def box(mask: NDArray[np.bool_]) -> list[int]:
    """Left, top, width and height in pixels of a mask (H, W) with at least one pixel."""
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    top, left = int(rows[0]), int(columns[0])
    return [left, top, int(columns[-1]) - left + 1, int(rows[-1]) - top + 1]


def _annotation(
    k: int, number: int, mask: NDArray[np.bool_], polygons: bool, tolerance: float
) -> dict[str, Any]:
    """The annotation of one class with at least one pixel."""
    if polygons:
        segmentation: Any = [ring.ravel().tolist() for ring in outlines(mask, tolerance)]
    else:
        segmentation = {"counts": run_lengths(mask), "size": list(mask.shape)}
    return {
        "id": k,
        "image_id": 1,
        "category_id": number,
        "iscrowd": 0,
        "area": int(mask.sum()),
        "bbox": box(mask),
        "segmentation": segmentation,
    }
