"""Connected parts of label maps: pixels of one class that touch, corners included (8-connectivity)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import scipy  # type: ignore[import-untyped]
from numpy.typing import NDArray

from ovs_core.metrics.confusion import Known, Labels

TOUCHING = ((1, 1, 1), (1, 1, 1), (1, 1, 1))
"""Neighbours of a pixel, as `ndimage.label` takes them."""

Box = tuple[slice, slice]


def boxes_of(labels: Labels) -> Iterator[tuple[int, Box]]:
    """Every label of a map (H, W), 0 included, and the smallest box that holds it."""
    for label, box in enumerate(scipy.ndimage.find_objects(labels.astype(np.int32) + 1)):
        if box is not None:
            yield label, box


def connected_parts(
    labels: Labels, known: Known | None = None, least: int = 1
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Connected parts of every label, 0 included.

    Args:
        labels: (H, W).
        known: pixels that can belong to a part; None takes all.
        least: pixels of the smallest part; smaller ones are in none.

    Returns:
        Number of each pixel's part from 1, 0 where there is none, (H, W); label of each part, (parts,).
    """
    numbers = np.zeros(labels.shape, np.int32)
    classes: list[int] = []
    for label, box in boxes_of(labels):
        inside = labels[box] == label
        if known is not None:
            inside &= known[box]
        parts, _ = scipy.ndimage.label(inside, TOUCHING)
        sizes = np.bincount(parts.ravel())
        becomes = np.zeros(len(sizes), np.int32)
        kept = np.flatnonzero(sizes[1:] >= least) + 1
        becomes[kept] = len(classes) + 1 + np.arange(len(kept))
        classes += [label] * len(kept)
        numbers[box] += becomes[parts]
    return numbers, np.array(classes, np.int64)
