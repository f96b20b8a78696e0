"""Convolutions padded as TensorFlow does it, for trunks whose weights come from there; and strip by strip.

A padded copy of a map costs more than its depth-wise convolution. So the convolution pads, which it can only
do alike on both sides: where one side has less, it pads a stride more, and what that puts in front of the
first row or column is left out. Numbers are the same.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

STRIP_BYTES = 4 << 20  # of a map that stays in a processor's cache between two convolutions

PerPixel = Callable[[Tensor], Tensor]
"""What makes each pixel of a map (B, C, H, W) of that pixel alone."""


class _Axis(NamedTuple):
    """SAME padding along an axis: how many come out, what goes in front, and what `padding` adds to that."""

    out: int
    front: int
    padding: int
    odd: int


def conv_same(convolution: nn.Conv2d, x: Tensor) -> Tensor:
    """A convolution of (B, C, H, W) zero-padded as TensorFlow's SAME; an odd row goes to the bottom or right.

    Args:
        convolution: square, without padding of its own.
        x: the map.
    """
    down, across = _axes(convolution, x)
    if convolution.groups == 1 and (down.odd or across.odd):  # a photo is small to copy and dear to convolve
        pads = [across.front, across.front + across.odd, down.front, down.front + down.odd]
        return _convolved(convolution, F.pad(x, pads), (0, 0))
    y = _convolved(convolution, x, (down.padding, across.padding))
    return y[:, :, down.odd : down.odd + down.out, across.odd : across.odd + across.out]


def depthwise_same(
    convolution: nn.Conv2d, x: Tensor, before: PerPixel, after: PerPixel, most: int = STRIP_BYTES
) -> Tensor:
    """`after(conv_same(convolution, before(x)))` of a depth-wise convolution, with the same numbers.

    On a CPU it goes strip by strip where what `before` makes, several times as wide as what comes and leaves,
    would not stay in the cache: a block of MobileNetV2 at half of the frame takes a third of the time.

    Args:
        convolution: depth-wise, square, without padding of its own.
        x: the map (B, C, H, W).
        before: done in front of the convolution.
        after: done behind it.
        most: bytes of a strip of what `before` makes.
    """
    down, across = _axes(convolution, x)
    row_bytes = len(x) * convolution.in_channels * x.shape[3] * x.element_size() * convolution.stride[0]
    rows = max(1, most // row_bytes)  # of the output
    if x.device.type != "cpu" or 2 * rows >= down.out:  # strips overlap: two are no gain
        return after(conv_same(convolution, before(x)))
    stride, reach = convolution.stride[0], convolution.dilation[0] * (convolution.kernel_size[0] - 1) + 1
    strips = []
    for top in range(0, down.out, rows):
        bottom = min(top + rows, down.out)
        first = max(0, top - -(-down.front // stride))  # in strides: the grid of the output stays
        last = stride * (bottom - 1) - down.front + reach
        y = _convolved(convolution, before(x[:, :, stride * first : last]), (down.padding, across.padding))
        start = top - first + down.odd
        strips.append(after(y[:, :, start : start + bottom - top, across.odd : across.odd + across.out]))
    return torch.cat(strips, dim=2)


def _axes(convolution: nn.Conv2d, x: Tensor) -> tuple[_Axis, _Axis]:
    kernel, stride, dilation = convolution.kernel_size[0], convolution.stride[0], convolution.dilation[0]
    axes = []
    for size in x.shape[2:]:
        out = -(-size // stride)
        total = max((out - 1) * stride + dilation * (kernel - 1) + 1 - size, 0)
        front, odd = total // 2, total % 2
        axes.append(_Axis(out, front, front + stride * odd, odd))
    return axes[0], axes[1]


def _convolved(convolution: nn.Conv2d, x: Tensor, padding: tuple[int, int]) -> Tensor:
    """The convolution with other padding than it was made with."""
    return F.conv2d(
        x,
        convolution.weight,
        convolution.bias,
        convolution.stride,
        padding,
        convolution.dilation,
        convolution.groups,
    )
