"""MobileSAM's image encoder: TinyViT, written anew, parameter names as in the official file.

Papers: TinyViT (arXiv 2207.10666), MobileSAM (2306.14289). Official code: ChaoningZhang/MobileSAM 34bbbfd,
`mobile_sam/modeling/tiny_vit_sam.py`. Four stages; the first is convolutional, the others attend within
windows. Unlike the classifier, the last stage is not down-sampled: both last stages have stride 16.
Deviations: the unused classifier (`norm_head`, `head`) is not built. The official module copies its attention
biases when it is put into eval mode, which `build_sam_vit_t` does before it loads the file: without the
second `.eval()` of the README it attends without them. Here what was loaded is what is used.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

OUTPUT_CHANNELS = 256
_EXPANSION = 4  # of channels inside a block, convolutional or not
UNUSED = ("norm_head.", "head.")
"""Prefixes of official parameters that no answer depends on: those of the classifier."""


@dataclass(frozen=True)
class TinyViTConfig:
    """Sizes of the four stages; the defaults are those of `mobile_sam.pt`.

    Attributes:
        widths: channels of each stage.
        depths: blocks of each stage.
        heads: attention heads of each stage; the first stage has no attention.
        windows: side of each stage's attention windows, in cells; not read for the first stage.
        strides: of the three steps from one stage to the next.
        image_size: side of the square padded frame that SAM's decoder expects, in pixels.
    """

    widths: tuple[int, int, int, int] = (64, 128, 160, 320)
    depths: tuple[int, int, int, int] = (2, 2, 6, 2)
    heads: tuple[int, int, int, int] = (2, 4, 5, 10)
    windows: tuple[int, int, int, int] = (7, 7, 14, 7)
    strides: tuple[int, int, int] = (2, 2, 1)
    image_size: int = 1024

    def __post_init__(self) -> None:
        for stage, (width, heads) in enumerate(zip(self.widths, self.heads, strict=True)):
            if stage and width % heads:
                raise ValueError(f"widths[{stage}]={width} must be a multiple of heads[{stage}]={heads}")


class TinyViT(nn.Module):
    """From a normalised frame (B, 3, H, W) to SAM's image embedding (B, 256, H/16, W/16).

    Attributes:
        img_size: what segment-anything asks every image encoder for.
    """

    def __init__(self, config: TinyViTConfig | None = None) -> None:
        from segment_anything.modeling.common import LayerNorm2d  # loads torchvision: only with SAM

        super().__init__()
        config = config or TinyViTConfig()
        self.img_size = config.image_size
        self.patch_embed = PatchEmbed(config.widths[0])
        followers = (*config.widths[1:], None)
        strides = (*config.strides, 1)
        self.layers = nn.ModuleList(
            Stage(
                width,
                following,
                stride=strides[stage],
                depth=config.depths[stage],
                heads=config.heads[stage],
                window=config.windows[stage] if stage else None,
            )
            for stage, (width, following) in enumerate(zip(config.widths, followers, strict=True))
        )
        self.neck = nn.Sequential(
            nn.Conv2d(config.widths[-1], OUTPUT_CHANNELS, 1, bias=False),
            LayerNorm2d(OUTPUT_CHANNELS),
            nn.Conv2d(OUTPUT_CHANNELS, OUTPUT_CHANNELS, 3, padding=1, bias=False),
            LayerNorm2d(OUTPUT_CHANNELS),
        )

    def trunk(self, frame: Tensor) -> Tensor:
        """What the last stage answers, (B, C, h, w)."""
        cells = self.patch_embed(frame)
        for stage in self.layers:
            cells = stage(cells)
        return cells

    def forward(self, frame: Tensor) -> Tensor:
        """The image embedding of a normalised, padded frame."""
        return self.neck(self.trunk(frame))


class NormalisedConv(nn.Module):
    """A convolution without bias (`c`) and its batch norm (`bn`)."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int = 1, *, stride: int = 1, groups: int = 1
    ) -> None:
        super().__init__()
        self.c = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(outputs)

    def forward(self, cells: Tensor) -> Tensor:
        """(B, inputs, h, w) to (B, outputs, h / stride, w / stride)."""
        return self.bn(self.c(cells))


class PatchEmbed(nn.Module):
    """Two convolutions of stride 2: (B, 3, H, W) to (B, width, H/4, W/4)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.seq = nn.Sequential(
            NormalisedConv(3, width // 2, 3, stride=2),
            nn.GELU(),
            NormalisedConv(width // 2, width, 3, stride=2),
        )

    def forward(self, frame: Tensor) -> Tensor:
        """The first cells of a frame."""
        return self.seq(frame)


class Stage(nn.Module):
    """Blocks at one width, then the step to the next stage, if there is one."""

    def __init__(
        self, width: int, following: int | None, *, stride: int, depth: int, heads: int, window: int | None
    ) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            InvertedBottleneck(width) if window is None else WindowBlock(width, heads, window)
            for _ in range(depth)
        )
        self.downsample = None if following is None else PatchMerging(width, following, stride)

    def forward(self, cells: Tensor) -> Tensor:
        """(B, width, h, w) to (B, following, h / stride, w / stride)."""
        for block in self.blocks:
            cells = block(cells)
        return cells if self.downsample is None else self.downsample(cells)


class InvertedBottleneck(nn.Module):
    """MobileNetV2's block with GELU after every convolution, the last one after the sum."""

    def __init__(self, width: int) -> None:
        super().__init__()
        wide = _EXPANSION * width
        self.conv1 = NormalisedConv(width, wide)
        self.conv2 = NormalisedConv(wide, wide, 3, groups=wide)
        self.conv3 = NormalisedConv(wide, width)

    def forward(self, cells: Tensor) -> Tensor:
        """(B, width, h, w) to the same shape."""
        inside = F.gelu(self.conv2(F.gelu(self.conv1(cells))))
        return F.gelu(cells + self.conv3(inside))


class PatchMerging(nn.Module):
    """The step between stages: a change of width around a depth-wise convolution with a stride."""

    def __init__(self, width: int, following: int, stride: int) -> None:
        super().__init__()
        self.conv1 = NormalisedConv(width, following)
        self.conv2 = NormalisedConv(following, following, 3, stride=stride, groups=following)
        self.conv3 = NormalisedConv(following, following)

    def forward(self, cells: Tensor) -> Tensor:
        """(B, width, h, w) to (B, following, h / stride, w / stride)."""
        return self.conv3(F.gelu(self.conv2(F.gelu(self.conv1(cells)))))


class WindowBlock(nn.Module):
    """Attention within windows, a depth-wise convolution across them, and a perceptron."""

    def __init__(self, width: int, heads: int, window: int) -> None:
        super().__init__()
        self.window = window
        self.attn = BiasedAttention(width, heads, window)
        self.local_conv = NormalisedConv(width, width, 3, groups=width)
        self.mlp = Perceptron(width)

    def forward(self, cells: Tensor) -> Tensor:
        """(B, C, h, w) to the same shape."""
        cells = cells + self._attend(cells)
        cells = self.local_conv(cells)
        rows = cells.permute(0, 2, 3, 1)  # (B, h, w, C)
        return (rows + self.mlp(rows)).permute(0, 3, 1, 2)

    def _attend(self, cells: Tensor) -> Tensor:
        """Attention of (B, C, h, w) within windows; zeros fill the last windows below and on the right."""
        batch, width, height, breadth = cells.shape
        side = self.window
        padded = F.pad(cells, (0, -breadth % side, 0, -height % side))
        down, across = padded.shape[2] // side, padded.shape[3] // side
        tokens = padded.view(batch, width, down, side, across, side).permute(0, 2, 4, 3, 5, 1)
        tokens = self.attn(tokens.reshape(-1, side * side, width))  # (B * windows, side * side, C)
        tokens = tokens.view(batch, down, across, side, side, width).permute(0, 5, 1, 3, 2, 4)
        return tokens.reshape(batch, width, down * side, across * side)[:, :, :height, :breadth]


class BiasedAttention(nn.Module):
    """Self-attention whose logits take a learned bias per head and distance of two cells (as LeViT's)."""

    def __init__(self, width: int, heads: int, window: int) -> None:
        super().__init__()
        self.heads, self.window = heads, window
        self.norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.attention_biases = nn.Parameter(torch.zeros(heads, window * window))

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, window * window, C) to the same shape."""
        batch, count, width = tokens.shape
        projected = self.qkv(self.norm(tokens)).view(batch, count, self.heads, -1)
        query, key, value = projected.transpose(1, 2).chunk(3, dim=-1)  # (B, T, L, C / T) each
        bias = self.attention_biases[:, distance_index(self.window).to(tokens.device)]  # (T, L, L)
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=bias)
        return self.proj(mixed.transpose(1, 2).reshape(batch, count, width))


class Perceptron(nn.Module):
    """Norm, four times the width, and back, on the last axis."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.fc1 = nn.Linear(width, _EXPANSION * width)
        self.fc2 = nn.Linear(_EXPANSION * width, width)

    def forward(self, rows: Tensor) -> Tensor:
        """(..., C) to the same shape."""
        return self.fc2(F.gelu(self.fc1(self.norm(rows))))


def distance_index(window: int) -> Tensor:
    """Which learned bias two cells of a window share, (L, L): |rows apart| * window + |columns apart|."""
    row = torch.arange(window).repeat_interleave(window)
    column = torch.arange(window).repeat(window)
    apart = [(place[:, None] - place[None]).abs() for place in (row, column)]
    return apart[0] * window + apart[1]
