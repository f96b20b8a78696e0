"""Places of a photo on token grids: which token lies under a point, and maps of one place from windows."""

from __future__ import annotations

from torch import Tensor

from ovs_core.methods.base import check_point
from ovs_core.types import Window


def cell_of(point: tuple[float, float], grid: tuple[int, int]) -> tuple[int, int]:
    """Token (row, column) of the frame under a point of the photo, both in [0, 1]."""
    check_point(point)
    row, column = point
    return min(int(row * grid[0]), grid[0] - 1), min(int(column * grid[1]), grid[1] - 1)


def token_of(window: Window, cell: tuple[int, int]) -> int | None:
    """Index of a frame's token in a window, whose class token is 0; None if the window does not hold it."""
    row, column = cell[0] - window.top, cell[1] - window.left
    height, width = window.grid
    return 1 + row * width + column if 0 <= row < height and 0 <= column < width else None


def mean_where_seen(parts: list[tuple[Window, Tensor]], grid: tuple[int, int]) -> Tensor:
    """Mean of maps (M, h, w) over the windows that hold a place, 0 where none does, on the frame's grid."""
    total, count = (parts[0][1].new_zeros(maps, *grid) for maps in (len(parts[0][1]), 1))
    for window, part in parts:
        height, width = window.grid
        rows, columns = slice(window.top, window.top + height), slice(window.left, window.left + width)
        total[:, rows, columns] += part
        count[:, rows, columns] += 1
    return total / count.clamp(min=1)
