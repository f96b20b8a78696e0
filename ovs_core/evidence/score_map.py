"""Evidence with a row per name on a grid: rules on tokens, learned prompts, dense decoders.

Everywhere: interpolate the rows bilinearly, multiply by the scale, turn them into probabilities over all
names, take the largest name of each class (label 0: of the `other` names), then the largest class.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType

import torch
import torch.nn.functional as F
from torch import Tensor

from ovs_core.devices import Cancel, stop_if_cancelled
from ovs_core.evidence.base import (
    Activation,
    Decided,
    Tile,
    best_class,
    best_labels,
    check_size,
    checked_exclusion,
    class_counts,
    class_labels,
    largest_per_group,
    spread,
)
from ovs_core.evidence.cells import decide_by_cells, nodes_for
from ovs_core.evidence.sampling import TILE_WIDTH, bilinear, tile_bytes
from ovs_core.types import Vocabulary


@dataclass(frozen=True, eq=False)
class ScoreMap:
    """Evidence for every name on a grid; see `ovs_core.evidence.protocol.Evidence`.

    Attributes:
        rows: (S, h, w), one row per `vocabulary.rows`: cosine similarities, logits or probabilities.
        vocabulary: what the rows mean.
        image_size: (H, W) the labels are for, in photo pixels.
        activation: how scaled rows become probabilities of names; the scale is not applied to rows that are
            such already ("none").
        offsets: added to class probabilities, by label, before the best is taken.
        seen: names, in lower case, of classes that training saw, where calibration should know.
        excluded: labels of typed classes whose rows do not compete.
    """

    rows: Tensor
    vocabulary: Vocabulary
    image_size: tuple[int, int]
    activation: Activation = "softmax"
    offsets: Mapping[int, float] = field(default_factory=lambda: MappingProxyType({}))
    seen: frozenset[str] = frozenset()
    excluded: frozenset[int] = frozenset()

    def __post_init__(self) -> None:
        expected = len(self.vocabulary.rows)
        if self.rows.ndim != 3 or self.rows.shape[0] != expected:
            raise ValueError(f"rows must be ({expected}, h, w), got {tuple(self.rows.shape)}")

    @property
    def nbytes(self) -> int:
        """Bytes held, for the cache budget."""
        return self.rows.nbytes

    @property
    def device(self) -> torch.device:
        """Where the rows live."""
        return self.rows.device

    @property
    def proposals(self) -> None:
        """There are no masks behind rows."""
        return

    def decide(self, scale: float, size: tuple[int, int], cancel: Cancel = None) -> Iterator[Decided]:
        """Yield the best class of every pixel at `size` (H, W), tile by tile or, of large photos, by cells.

        Raises:
            Cancelled: if `cancel` was set, before the next tile.
        """
        check_size(size)
        if any(self.offsets.values()):
            yield from self._decide_classes(scale, size, cancel)
            return
        row_labels = [label for label in self.vocabulary.row_label if label not in self.excluded]
        if self.activation == "softmax":
            rows_left = self._competing_rows
            if nodes := nodes_for(rows_left, scale, size):
                yield from decide_by_cells(rows_left, scale, size, row_labels, nodes, cancel)
                return
        for top, left, scores in self._tiles(scale, size):
            stop_if_cancelled(cancel)
            best = scores.amax(0)
            if self.activation != "softmax":
                labels = best_labels(scores - best, 0.0, row_labels)
                yield Decided(top, left, labels, self._names(best[None])[0])
                continue
            scores -= best
            labels = best_labels(scores, 0.0, row_labels)
            yield Decided(top, left, labels, scores.exp_().sum(0).reciprocal_())  # the soft-max of the best

    def _decide_classes(self, scale: float, size: tuple[int, int], cancel: Cancel) -> Iterator[Decided]:
        labels = torch.tensor(self._competing, dtype=torch.int32, device=self.device)
        for top, left, chances in self._chances(scale, size):
            stop_if_cancelled(cancel)
            winner = best_class(chances, self._competing, self.offsets)
            yield Decided(top, left, labels[winner], chances.gather(0, winner[None])[0])

    def probabilities(self, scale: float, size: tuple[int, int]) -> Iterator[Tile]:
        """Yield the probability of every class at `size` (H, W), tile by tile; excluded ones: 0."""
        check_size(size)
        for top, left, chances in self._chances(scale, size):
            yield Tile(top, left, spread(chances, self._competing, self.vocabulary))

    @property
    def _competing(self) -> list[int]:
        """Labels that can win."""
        return [label for label in class_labels(self.vocabulary) if label not in self.excluded]

    @property
    def _competing_rows(self) -> Tensor:
        """Rows of the classes that compete."""
        if not self.excluded:
            return self.rows
        return self.rows[[label not in self.excluded for label in self.vocabulary.row_label]]

    def _chances(self, scale: float, size: tuple[int, int]) -> Iterator[tuple[int, int, Tensor]]:
        """Yield (top, left, probabilities of the classes that compete) for every tile."""
        counts = zip(class_labels(self.vocabulary), class_counts(self.vocabulary), strict=True)
        kept = [count for label, count in counts if label not in self.excluded]
        for top, left, scores in self._tiles(scale, size):
            yield top, left, largest_per_group(self._names(scores), kept)

    def score_maps(self, size: tuple[int, int]) -> Tensor:
        """Scores of each class's best name at `size` (h, w), (K, h, w) or with `other` last (K + 1, h, w)."""
        rows = F.interpolate(self.rows[None].float(), size=size, mode="bilinear", align_corners=False)[0]
        return largest_per_group(rows, class_counts(self.vocabulary))

    def for_vocabulary(self, vocabulary: Vocabulary) -> ScoreMap:
        """The same rows as other classes ("cat | kitten" or "cat; kitten")."""
        return replace(self, vocabulary=vocabulary)

    def calibrated(self, offsets: Mapping[int, float]) -> ScoreMap:
        """The same with numbers added to class probabilities, by label, before the best is taken."""
        known = class_labels(self.vocabulary)
        for label in offsets:
            if label not in known:
                raise ValueError(f"offsets must be for labels {known}, got {label}")
        return replace(self, offsets=MappingProxyType(dict(offsets)))

    def without(self, labels: Collection[int]) -> ScoreMap:
        """The same where some typed classes do not compete; the others share the probabilities."""
        return replace(self, excluded=checked_exclusion(self.vocabulary, labels))

    def to(self, device: torch.device) -> ScoreMap:
        """The same in float32 on a device."""
        return replace(self, rows=self.rows.float().to(device))

    def mean(self, others: Sequence[ScoreMap]) -> ScoreMap:
        """Mean with evidence for the same names from further looks at the photo, on the finest grid."""
        looks = (self, *others)
        finest = max((look.rows.shape[1:] for look in looks), key=math.prod)
        total = torch.zeros(len(self.rows), *finest, dtype=self.rows.dtype, device=self.device)
        for look in looks:
            total += F.interpolate(look.rows[None], size=finest, mode="bilinear", align_corners=False)[0]
        return replace(self, rows=total / len(looks))

    def with_rows(self, rows: Tensor) -> ScoreMap:
        """The same with other scores per name, (S, h, w), on any grid."""
        return replace(self, rows=rows)

    @property
    def class_scores(self) -> Tensor:
        """Scores of each class on the grid, (K, h, w) or with `other` last (K + 1, h, w): its best name's."""
        return largest_per_group(self.rows, class_counts(self.vocabulary))

    def _names(self, scores: Tensor) -> Tensor:
        """Probabilities of names (S, ...) from their scaled scores."""
        if self.activation == "softmax":
            return scores.softmax(0)
        return scores.sigmoid() if self.activation == "sigmoid" else scores

    def _tiles(self, scale: float, size: tuple[int, int]) -> Iterator[tuple[int, int, Tensor]]:
        """Yield (top, left, scores) for every tile at `size`; scores (S, rows, columns) may be changed.

        Rows of excluded classes are left out.

        Bilinear sampling is separable: a tile is two small matrix products, with weights of its rows and
        columns.
        """
        height, width = size
        rows_left = self._competing_rows
        names, h, w = rows_left.shape
        factor = 1.0 if self.activation == "none" else scale
        room = max(1, tile_bytes(self.device) // (4 * names))  # pixels
        columns = min(width, room, TILE_WIDTH)
        rows = max(1, room // columns)
        strips = [
            (left, *bilinear(left, min(left + columns, width), width, w, self.device))
            for left in range(0, width, columns)
        ]
        for top in range(0, height, rows):
            grid_rows, down = bilinear(top, min(top + rows, height), height, h, self.device)
            band = down @ (rows_left[:, grid_rows].to(torch.float32) * factor)  # (S, rows, w)
            for left, grid_columns, across in strips:
                yield top, left, band[:, :, grid_columns] @ across.T  # (S, rows, columns)
