"""Numbers from labels and truth: everything is counted in pixels first and divided last.

Counts of photos add up, so a mean over a set is one division of sums (the field's mIoU), a run can be stopped
and continued, and resampling photos needs no photo again. Rows of a confusion matrix are the truth, columns
the answer; class 0 is the background, -1 in the truth does not count.

IoU: class IoU = right / (truth + answer - right). PQ, SQ, RQ: Kirillov et al. 2019 (1801.00868), equation 1.
Boundary IoU: Cheng et al. 2021 (2103.16562), equation 2. Harmonic mean of seen and unseen: Xian et al. 2018.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[np.int64]
Divisor = Literal["truth", "either"]
"""Classes that a mean is over: those in the truth, or those in the truth or in an answer."""

BOUNDARY_SHARE = 0.02  # of the photo's diagonal: Boundary IoU's own default
MATCH_IOU = 0.5  # above it two segments match; at most one pair can (PQ, theorem 1)


@dataclass(frozen=True)
class Interval:
    """A value and its 95 % interval over photos."""

    value: float
    low: float
    high: float


def confusion(truth: NDArray[np.integer], answer: NDArray[np.integer], classes: int) -> Counts:
    """Count pixels by (truth, answer), (classes, classes).

    Args:
        truth: class of each pixel in 0..classes-1; -1 leaves a pixel out.
        answer: class of each pixel in 0..classes-1, of the same shape.
        classes: how many there are, background included.

    Raises:
        ValueError: if the shapes differ or a class is out of range.
    """
    return confusion_with_void(truth, answer, classes)[:classes]


def confusion_with_void(truth: NDArray[np.integer], answer: NDArray[np.integer], classes: int) -> Counts:
    """As `confusion`, with a last row for the pixels that do not count, (classes + 1, classes)."""
    if truth.shape != answer.shape:
        raise ValueError(f"truth and answer must have one shape, got {truth.shape} and {answer.shape}")
    rows, columns = truth.reshape(-1).astype(np.int64), answer.reshape(-1).astype(np.int64)
    if rows.size and (max(rows.max(), columns.max()) >= classes or columns.min() < 0):
        raise ValueError(f"truth and answer must lie in 0..{classes - 1}")
    rows[rows < 0] = classes
    counted = np.bincount(rows * classes + columns, minlength=classes * (classes + 1))
    return counted.reshape(classes + 1, classes)


def margins(matrix: Counts) -> Counts:
    """Pixels of each class that are right, in the truth, in the answer, (3, classes)."""
    return np.stack([matrix.diagonal(), matrix.sum(axis=1), matrix.sum(axis=0)])


def class_iou(total: NDArray[np.number], divisor: Divisor = "truth") -> NDArray[np.float64]:
    """IoU in [0, 1] of each class, (..., classes), from margins (..., 3, classes).

    NaN for classes that are not in the truth ("truth") or neither there nor in an answer ("either").
    """
    right, truth, answer = np.moveaxis(total.astype(np.float64), -2, 0)
    known = truth > 0 if divisor == "truth" else truth + answer > 0
    return np.divide(right, truth + answer - right, out=np.full_like(right, np.nan), where=known)


def mean_iou(total: NDArray[np.number], divisor: Divisor = "truth") -> NDArray[np.float64]:
    """Mean IoU in [0, 1], (...), over the classes that `class_iou` knows; NaN where there is none."""
    return mean_known(class_iou(total, divisor))


def mean_known(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean over the last axis without NaN; NaN where nothing else is there."""
    known = ~np.isnan(values)
    count = known.sum(axis=-1)
    sums = np.where(known, values, 0).sum(axis=-1)
    return np.divide(sums, count, out=np.full(count.shape, np.nan), where=count > 0)


def pixel_accuracy(total: NDArray[np.number]) -> NDArray[np.float64]:
    """Share of counted pixels that are right, (...), from margins (..., 3, classes); NaN without pixels."""
    right, truth = total[..., 0, :].sum(axis=-1, dtype=float), total[..., 1, :].sum(axis=-1, dtype=float)
    return np.divide(right, truth, out=np.full(np.shape(truth), np.nan), where=truth > 0)


def seen_unseen(total: NDArray[np.number], unseen: Collection[int]) -> NDArray[np.float64]:
    """Mean IoU of seen classes, of unseen ones, and their harmonic mean, (3, ...), over classes in the truth.

    Args:
        total: margins (..., 3, classes).
        unseen: classes that no training saw; the others are seen, the background too.
    """
    iou = class_iou(total)
    hidden = np.isin(np.arange(iou.shape[-1]), list(unseen))
    seen, new = (mean_known(np.where(mask, iou, np.nan)) for mask in (~hidden, hidden))
    both = seen + new
    harmonic = np.divide(2 * seen * new, both, out=np.zeros_like(both), where=both != 0)
    return np.stack([seen, new, harmonic])


def segment_counts(matrix: Counts, void: Counts) -> NDArray[np.float64]:
    """What one photo adds to PQ where each class is one segment: (4, classes).

    Rows: sum of IoU of matched segments, matched, only in the answer, only in the truth. As in panopticapi,
    pixels that do not count are in no union, and an unmatched answer that lies on them for more than half is
    not held against the method.

    Args:
        matrix: confusion of the photo, (classes, classes).
        void: pixels of each class of the answer where the truth does not count, (classes,).
    """
    right, truth, answer = margins(matrix).astype(np.float64)
    union = truth + answer - right
    iou = np.divide(right, union, out=np.zeros_like(right), where=union > 0)
    matched = iou > MATCH_IOU
    excused = void > 0.5 * (answer + void)
    extra = (answer + void > 0) & ~matched & ~excused
    return np.stack([np.where(matched, iou, 0), matched, extra, (truth > 0) & ~matched])


def panoptic_quality(total: NDArray[np.number]) -> NDArray[np.float64]:
    """PQ, SQ and RQ in [0, 1], (3, ...): means over classes with any segment, from (..., 4, classes)."""
    overlap, matched, extra, missed = np.moveaxis(total.astype(np.float64), -2, 0)
    segments = matched + (extra + missed) / 2
    nothing = np.full_like(overlap, np.nan)
    recognition = np.divide(matched, segments, out=nothing.copy(), where=segments > 0)
    quality = np.divide(overlap, segments, out=nothing.copy(), where=segments > 0)
    segmentation = np.where(
        segments > 0, np.divide(overlap, matched, out=np.zeros_like(overlap), where=matched > 0), np.nan
    )
    return np.stack([mean_known(one) for one in (quality, segmentation, recognition)])


def boundary_width(size: tuple[int, int]) -> int:
    """Width in pixels of the band that Boundary IoU looks at, for a photo of `size` (H, W)."""
    return max(1, round(BOUNDARY_SHARE * float(np.hypot(*size))))


def near_boundary(labels: NDArray[np.integer], width: int) -> NDArray[np.bool_]:
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


def boundary_margins(truth: NDArray[np.integer], answer: NDArray[np.integer], classes: int) -> Counts:
    """Margins (3, classes) of the bands along boundaries; `class_iou` makes Boundary IoU of them.

    Arguments as for `confusion`.
    """
    counted = truth >= 0
    width = boundary_width((truth.shape[0], truth.shape[1]))
    in_truth, in_answer = (near_boundary(one, width) & counted for one in (truth, answer))
    both = in_truth & in_answer & (truth == answer)
    return np.stack(
        [
            np.bincount(truth[both], minlength=classes),
            np.bincount(truth[in_truth], minlength=classes),
            np.bincount(answer[in_answer], minlength=classes),
        ]
    ).astype(np.int64)


def draws(photos: int, resamples: int = 1000, seed: int = 0) -> NDArray[np.float64]:
    """How often each photo is drawn in each bootstrap resample, (resamples, photos).

    Equal seeds draw the same photos, so that methods are resampled alike.
    """
    generator = np.random.default_rng(seed)
    return generator.multinomial(photos, np.full(photos, 1 / photos), size=resamples).astype(np.float64)


def totals(photos: NDArray[np.number], drawn: NDArray[np.float64]) -> NDArray[np.float64]:
    """Counts (N, ...) summed up for each resample (R, N): (R, ...)."""
    flat = photos.reshape(len(photos), -1).astype(np.float64)
    return (drawn @ flat).reshape(len(drawn), *photos.shape[1:])


def interval(
    photos: NDArray[np.number],
    statistic: Callable[[NDArray[np.number]], NDArray[np.float64]] = mean_iou,
    resamples: int = 1000,
    seed: int = 0,
) -> Interval:
    """Bootstrap a statistic over photos: its value, 2.5th and 97.5th percentile.

    Args:
        photos: counts of each photo, (N, ...), N >= 1.
        statistic: from summed counts (..., as of one photo) to numbers (...).
        resamples: how many times N photos are drawn with replacement.
        seed: as for `draws`.
    """
    values = statistic(totals(photos, draws(len(photos), resamples, seed)))
    return percentiles(float(statistic(photos.sum(axis=0))), values)


def paired_difference(
    first: NDArray[np.number],
    second: NDArray[np.number],
    statistic: Callable[[NDArray[np.number]], NDArray[np.float64]] = mean_iou,
    resamples: int = 1000,
    seed: int = 0,
) -> Interval:
    """Bootstrap statistic(first) - statistic(second) of two runs on the same photos, drawn together.

    Far narrower than two intervals of their own: what makes a photo hard is in both runs and cancels.

    Raises:
        ValueError: if the runs are not about equally many photos.
    """
    if first.shape[0] != second.shape[0]:
        raise ValueError(f"both runs must be about the same photos, got {len(first)} and {len(second)}")
    drawn = draws(len(first), resamples, seed)
    values = statistic(totals(first, drawn)) - statistic(totals(second, drawn))
    return percentiles(float(statistic(first.sum(axis=0)) - statistic(second.sum(axis=0))), values)


def share(total: NDArray[np.number]) -> NDArray[np.float64]:
    """Part / whole in [0, 1], (...), from counts (..., 2); NaN where the whole is nothing."""
    part, whole = total[..., 0].astype(np.float64), total[..., 1].astype(np.float64)
    return np.divide(part, whole, out=np.full(np.shape(whole), np.nan), where=whole > 0)


def percentiles(value: float, values: NDArray[np.float64]) -> Interval:
    """A value with the 2.5th and 97.5th percentile of its resamples; NaN among them are left out."""
    if np.isnan(values).all():
        return Interval(value, float("nan"), float("nan"))
    low, high = np.nanpercentile(values, (2.5, 97.5))
    return Interval(value, float(low), float(high))


def _boxes(table: NDArray[np.int32], box: tuple[int, int]) -> NDArray[np.int32]:
    """Sums over every box (rows, columns) that fits, from a summed-area table with a zero row and column."""
    rows, columns = box
    return (
        table[rows:, columns:] - table[:-rows, columns:] - table[rows:, :-columns] + table[:-rows, :-columns]
    )
