"""Numbers of classes in files: those of the class list that was given, where it gives any."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from ovs_core.types import Labelled

LARGEST_YOLO_INDEX = 9999
"""A list with larger numbers is counted anew for YOLO, whose list of names has a line for every number."""


def class_numbers(result: Labelled) -> Mapping[int, int]:
    """Label -> number of its class in files: the class list's own, else the label itself."""
    ids = result.vocabulary.ids
    labels = [entry.id for entry in result.label_map.classes]
    if not ids:
        return {label: label for label in labels}
    # A class that was added by hand has no number in the list, and gets one behind all of them.
    return {label: ids[label - 1] if label <= len(ids) else max(ids) + label - len(ids) for label in labels}


def yolo_indices(result: Labelled) -> Mapping[int, int]:
    """Label -> index of its class in YOLO's files: the class list's number, else counted from 0."""
    numbers = class_numbers(result)
    if result.vocabulary.ids and min(numbers.values()) >= 0 and max(numbers.values()) <= LARGEST_YOLO_INDEX:
        return numbers
    return {label: place for place, label in enumerate(numbers)}


def number_map(result: Labelled) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """The class list's number at every pixel (H, W); see docs/formats.md for what is none of its classes.

    Raises:
        ValueError: for a list with numbers that 16 bits do not hold.
    """
    numbers = class_numbers(result)
    low, high = min(numbers.values(), default=0), max(numbers.values(), default=0)
    if low < 0 or high > 65534:
        raise ValueError(
            f"Numbers of classes must lie in 0..65534 for the ids picture; the list has {low}..{high}."
        )
    other = 0 if low > 0 else 255 if high < 255 else 65535
    wide = max(high, other) > 255
    table = np.full(max(numbers, default=0) + 1, other, np.uint16 if wide else np.uint8)
    for label, number in numbers.items():
        table[label] = number
    return table[result.labels]
