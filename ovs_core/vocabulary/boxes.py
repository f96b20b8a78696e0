"""Boxes that a person draws on a photo: what is one, and which cells of a grid it covers."""

from __future__ import annotations

import math

import torch
from torch import Tensor

Box = tuple[float, float, float, float]
"""(left, top, right, bottom) in pixels of the photo; right and bottom are edges, not last pixels."""


def check_box(box: Box, image_size: tuple[int, int]) -> None:
    """Refuse a box that holds no part of a photo of (H, W) pixels, or reaches out of it.

    Raises:
        ValueError: in one sentence.
    """
    left, top, right, bottom = box
    height, width = image_size
    if not all(map(math.isfinite, box)) or not (left < right and top < bottom):
        raise ValueError(f"The box {_written(box)} has no area; draw it from one corner to the opposite one.")
    if left < 0 or top < 0 or right > width or bottom > height:
        raise ValueError(f"The box {_written(box)} reaches out of the photo of {width} x {height} pixels.")


def box_coverage(box: Box, image_size: tuple[int, int], grid: tuple[int, int]) -> Tensor:
    """How much of each cell of a grid (h, w) over a photo (H, W) a box covers, (h, w) in [0, 1].

    Raises:
        ValueError: for a box of no area or outside the photo.
    """
    check_box(box, image_size)
    left, top, right, bottom = box
    down = _overlap(top, bottom, image_size[0], grid[0])
    across = _overlap(left, right, image_size[1], grid[1])
    return down[:, None] * across


def _overlap(start: float, stop: float, length: int, cells: int) -> Tensor:
    """Part of each of `cells` equal cells of an axis that lies between two places, (cells,) in [0, 1]."""
    edges = torch.arange(cells + 1, dtype=torch.float64) * (length / cells)
    covered = edges[1:].clamp(max=stop) - edges[:-1].clamp(min=start)
    return (covered.clamp(min=0) * (cells / length)).float()


def _written(box: Box) -> str:
    """A box for a sentence."""
    return "(" + ", ".join(f"{number:g}" for number in box) + ")"
