"""Mask pooling: the mean of a map's features inside each mask (FC-CLIP, arXiv 2308.02487)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

_NO_DIVISION_BY_ZERO = 1e-8


def mask_pooling(features: Tensor, masks: Tensor) -> Tensor:
    """Mean feature of the cells where a mask's logit is above 0, (B, N, C); 0 for an empty mask.

    Masks of another size are interpolated as logits first. No gradient goes through them.

    Args:
        features: (B, C, h, w).
        masks: logits, (B, N, h', w').
    """
    inside = (resize_masks(masks.detach(), features.shape[2:]) > 0).to(features.dtype)  # (B, N, h, w)
    weights = inside / (inside.sum(dim=(2, 3), keepdim=True) + _NO_DIVISION_BY_ZERO)
    return weights.flatten(2) @ features.flatten(2).transpose(1, 2)


def resize_masks(masks: Tensor, size: tuple[int, ...]) -> Tensor:
    """Mask logits (B, N, h', w') at another size (h, w), bilinear with half-pixel centres."""
    if masks.shape[2:] == size:
        return masks
    return F.interpolate(masks, size=size, mode="bilinear", align_corners=False)
