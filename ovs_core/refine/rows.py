"""What refiners of rows have in common: the grid they work on, and rows a few at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor

from ovs_core.devices import Cancel, Report, advance

_CHUNK_BYTES = 16 << 20


def working_size(image_size: Sequence[int], grid: Sequence[int], max_side: int) -> tuple[int, int]:
    """(H, W) of a working grid: the photo's own size or smaller, but never coarser than the evidence's."""
    scale = min(1.0, max_side / max(image_size))
    height, width = (max(cells, round(side * scale)) for side, cells in zip(image_size, grid, strict=True))
    return height, width


def in_chunks(
    rows: Tensor,
    size: tuple[int, int],
    bytes_per_pixel: int,
    refined: Callable[[Tensor], Tensor],
    progress: Report = None,
    cancel: Cancel = None,
) -> Tensor:
    """All rows (S, h, w) refined, (S, H, W), a few at a time.

    Args:
        rows: one per name.
        size: (H, W) of the working grid.
        bytes_per_pixel: that one row takes there while it is refined.
        refined: (n, H, W) from rows (n, h, w).
        progress: told (rows done, rows in all) after every chunk.
        cancel: looked at before every chunk.

    Raises:
        Cancelled: if `cancel` was set.
    """
    count = max(1, _CHUNK_BYTES // (bytes_per_pixel * size[0] * size[1]))
    answer = rows.new_empty(len(rows), *size)
    advance(0, len(rows), progress, cancel)
    for start in range(0, len(rows), count):
        answer[start : start + count] = refined(rows[start : start + count])
        advance(min(start + count, len(rows)), len(rows), progress, cancel)
    return answer
