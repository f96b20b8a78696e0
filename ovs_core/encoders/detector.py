"""A small object detector's trunk: what is where, by name, for the embedded model's stem.

NanoDet-g (Apache-2.0): a CSP network of plain 3 x 3 convolutions, lateral 1 x 1 convolutions, a path down and
one up again by interpolation, and one small head for each stride (8, 16, 32), whose outputs say how sure the
detector is that a thing of each class has its middle near a cell (generalised focal loss, arXiv 2006.04388).
Its boxes are left out: nothing here needs them. Batch norms are folded in, and so is the scaling of pixels.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SLOPE = 0.1  # of its leaky ReLU below zero
WIDTH = 128  # channels of the neck and the heads
# Inputs, width, stride and repeats of each stage.
STAGES = ((32, 32, 1, 1), (64, 64, 2, 2), (128, 128, 2, 2), (256, 256, 2, 3))
STRIDES = (8, 16, 32)


class Detected(NamedTuple):
    """What the detector says at strides 8, 16 and 32 of the frame, finest first.

    Attributes:
        hidden: features (B, 128, H/s, W/s) of each head, sides rounded up.
        logits: (B, K, H/s, W/s) of its K names.
    """

    hidden: tuple[Tensor, ...]
    logits: tuple[Tensor, ...]


def _same(inputs: int, outputs: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, stride, padding=1)


def _active(x: Tensor) -> Tensor:
    return F.leaky_relu(x, SLOPE, inplace=True)


class CspStage(nn.Module):
    """Cross-stage partial blocks: each halves its input twice and puts both halves side by side.

    Args:
        inputs: channels that enter.
        width: channels inside; twice as many leave.
        stride: of the first convolution.
        repeats: blocks.
    """

    def __init__(self, inputs: int, width: int, stride: int, repeats: int) -> None:
        super().__init__()
        self.first = _same(inputs, width, stride)
        self.blocks = nn.ModuleList(
            nn.Sequential(_same(width, width // 2), _same(width // 2, width // 2)) for _ in range(repeats)
        )
        self.last = _same(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) to (B, 2 width, H / stride, W / stride), sides rounded up."""
        start = _active(self.first(x))
        x = start
        for block in self.blocks:
            depthwise, pointwise = block.children()
            half = _active(depthwise(x))
            x = torch.cat([_active(pointwise(half)), half], dim=1)
        return torch.cat([_active(self.last(x)), start], dim=1)


class Detector(nn.Module):
    """NanoDet-g without its boxes.

    Args:
        names: classes that its heads know.
    """

    def __init__(self, names: int) -> None:
        super().__init__()
        self.stem = _same(3, STAGES[0][0], 2)
        self.stages = nn.ModuleList(CspStage(*stage) for stage in STAGES)
        self.lateral = nn.ModuleList(nn.Conv2d(2 * width, WIDTH, 1) for _, width, _, _ in STAGES[1:])
        self.heads = nn.ModuleList(_same(WIDTH, WIDTH) for _ in STRIDES)
        self.classifiers = nn.ModuleList(nn.Conv2d(WIDTH, names, 1) for _ in STRIDES)

    def forward(self, x: Tensor) -> Detected:
        """What is found in (B, 3, H, W), RGB in [-1, 1]."""
        x = F.max_pool2d(_active(self.stem(x)), 3, 2, 1)
        maps: list[Tensor] = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        fine, middle, coarse = (lateral(x) for lateral, x in zip(self.lateral, maps[1:], strict=True))
        middle = middle + _like(coarse, middle)
        fine = fine + _like(middle, fine)
        middle = middle + _like(fine, middle)
        coarse = coarse + _like(middle, coarse)
        hidden = tuple(_active(head(x)) for head, x in zip(self.heads, (fine, middle, coarse), strict=True))
        logits = tuple(classify(x) for classify, x in zip(self.classifiers, hidden, strict=True))
        return Detected(hidden, logits)


def at_sixteenth(detected: Detected) -> tuple[Tensor, Tensor]:
    """Features (B, 384, h, w) and beliefs (B, K, h, w) in [0, 1] on the grid of stride 16.

    A name's belief is the surest of the three strides; it does not sum to 1: there may be nothing to name.
    """
    fine, middle, coarse = detected.hidden
    hidden = [F.avg_pool2d(fine, 2, ceil_mode=True), middle, _like(coarse, middle)]
    fine, middle, coarse = detected.logits
    logits = torch.stack([F.max_pool2d(fine, 2, ceil_mode=True), middle, _like(coarse, middle)])
    return torch.cat(hidden, dim=1), logits.amax(dim=0).sigmoid()


def _like(x: Tensor, other: Tensor) -> Tensor:
    """`x` interpolated to the sides of `other`."""
    return F.interpolate(x, size=other.shape[2:], mode="bilinear", align_corners=False)
