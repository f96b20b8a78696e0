"""Learnt positions of a vision transformer, for grids of any size."""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

PositionMode = Literal["bicubic", "bilinear"]


def resize_positions(
    positions: Tensor,
    grid: tuple[int, int],
    *,
    mode: PositionMode = "bicubic",
    naclip_scale_factor: bool = False,
) -> Tensor:
    """Positions (1 + g*g, C) of a square training grid for another grid: (1 + h*w, C), class row unchanged.

    Args:
        positions: class row first, then patches row-major.
        grid: (h, w) wanted, in tokens. The training grid itself gives `positions` back.
        mode: interpolation, half-pixel centres.
        naclip_scale_factor: sample at steps of g / (h + 0.1) and g / (w + 0.1) as NACLIP's official code
            does, instead of g / h and g / w. No encoder here is set so: towers are shared by methods, and the
            published windows of 224 pixels are the training grid, where both are the same. It is what other
            sizes of its code's answers are compared by.

    Raises:
        ValueError: if the rows are not 1 + a square number.
    """
    side = math.isqrt(len(positions) - 1)
    if side < 1 or side * side != len(positions) - 1:
        raise ValueError(f"positions must have 1 + g*g rows, got {len(positions)}")
    if grid == (side, side):
        return positions
    patches = positions[1:].float().T.reshape(1, -1, side, side)  # (1, C, g, g)
    if naclip_scale_factor:
        factors = [(n + 0.1) / side for n in grid]
        patches = F.interpolate(patches, scale_factor=factors, mode=mode, align_corners=False)
    else:
        patches = F.interpolate(patches, size=grid, mode=mode, align_corners=False)
    return torch.cat([positions[:1], patches[0].flatten(1).T.to(positions.dtype)])  # (1 + h*w, C)
