"""Regions of a photo alone, on grey: what CLIP is shown where each mask is named by a picture of its own.

GKC's teacher sees them in training (arXiv 2303.09181: outside the mask grey, the mask's box, CLIP's global
vector); two-stage methods (SimBaseline, arXiv 2112.14757; OVSeg, 2210.04150) run CLIP on one per mask.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

CROP_SIDE = 224
OUTSIDE = 128  # grey, in 0..255


def region_crop(
    pixels: NDArray[np.uint8], mask: NDArray[np.bool_], side: int = CROP_SIDE
) -> NDArray[np.uint8]:
    """One region on grey, (side, side, 3): the mask's box, stretched to a square (bicubic).

    Args:
        pixels: photo, (H, W, 3).
        mask: (H, W) True inside.
        side: of the crop, in pixels.

    Raises:
        ValueError: if the mask is empty or of another size.
    """
    if mask.shape != pixels.shape[:2] or not mask.any():
        raise ValueError(
            f"mask must be {pixels.shape[:2]} with a pixel in it, got {mask.shape}, {mask.sum()} pixels"
        )
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    box = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
    alone = np.where(mask[box][..., None], pixels[box], np.uint8(OUTSIDE))
    return np.asarray(Image.fromarray(alone).resize((side, side), Image.Resampling.BICUBIC))


def region_crops(pixels: NDArray[np.uint8], masks: NDArray[np.bool_], side: int = CROP_SIDE) -> Tensor:
    """Crops of several regions (n, H, W) as pixels in [0, 1], (n, 3, side, side)."""
    if not len(masks):
        return torch.zeros(0, 3, side, side)
    crops = np.stack([region_crop(pixels, mask, side) for mask in masks])
    return torch.from_numpy(crops).permute(0, 3, 1, 2).float() / 255
