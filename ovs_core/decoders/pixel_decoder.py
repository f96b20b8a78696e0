"""The pixel decoder of Mask2Former: a tower's pyramid becomes three levels of memory and one fine map.

Paper: Mask2Former (arXiv 2112.01527); used unchanged by FC-CLIP (2308.02487) and MAFT+
(2408.00744). Transformer layers with deformable attention mix the three coarse maps; the middle one of them,
upsampled, meets the finest map of the tower. Module names are the official ones, so that official weights
load without a dictionary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ovs_core.decoders.deformable import DeformableAttention, Shape
from ovs_core.decoders.positions import sine_positions

GROUPS = 32  # of every group normalisation
LEVELS = 3  # coarse maps that the transformer mixes


@dataclass(frozen=True)
class PixelDecoderConfig:
    """Sizes of a pixel decoder.

    Attributes:
        inputs: channels of the tower's four maps, finest first (strides 4, 8, 16, 32).
        width: channels of everything that comes out; divisible by 32 and above it.
        feedforward: hidden channels of a layer.
        layers: transformer layers.
        heads: attention heads.
        points: places each head looks at on each map.
    """

    inputs: tuple[int, int, int, int]
    width: int = 256
    feedforward: int = 1024
    layers: int = 6
    heads: int = 8
    points: int = 4

    def __post_init__(self) -> None:
        # A group of one channel cannot be normalised on a map of one cell.
        if self.width % GROUPS or self.width % self.heads or self.width == GROUPS:
            raise ValueError(
                f"width must be divisible by {GROUPS} and by heads={self.heads} and above {GROUPS}, "
                f"got {self.width}"
            )


class DecodedPixels(NamedTuple):
    """What the pixel decoder says of a picture.

    Attributes:
        levels: three maps (B, C, h, w), coarsest first (strides 32, 16, 8).
        mask_features: (B, C, H/4, W/4), which masks are made of.
    """

    levels: tuple[Tensor, ...]
    mask_features: Tensor


class ConvNorm(nn.Conv2d):
    """A convolution without bias, then a group normalisation."""

    def __init__(self, inputs: int, outputs: int, kernel: int) -> None:
        super().__init__(inputs, outputs, kernel, padding=kernel // 2, bias=False)
        self.norm = nn.GroupNorm(GROUPS, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(super().forward(x))


class EncoderLayer(nn.Module):
    """Deformable self-attention, then a two-layer network, each normalised after its residual."""

    def __init__(self, config: PixelDecoderConfig) -> None:
        super().__init__()
        width = config.width
        self.self_attn = DeformableAttention(width, config.heads, LEVELS, config.points)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.linear1 = nn.Linear(width, config.feedforward)
        self.linear2 = nn.Linear(config.feedforward, width)

    def forward(self, x: Tensor, positions: Tensor, references: Tensor, shapes: Sequence[Shape]) -> Tensor:
        x = self.norm1(x + self.self_attn(x + positions, x, references, shapes))
        return self.norm2(x + self.linear2(F.relu(self.linear1(x), inplace=True)))


class Encoder(nn.Module):
    """The layers, under the name that official weights know them by."""

    def __init__(self, config: PixelDecoderConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(EncoderLayer(config) for _ in range(config.layers))


class Transformer(nn.Module):
    """Mixes three maps: (B, L, C) cells of all of them, layer after layer."""

    def __init__(self, config: PixelDecoderConfig) -> None:
        super().__init__()
        self.encoder = Encoder(config)
        self.level_embed = nn.Parameter(torch.randn(LEVELS, config.width))

    def forward(self, maps: Sequence[Tensor], every_layer: bool) -> tuple[Tensor, ...]:
        """Cells (B, L, C) after the last layer, or after each."""
        shapes = [(level.shape[2], level.shape[3]) for level in maps]
        cells = torch.cat([level.flatten(2).transpose(1, 2) for level in maps], dim=1)  # (B, L, C)
        width, device = cells.shape[2], cells.device
        positions = torch.cat(
            [
                sine_positions(shape, width, device).flatten(1).T + level
                for shape, level in zip(shapes, self.level_embed, strict=True)
            ]
        )  # (L, C)
        references = torch.cat([centres(shape, device) for shape in shapes])
        states: list[Tensor] = []
        for layer in self.encoder.layers:
            cells = layer(cells, positions, references, shapes)
            if not every_layer:
                states.clear()
            states.append(cells)
        return tuple(states)


class PixelDecoder(nn.Module):
    """From a pyramid of any channel widths and any size to memory for the mask decoder and mask features.

    Args:
        config: sizes.
    """

    def __init__(self, config: PixelDecoderConfig) -> None:
        super().__init__()
        self.config = config
        finest, *coarse = config.inputs
        self.input_proj = nn.ModuleList(
            nn.Sequential(nn.Conv2d(channels, config.width, 1), nn.GroupNorm(GROUPS, config.width))
            for channels in reversed(coarse)
        )
        self.transformer = Transformer(config)
        self.adapter_1 = ConvNorm(finest, config.width, 1)
        self.layer_1 = ConvNorm(config.width, config.width, 3)
        self.mask_features = nn.Conv2d(config.width, config.width, 1)

    def forward(self, pyramid: Sequence[Tensor]) -> DecodedPixels:
        """Decode four maps (B, C_i, h_i, w_i), finest first.

        Raises:
            ValueError: if there are not four maps, or their channels are others than `config.inputs`.
        """
        return self.finish(pyramid[0], self.mix(pyramid)[-1], [level.shape[2:] for level in pyramid[:0:-1]])

    def mix(self, pyramid: Sequence[Tensor], *, every_layer: bool = False) -> tuple[Tensor, ...]:
        """Cells of the three coarse maps, coarsest first, (B, L, C) after the last layer, or after each."""
        given = tuple(level.shape[1] for level in pyramid)
        if given != self.config.inputs:
            raise ValueError(f"the pyramid's channels must be {self.config.inputs}, got {given}")
        coarse = reversed(pyramid[1:])
        projected = [layer(level) for layer, level in zip(self.input_proj, coarse, strict=True)]
        return self.transformer(projected, every_layer)

    def finish(self, finest: Tensor, cells: Tensor, shapes: Sequence[Sequence[int]]) -> DecodedPixels:
        """Cut mixed cells (B, L, C) into maps of `shapes` (h, w) and join the last with the finest map."""
        parts = torch.split(cells, [h * w for h, w in shapes], dim=1)
        levels = tuple(
            part.transpose(1, 2).reshape(len(part), -1, *shape)
            for part, shape in zip(parts, shapes, strict=True)
        )
        # In place where nobody reads what was there: these are the largest maps of a request.
        joined = self.adapter_1(finest)
        joined += F.interpolate(levels[-1], size=joined.shape[2:], mode="bilinear", align_corners=False)
        return DecodedPixels(levels, self.mask_features(F.relu(self.layer_1(joined), inplace=True)))


def centres(grid: Shape, device: torch.device) -> Tensor:
    """Centre (x, y) of each cell of a map, row-major, (h*w, 2) in [0, 1]."""
    y, x = ((torch.arange(cells, device=device) + 0.5) / cells for cells in grid)
    return torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=2).flatten(0, 1)
