"""The mask decoder of Mask2Former with FC-CLIP's class head: queries look at the picture and become masks.

Papers: Mask2Former (arXiv 2112.01527), section 3.2; FC-CLIP (2308.02487) for the class head.
Layer i looks at level i mod 3 (strides 32, 16, 8), only where the masks before it are; a query whose mask is
empty there looks everywhere. Every layer, and the start, can be asked for masks and class embeddings: the
losses of training need all of them, an answer needs the last.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ovs_core.decoders.mask_pooling import mask_pooling, resize_masks
from ovs_core.decoders.pixel_decoder import LEVELS, DecodedPixels
from ovs_core.decoders.positions import sine_positions

START_LOGIT_SCALE = 2.6592600  # ln(1 / 0.07), CLIP's


@dataclass(frozen=True)
class MaskDecoderConfig:
    """Sizes of a mask decoder.

    Attributes:
        joint: width of the image-text space of class embeddings.
        width: channels of queries and of the pixel decoder's maps.
        queries: masks proposed.
        feedforward: hidden channels of a layer.
        layers: decoder layers.
        heads: attention heads.
    """

    joint: int
    width: int = 256
    queries: int = 100
    feedforward: int = 2048
    layers: int = 9
    heads: int = 8


class Prediction(NamedTuple):
    """What the queries say at one layer.

    Attributes:
        queries: normalised, (B, N, C).
        masks: logits, (B, N, H/4, W/4).
    """

    queries: Tensor
    masks: Tensor


class Decoded(NamedTuple):
    """What the mask decoder says of a picture.

    Attributes:
        predictions: before layer 0, 1, .. and after the last one; only the last unless all were asked for.
        cross_attention: per layer, how much each query takes from each cell of that layer's level, mean of
            the heads, (B, N, h, w); empty unless asked for.
    """

    predictions: tuple[Prediction, ...]
    cross_attention: tuple[Tensor, ...]


class Mlp(nn.Module):
    """Linear layers with ReLU between them."""

    def __init__(self, inputs: int, hidden: int, outputs: int, layers: int = 3) -> None:
        super().__init__()
        widths = [inputs, *[hidden] * (layers - 1), outputs]
        self.layers = nn.ModuleList(nn.Linear(*pair) for pair in pairwise(widths))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers[:-1]:
            x = F.relu(layer(x))
        return self.layers[-1](x)


class DecoderLayer(nn.Module):
    """Masked cross-attention, self-attention, two-layer network, each normalised after its residual."""

    def __init__(self, config: MaskDecoderConfig) -> None:
        super().__init__()
        width = config.width
        self.cross_attn = nn.MultiheadAttention(width, config.heads, batch_first=True)
        self.self_attn = nn.MultiheadAttention(width, config.heads, batch_first=True)
        self.linear1 = nn.Linear(width, config.feedforward)
        self.linear2 = nn.Linear(config.feedforward, width)
        self.cross_norm, self.self_norm, self.ffn_norm = (nn.LayerNorm(width) for _ in range(3))

    def forward(
        self, x: Tensor, query_positions: Tensor, keys: Tensor, values: Tensor, blocked: Tensor, weights: bool
    ) -> tuple[Tensor, Tensor | None]:
        """Queries (B, N, C) after `look` and `mix`, and if asked the weights of `look`."""
        x, attended = self.look(x, query_positions, keys, values, blocked, weights)
        return self.mix(x, query_positions), attended

    def look(
        self, x: Tensor, query_positions: Tensor, keys: Tensor, values: Tensor, blocked: Tensor, weights: bool
    ) -> tuple[Tensor, Tensor | None]:
        """Queries (B, N, C) after looking at cells (B, L, C), and if asked the mean weights (B, N, L).

        Args:
            x: queries.
            query_positions: added to them, (B, N, C) or (1, N, C).
            keys: cells with their positions.
            values: cells.
            blocked: (B, N, L) True where a query may not look.
            weights: whether to return weights.
        """
        heads = self.cross_attn.num_heads
        every_head = blocked[:, None].expand(-1, heads, -1, -1).flatten(0, 1)  # (B*T, N, L)
        asking = x + query_positions
        looked, _ = self.cross_attn(asking, keys, values, attn_mask=every_head, need_weights=False)
        attended = None
        if weights:  # another kernel, which rounds otherwise: looking twice, views change no answer
            attended = self.cross_attn(asking, keys, values, attn_mask=every_head)[1]
        return self.cross_norm(x + looked), attended

    def mix(self, x: Tensor, query_positions: Tensor) -> Tensor:
        """Queries (B, N, C) after looking at each other and thinking on their own."""
        asking = x + query_positions
        x = self.self_norm(x + self.self_attn(asking, asking, x, need_weights=False)[0])
        return self.ffn_norm(x + self.linear2(F.relu(self.linear1(x))))


class MaskDecoder(nn.Module):
    """Queries, their layers, the mask head and the class head.

    Args:
        config: sizes.
    """

    def __init__(self, config: MaskDecoderConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.layers = nn.ModuleList(DecoderLayer(config) for _ in range(config.layers))
        self.query_feat, self.query_embed = (nn.Embedding(config.queries, width) for _ in range(2))
        self.level_embed = nn.Embedding(LEVELS, width)
        self.decoder_norm = nn.LayerNorm(width)
        self.mask_embed = Mlp(width, width, width)
        self.mask_pooling_proj = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width))
        self.class_embed = Mlp(width, width, config.joint)
        self.logit_scale = nn.Parameter(torch.tensor(START_LOGIT_SCALE))

    def forward(
        self, pixels: DecodedPixels, *, every_layer: bool = False, attention: bool = False
    ) -> Decoded:
        """Propose masks.

        Args:
            pixels: from the pixel decoder, of the same width.
            every_layer: return what every layer predicts, not only the last.
            attention: return cross-attention maps as well.
        """
        memory = self.memory(pixels.levels)
        batch = len(pixels.mask_features)
        x = self.query_feat.weight.expand(batch, -1, -1)
        positions = self.query_embed.weight[None]
        predictions = [self.predict(x, pixels.mask_features)]
        maps: list[Tensor] = []
        for number, layer in enumerate(self.layers):
            grid, keys, values = memory[number % LEVELS]
            blocked = blocked_cells(predictions[-1].masks, grid)
            x, attended = layer(x, positions, keys, values, blocked, attention)
            if attended is not None:
                maps.append(attended.unflatten(2, grid))
            if not every_layer:
                predictions.clear()
            predictions.append(self.predict(x, pixels.mask_features))
        return Decoded(tuple(predictions), tuple(maps))

    def memory(self, levels: Sequence[Tensor]) -> list[tuple[tuple[int, int], Tensor, Tensor]]:
        """Grid, keys and values (B, L, C) of each level (B, C, h, w)."""
        memories = []
        for level, embedding in zip(levels, self.level_embed.weight, strict=True):
            grid = (level.shape[2], level.shape[3])
            values = level.flatten(2).transpose(1, 2) + embedding  # (B, L, C)
            places = sine_positions(grid, level.shape[1], level.device).flatten(1).T
            memories.append((grid, values + places, values))
        return memories

    def predict(self, x: Tensor, mask_features: Tensor) -> Prediction:
        """Masks of queries (B, N, C)."""
        queries = self.decoder_norm(x)
        masks = torch.einsum("bnc,bchw->bnhw", self.mask_embed(queries), mask_features)
        return Prediction(queries, masks)

    def class_embeddings(self, prediction: Prediction, mask_features: Tensor) -> Tensor:
        """What each query shows, (B, N, D) in the joint space, not normalised; no gradient to the masks."""
        pooled = self.mask_pooling_proj(mask_pooling(mask_features, prediction.masks))
        return self.class_embed(pooled + prediction.queries)


def blocked_cells(masks: Tensor, grid: tuple[int, int]) -> Tensor:
    """Cells of a level outside each mask, (B, N, h*w) True; a query with no cell left may look everywhere."""
    outside = resize_masks(masks.detach(), grid).flatten(2).sigmoid() < 0.5
    return outside & ~outside.all(dim=2, keepdim=True)
