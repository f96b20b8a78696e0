"""A small segmenter of materials: what ADE20K calls wall, floor, grass, water, for the embedded model's stem.

MOSAIC (arXiv 2112.11623; Apache-2.0): an inverted-residual trunk of output stride 16 whose last stage is
dilated, a context head that averages over windows of three sizes ("multi-kernel group convolution"), and a
decoder that takes finer features in at strides 8 and 4. Batch norms are folded in. Sums of what two
rectified paths say are the logits, so none is below zero.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ovs_core.encoders.padding import conv_same, depthwise_same

# (hidden channels, kernel, stride, dilation, channels that leave) of each inverted residual.
BLOCKS = (
    (96, 3, 2, 1, 32),
    (64, 3, 1, 1, 32),
    (160, 5, 2, 1, 64),
    (192, 3, 1, 1, 64),
    (128, 3, 1, 1, 64),
    (192, 3, 1, 1, 64),
    (384, 5, 2, 1, 128),
    (384, 3, 1, 1, 128),
    (384, 3, 1, 1, 128),
    (384, 3, 1, 1, 128),
    (768, 3, 1, 1, 160),
    (640, 3, 1, 1, 160),
    (960, 3, 1, 1, 192),
    (384, 5, 1, 2, 96),
    (384, 5, 1, 2, 96),
    (384, 5, 1, 2, 96),
)
STEM = 32
QUARTER_BLOCK, EIGHTH_BLOCK = 1, 5  # whose hidden maps the decoder reads
TOP = 448
WINDOWS = (8, 4, 2)  # cells of stride 16
KERNELS = (3, 5)  # of the two halves of the averaged channels
GROUP = 64  # channels that each of them becomes
CONTEXT, DECODED = 128, 64  # channels of the context head, of the decoder at stride 8


class Materials(NamedTuple):
    """What the network says of pixels (B, 3, H, W), sides rounded up.

    Attributes:
        context: features (B, 128, H/16, W/16).
        decoded: features (B, 64, H/8, W/8).
        logits: (B, K, H/4, W/4), K names of which the first is "none of them".
    """

    context: Tensor
    decoded: Tensor
    logits: Tensor


class _Block(nn.Module):
    """1x1 expand, k x k depth-wise, 1x1 project without activation, and a short cut where shapes agree."""

    def __init__(
        self, inputs: int, hidden: int, kernel: int, stride: int, dilation: int, outputs: int
    ) -> None:
        super().__init__()
        self.expand = nn.Conv2d(inputs, hidden, 1)
        self.depthwise = nn.Conv2d(hidden, hidden, kernel, stride, dilation=dilation, groups=hidden)
        self.project = nn.Conv2d(hidden, outputs, 1)
        self.short_cut = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The map that leaves, and the hidden one after the depth-wise convolution."""
        hidden = depthwise_same(self.depthwise, x, lambda rows: F.relu(self.expand(rows)), F.relu)
        leaving = self.project(hidden)
        return (x + leaving if self.short_cut else leaving), hidden


class Mosaic(nn.Module):
    """MOSAIC with `names` outputs.

    Args:
        names: classes, "none of them" included.
    """

    def __init__(self, names: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, STEM, 3, 2)
        channels = [STEM, *(block[-1] for block in BLOCKS)]
        self.blocks = nn.ModuleList(
            _Block(inputs, *block) for inputs, block in zip(channels, BLOCKS, strict=False)
        )
        self.top = nn.Conv2d(channels[-1], TOP, 1)
        half = TOP // len(KERNELS)
        groups = [kernel for _ in WINDOWS for kernel in KERNELS]
        self.depthwise = nn.ModuleList(nn.Conv2d(half, half, k, padding=k // 2, groups=half) for k in groups)
        self.pointwise = nn.ModuleList(nn.Conv2d(half, GROUP, 1) for _ in groups)
        self.context = nn.Conv2d(GROUP * len(groups) + TOP, CONTEXT, 1)
        self.eighth = nn.Conv2d(CONTEXT + BLOCKS[EIGHTH_BLOCK][0], DECODED, 1)
        self.decoder_depthwise = nn.Conv2d(DECODED, DECODED, 3, padding=1, groups=DECODED)
        self.decoder_pointwise = nn.Conv2d(DECODED, names, 1)
        self.quarter = nn.Conv2d(BLOCKS[QUARTER_BLOCK][0], names, 1)

    def forward(self, x: Tensor) -> Materials:
        """What is seen in (B, 3, H, W), RGB in [-1, 1]."""
        x = F.relu(conv_same(self.stem, x))
        quarter = eighth = x
        for index, block in enumerate(self.blocks):
            x, hidden = block(x)
            if index == QUARTER_BLOCK:
                quarter = F.relu(self.quarter(hidden))
            if index == EIGHTH_BLOCK:
                eighth = hidden
        context = F.relu(self.context(self.around(F.relu(self.top(x)))))
        wide = torch.cat([stretched(context, 2, eighth), eighth], dim=1)
        decoded = F.relu(self.eighth(wide))
        coarse = F.relu(self.decoder_pointwise(F.relu(self.decoder_depthwise(decoded))))
        return Materials(context, decoded, quarter + stretched(coarse, 2, quarter))

    def around(self, x: Tensor) -> Tensor:
        """(B, 448, h, w) with what windows of three sizes say in front, (B, 832, h, w)."""
        parts: list[Tensor] = []
        convolutions = iter(zip(self.depthwise, self.pointwise, strict=True))
        for window in WINDOWS:
            halves = F.avg_pool2d(x, window, ceil_mode=True, count_include_pad=False).chunk(
                len(KERNELS), dim=1
            )
            convolved = []
            for half in halves:
                depthwise, pointwise = next(convolutions)
                convolved.append(F.relu(pointwise(F.relu(depthwise(half)))))
            parts.append(stretched(torch.cat(convolved, dim=1), window, x))
        return torch.cat([*parts, x], dim=1)


def stretched(x: Tensor, factor: int, like: Tensor) -> Tensor:
    """`x` (B, C, h, w) interpolated to the sides of `like`: cell i of those takes after cell i / factor.

    So the first cells lie on each other and not the middles ("asymmetric" in ONNX's words), as in the network
    that the weights come from.
    """
    for axis in (2, 3):
        at = torch.arange(like.shape[axis], device=x.device) / factor
        low = at.floor().long().clamp(max=x.shape[axis] - 1)
        high = (low + 1).clamp(max=x.shape[axis] - 1)
        part = (at - low).clamp(0, 1).to(x.dtype)
        part = part[:, None] if axis == 2 else part
        x = x.index_select(axis, low).lerp(x.index_select(axis, high), part)
    return x
