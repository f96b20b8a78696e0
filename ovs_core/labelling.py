"""From evidence to labels with their legend, at the photo's size or another one."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ovs_core.image import display_copy
from ovs_core.render.palette import colors_for
from ovs_core.scores import decide, summarise
from ovs_core.types import ClassSummary, Evidence, Preset


def label(
    score_map: Evidence, preset: Preset, size: tuple[int, int]
) -> tuple[NDArray[np.uint8] | NDArray[np.uint16], tuple[ClassSummary, ...]]:
    """Labels (H, W) of the evidence under a preset, and the legend that goes with them."""
    labels, share = decide(score_map, preset, size)
    vocabulary = score_map.vocabulary
    return labels, summarise(labels, share, vocabulary, colors_for(vocabulary))


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
