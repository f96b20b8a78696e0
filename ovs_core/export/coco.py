"""COCO object annotations: https://cocodataset.org/#format-data."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ovs_core.export.outlines import outlines
from ovs_core.types import Result


def coco_document(result: Result, file_name: str, polygons: bool = False) -> dict[str, Any]:
    """One image, one category per class as typed, one annotation per class that won at least one pixel.

    Args:
        result: what to describe.
        file_name: of the photo, as the document names it.
        polygons: segmentation as polygons, one per region; otherwise as uncompressed run lengths.
    """
    height, width = result.labels.shape
    masks = ((k, result.labels == k) for k in np.unique(result.labels).tolist() if k)
    return {
        "info": {"description": f"OVS Lens, {result.method} on {result.encoder}", "version": "1"},
        "licenses": [],
        "images": [{"id": 1, "file_name": file_name, "width": width, "height": height}],
        "categories": [
            {"id": k, "name": name, "supercategory": ""}
            for k, name in enumerate(result.vocabulary.names, start=1)
        ],
        "annotations": [_annotation(k, mask, polygons) for k, mask in masks],
    }


def run_lengths(mask: NDArray[np.bool_]) -> list[int]:
    """COCO run lengths of a mask (H, W): column by column, outside and inside in turn, outside first."""
    flat = mask.ravel(order="F")
    turns = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    lengths: list[int] = np.diff(turns, prepend=0, append=flat.size).tolist()
    return [0, *lengths] if flat.size and flat[0] else lengths


def _annotation(k: int, mask: NDArray[np.bool_], polygons: bool) -> dict[str, Any]:
    """The annotation of one class with at least one pixel."""
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    top, left = int(rows[0]), int(columns[0])
    size = [int(columns[-1]) - left + 1, int(rows[-1]) - top + 1]
    counts = {"counts": run_lengths(mask), "size": list(mask.shape)}
    return {
        "id": k,
        "image_id": 1,
        "category_id": k,
        "iscrowd": 0,
        "area": int(mask.sum()),
        "bbox": [left, top, *size],
        "segmentation": [ring.ravel().tolist() for ring in outlines(mask)] if polygons else counts,
    }
