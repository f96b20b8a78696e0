"""Sampling of a grid at the pixels of a part of an answer: half-pixel centres, edges repeated."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

# A tile that stays in a processor's cache is several times faster than one that does not.
TILE_WIDTH = 64  # places; a wider tile is made of more samples, most with a weight of zero
_TILE_BYTES_CPU, _TILE_BYTES_ELSEWHERE = 4 << 20, 64 << 20


def tile_bytes(device: torch.device) -> int:
    """Bytes that a tile of float32 values should hold at most."""
    return _TILE_BYTES_CPU if device.type == "cpu" else _TILE_BYTES_ELSEWHERE


def bilinear(start: int, stop: int, length: int, cells: int, device: torch.device) -> tuple[slice, Tensor]:
    """Bilinear weights of pixels start..stop-1 of `length` along an axis of `cells` samples.

    Returns:
        The samples that take part, n of them, and their weights (stop - start, n).
    """
    return _linear(_places(start, stop, length, cells), cells, device)


def bilinear_at_nodes(
    first: int, last: int, cells: int, nodes: int, device: torch.device
) -> tuple[slice, Tensor]:
    """The same of nodes first..last-1 of all; `nodes` lie from each sample to the next, both included."""
    steps = max(nodes - 1, 1)
    whole, part = np.divmod(np.arange(first, last), steps)
    return _linear(whole + _chebyshev_nodes(nodes)[part], cells, device)


def node_count(cells: int, nodes: int) -> int:
    """Nodes along an axis of `cells` samples with `nodes` from each to the next, both included."""
    return (cells - 1) * (nodes - 1) + 1


def from_nodes(start: int, stop: int, length: int, cells: int, nodes: int) -> tuple[slice, Tensor]:
    """Weights that turn values at the nodes of each cell into its polynomial's values at some pixels.

    Returns:
        The nodes that take part, n of them, and their weights (stop - start, n) in float64.
    """
    position = _places(start, stop, length, cells)
    below = np.minimum(position.astype(np.int64), max(cells - 2, 0))
    away = (position - below)[:, None] - _chebyshev_nodes(nodes)
    away[away == 0] = 1e-300  # a pixel on a node takes its value
    signs = (-1.0) ** np.arange(nodes)
    signs[[0, -1]] *= 0.5 if nodes > 1 else 1.0
    shares = signs / away
    shares /= shares.sum(1, keepdims=True)
    first = int(below[0]) * (nodes - 1)
    weights = np.zeros((stop - start, (int(below[-1]) + 1) * (nodes - 1) + 1 - first))
    columns = (below * (nodes - 1) - first)[:, None] + np.arange(nodes)
    np.put_along_axis(weights, columns, shares, 1)
    return slice(first, first + weights.shape[1]), torch.from_numpy(weights)


def _chebyshev_nodes(count: int) -> NDArray[np.float64]:
    """Places of Chebyshev's extrema in [0, 1], both ends included, ascending; of one node: 0."""
    return (1 - np.cos(np.arange(count) * (np.pi / max(count - 1, 1)))) / 2


def _places(start: int, stop: int, length: int, cells: int) -> NDArray[np.float64]:
    """Where pixels lie, in samples."""
    places = (np.arange(start, stop, dtype=np.float64) + 0.5) * (cells / length) - 0.5
    return np.clip(places, 0.0, cells - 1.0)


def _linear(position: NDArray[np.float64], cells: int, device: torch.device) -> tuple[slice, Tensor]:
    """The samples around ascending places, and their weights."""
    below = np.minimum(position.astype(np.int64), max(cells - 2, 0))
    first, last = int(below[0]), min(int(below[-1]) + 1, cells - 1)
    weights = np.zeros((len(position), last - first + 1), np.float32)
    pixel = np.arange(len(position))
    weights[pixel, below - first] = 1 - (position - below)
    if cells > 1:
        weights[pixel, below - first + 1] = position - below
    return slice(first, last + 1), torch.from_numpy(weights).to(device)
