"""What is in this photo: the classes of a large vocabulary that it holds, the surest first."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ovs_core.evidence.base import class_labels
from ovs_core.evidence.protocol import Evidence
from ovs_core.types import OTHER

SIDE = 48  # longer side of the grid that is looked at, about the tokens of a frame


@dataclass(frozen=True)
class Ranked:
    """A class and where it is surest.

    Attributes:
        label: its label, from 1.
        name: shown for it.
        probability: the largest of any place, against all other names, in [0, 1].
    """

    label: int
    name: str
    probability: float


def strongest_classes(evidence: Evidence, scale: float, limit: int = 10) -> tuple[Ranked, ...]:
    """Classes by the largest probability that they have anywhere in the photo.

    A class that is sure of a small place is there; means over the photo prefer what is vaguely everywhere.

    Args:
        evidence: of a method that was asked for many names.
        scale: as labels are decided with.
        limit: classes wanted.

    Raises:
        ValueError: for a limit below 1.
    """
    if limit < 1:
        raise ValueError(f"limit must be at least 1, got {limit}")
    height, width = evidence.image_size
    shrink = min(1.0, SIDE / max(height, width))
    size = (max(1, round(height * shrink)), max(1, round(width * shrink)))
    labels = class_labels(evidence.vocabulary)
    peaks = torch.zeros(len(labels))
    for tile in evidence.probabilities(scale, size):
        peaks = torch.maximum(peaks, tile.probabilities.flatten(1).amax(1).float().cpu())
    order = peaks.argsort(descending=True, stable=True).tolist()
    names = evidence.vocabulary.names
    ranked = [Ranked(labels[i], names[labels[i] - 1], float(peaks[i])) for i in order if labels[i] != OTHER]
    return tuple(ranked[:limit])
