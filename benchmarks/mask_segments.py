"""Segments of an answer against those of the truth, for PQ of things (arXiv 1801.00868, equation 1)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ovs_core.evaluation.metrics import MATCH_IOU
from ovs_core.training.data import IGNORE, OTHER, Sample

LEAST_PART = 64  # pixels of a connected part of labels that is a segment

Counts = NDArray[np.float64]


def segment_matches(
    truth: NDArray[np.integer],
    truth_classes: Sequence[int],
    answer: NDArray[np.integer],
    answer_classes: Sequence[int],
    classes: int,
) -> Counts:
    """What one photo adds to PQ: IoU of matched segments, matched, only in the answer, only in the truth.

    Args:
        truth: segment of each pixel from 1; 0 is background, -1 does not count.
        truth_classes: class of each segment, from 0.
        answer: segment of each pixel from 1, 0 is none.
        answer_classes: class of each segment.
        classes: how many there are.

    Returns:
        (4, classes). As in panopticapi, pixels that do not count are in no union, and an unmatched answer
        that lies on them for more than half is not held against the method.
    """
    rows, columns = len(truth_classes) + 1, len(answer_classes) + 1
    pairs = np.bincount(
        np.where(truth < 0, rows, truth).astype(np.int64).ravel() * columns + answer.ravel(),
        minlength=(rows + 1) * columns,
    ).reshape(rows + 1, columns)
    void, inside = pairs[rows], pairs[:rows]
    in_truth, in_answer = inside.sum(axis=1), inside.sum(axis=0)
    found = np.zeros((4, classes))
    matched: set[int] = set()
    for row, label in enumerate(truth_classes, start=1):
        if not in_truth[row]:
            continue
        union = in_truth[row] + in_answer - inside[row]
        iou = inside[row] / np.maximum(union, 1)
        best = int(np.argmax(iou[1:])) + 1 if columns > 1 else 0
        if best and iou[best] > MATCH_IOU and answer_classes[best - 1] == label:
            found[0, label] += iou[best]
            found[1, label] += 1
            matched.add(best)
        else:
            found[3, label] += 1
    for column, label in enumerate(answer_classes, start=1):
        area = in_answer[column] + void[column]
        if area and column not in matched and void[column] <= 0.5 * area:
            found[2, label] += 1
    return found


def true_segments(sample: Sample, names: Sequence[str]) -> tuple[NDArray[np.int64], list[int]]:
    """Segment of each pixel (H, W) and the class of each, as `segment_matches` takes them."""
    numbers = sample.labels.astype(np.int64) + 1
    numbers[sample.labels == OTHER] = 0
    numbers[sample.labels == IGNORE] = -1
    return numbers, [names.index(group[0]) for group in sample.groups]


def true_classes(sample: Sample, names: Sequence[str]) -> NDArray[np.int64]:
    """Class of each pixel from 1, (H, W); -1 where none counts."""
    becomes = np.array([names.index(group[0]) + 1 for group in sample.groups] + [-1, -1])
    return becomes[np.where(sample.labels < 0, len(sample.groups), sample.labels)]


def connected_parts(labels: NDArray[np.integer]) -> tuple[NDArray[np.int64], list[int]]:
    """Connected parts of each label (H, W) as segments with their classes; label 0 is none."""
    numbers = np.zeros(labels.shape, np.int64)
    found: list[int] = []
    for label in np.unique(labels[labels > 0]).tolist():
        parts, _ = ndimage.label(labels == label)
        sizes = np.bincount(parts.ravel())
        for part in (np.flatnonzero(sizes[1:] >= LEAST_PART) + 1).tolist():
            found.append(label - 1)
            numbers[parts == part] = len(found)
    return numbers, found
