"""What everything that labels are made from promises: `ScoreMap`, `MaskProposals`, and what comes."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor
from typing_extensions import Self

from ovs_core.devices import Cancel
from ovs_core.evidence.base import Activation, Decided, Tile
from ovs_core.evidence.proposals import MaskProposals
from ovs_core.types import Vocabulary


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
    def excluded(self) -> frozenset[int]:
        """Labels of typed classes that do not compete."""
        ...

    @property
    def device(self) -> torch.device:
        """Where it lives."""
        ...

    @property
    def proposals(self) -> MaskProposals | None:
        """The masks behind it; None where every pixel has scores of its own and no objects are told apart."""
        ...

    def decide(self, scale: float, size: tuple[int, int], cancel: Cancel = None) -> Iterator[Decided]:
        """Yield the best class of every pixel at `size` (H, W) in pixels, tile by tile.

        Raises:
            Cancelled: if `cancel` was set, before the next tile.
        """
        ...

    def probabilities(self, scale: float, size: tuple[int, int]) -> Iterator[Tile]:
        """Yield the probability of every class at `size` (H, W) in pixels, tile by tile; excluded ones: 0."""
        ...

    def score_maps(self, size: tuple[int, int]) -> Tensor:
        """Scores of every class before scale and activation, at a small `size` (h, w).

        Returns:
            (K, h, w), or (K + 1, h, w) with `other` last, in the method's own units; excluded classes have
            theirs, and no setting changes any.
        """
        ...

    def for_vocabulary(self, vocabulary: Vocabulary) -> Self:
        """The same evidence where names of the same rows make other classes."""
        ...

    def calibrated(self, offsets: Mapping[int, float]) -> Self:
        """The same with numbers added to class probabilities, by label, before the best is taken."""
        ...

    def without(self, labels: Collection[int]) -> Self:
        """The same where some typed classes do not compete: their area goes to what is second there.

        Those that are left share the probabilities, as if the others had not been typed; labels keep their
        numbers. What was excluded before competes again: `without(())` brings all back.

        Args:
            labels: of typed classes, from 1.

        Raises:
            ValueError: for a label that is none, or where nothing would be left to compete.
        """
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
