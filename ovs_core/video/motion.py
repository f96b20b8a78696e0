"""Where things move between two frames: pyramidal Lucas-Kanade on grey pictures.

Lucas and Kanade (IJCAI 1981); coarse to fine with warping as in Bouguet's note (Intel, 2000). Made for maps
of a few hundred cells a side, where it takes milliseconds; flat areas keep the motion of the coarser level.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

LEVELS, ITERATIONS = 4, 3
WINDOW = 7  # cells a side that share one motion
_SMALLEST = 12  # cells of the coarsest level's shorter side
_FLAT = 1e-4  # added to the structure tensor: where nothing is to be seen, nothing moves


def optical_flow(before: Tensor, after: Tensor) -> Tensor:
    """Where each cell of `after` was in `before`: offsets (2, h, w) in cells, (x, y).

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
    pyramid = [(before[None, None], after[None, None])]
    while len(pyramid) < LEVELS and min(pyramid[-1][0].shape[2:]) >= 2 * _SMALLEST:
        pyramid.append(tuple(F.avg_pool2d(picture, 2, ceil_mode=True) for picture in pyramid[-1]))  # type: ignore[arg-type]
    flow = torch.zeros(1, 2, *pyramid[-1][0].shape[2:])
    for old, new in reversed(pyramid):
        size = (old.shape[2], old.shape[3])
        if flow.shape[2:] != size:
            wider = torch.tensor([size[1] / flow.shape[3], size[0] / flow.shape[2]])
            flow = F.interpolate(flow, size=size, mode="bilinear", align_corners=False)
            flow = flow * wider.view(1, 2, 1, 1)
        for _ in range(ITERATIONS):
            flow = flow + _step(warped(old[0], flow[0])[None], new)
    return flow[0]


def warped(maps: Tensor, flow: Tensor) -> Tensor:
    """Maps (C, h, w) of the frame before, brought to where `flow` (2, h, w) says they are now."""
    height, width = maps.shape[1:]
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    x = (2 * (columns + flow[0]) + 1) / width - 1
    y = (2 * (rows + flow[1]) + 1) / height - 1
    grid = torch.stack([x, y], dim=2)[None].to(maps)
    return F.grid_sample(maps[None], grid, padding_mode="border", align_corners=False)[0]


def _step(old: Tensor, new: Tensor) -> Tensor:
    """One Lucas-Kanade step: offsets (1, 2, h, w) that bring `old` (1, 1, h, w) nearer to `new`."""
    across = (F.pad(old, (1, 1, 0, 0), mode="replicate")[..., 2:] - _left(old)) / 2
    down = (F.pad(old, (0, 0, 1, 1), mode="replicate")[..., 2:, :] - _above(old)) / 2
    change = new - old
    products = torch.cat([across * across, across * down, down * down, across * change, down * change], dim=1)
    xx, xy, yy, xt, yt = F.avg_pool2d(
        F.pad(products, (WINDOW // 2,) * 4, mode="replicate"), WINDOW, stride=1
    ).unbind(dim=1)
    xx, yy = xx + _FLAT, yy + _FLAT
    determinant = xx * yy - xy * xy
    step = torch.stack([yy * xt - xy * yt, xx * yt - xy * xt], dim=1) / determinant[:, None]
    return step.clamp(-1, 1)


def _left(old: Tensor) -> Tensor:
    return F.pad(old, (1, 0, 0, 0), mode="replicate")[..., :-1]


def _above(old: Tensor) -> Tensor:
    return F.pad(old, (0, 0, 1, 0), mode="replicate")[..., :-1, :]
