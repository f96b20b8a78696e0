"""From evidence of any kind to labels, margins and the legend; which kind it is, evidence knows itself."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ovs_core.devices import Cancel
from ovs_core.evidence.base import class_labels
from ovs_core.evidence.protocol import Evidence
from ovs_core.types import ClassSummary, LabelMap, Vocabulary

_COUNTED = 1 << 21  # pixels at a time: numpy counts in copies of 8 bytes a pixel

Labels = NDArray[np.uint8] | NDArray[np.uint16]


def decide(
    evidence: Evidence,
    scale: float,
    threshold: float,
    size: tuple[int, int] | None = None,
    cancel: Cancel = None,
) -> tuple[Labels, NDArray[np.float32]]:
    """Label every pixel.

    Args:
        evidence: what a method answered.
        scale: multiplies scores before they become probabilities.
        threshold: a pixel whose best class is less probable becomes 0, in [0, 1].
        size: (H, W) of the answer in pixels; the photo's own by default.
        cancel: looked at before each tile.

    Returns:
        Labels (H, W), uint8 or above 255 classes uint16: k = k-th class (the first of equals), 0 = `other`
        won or the best is below the threshold. Confidence (H, W) float32 in [0, 1]: probability of the best.

    Raises:
        Cancelled: if `cancel` was set.
    """
    size = size or evidence.image_size
    labels: Labels = np.empty(size, np.uint8 if len(evidence.vocabulary.classes) < 256 else np.uint16)
    confidence = np.empty(size, np.float32)
    for tile in evidence.decide(scale, size, cancel):
        tile.labels.masked_fill_(tile.confidence < threshold, 0)
        rows, columns = tile.labels.shape
        where = (slice(tile.top, tile.top + rows), slice(tile.left, tile.left + columns))
        labels[where] = tile.labels.cpu().numpy()
        confidence[where] = tile.confidence.cpu().numpy()
    return labels, confidence


def class_probabilities(evidence: Evidence, scale: float, size: tuple[int, int]) -> Tensor:
    """Probabilities of every class at once, (K, H, W), with `other` last (K + 1, H, W); small `size` only."""
    whole = torch.empty(len(class_labels(evidence.vocabulary)), *size, device=evidence.device)
    for tile in evidence.probabilities(scale, size):
        rows, columns = tile.probabilities.shape[1:]
        whole[:, tile.top : tile.top + rows, tile.left : tile.left + columns] = tile.probabilities
    return whole


def margin(evidence: Evidence, scale: float, size: tuple[int, int] | None = None) -> NDArray[np.float32]:
    """Probability of the best class minus that of the second best, (H, W) in [0, 1]: how sure a label is.

    `other` counts as a class. Where nothing competes (one class, no `other`) it is the probability itself.
    """
    size = size or evidence.image_size
    answer = np.empty(size, np.float32)
    for tile in evidence.probabilities(scale, size):
        best = tile.probabilities.topk(min(2, len(tile.probabilities)), dim=0).values
        lead = best[0] - best[1] if len(best) > 1 else best[0]
        rows, columns = lead.shape
        answer[tile.top : tile.top + rows, tile.left : tile.left + columns] = lead.cpu().numpy()
    return answer


def summarise(
    label_map: LabelMap, confidence: NDArray[np.floating], vocabulary: Vocabulary
) -> tuple[ClassSummary, ...]:
    """Measure what each class got: one line per class of the map, then `other` if it could win or did.

    Args:
        label_map: (H, W) as from `decide`.
        confidence: (H, W) as from `decide`.
        vocabulary: what was asked.

    Raises:
        ValueError: if the shapes do not fit.
    """
    labels = label_map.labels
    if labels.shape != confidence.shape:
        raise ValueError(f"confidence must be {labels.shape}, got {confidence.shape}")
    flat = labels.reshape(-1)
    known = max((entry.id for entry in label_map.classes), default=0)
    pixels, sums = np.zeros(known + 1, np.int64), np.zeros(known + 1)
    for start in range(0, flat.size, _COUNTED):
        some, shares = (part[start : start + _COUNTED] for part in (flat, confidence.reshape(-1)))
        pixels += np.bincount(some, minlength=known + 1)
        sums += np.bincount(some, weights=shares, minlength=known + 1)
    entries = [*label_map.classes]
    if vocabulary.other or pixels[0]:
        entries.append(label_map.other)
    return tuple(
        ClassSummary(
            label=entry.id,
            names=entry.names,
            color=entry.color,
            area_share=float(pixels[entry.id] / flat.size),
            mean_score=float(sums[entry.id] / pixels[entry.id]) if pixels[entry.id] else 0.0,
        )
        for entry in entries
    )
