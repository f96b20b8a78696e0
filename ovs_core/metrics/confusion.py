"""Confusion matrices and what is divided from them: IoU, accuracy, means over seen and unseen classes.

Rows of a matrix are the truth, columns the answer. IoU of a class = right / (truth + answer - right), over
the pixels of the whole set. Harmonic mean of seen and unseen: Xian et al. 2018 (1707.00600).
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[np.int64]
Labels = NDArray[np.integer]
"""Class of each pixel, (H, W): 0 = other, k = k-th class."""
Known = NDArray[np.bool_]
"""False where the truth is not known, (H, W)."""
Divisor = Literal["truth", "either"]
"""Classes that a mean is over: those in the truth, or those in the truth or in an answer."""


def confusion(truth: Labels, answer: Labels, classes: int, known: Known | None = None) -> Counts:
    """Count pixels by (truth, answer), (classes, classes).

    Args:
        truth: class of each pixel in 0..classes-1.
        answer: class of each pixel in 0..classes-1, of the same shape.
        classes: how many there are, 0 included.
        known: pixels that count; None counts all.

    Raises:
        ValueError: if the shapes differ or a class is out of range.
    """
    rows, columns = _checked(truth, answer, classes, known)
    counted = np.bincount(rows * classes + columns, minlength=classes * classes)
    return counted.reshape(classes, classes)


def answered_unknown(answer: Labels, classes: int, known: Known | None) -> Counts:
    """Pixels of each class of an answer where the truth is not known, (classes,)."""
    if known is None:
        return np.zeros(classes, np.int64)
    return np.bincount(answer[~known].astype(np.int64), minlength=classes)


def margins(matrix: Counts) -> Counts:
    """Pixels of each class that are right, in the truth, in the answer, (3, classes)."""
    return np.stack([matrix.diagonal(), matrix.sum(axis=1), matrix.sum(axis=0)])


def label_margins(truth: Labels, answer: Labels, classes: int, known: Known | None = None) -> Counts:
    """Margins (3, classes) without the matrix; arguments and errors as for `confusion`."""
    rows, columns = _checked(truth, answer, classes, known)
    counts = (np.bincount(labels, minlength=classes) for labels in (rows[rows == columns], rows, columns))
    return np.stack(list(counts)).astype(np.int64)


def class_iou(total: NDArray[np.number], divisor: Divisor = "truth") -> NDArray[np.float64]:
    """IoU in [0, 1] of each class, (..., classes), from margins (..., 3, classes).

    NaN for classes that are not in the truth ("truth") or neither there nor in an answer ("either").
    """
    right, truth, answer = np.moveaxis(total.astype(np.float64), -2, 0)
    counted = truth > 0 if divisor == "truth" else truth + answer > 0
    return np.divide(right, truth + answer - right, out=np.full_like(right, np.nan), where=counted)


def mean_iou(total: NDArray[np.number], divisor: Divisor = "truth") -> NDArray[np.float64]:
    """Mean IoU in [0, 1], (...), over the classes that `class_iou` knows; NaN where there is none."""
    return mean_without_nan(class_iou(total, divisor))


def mean_without_nan(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean over the last axis without NaN; NaN where nothing else is there."""
    counted = ~np.isnan(values)
    return ratio(np.stack([np.where(counted, values, 0).sum(axis=-1), counted.sum(axis=-1)], axis=-1))


def pixel_accuracy(total: NDArray[np.number]) -> NDArray[np.float64]:
    """Share of counted pixels that are right, (...), from margins (..., 3, classes); NaN without pixels."""
    return ratio(total[..., :2, :].sum(axis=-1))


def seen_unseen(
    total: NDArray[np.number], unseen: Collection[int], divisor: Divisor = "truth"
) -> NDArray[np.float64]:
    """Mean IoU of seen classes, of unseen ones, and their harmonic mean, (3, ...).

    Args:
        total: margins (..., 3, classes).
        unseen: classes that no training saw; the others are seen, the background too.
        divisor: classes that means are over.
    """
    iou = class_iou(total, divisor)
    hidden = np.isin(np.arange(iou.shape[-1]), list(unseen))
    seen, new = (mean_without_nan(np.where(group, iou, np.nan)) for group in (~hidden, hidden))
    both = seen + new
    harmonic = np.divide(2 * seen * new, both, out=np.zeros_like(both), where=both != 0)
    return np.stack([seen, new, harmonic])


def ratio(total: NDArray[np.number]) -> NDArray[np.float64]:
    """Part / whole in [0, 1], (...), from counts (..., 2); NaN where the whole is nothing."""
    part, whole = total[..., 0].astype(np.float64), total[..., 1].astype(np.float64)
    return np.divide(part, whole, out=np.full(np.shape(whole), np.nan), where=whole > 0)


def _checked(
    truth: Labels, answer: Labels, classes: int, known: Known | None
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Classes of the counted pixels, (n,) each."""
    if truth.shape != answer.shape or (known is not None and known.shape != truth.shape):
        shapes = ", ".join(str(part.shape) for part in (truth, answer, known) if part is not None)
        raise ValueError(f"truth, answer and known must have one shape, got {shapes}")
    if known is not None:
        truth, answer = truth[known], answer[known]
    rows, columns = truth.ravel().astype(np.int64), answer.ravel().astype(np.int64)
    for labels in (rows, columns):
        if labels.size and (labels.min() < 0 or labels.max() >= classes):
            raise ValueError(
                f"truth and answer must lie in 0..{classes - 1}, got {labels.min()}..{labels.max()}"
            )
    return rows, columns
