"""Boundary IoU: Cheng et al. 2021 (2103.16562), equation 2, for every class of a label map at once."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ovs_core.metrics.confusion import Counts, Known, Labels

BAND = 0.02  # of the photo's diagonal: the paper's own default


def boundary_width(size: tuple[int, int], part: float = BAND) -> int:
    """Pixels that `part` of the diagonal of a photo of `size` (H, W) is, at least 1."""
    return max(1, round(part * float(np.hypot(*size))))


def near_boundary(labels: Labels, width: int) -> NDArray[np.bool_]:
    """Pixels (H, W) that eroding their own class `width` times by 3 x 3 would take away.

    Those are the pixels whose square of side 2 * width + 1 reaches another class or leaves the picture. Two
    summed-area tables of label changes tell so for all classes at once.
    """
    height, width_px = labels.shape
    across = np.zeros((height + 1, width_px + 1), np.int32)
    down = np.zeros_like(across)
    across[1:, 2:] = labels[:, 1:] != labels[:, :-1]  # at x: the pair (x - 1, x)
    down[2:, 1:] = labels[1:] != labels[:-1]
    across, down = (table.cumsum(0, np.int32).cumsum(1, np.int32) for table in (across, down))
    near = np.ones(labels.shape, bool)
    if min(height, width_px) <= 2 * width:
        return near
    side = 2 * width + 1
    across_changes = _boxes(across, (side, side - 1))[:, 1:]
    down_changes = _boxes(down, (side - 1, side))[1:]
    near[width:-width, width:-width] = (across_changes + down_changes) > 0
    return near


def boundary_margins(truth: Labels, answer: Labels, classes: int, known: Known | None = None) -> Counts:
    """Margins (3, classes) of the bands along boundaries; `class_iou` makes Boundary IoU of them.

    The edge of unknown ground is a boundary of the truth. Arguments as for `confusion`.
    """
    width = boundary_width((truth.shape[0], truth.shape[1]))
    marked = truth if known is None else np.where(known, truth, classes)
    in_truth, in_answer = near_boundary(marked, width), near_boundary(answer, width)
    if known is not None:
        in_truth, in_answer = in_truth & known, in_answer & known
    both = in_truth & in_answer & (truth == answer)
    counts = (
        np.bincount(labels[where].astype(np.int64), minlength=classes)
        for labels, where in ((truth, both), (truth, in_truth), (answer, in_answer))
    )
    return np.stack(list(counts)).astype(np.int64)


def _boxes(table: NDArray[np.int32], box: tuple[int, int]) -> NDArray[np.int32]:
    """Sums over every box (rows, columns) that fits, from a summed-area table with a zero row and column."""
    rows, columns = box
    return (
        table[rows:, columns:] - table[:-rows, columns:] - table[rows:, :-columns] + table[:-rows, :-columns]
    )
