"""Evidence whose labels somebody else has the last word on: what refiners of labels give back.

A region vote or a prompted mask acts on labels, not on rows, and labels need a scale, which is set after
refining. So the refiner hands over a rule, applied whenever labels are made: a slider moved later counts.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ovs_core.devices import Cancel, stop_if_cancelled
from ovs_core.evidence.base import Activation, Decided, Tile
from ovs_core.evidence.proposals import MaskProposals
from ovs_core.evidence.protocol import Evidence
from ovs_core.types import Vocabulary

Labels = NDArray[np.integer]
Confidence = NDArray[np.float32]
Relabel = Callable[[Evidence, float, Labels, Confidence, Cancel], tuple[Labels, Confidence]]
"""From evidence, the scale, labels and confidence (H, W) of the whole photo, and cancel: both maps anew."""


@dataclass(frozen=True, eq=False)
class Relabelled:
    """Evidence and a rule for its labels; everything but `decide` is the evidence's own.

    Attributes:
        base: what the method answered.
        relabel: the rule.
        kept_bytes: held by the rule.
    """

    base: Evidence
    relabel: Relabel
    kept_bytes: int = 0

    @property
    def vocabulary(self) -> Vocabulary:
        """What was asked."""
        return self.base.vocabulary

    @property
    def image_size(self) -> tuple[int, int]:
        """(H, W) the labels are for, in photo pixels."""
        return self.base.image_size

    @property
    def nbytes(self) -> int:
        """Bytes held, for the cache budget."""
        return self.base.nbytes + self.kept_bytes

    @property
    def activation(self) -> Activation:
        """How scores become probabilities."""
        return self.base.activation

    @property
    def device(self) -> torch.device:
        """Where it lives."""
        return self.base.device

    @property
    def excluded(self) -> frozenset[int]:
        """Labels of typed classes that do not compete."""
        return self.base.excluded

    @property
    def proposals(self) -> MaskProposals | None:
        """The masks behind it; they are as the method gave them."""
        return self.base.proposals

    @property
    def rows(self) -> Tensor:
        """Scores per name, as the method gave them."""
        return self.base.rows

    @property
    def seen(self) -> frozenset[str]:
        """Names of classes that training saw, where calibration should know."""
        return self.base.seen

    def decide(self, scale: float, size: tuple[int, int], cancel: Cancel = None) -> Iterator[Decided]:
        """Yield the whole answer at `size` (H, W) at once: made at the photo's own size, then sampled.

        Raises:
            Cancelled: if `cancel` was set, before the next tile, or between two steps of the rule.
        """
        labels, confidence = whole(self.base, scale, cancel)
        stop_if_cancelled(cancel)
        labels, confidence = self.relabel(self.base, scale, labels, confidence, cancel)
        for length, wanted, axis in zip(self.image_size, size, (0, 1), strict=True):
            if wanted != length:
                places = ((np.arange(wanted) + 0.5) * (length / wanted)).astype(np.int64)
                labels, confidence = labels.take(places, axis), confidence.take(places, axis)
        yield Decided(
            0,
            0,
            torch.from_numpy(labels.astype(np.int32)),
            torch.from_numpy(np.array(confidence, np.float32)),
        )

    def probabilities(self, scale: float, size: tuple[int, int]) -> Iterator[Tile]:
        """Yield the method's own probabilities, tile by tile."""
        return self.base.probabilities(scale, size)

    def score_maps(self, size: tuple[int, int]) -> Tensor:
        """The method's own scores, (K or K + 1, h, w) at `size`."""
        return self.base.score_maps(size)

    def for_vocabulary(self, vocabulary: Vocabulary) -> Relabelled:
        """The same evidence where names of the same rows make other classes."""
        return replace(self, base=self.base.for_vocabulary(vocabulary))

    def calibrated(self, offsets: Mapping[int, float]) -> Relabelled:
        """The same with numbers added to class probabilities, by label, before the best is taken."""
        return replace(self, base=self.base.calibrated(offsets))

    def without(self, labels: Collection[int]) -> Relabelled:
        """The same where some typed classes do not compete; the rule works on what is left."""
        return replace(self, base=self.base.without(labels))

    def to(self, device: torch.device) -> Relabelled:
        """The same in float32 on a device."""
        return replace(self, base=self.base.to(device))

    def mean(self, others: Sequence[Relabelled]) -> Relabelled:
        """Mean with evidence from further looks at the photo; the rule is this one's."""
        return replace(self, base=self.base.mean([other.base for other in others]))

    def with_rows(self, rows: Tensor) -> Relabelled:
        """The same with other scores per name."""
        return replace(self, base=self.base.with_rows(rows))


def whole(evidence: Evidence, scale: float, cancel: Cancel = None) -> tuple[Labels, Confidence]:
    """Labels and confidence (H, W) of the whole photo, before any threshold."""
    labels = np.empty(evidence.image_size, np.int32)
    confidence = np.empty(evidence.image_size, np.float32)
    for tile in evidence.decide(scale, evidence.image_size, cancel):
        rows, columns = tile.labels.shape
        where = (slice(tile.top, tile.top + rows), slice(tile.left, tile.left + columns))
        labels[where] = tile.labels.cpu().numpy()
        confidence[where] = tile.confidence.cpu().numpy()
    return labels, confidence
