"""Parts that every kind of evidence is made of: tiles, the best label of a pixel, names to classes."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ovs_core.types import OTHER, Vocabulary

Activation = Literal["softmax", "sigmoid", "none"]
"""How scores become probabilities: soft-max over rows, a sigmoid of each, or they are such already."""


@dataclass(frozen=True, eq=False)
class Tile:
    """Class probabilities of one rectangle.

    Attributes:
        top, left: first row and column, in pixels of the whole map.
        probabilities: (K, rows, columns) in [0, 1], or (K + 1, ...) with `other` last.
    """

    top: int
    left: int
    probabilities: Tensor


@dataclass(frozen=True, eq=False)
class Decided:
    """The best class of every pixel of one rectangle.

    Attributes:
        top, left: first row and column, in pixels of the whole map.
        labels: (rows, columns) int32; k = k-th class (the first of equals), 0 = `other`.
        confidence: (rows, columns) in [0, 1], probability of what was best.
    """

    top: int
    left: int
    labels: Tensor
    confidence: Tensor


def best_labels(values: Tensor, peak: float, row_labels: Sequence[int]) -> Tensor:
    """Label (rows, columns) int32 of the row that reaches `peak` at each pixel, the first of equals.

    Few names win anywhere in a tile: painting those, the first one last, is ten times faster than an argmax
    over all of them.

    Args:
        values: (S, rows, columns), each pixel's largest value being `peak` exactly.
        peak: that value.
        row_labels: label of each row.
    """
    labels = torch.zeros_like(values[0], dtype=torch.int32)
    for row in reversed((values.amax((1, 2)) == peak).nonzero()[:, 0].tolist()):
        labels.masked_fill_(values[row] == peak, row_labels[row])
    return labels


def best_class(probabilities: Tensor, labels: Sequence[int], offsets: Mapping[int, float]) -> Tensor:
    """Label and probability of the best class once `offsets` were added: (2 values) of (K, rows, columns)."""
    shift = torch.tensor([offsets.get(label, 0.0) for label in labels], device=probabilities.device)
    return (probabilities + shift[:, None, None]).argmax(dim=0)


def largest_per_group(rows: Tensor, counts: Sequence[int]) -> Tensor:
    """Reduce rows (S, ...) to groups (len(counts), ...) by maximum."""
    return torch.stack([group.amax(0) for group in torch.split(rows, list(counts))])


def class_counts(vocabulary: Vocabulary) -> tuple[int, ...]:
    """Names of each class, then of `other` if it has any: `other` competes like a class."""
    counts = tuple(len(names) for names in vocabulary.classes)
    return (*counts, len(vocabulary.other)) if vocabulary.other else counts


def class_labels(vocabulary: Vocabulary) -> tuple[int, ...]:
    """Label of each class: 1..K, then 0 for `other` if it has names."""
    typed = tuple(range(1, len(vocabulary.classes) + 1))
    return (*typed, 0) if vocabulary.other else typed


def checked_exclusion(vocabulary: Vocabulary, labels: Collection[int]) -> frozenset[int]:
    """Labels of typed classes that are not to compete.

    Raises:
        ValueError: for a number that is no typed class, or where nothing is left to compete.
    """
    excluded = frozenset(labels)
    typed = range(1, len(vocabulary.classes) + 1)
    if strange := sorted(excluded.difference(typed)):
        raise ValueError(f"labels must be those of typed classes, 1 to {len(typed)}; got {strange}")
    if len(excluded) == len(typed) and OTHER not in class_labels(vocabulary):
        raise ValueError("At least one class must stay.")
    return excluded


def spread(values: Tensor, labels: Sequence[int], vocabulary: Vocabulary) -> Tensor:
    """Values (C, rows, columns) of some labels among all of a vocabulary (K or K + 1, ...): 0 elsewhere."""
    every = class_labels(vocabulary)
    if len(labels) == len(every):
        return values
    whole = values.new_zeros(len(every), *values.shape[1:])
    whole[[every.index(label) for label in labels]] = values
    return whole


def check_size(size: tuple[int, int]) -> None:
    """Return if a size (H, W) has pixels.

    Raises:
        ValueError: if it has none.
    """
    if min(size) < 1:
        raise ValueError(f"size must be at least 1 x 1 pixels, got {size}")
