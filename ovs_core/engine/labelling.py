"""From evidence to labels with their names and colours, at the photo's size or another one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ovs_core.devices import Cancel
from ovs_core.edit.record import Edit, apply_edits
from ovs_core.evidence.decide import Labels, decide, summarise
from ovs_core.evidence.protocol import Evidence
from ovs_core.image import display_copy
from ovs_core.options import Preset
from ovs_core.render.palette import colors_for
from ovs_core.types import OTHER, ClassSummary, LabelClass, LabelMap, Vocabulary

MOST_KEPT = 2_000_000
"""Pixels up to which an answer keeps what won: 10 MB, and more than a page shows."""


@dataclass(frozen=True, eq=False)
class Winners:
    """The best class of every pixel before any threshold: a step of that slider starts here.

    Attributes:
        evidence: what they were made of, calibrated.
        scale: of its scores.
        labels: (H, W), 0 = other, k = k-th class.
        confidence: (H, W) float32 in [0, 1].
    """

    evidence: Evidence
    scale: float
    labels: Labels
    confidence: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Labelled:
    """What becomes of evidence.

    Attributes:
        label_map: (H, W).
        confidence: (H, W) in [0, 1].
        classes: the legend.
        winners: to label again with another threshold; None above `MOST_KEPT` pixels.
    """

    label_map: LabelMap
    confidence: NDArray[np.float16]
    classes: tuple[ClassSummary, ...]
    winners: Winners | None


def label(
    evidence: Evidence,
    preset: Preset,
    size: tuple[int, int],
    cancel: Cancel = None,
    known: Winners | None = None,
) -> Labelled:
    """Label map (H, W) of the evidence under a preset, its confidence, and the legend that goes with them.

    Args:
        evidence: calibrated.
        preset: scale and threshold are read.
        size: (H, W).
        cancel: looked at before each tile.
        known: what won in an earlier answer; used where it is that of the same evidence, scale and size.

    Raises:
        Cancelled: if `cancel` was set before the last tile.
    """
    if known is None or known.evidence is not evidence or known.scale != preset.scale:
        known = None
    if known is None or known.labels.shape != size:
        known = Winners(evidence, preset.scale, *decide(evidence, preset.scale, 0.0, size, cancel))
    kept = known if known.labels.size <= MOST_KEPT else None
    labels = known.labels if kept is None else known.labels.copy()
    labels[known.confidence < preset.threshold] = OTHER
    label_map = LabelMap(labels, label_classes(evidence.vocabulary))
    legend = summarise(label_map, known.confidence, evidence.vocabulary)
    return Labelled(label_map, known.confidence.astype(np.float16), legend, kept)


def label_again(
    evidence: Evidence,
    preset: Preset,
    photo: tuple[int, int],
    size: tuple[int, int],
    edits: Sequence[Edit],
    known: Winners | None = None,
) -> Labelled:
    """As `label`, with edits by hand done again: in pixels of the photo (H, W); `size` is the answer's."""
    if not edits:
        return label(evidence, preset, size, known=known)
    whole = label(evidence, preset, photo, known=known)
    label_map = apply_edits(whole.label_map, edits, whole.confidence)
    confidence = whole.confidence
    classes = summarise(label_map, confidence, evidence.vocabulary)
    for axis in (0, 1):
        places = ((np.arange(size[axis]) + 0.5) * (photo[axis] / size[axis])).astype(np.int64)
        label_map = replace(label_map, labels=label_map.labels.take(places, axis))
        confidence = confidence.take(places, axis)
    return Labelled(label_map, confidence, classes, whole.winners)


def label_classes(vocabulary: Vocabulary) -> tuple[LabelClass, ...]:
    """What labels 1..K of a vocabulary are called and look like: one name, one colour, everywhere."""
    colors = colors_for(vocabulary)
    return tuple(
        LabelClass(number, names, color)
        for number, (names, color) in enumerate(zip(vocabulary.classes, colors[1:], strict=True), start=1)
    )


def resized(image: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """A photo (H, W, 3) at another size (H, W).

    Raises:
        ValueError: for a size without pixels.
    """
    if image.shape[:2] == size:
        return image
    if min(size) < 1:
        raise ValueError(f"size must be (H, W) in pixels, each at least 1; got {size}")
    copy = display_copy(image, max(size))
    if copy.shape[:2] == size:
        return copy
    return np.asarray(Image.fromarray(image).resize((size[1], size[0]), Image.Resampling.BILINEAR))
