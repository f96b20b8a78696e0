"""Padding as TensorFlow does it, for trunks whose weights come from there."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def pad_same(x: Tensor, kernel: int, stride: int, dilation: int) -> Tensor:
    """Zero-pad (B, C, H, W) as TensorFlow's SAME does; an odd row or column goes to the bottom or right."""
    pads: list[int] = []
    for size in (x.shape[-1], x.shape[-2]):
        total = max((-(-size // stride) - 1) * stride + dilation * (kernel - 1) + 1 - size, 0)
        pads += [total // 2, total - total // 2]
    return F.pad(x, pads)
