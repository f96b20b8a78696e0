"""What everything that labels are made from promises: `ScoreMap`, `MaskProposals`, and what comes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

import torch
from torch import Tensor
from typing_extensions import Self

from ovs_core.types import Vocabulary

if TYPE_CHECKING:
    from ovs_core.evidence.proposals import MaskProposals

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


class Evidence(Protocol):
    """What a method says about a photo and some words, before any threshold.

    Nothing of size K x H x W is ever held: evidence stays on its own grid and is brought to a size one tile
    at a time, so 847 classes need no more memory than two. Tiles of one size cover it without overlap.
    """

    @property
    def vocabulary(self) -> Vocabulary:
        """What was asked."""
        ...

    @property
    def image_size(self) -> tuple[int, int]:
        """(H, W) the labels are for, in photo pixels."""
        ...

    @property
    def nbytes(self) -> int:
        """Bytes held, for the cache budget."""
        ...

    @property
    def activation(self) -> Activation:
        """How scores become probabilities."""
        ...

    @property
    def seen(self) -> frozenset[str]:
        """Names, in lower case, of classes that training saw, where calibration should know; else none."""
        ...

    @property
    def device(self) -> torch.device:
        """Where it lives."""
        ...

    @property
    def proposals(self) -> MaskProposals | None:
        """The masks behind it; None where every pixel has scores of its own and no objects are told apart."""
        ...

    def decide(self, scale: float, size: tuple[int, int]) -> Iterator[Decided]:
        """Yield the best class of every pixel at `size` (H, W) in pixels, tile by tile."""
        ...

    def probabilities(self, scale: float, size: tuple[int, int]) -> Iterator[Tile]:
        """Yield the probability of every class at `size` (H, W) in pixels, tile by tile."""
        ...

    def for_vocabulary(self, vocabulary: Vocabulary) -> Self:
        """The same evidence where names of the same rows make other classes."""
        ...

    def calibrated(self, offsets: Mapping[int, float]) -> Self:
        """The same with numbers added to class probabilities, by label, before the best is taken."""
        ...

    def to(self, device: torch.device) -> Self:
        """The same in float32 on a device."""
        ...

    def mean(self, others: Sequence[Self]) -> Self:
        """Mean with evidence for the same names from further looks at the photo, on the finest grid."""
        ...

    def with_rows(self, rows: Tensor) -> Self:
        """The same with other scores per name, (S, h, w), on any grid; for refiners.

        Raises:
            ValueError: if it has no row per name.
        """
        ...

    @property
    def rows(self) -> Tensor:
        """Scores per name on a grid, (S, h, w), one row per `vocabulary.rows`.

        Raises:
            ValueError: if it has no row per name.
        """
        ...


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


def check_size(size: tuple[int, int]) -> None:
    """Return if a size (H, W) has pixels.

    Raises:
        ValueError: if it has none.
    """
    if min(size) < 1:
        raise ValueError(f"size must be at least 1 x 1 pixels, got {size}")
