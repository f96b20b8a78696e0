"""Sliding windows on the token grid: where they lie, and how their answers are put back together."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from ovs_core.types import Window

Box = tuple[int, int, int, int]
"""(top, left, height, width), in tokens of the whole frame."""


def plan_windows(grid: tuple[int, int], window: int | None, stride: int) -> tuple[Box, ...]:
    """Lay square windows over a token grid, row by row; the last ones are shifted to end at the border.

    Args:
        grid: (h, w) of the frame, in tokens.
        window: side of a window in tokens, clipped to the grid; None is one window over everything.
        stride: step between windows in tokens, 1..window; unused without `window`.

    Raises:
        ValueError: if the grid is empty, or the stride would leave gaps.
    """
    h, w = grid
    if h < 1 or w < 1:
        raise ValueError(f"grid must be at least 1 x 1 tokens, got {grid}")
    if window is None:
        return ((0, 0, h, w),)
    if not 1 <= stride <= window:
        raise ValueError(f"stride must lie in 1..window={window}, got {stride}")
    height, width = min(window, h), min(window, w)
    tops, lefts = _starts(h, height, stride), _starts(w, width, stride)
    return tuple((top, left, height, width) for top in tops for left in lefts)


def accumulate(parts: Iterable[tuple[Box | Window, Tensor]], grid: tuple[int, int]) -> Tensor:
    """Mean of the windows' rows (S, hh, ww) wherever they overlap: one map (S, h, w).

    Parts are read one at a time, so a generator keeps only one window in memory.

    Args:
        parts: where each window lies, and its rows; all of one dtype, on one device.
        grid: (h, w) of the whole frame, in tokens.

    Raises:
        ValueError: if a part does not fit its window, or a token is covered by none.
    """
    h, w = grid
    count = torch.zeros(h, w)
    total: Tensor | None = None
    for where, rows in parts:
        box = (where.top, where.left, *where.grid) if isinstance(where, Window) else where
        top, left, height, width = box
        if rows.ndim != 3 or rows.shape[1:] != (height, width) or top + height > h or left + width > w:
            raise ValueError(f"rows {tuple(rows.shape)} do not fit window {box} on grid {grid}")
        if total is None:
            total = rows.new_zeros(rows.shape[0], h, w)  # (S, h, w)
        total[:, top : top + height, left : left + width] += rows
        count[top : top + height, left : left + width] += 1
    if total is None or not bool(count.all()):
        raise ValueError(f"windows must cover the whole grid {grid}")
    return total / count.to(total)


def _starts(length: int, window: int, stride: int) -> tuple[int, ...]:
    """First tokens of windows along one axis: 0, stride, 2 stride, ..., and length - window."""
    return (*range(0, length - window, stride), length - window)
