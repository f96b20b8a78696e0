"""Where things move between two frames: pyramidal Lucas-Kanade on grey pictures.

Lucas and Kanade (IJCAI 1981); coarse to fine with warping as in Bouguet's note (Intel, 2000). What a level
found is averaged over neighbours before the next one refines it, since single cells err where little is to
be seen. Made for maps of a few hundred cells a side, where it takes milliseconds; flat areas keep the motion
of the coarser level.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

LEVELS, ITERATIONS = 4, 3
WINDOW = 7  # cells a side that share one motion
_NEIGHBOURS = 5  # cells a side that a level's motion is averaged over
_SMALLEST = 12  # cells of the coarsest level's shorter side
_FLAT = 1e-4  # added to the structure tensor: where nothing is to be seen, nothing moves


def optical_flow(before: Tensor, after: Tensor) -> Tensor:
    """Where each cell of `after` was in `before`: offsets (2, h, w) in cells, (x, y).

    Motion is looked for at half the size and below, where pictures are large enough for it: it is no finer
    than the windows that share it, and the full size would take four times as long.

    Args:
        before: a grey picture (h, w) in [0, 1].
        after: the next one.

    Raises:
        ValueError: if they differ in size.
    """
    if before.shape != after.shape or before.ndim != 2:
        raise ValueError(
            f"both pictures must be equal (h, w), got {tuple(before.shape)} and {tuple(after.shape)}"
        )
    levels = [torch.stack([before, after])[None]]  # (1, 2, h, w) each, finest first
    while len(levels) < LEVELS and min(levels[-1].shape[2:]) >= 2 * _SMALLEST:
        levels.append(F.avg_pool2d(levels[-1], 2, ceil_mode=True))
    flow = torch.zeros(2, *levels[-1].shape[2:])
    for level in reversed(levels[1:] or levels):
        flow = _nearer(_resized(flow, (level.shape[2], level.shape[3])), level[0, 0], level[0, 1])
    return _resized(flow, (before.shape[0], before.shape[1]))


def warped(maps: Tensor, flow: Tensor) -> Tensor:
    """Maps (C, h, w) of the frame before, brought to where `flow` (2, h, w) says they are now."""
    height, width = maps.shape[1:]
    x = (torch.arange(width) + 0.5 + flow[0]) * (2 / width) - 1
    y = (torch.arange(height)[:, None] + 0.5 + flow[1]) * (2 / height) - 1
    grid = torch.stack([x, y], dim=2)[None].to(maps)
    return F.grid_sample(maps[None], grid, padding_mode="border", align_corners=False)[0]


def _nearer(flow: Tensor, old: Tensor, new: Tensor) -> Tensor:
    """Flow (2, h, w) after a few Lucas-Kanade steps that bring `old` (h, w), moved, nearer to `new`."""
    for _ in range(ITERATIONS):
        moved = warped(old[None], flow)[0]
        across, down, change = _slope(moved, 1), _slope(moved, 0), new - moved
        products = (across * across, across * down, down * down, across * change, down * change)
        xx, xy, yy, xt, yt = _averaged(torch.stack(products), WINDOW)
        xx, yy = xx + _FLAT, yy + _FLAT
        determinant = xx * yy - xy * xy
        step = torch.stack([yy * xt - xy * yt, xx * yt - xy * xt]) / determinant
        flow = flow + step.clamp(-1, 1)
    return _averaged(flow, _NEIGHBOURS)


def _slope(picture: Tensor, axis: int) -> Tensor:
    """Change of a picture (h, w) per cell along an axis; edges go on as they are."""
    size = picture.shape[axis]
    ahead = picture.index_select(axis, (torch.arange(size) + 1).clamp(max=size - 1))
    behind = picture.index_select(axis, (torch.arange(size) - 1).clamp(min=0))
    return (ahead - behind) / 2


def _averaged(maps: Tensor, side: int) -> Tensor:
    """Means of maps (C, h, w) over the `side` x `side` cells round each one; edges go on as they are."""
    height, width = maps.shape[1:]
    wide = F.pad(maps[None], (side // 2,) * 4, mode="replicate")[0]
    # Shifted maps added up, one axis after the other: many times faster than pooling.
    rows = torch.stack([wide[:, step : step + height] for step in range(side)]).sum(0)
    return torch.stack([rows[:, :, step : step + width] for step in range(side)]).sum(0) / side**2


def _resized(flow: Tensor, size: tuple[int, int]) -> Tensor:
    """The same flow (2, h, w) in cells of another grid."""
    if flow.shape[1:] == size:
        return flow
    wider = torch.tensor([size[1] / flow.shape[2], size[0] / flow.shape[1]])
    larger = F.interpolate(flow[None], size=size, mode="bilinear", align_corners=False)[0]
    return larger * wider[:, None, None]
