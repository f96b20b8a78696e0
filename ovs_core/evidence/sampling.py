"""Bilinear sampling of a grid, one tile at a time: half-pixel centres, edges repeated."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

# A tile that stays in a processor's cache is several times faster than one that does not.
_TILE_BYTES_CPU, _TILE_BYTES_ELSEWHERE = 4 << 20, 64 << 20


def tile_bytes(device: torch.device) -> int:
    """Bytes that a tile of float32 values should hold at most."""
    return _TILE_BYTES_CPU if device.type == "cpu" else _TILE_BYTES_ELSEWHERE


def bilinear(start: int, stop: int, length: int, cells: int, device: torch.device) -> tuple[slice, Tensor]:
    """Bilinear weights of pixels start..stop-1 of `length` along an axis of `cells` samples.

    Returns:
        The samples that take part, n of them, and their weights (stop - start, n).
    """
    position = (np.arange(start, stop) + 0.5) * (cells / length) - 0.5
    position = position.clip(0, cells - 1)
    below = np.minimum(position.astype(np.int64), max(cells - 2, 0))
    first, last = int(below[0]), min(int(below[-1]) + 1, cells - 1)
    weights = np.zeros((stop - start, last - first + 1), np.float32)
    pixel = np.arange(stop - start)
    weights[pixel, below - first] = 1 - (position - below)
    if cells > 1:
        weights[pixel, below - first + 1] = position - below
    return slice(first, last + 1), torch.from_numpy(weights).to(device)
