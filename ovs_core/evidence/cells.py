"""The best name of every pixel where a cell of the grid spans many pixels: large photos, long vocabularies.

Inside a cell, between four neighbouring samples, scores are bilinear in the place. Two things follow that
spare most of the work, both within rounding:

* A name that another one exceeds at all samples around a block is beaten everywhere in it: few names are left
  to compare pixel by pixel.
* The denominator of the soft-max is a sum of exponentials of bilinear functions. Divided by the exponential
  of the samples' maxima, interpolated too, it is so smooth that its values at a few Chebyshev nodes of each
  cell give it everywhere by polynomial interpolation (Trefethen, Approximation Theory and Approximation
  Practice, ch. 8); how many nodes follows from how much scores change within a cell.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from ovs_core.devices import Cancel, stop_if_cancelled
from ovs_core.evidence.base import Decided, best_labels
from ovs_core.evidence.sampling import (
    TILE_WIDTH,
    bilinear,
    bilinear_at_nodes,
    from_nodes,
    node_count,
    tile_bytes,
)

_BLOCK = 256  # pixels, each way
_LEAST_CELL = 8  # pixels each way; of smaller ones not even the changes are worth a look
_PIXELS_PER_NODE = 1.5  # along an axis; with fewer the detour costs as much as it spares
_PRECISION = 1e-6  # of a term of the denominator, relative to the largest
_DIP = 0.02  # a denominator that falls further within a cell would show the rounding of where it is large
_ROWS = 64  # at a time
_BEATEN_BY = 1e-4  # scaled scores; far above the rounding of an interpolated one


def nodes_for(rows: Tensor, scale: float, size: tuple[int, int]) -> tuple[int, int] | None:
    """Chebyshev nodes of a cell, down and across, for rows (S, h, w); None where tiles are quicker.

    Args:
        rows: scores of names.
        scale: of them.
        size: (H, W) of the answer in pixels.
    """
    if rows.device.type != "cpu":  # there many small steps cost more than a few large ones
        return None
    grid = (rows.shape[1], rows.shape[2])
    if any(length < _LEAST_CELL * cells for length, cells in zip(size, grid, strict=True)):
        return None
    changes = scale * _changes(rows)
    nodes = [_nodes(change) if cells > 1 else 1 for change, cells in zip(changes.tolist(), grid, strict=True)]
    counts = [node_count(cells, count) for cells, count in zip(grid, nodes, strict=True)]
    if any(length < _PIXELS_PER_NODE * count for length, count in zip(size, counts, strict=True)):
        return None
    return nodes[0], nodes[1]


def _changes(rows: Tensor) -> Tensor:
    """Largest change of a row, less the best of all rows, from one sample to the next: (down, across)."""
    best, most = rows.amax(0).float(), torch.zeros(2)
    for some in torch.split(rows, _ROWS):  # differences of all at once would be as large as the evidence
        below = some.float() - best
        for axis in (0, 1):
            change = below.diff(dim=axis + 1).abs_()
            if change.numel():
                most[axis] = torch.maximum(most[axis], change.max())
    return most


def decide_by_cells(
    rows: Tensor,
    scale: float,
    size: tuple[int, int],
    row_labels: Sequence[int],
    nodes: tuple[int, int],
    cancel: Cancel = None,
) -> Iterator[Decided]:
    """Yield the best label of every pixel and the soft-max of its name, block by block.

    Args:
        rows: (S, h, w) scores of names.
        scale: multiplies them.
        size: (H, W) of the answer in pixels.
        row_labels: label of each row.
        nodes: by `nodes_for`.
        cancel: looked at before each block.

    Raises:
        Cancelled: if `cancel` was set.
    """
    best = rows.amax(0).float() * scale
    total = _at_nodes(rows, scale, nodes, cancel)
    rough = _rough(total, nodes)
    total = total.double()
    parts = zip(size, rows.shape[1:], nodes, strict=True)
    down, across = ([_part(start, *axis) for start in range(0, axis[0], _BLOCK)] for axis in parts)
    for upright in down:
        for level in across:
            stop_if_cancelled(cancel)
            samples = (upright.samples, level.samples)
            smooth = not bool(rough[samples].any())
            around = rows[:, upright.samples, level.samples].float() * scale
            left = _unbeaten(around) if smooth else torch.arange(len(rows))
            labels_left, around = [row_labels[row] for row in left.tolist()], around[left]
            for lines in upright.bands(len(left) * len(level.weights)):
                scores = lines.weights @ around @ level.weights.T
                winner = scores.amax(0)
                scores -= winner
                labels = best_labels(scores, 0.0, labels_left)
                if smooth:
                    peak = lines.weights @ best[samples] @ level.weights.T
                    around_nodes = total[lines.nodes, level.nodes]
                    shares = lines.from_nodes @ around_nodes @ level.from_nodes.T
                    confidence = (winner - peak).exp_() / shares.float()
                else:
                    confidence = scores.exp_().sum(0).reciprocal_()
                yield Decided(lines.start, level.start, labels, confidence)


@dataclass(frozen=True, eq=False)
class _Part:
    """Some pixels of an axis.

    Attributes:
        start: the first.
        samples: those around them.
        weights: (pixels, samples) bilinear.
        nodes: those around them.
        from_nodes: (pixels, nodes) float64, from values at the nodes to the pixels.
    """

    start: int
    samples: slice
    weights: Tensor
    nodes: slice
    from_nodes: Tensor

    def bands(self, values: int) -> Iterator[_Part]:
        """The same in parts that stay in the cache, `values` being compared for each pixel."""
        step = max(1, tile_bytes(self.weights.device) // (4 * values))
        for first in range(0, len(self.weights), step):
            some = slice(first, first + step)
            yield replace(
                self,
                start=self.start + first,
                weights=self.weights[some],
                from_nodes=self.from_nodes[some],
            )


def _part(start: int, length: int, cells: int, nodes: int) -> _Part:
    """The block that begins at a pixel of an axis of `length` pixels and `cells` samples."""
    stop = min(start + _BLOCK, length)
    samples = bilinear(start, stop, length, cells, torch.device("cpu"))
    return _Part(start, *samples, *from_nodes(start, stop, length, cells, nodes))


def _at_nodes(rows: Tensor, scale: float, nodes: tuple[int, int], cancel: Cancel) -> Tensor:
    """Sum over names of the exponential of what each lies below the best, at all nodes of all cells."""
    names, h, w = rows.shape
    height, width = node_count(h, nodes[0]), node_count(w, nodes[1])
    total = torch.empty(height, width)
    room = max(1, tile_bytes(rows.device) // (4 * names))
    columns = min(width, room, TILE_WIDTH)
    lines = max(1, room // columns)
    strips = [
        (left, *bilinear_at_nodes(left, min(left + columns, width), w, nodes[1], rows.device))
        for left in range(0, width, columns)
    ]
    for top in range(0, height, lines):
        stop_if_cancelled(cancel)
        rows_at, down = bilinear_at_nodes(top, min(top + lines, height), h, nodes[0], rows.device)
        part = rows[:, rows_at].float()
        band = down @ ((part - part.amax(0)) * scale)
        for left, columns_at, across in strips:
            there = (slice(top, top + len(down)), slice(left, left + len(across)))
            total[there] = (band[:, :, columns_at] @ across.T).exp_().sum(0)
    return total


def _rough(total: Tensor, nodes: tuple[int, int]) -> Tensor:
    """(h - 1, w - 1), at least 1 each: cells whose denominator falls too far to be interpolated."""
    kernel, stride = nodes, (max(nodes[0] - 1, 1), max(nodes[1] - 1, 1))
    most = F.max_pool2d(total[None], kernel, stride)[0]
    return -F.max_pool2d(-total[None], kernel, stride)[0] < _DIP * most


def _unbeaten(around: Tensor) -> Tensor:
    """Rows (R,) in order of (S, a, b) that no winner at a sample beats at every sample."""
    flat = around.flatten(1)
    wins = torch.zeros(len(flat), dtype=torch.bool)
    wins[flat.argmax(0)] = True
    wins[flat.mean(1).argmax()] = True
    beaten = torch.zeros_like(wins)
    for winner in flat[wins]:
        beaten |= (winner - flat > _BEATEN_BY).all(1)
    return (~beaten).nonzero()[:, 0]


def _nodes(change: float) -> int:
    """Chebyshev nodes by which exp(-change * u), u in [0, 1], is off by less than `_PRECISION`.

    With n + 1 of them the error is about 4 exp(-change / 2) I_(n + 1)(change / 2), I the modified Bessel
    function, which is at most (change / 4)^n / n! exp(change^2 / (16 (n + 1))).
    """
    degree = 1
    while change and (
        math.log(4) + (degree + 1) * math.log(change / 4) - math.lgamma(degree + 2)
        + change**2 / (16 * (degree + 2)) - change / 2
    ) > math.log(_PRECISION):  # fmt: skip
        degree += 1
    return degree + 1
