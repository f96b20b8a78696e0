"""PQ, SQ and RQ: Kirillov et al. 2019 (1801.00868), equation 1, counted as panopticapi counts.

Segments of truth and answer match where they have one class and an IoU above 0.5; at most one pair can
(theorem 1). Pixels whose truth is not known are in no union, and an unmatched segment of an answer that lies
on them for more than half is not held against the method.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ovs_core.metrics.confusion import Counts, Known, Labels, answered_unknown, margins, mean_without_nan

MATCH_IOU = 0.5

SegmentCounts = NDArray[np.float64]
"""(4, classes): sum of IoU of matched segments, matched, only in the answer, only in the truth."""


@dataclass(frozen=True, eq=False)
class Segments:
    """Segments of a truth or of an answer.

    Attributes:
        areas: pixels of each on known ground, (n,); without any a segment is none.
        classes: class of each, (n,).
        unknown: pixels of each where the truth is not known, (n,); None for a truth.
    """

    areas: NDArray[np.number]
    classes: NDArray[np.integer]
    unknown: NDArray[np.number] | None = None


def match_segments(
    truth: Segments,
    answer: Segments,
    pairs: tuple[NDArray[np.integer], NDArray[np.integer], NDArray[np.number]],
    classes: int,
) -> SegmentCounts:
    """What one photo adds to PQ.

    Args:
        truth: segments of the truth.
        answer: segments of the answer.
        pairs: place of a truth's segment, place of an answer's, pixels in both; (m,) each. Pairs without
            pixels may be left out.
        classes: how many there are.
    """
    rows, columns, pixels = pairs
    union = truth.areas[rows] + answer.areas[columns] - pixels
    iou = np.divide(pixels, union, out=np.zeros(len(rows)), where=union > 0)
    matches = (iou > MATCH_IOU) & (truth.classes[rows] == answer.classes[columns])
    unknown = np.zeros(len(answer.areas)) if answer.unknown is None else answer.unknown
    area = answer.areas + unknown
    missed, extra = truth.areas > 0, (area > 0) & (unknown <= 0.5 * area)
    missed[rows[matches]] = extra[columns[matches]] = False
    matched = truth.classes[rows[matches]]
    return np.stack(
        [
            np.bincount(matched, weights=iou[matches], minlength=classes),
            np.bincount(matched, minlength=classes),
            np.bincount(answer.classes[extra], minlength=classes),
            np.bincount(truth.classes[missed], minlength=classes),
        ]
    )


def semantic_counts(matrix: Counts, unknown: Counts) -> SegmentCounts:
    """What one photo adds to PQ where all pixels of a class are one segment.

    Args:
        matrix: confusion of the photo, (classes, classes).
        unknown: pixels of each class of the answer where the truth is not known, (classes,).
    """
    right, truth, answer = margins(matrix)
    every = np.arange(len(matrix))
    return match_segments(
        Segments(truth, every), Segments(answer, every, unknown), (every, every, right), len(matrix)
    )


def instance_counts(
    truth: Labels,
    truth_classes: Sequence[int],
    answer: Labels,
    answer_classes: Sequence[int],
    classes: int,
    known: Known | None = None,
) -> SegmentCounts:
    """What one photo adds to PQ of numbered segments.

    Args:
        truth: segment of each pixel from 1, 0 is none, (H, W).
        truth_classes: class of each segment, from 0.
        answer: segment of each pixel from 1, 0 is none, (H, W).
        answer_classes: class of each segment.
        classes: how many there are.
        known: pixels whose truth is known; None takes all.
    """
    rows, columns = len(truth_classes) + 1, len(answer_classes) + 1
    counted = np.ones(truth.shape, bool) if known is None else known
    pairs = np.bincount(
        truth[counted].astype(np.int64) * columns + answer[counted], minlength=rows * columns
    ).reshape(rows, columns)
    unknown = answered_unknown(answer, columns, known)
    places = np.nonzero(pairs[1:, 1:])
    return match_segments(
        Segments(pairs.sum(axis=1)[1:], np.array(truth_classes, np.int64)),
        Segments(pairs.sum(axis=0)[1:], np.array(answer_classes, np.int64), unknown[1:]),
        (places[0], places[1], pairs[1:, 1:][places]),
        classes,
    )


def panoptic_quality(total: NDArray[np.number]) -> NDArray[np.float64]:
    """PQ, SQ and RQ in [0, 1], (3, ...): means over classes with any segment, from (..., 4, classes)."""
    overlap, matched, extra, missed = np.moveaxis(total.astype(np.float64), -2, 0)
    segments = matched + (extra + missed) / 2
    nothing = np.full_like(overlap, np.nan)
    recognition = np.divide(matched, segments, out=nothing.copy(), where=segments > 0)
    quality = np.divide(overlap, segments, out=nothing.copy(), where=segments > 0)
    iou = np.divide(overlap, matched, out=np.zeros_like(overlap), where=matched > 0)
    segmentation = np.where(segments > 0, iou, np.nan)
    return np.stack([mean_without_nan(values) for values in (quality, segmentation, recognition)])
