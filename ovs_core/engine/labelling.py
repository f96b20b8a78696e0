"""From evidence to labels with their names and colours, at the photo's size or another one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ovs_core.devices import Cancel
from ovs_core.edit.record import Edit, apply_edits
from ovs_core.evidence.decide import decide, summarise
from ovs_core.evidence.protocol import Evidence
from ovs_core.image import display_copy
from ovs_core.options import Preset
from ovs_core.render.palette import colors_for
from ovs_core.types import ClassSummary, LabelClass, LabelMap, Vocabulary


def label(
    evidence: Evidence, preset: Preset, size: tuple[int, int], cancel: Cancel = None
) -> tuple[LabelMap, NDArray[np.float16], tuple[ClassSummary, ...]]:
    """Label map (H, W) of the evidence under a preset, its confidence, and the legend that goes with them.

    Raises:
        Cancelled: if `cancel` was set before the last tile.
    """
    labels, confidence = decide(evidence, preset.scale, preset.threshold, size, cancel)
    label_map = LabelMap(labels, label_classes(evidence.vocabulary))
    return label_map, confidence.astype(np.float16), summarise(label_map, confidence, evidence.vocabulary)


def label_again(
    evidence: Evidence,
    preset: Preset,
    photo: tuple[int, int],
    size: tuple[int, int],
    edits: Sequence[Edit],
) -> tuple[LabelMap, NDArray[np.float16], tuple[ClassSummary, ...]]:
    """As `label`, with edits by hand done again: in pixels of the photo (H, W); `size` is the answer's."""
    if not edits:
        return label(evidence, preset, size)
    label_map, confidence, _ = label(evidence, preset, photo)
    label_map = apply_edits(label_map, edits, confidence)
    classes = summarise(label_map, confidence, evidence.vocabulary)
    for axis in (0, 1):
        places = ((np.arange(size[axis]) + 0.5) * (photo[axis] / size[axis])).astype(np.int64)
        label_map = replace(label_map, labels=label_map.labels.take(places, axis))
        confidence = confidence.take(places, axis)
    return label_map, confidence, classes


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
