"""Sine position encoding of maps (DETR, arXiv 2005.12872, normalised as Mask2Former does)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

TEMPERATURE = 10000
_NO_DIVISION_BY_ZERO = 1e-6


def sine_positions(grid: tuple[int, int], channels: int, device: torch.device) -> Tensor:
    """Encode each cell of a map: (C, h, w) float32, first half its row, second half its column.

    Args:
        grid: (h, w).
        channels: C, divisible by 4: sines and cosines of each axis.
        device: where the answer lives.

    Raises:
        ValueError: if `channels` is not divisible by 4.
    """
    if channels % 4:
        raise ValueError(f"channels must be divisible by 4, got {channels}")
    half = channels // 2
    slot = torch.arange(half, dtype=torch.float32, device=device)
    periods = TEMPERATURE ** (2 * torch.div(slot, 2, rounding_mode="floor") / half)
    axes: list[Tensor] = []
    for cells in grid:
        place = torch.arange(1, cells + 1, dtype=torch.float32, device=device)
        angle = (place / (cells + _NO_DIVISION_BY_ZERO) * (2 * math.pi))[:, None] / periods  # (cells, C/2)
        axes.append(torch.stack([angle[:, 0::2].sin(), angle[:, 1::2].cos()], dim=2).flatten(1))
    rows, columns = axes
    h, w = grid
    both = torch.cat([rows[:, None].expand(h, w, half), columns[None].expand(h, w, half)], dim=2)
    return both.permute(2, 0, 1)  # (C, h, w)
