"""What is outside the intersection: every wrong pixel of a class is one of six kinds.

Bernhard et al., "What's Outside the Intersection? Fine-grained Error Analysis for Semantic Segmentation
Beyond IoU" (WACV 2024), from its definition. For one class, right pixels are in the answer and in the truth
(kept), or in neither (left out). A wrong pixel is a false positive (extra) or a false negative (missed), and

    boundary  where both kinds of right pixels lie within 1 % of the photo's diagonal, and the connected piece
              of such wrong pixels touches both kinds;
    extent    otherwise, where its connected piece of the answer (extra) or of the truth (missed) holds a
              right pixel: an object that was found and drawn too large or too small;
    segment   otherwise: a piece that has nothing to do with the truth, or that was not found at all.

Distances are of the square kind (chessboard), as the bands of Boundary IoU are, and pieces touch by corners
too. Pixels whose truth is not known are no errors. Benchmarks leave an unknown rim between things, so pieces
of boundary errors may run through unknown pixels that are as near to both kinds, and a piece of an answer
through any unknown pixel.

Counts of the kinds add up to truth + answer - 2 * right, photo by photo and over photos. Each kind divided by
the class's union is what it costs in IoU: IoU and the six costs of a class sum to 1.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Literal

import numpy as np
import scipy  # type: ignore[import-untyped]
from numpy.typing import NDArray

from ovs_core.metrics.boundary import boundary_width
from ovs_core.metrics.confusion import Counts, Known, Labels, mean_without_nan
from ovs_core.metrics.parts import TOUCHING, Box, boxes_of

NEAR = 0.01  # of the photo's diagonal

ErrorType = Literal[
    "extra_boundary", "extra_extent", "extra_segment", "missed_boundary", "missed_extent", "missed_segment"
]
ERROR_TYPES: tuple[ErrorType, ...] = (
    *("extra_boundary", "extra_extent", "extra_segment"),
    *("missed_boundary", "missed_extent", "missed_segment"),
)
"""False positives by kind, then false negatives, in the order of every count."""

REMEDIES: Mapping[ErrorType, str] = MappingProxyType(
    {
        "extra_boundary": "refine the edges (PAMR, SAM)",
        "extra_extent": "raise the threshold, or give the neighbouring ground a name",
        "extra_segment": "drop the word, or type what is really there beside it",
        "missed_boundary": "refine the edges (PAMR, SAM)",
        "missed_extent": "lower the threshold",
        "missed_segment": "add synonyms",
    }
)
"""What a person can do about each."""

_Map = NDArray[np.uint8]
_Mask = NDArray[np.bool_]


def typed_errors(
    truth: Labels, answer: Labels, classes: int, known: Known | None = None
) -> tuple[Counts, _Map]:
    """Errors by kind, counted and as a map; arguments as `confusion`.

    A wrong pixel is missed by one class and extra in another. The map shows what its true class misses; where
    the truth is other (0), what the answered class has too much.

    Returns:
        Wrong pixels of each class by kind, (6, classes), rows as `ERROR_TYPES`. Kind of each wrong pixel as a
        place in `ERROR_TYPES` from 1, 0 where nothing is wrong, (H, W).
    """
    counts = np.zeros((len(ERROR_TYPES), classes), np.int64)
    shown = np.zeros(truth.shape, np.uint8)
    for label, box, kinds in _kinds_by_class(truth, answer, known):
        counts[:, label] = np.bincount(kinds.ravel(), minlength=len(ERROR_TYPES) + 1)[1:]
        if label:
            here, missed = shown[box], kinds > len(ERROR_TYPES) // 2
            take = missed | ((kinds > 0) & (truth[box] == 0))
            here[take] = kinds[take]
    return counts, shown


def error_types(truth: Labels, answer: Labels, classes: int, known: Known | None = None) -> Counts:
    """The counts of `typed_errors`."""
    return typed_errors(truth, answer, classes, known)[0]


def error_map(truth: Labels, answer: Labels, known: Known | None = None) -> _Map:
    """The map of `typed_errors`."""
    classes = 1 + max(int(truth.max(initial=0)), int(answer.max(initial=0)))
    return typed_errors(truth, answer, classes, known)[1]


def iou_cost(total: NDArray[np.number]) -> NDArray[np.float64]:
    """What each kind costs in IoU, (..., 6, classes), from counts (..., 9, classes): margins, then kinds.

    NaN for classes that are not in the truth.
    """
    right, truth, answer = np.moveaxis(total[..., :3, :].astype(np.float64), -2, 0)
    kinds = total[..., 3:, :].astype(np.float64)
    union, counted = ((truth + answer - right)[..., None, :], (truth > 0)[..., None, :])
    return np.divide(
        kinds, union, out=np.full_like(kinds, np.nan), where=np.broadcast_to(counted, kinds.shape)
    )


def mean_iou_cost(total: NDArray[np.number]) -> NDArray[np.float64]:
    """What each kind costs in mean IoU over the classes in the truth, (..., 6); with mIoU they sum to 1."""
    return mean_without_nan(iou_cost(total))


def _kinds_by_class(truth: Labels, answer: Labels, known: Known | None) -> Iterator[tuple[int, Box, _Map]]:
    """Every class with errors, a box that holds them, and the kind of each pixel there (0 = no error)."""
    near = boundary_width((truth.shape[0], truth.shape[1]), NEAR)
    counted = np.ones(truth.shape, bool) if known is None else known
    wrong = (truth != answer) & counted
    places = [dict(boxes_of(labels)) for labels in (truth, answer)]
    for label in np.unique(np.concatenate([truth[wrong], answer[wrong]])).tolist():
        box = _around([boxes[label] for boxes in places if label in boxes], near + 1, truth.shape)
        yield label, box, _kinds(truth[box] == label, answer[box] == label, counted[box], near)


def _around(boxes: list[Box], margin: int, shape: tuple[int, ...]) -> Box:
    """The box that holds all these with a margin, inside the picture."""
    rows, columns = (
        slice(
            max(0, min(box[axis].start for box in boxes) - margin),
            min(shape[axis], max(box[axis].stop for box in boxes) + margin),
        )
        for axis in (0, 1)
    )
    return rows, columns


def _kinds(truth: _Mask, answer: _Mask, known: _Mask, near: int) -> _Map:
    """Kinds of one class's errors in its box."""
    kept, left_out = truth & answer & known, ~truth & ~answer & known
    nowhere = np.zeros(truth.shape, bool)
    # Most classes of a noisy answer have no right pixel: all their errors are segments.
    by_both = _within(kept, near) & _within(left_out, near) if kept.any() else nowhere
    kinds = np.zeros(truth.shape, np.uint8)
    for first, wrong, piece_of in ((1, answer & ~truth & known, answer), (4, truth & ~answer & known, truth)):
        if not wrong.any():
            continue
        boundary = extent = nowhere
        if kept.any():
            edge, _ = scipy.ndimage.label((wrong | ~known) & by_both, TOUCHING)
            boundary = wrong & _touched(edge, kept) & _touched(edge, left_out)
            pieces, _ = scipy.ndimage.label(piece_of, TOUCHING)
            extent = wrong & ~boundary & _listed(pieces, np.unique(pieces[kept]))
        kinds[boundary], kinds[extent], kinds[wrong & ~boundary & ~extent] = first, first + 1, first + 2
    return kinds


def _within(mask: _Mask, distance: int) -> _Mask:
    """Pixels whose square of side 2 * distance + 1 holds a pixel of the mask."""
    return scipy.ndimage.maximum_filter(mask.view(np.uint8), 2 * distance + 1, mode="constant").view(bool)


def _touched(pieces: NDArray[np.int32], mask: _Mask) -> _Mask:
    """Pixels of pieces (numbered from 1) that touch the mask."""
    return _listed(pieces, np.unique(pieces[_within(mask, 1)]))


def _listed(pieces: NDArray[np.int32], numbers: NDArray[np.int32]) -> _Mask:
    """Pixels of the pieces with these numbers; 0 is no piece."""
    chosen = np.zeros(int(pieces.max(initial=0)) + 1, bool)
    chosen[numbers] = True
    chosen[0] = False
    return chosen[pieces]
