"""Edits of which pixels a class has. Places are (x, y) in the photo's pixels, x in 0..W and y in 0..H."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
import scipy  # type: ignore[import-untyped]
from numpy.typing import NDArray

from ovs_core.edit.classes import require_class
from ovs_core.types import OTHER, LabelMap

MAX_STROKE_POINTS = 10_000
Place = tuple[float, float]
"""(x, y) in pixels of the photo."""


def region_at(label_map: LabelMap, place: Place) -> NDArray[np.bool_]:
    """The 4-connected region of one label (and one object, where objects are told apart) under a place.

    Raises:
        ValueError: for a place outside the photo.
    """
    height, width = label_map.shape
    x, y = place
    if not (0 <= x < width and 0 <= y < height):
        raise ValueError(f"The place ({x:g}, {y:g}) lies outside the photo of {width} x {height} pixels.")
    row, column = int(y), int(x)
    alike = label_map.labels == label_map.labels[row, column]
    if label_map.instances is not None:
        alike &= label_map.instances == label_map.instances[row, column]
    numbers, _ = scipy.ndimage.label(alike)
    region: NDArray[np.bool_] = numbers == numbers[row, column]
    return region


def reassign(label_map: LabelMap, place: Place, label: int) -> LabelMap:
    """Give the region under a place to another class; 0 erases it.

    Raises:
        ValueError: for a place outside the photo or an id that is not there.
    """
    return paint(label_map, region_at(label_map, place), label, same_objects=label != OTHER)


def erase(label_map: LabelMap, place: Place) -> LabelMap:
    """Make the region under a place "other".

    Raises:
        ValueError: for a place outside the photo.
    """
    return reassign(label_map, place, OTHER)


def brush(label_map: LabelMap, stroke: Sequence[Place], radius: float, label: int) -> LabelMap:
    """Paint a class along a stroke with a round brush; label 0 is the eraser.

    A pixel is painted if its centre is within `radius` of the line through the places. Parts of the stroke
    outside the photo paint nothing.

    Args:
        label_map: what to edit.
        stroke: one place for a dot, more for a line.
        radius: in pixels, above 0.
        label: id of a class, or 0.

    Raises:
        ValueError: for no place, too many, one that is no number, a bad radius or an id that is not there.
    """
    if not 1 <= len(stroke) <= MAX_STROKE_POINTS:
        raise ValueError(f"A stroke has 1 to {MAX_STROKE_POINTS:,} places; this one has {len(stroke):,}.")
    if (
        not all(map(math.isfinite, (radius, *(number for place in stroke for number in place))))
        or radius <= 0
    ):
        raise ValueError(f"A stroke needs places in pixels and a radius above 0; the radius is {radius:g}.")
    return paint(label_map, _stroke_mask(label_map.shape, stroke, radius), label)


def eraser(label_map: LabelMap, stroke: Sequence[Place], radius: float) -> LabelMap:
    """Make pixels along a stroke "other"; see `brush`."""
    return brush(label_map, stroke, radius, OTHER)


def paint(
    label_map: LabelMap, mask: NDArray[np.bool_], label: int, *, same_objects: bool = False
) -> LabelMap:
    """Give the pixels of a mask (H, W) to a class, or with label 0 to none.

    Pixels that change their class leave the object they belonged to, unless `same_objects`.

    Raises:
        ValueError: for a mask of another size or an id that is not there.
    """
    if mask.shape != label_map.shape:
        raise ValueError(f"mask must be {label_map.shape}, got {mask.shape}")
    if label != OTHER:
        require_class(label_map, label)
    labels = np.where(mask, label, label_map.labels).astype(label_map.labels.dtype)
    return _with_labels(label_map, labels, same_objects=same_objects)


def replace_class(label_map: LabelMap, mask: NDArray[np.bool_], label: int) -> LabelMap:
    """Make a mask (H, W) all that a class has: its pixels outside become "other".

    Raises:
        ValueError: for a mask of another size or an id that is not there.
    """
    require_class(label_map, label)
    return paint(paint(label_map, label_map.labels == label, OTHER), mask, label)


def drop_islands(label_map: LabelMap, least_pixels: int) -> LabelMap:
    """Dissolve 4-connected regions of fewer pixels, of classes and of "other", into what lies nearest.

    Raises:
        ValueError: for a number below 1.
    """
    if least_pixels < 1:
        raise ValueError(f"Islands need a size of at least 1 pixel, got {least_pixels}.")
    small = np.zeros(label_map.shape, np.bool_)
    for inside, numbers, areas in _regions(label_map.labels):
        small |= inside & (areas < least_pixels)[numbers]
    if not small.any() or small.all():
        return label_map
    nearest = scipy.ndimage.distance_transform_edt(small, return_distances=False, return_indices=True)
    return _with_labels(label_map, label_map.labels[tuple(nearest)], same_objects=False)


def apply_threshold(
    label_map: LabelMap, label: int, scores: NDArray[np.floating], threshold: float
) -> LabelMap:
    """Make pixels of one class "other" where the evidence for it is below a threshold of its own.

    Args:
        label_map: what to edit.
        label: id of the class.
        scores: (H, W) probability of the best class at every pixel, in [0, 1].
        threshold: in [0, 1].

    Raises:
        ValueError: for an id that is not there, scores of another size or a threshold out of range.
    """
    require_class(label_map, label)
    if scores.shape != label_map.shape:
        raise ValueError(f"scores must be {label_map.shape}, got {scores.shape}")
    if not 0 <= threshold <= 1:
        raise ValueError(f"threshold must lie in [0, 1], got {threshold:g}")
    return paint(label_map, (label_map.labels == label) & (scores < threshold), OTHER)


def _with_labels(label_map: LabelMap, labels: NDArray[np.integer], *, same_objects: bool) -> LabelMap:
    """The map with other labels; pixels that changed theirs belong to no object, unless `same_objects`."""
    instances = label_map.instances
    if instances is not None and not same_objects:
        instances = np.where(labels == label_map.labels, instances, 0).astype(instances.dtype)
    return replace(label_map, labels=labels, instances=instances)


def _regions(
    labels: NDArray[np.integer],
) -> Iterator[tuple[NDArray[np.bool_], NDArray[np.int32], NDArray[np.int64]]]:
    """For each label present: where it is, the number of each pixel's region, and pixels per number."""
    for label in np.unique(labels):
        inside = labels == label
        numbers, _ = scipy.ndimage.label(inside)
        yield inside, numbers, np.bincount(numbers.ravel())


def _stroke_mask(shape: tuple[int, int], stroke: Sequence[Place], radius: float) -> NDArray[np.bool_]:
    """Pixels (H, W) whose centre is within `radius` of a broken line."""
    height, width = shape
    mask = np.zeros(shape, np.bool_)
    for (x0, y0), (x1, y1) in pairwise([stroke[0], *stroke]):
        top, bottom = (_clipped(edge, height) for edge in (min(y0, y1) - radius, max(y0, y1) + radius))
        left, right = (_clipped(edge, width) for edge in (min(x0, x1) - radius, max(x0, x1) + radius))
        y, x = np.ogrid[top : bottom + 1, left : right + 1]
        y, x = y[: height - top] + 0.5, x[:, : width - left] + 0.5
        length = (x1 - x0) ** 2 + (y1 - y0) ** 2
        along = ((x - x0) * (x1 - x0) + (y - y0) * (y1 - y0)) / length if length else np.zeros_like(x + y)
        along = along.clip(0, 1)
        near = (x - x0 - along * (x1 - x0)) ** 2 + (y - y0 - along * (y1 - y0)) ** 2 <= radius**2
        mask[top : top + near.shape[0], left : left + near.shape[1]] |= near
    return mask


def _clipped(edge: float, length: int) -> int:
    """The pixel an edge falls into, kept within 0..length."""
    return int(min(max(edge, 0), length))
