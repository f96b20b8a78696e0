"""An answer as `supervision.Detections`, for its annotators, trackers, zones and converters."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ovs_core.export.answered import Answered
from ovs_core.metrics.parts import Box, boxes_of, connected_parts

if TYPE_CHECKING:
    import supervision as sv


def to_detections(result: Answered, *, parts: bool = False) -> sv.Detections:
    """One detection per class that won pixels, or per connected part of one; "other" is none.

    Args:
        result: an answer.
        parts: tell connected parts apart (8-connected); a row is then one of them.

    Returns:
        `xyxy` (N, 4) in pixels, right and lower end excluded; `mask` (N, H, W) bool; `class_id` (N,),
        k = k-th class as typed; `confidence` (N,), mean probability of the class over the row's pixels, in
        [0, 1]; `data["class_name"]` (N,).
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="OpenCV")  # nothing here needs it
        import supervision as sv  # only those who ask for it wait for it

    names = {entry.label: entry.names[0] for entry in result.classes}
    numbers, owner = _rows(result, parts)
    if not owner:
        empty = sv.Detections.empty()
        empty.data["class_name"] = np.empty(0, dtype=np.str_)
        return empty
    boxes = dict(boxes_of(numbers))
    masks = np.stack([numbers == row for row in range(1, len(owner) + 1)])
    confidence = result.confidence.astype(np.float32)
    return sv.Detections(
        xyxy=np.array([_corners(boxes[row]) for row in range(1, len(owner) + 1)], np.float32),
        mask=masks,
        confidence=np.array([confidence[mask].mean() for mask in masks], np.float32),
        class_id=np.array(owner),
        data={"class_name": np.array([names[label] for label in owner])},
    )


def _rows(result: Answered, parts: bool) -> tuple[NDArray[np.integer], list[int]]:
    """Number of the row that each pixel belongs to, (H, W), 0 = none; label of each row."""
    if parts:
        numbers, labels = connected_parts(result.labels, known=result.labels > 0)
        return numbers, labels.tolist()
    labels = np.unique(result.labels[result.labels > 0])
    row = np.zeros(int(result.labels.max(initial=0)) + 1, np.int32)
    row[labels] = np.arange(1, len(labels) + 1)
    return row[result.labels], labels.tolist()


def _corners(box: Box) -> tuple[int, int, int, int]:
    rows, columns = box
    return columns.start, rows.start, columns.stop, rows.stop
