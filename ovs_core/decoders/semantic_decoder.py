"""The semantic decoder of ZegCLIP and LDVC: image tokens and class embeddings look at each other.

Papers: ZegCLIP (arXiv 2212.03588), classes are the queries and drift towards the picture; LDVC (2403.08426),
tokens are the queries and are drawn to the classes, which stay. One decoder, the direction is a setting.
Numbers follow ZiqinZhou66/ZegCLIP 9ba4bb5 (MIT). LDVC has no public code: its blocks are put together from
parts that are held to official code each.

    R = [T * V_g, T];  T_new = Linear(R)                               relationship descriptor
    logits A = mean over heads of q k^T / sqrt(d), before the soft-max
    "class":  T_new <- LN(T_new + attend(T_new, X));                   LN(T_new + FFN(T_new))
    "visual": X <- LN(X + routed(X));  LN(X + attend(X, T_new));       LN(X + FFN(X))

Scores are A of the last block, or the dot product of what both sides became ("dot", inferred).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ovs_core.decoders.route_attention import RouteAttention, RouteConfig, Routes, split_heads

Queries = Literal["class", "visual"]
Readout = Literal["attn", "dot"]
Routing = Literal["routed", "everywhere", "skipped"]

INIT_STD = 0.02  # of linear layers, cut off at 2 standard deviations (ZegCLIP)


@dataclass(frozen=True)
class SemanticDecoderConfig:
    """Sizes and form of a decoder. Depth and route attention are inferred for LDVC; the rest is ZegCLIP's.

    Attributes:
        width: of the image-text space, divisible by `heads`.
        queries: who asks: "class" is ZegCLIP, "visual" is LDVC.
        layers: blocks.
        heads: attention heads.
        feedforward: hidden channels of a block.
        dropout: in training, of attention weights and before every residual.
        route: route attention in front of every block; needs visual queries, None leaves it out.
        readout: what the scores are.
    """

    width: int
    queries: Queries = "visual"
    layers: int = 3
    heads: int = 8
    feedforward: int = 2048
    dropout: float = 0.1
    route: RouteConfig | None = field(default_factory=RouteConfig)
    readout: Readout = "attn"

    def __post_init__(self) -> None:
        if self.width % self.heads:
            raise ValueError(f"width must be divisible by {self.heads} heads, got {self.width}")
        if self.layers < 1:
            raise ValueError(f"layers must be at least 1, got {self.layers}")
        if self.queries == "class" and self.route is not None:
            raise ValueError("route attention needs visual queries; a decoder of class queries has none")


class Decoded(NamedTuple):
    """What the decoder says of pictures.

    Attributes:
        scores: (B, S, h, w), before a sigmoid.
        classes: class embeddings after the relationship descriptor, T_new, (B, S, D).
        attention: logits A of every block, (B, S, h, w) each, before the soft-max.
        visual: tokens before block 0 and after each block, (B, h*w, D) each; the first alone where they stay.
        asked: class embeddings likewise, (B, S, D) each.
        routes: who read whom in each block; empty without routing.
    """

    scores: Tensor
    classes: Tensor
    attention: tuple[Tensor, ...]
    visual: tuple[Tensor, ...]
    asked: tuple[Tensor, ...]
    routes: tuple[Routes, ...]


class RelationshipDescriptor(nn.Module):
    """Class embeddings as this picture calls for them (ZegCLIP; "text adapter" in LDVC)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(2 * width, width)

    def forward(self, text: Tensor, whole: Tensor) -> Tensor:
        """T_new (B, S, D) of class embeddings (S, D) and pictures' global vectors (B, D), both unit."""
        adapted: Tensor = self.linear(descriptor(text, whole))
        return adapted


def descriptor(text: Tensor, whole: Tensor) -> Tensor:
    """R (B, S, 2 D): the product first, the plain embedding second."""
    text = text.expand(len(whole), -1, -1)
    return torch.cat([text * whole[:, None], text], dim=2)


class CrossAttention(nn.Module):
    """Multi-head attention that also gives its logits before the soft-max."""

    def __init__(self, width: int, heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.q, self.k, self.v, self.proj = (nn.Linear(width, width) for _ in range(4))

    def forward(self, query: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        """Output (B, L, D) and the heads' mean logits (B, L, M) of queries (B, L, D), a memory (B, M, D)."""
        q = split_heads(self.q(query), self.heads)  # (B, heads, L, d)
        k, v = (split_heads(linear(memory), self.heads) for linear in (self.k, self.v))
        logits = q @ k.transpose(2, 3) * q.shape[3] ** -0.5
        weights = F.dropout(logits.softmax(dim=3), self.dropout, self.training)
        output = self.proj((weights @ v).transpose(1, 2).flatten(2))
        return output, logits.mean(dim=1)


class SemanticBlock(nn.Module):
    """Route attention (where there is any), cross-attention, two-layer network; normalised after each."""

    def __init__(self, config: SemanticDecoderConfig) -> None:
        super().__init__()
        width, heads, dropout = config.width, config.heads, config.dropout
        self.route: RouteAttention | None = None
        if config.route is not None:
            self.route = RouteAttention(width, heads, config.route, dropout)
            self.route_norm = nn.LayerNorm(width)
        self.cross = CrossAttention(width, heads, dropout)
        self.cross_norm, self.feedforward_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.linear1, self.linear2 = (
            nn.Linear(width, config.feedforward),
            nn.Linear(config.feedforward, width),
        )
        self.drop = nn.Dropout(dropout)

    def gather(self, x: Tensor, grid: tuple[int, int], routing: Routing) -> tuple[Tensor, Routes | None]:
        """Tokens (B, h*w, D) after reading related windows, and who read whom."""
        if self.route is None or routing == "skipped":
            return x, None
        routed = self.route(x.reshape(len(x), *grid, -1), everywhere=routing == "everywhere")
        return self.route_norm(x + self.drop(routed.output.flatten(1, 2))), routed.routes

    def forward(self, x: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        """Queries (B, L, D) after asking a memory (B, M, D), and the logits (B, L, M)."""
        change, logits = self.cross(x, memory)
        x = self.cross_norm(x + self.drop(change))
        hidden = self.drop(F.relu(self.linear1(x)))
        return self.feedforward_norm(x + self.drop(self.linear2(hidden))), logits


class SemanticDecoder(nn.Module):
    """Relationship descriptor and blocks.

    Args:
        config: sizes and form.
    """

    def __init__(self, config: SemanticDecoderConfig) -> None:
        super().__init__()
        self.config = config
        self.descriptor = RelationshipDescriptor(config.width)
        self.blocks = nn.ModuleList(SemanticBlock(config) for _ in range(config.layers))

    def forward(self, dense: Tensor, whole: Tensor, text: Tensor, *, routing: Routing = "routed") -> Decoded:
        """Score every class everywhere.

        Args:
            dense: unit features (B, D, h, w), any h and w.
            whole: unit global vectors (B, D).
            text: unit class embeddings (S, D).
            routing: as trained, or for a look at what routing does: read everywhere, or not at all.

        Raises:
            ValueError: if features or text are of another width.
        """
        if {dense.shape[1], whole.shape[1], text.shape[1]} != {self.config.width}:
            widths = f"{dense.shape[1]}, {whole.shape[1]} and {text.shape[1]}"
            raise ValueError(f"features and text must be {self.config.width} wide, got {widths}")
        grid = (dense.shape[2], dense.shape[3])
        tokens = dense.flatten(2).transpose(1, 2)  # (B, h*w, D)
        classes = self.descriptor(text, whole)
        decode = self._by_class if self.config.queries == "class" else self._by_place
        attention, visual, asked, routes = decode(tokens, classes, grid, routing)
        maps = tuple(logits.reshape(*logits.shape[:2], *grid) for logits in attention)
        scores = maps[-1]
        if self.config.readout == "dot":
            dots = asked[-1] @ visual[-1].transpose(1, 2) * self.config.width**-0.5
            scores = dots.reshape(*dots.shape[:2], *grid)
        return Decoded(scores, classes, maps, visual, asked, routes)

    def _by_class(
        self, tokens: Tensor, classes: Tensor, _grid: tuple[int, int], _routing: Routing
    ) -> _Blocks:
        asked, attention = [classes], []
        for block in self.blocks:
            changed, logits = block(asked[-1], tokens)
            asked.append(changed)
            attention.append(logits)
        return tuple(attention), (tokens,), tuple(asked), ()

    def _by_place(self, tokens: Tensor, classes: Tensor, grid: tuple[int, int], routing: Routing) -> _Blocks:
        visual, attention, routes = [tokens], [], []
        for block in cast("Iterable[SemanticBlock]", self.blocks):
            x, routed = block.gather(visual[-1], grid, routing)
            x, logits = block(x, classes)
            visual.append(x)
            attention.append(logits.transpose(1, 2))
            if routed is not None:
                routes.append(routed)
        return tuple(attention), tuple(visual), (classes,), tuple(routes)


_Blocks = tuple[tuple[Tensor, ...], tuple[Tensor, ...], tuple[Tensor, ...], tuple[Routes, ...]]


def init_decoder(decoder: nn.Module, generator: torch.Generator) -> None:
    """Start values: linear layers cut-off normal with zero bias, layer norms 1 and 0 (ZegCLIP)."""
    with torch.no_grad():
        for module in decoder.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=INIT_STD, generator=generator)
                nn.init.zeros_(module.bias)
            elif isinstance(module, nn.LayerNorm):
                nn.init.ones_(module.weight)
                nn.init.zeros_(module.bias)


def start_at_text(decoder: SemanticDecoder, scale: float, cosine: float) -> None:
    """Make the scores of a decoder with start values those of CLIP: scale * (cos(patch, class) - cosine).

    For few steps (this project's; ZegCLIP starts at random): the descriptor passes T on, queries and keys of
    every block are multiples of the identity, every residual ends in a layer of zeros, and the biases along
    (1, .., 1), to which a layer norm leaves nothing, multiply to the constant. Up to the layer norm, which
    takes the mean of a query's channels off.

    Args:
        decoder: of `init_decoder`; at least 2 blocks, or its queries never pass a layer norm.
        scale: of the cosine, e.g. the tower's own logit scale.
        cosine: at which a class is as probable as not.

    Raises:
        ValueError: if the decoder has one block, or scores that are not attention.
    """
    config = decoder.config
    if config.layers < 2 or config.readout != "attn":
        raise ValueError("only scores that are attention, of 2 blocks or more, can start at the text")
    width = config.width
    per_product = scale * config.heads * (width / config.heads) ** 0.5  # logits are a mean over heads
    identity = torch.eye(width)
    with torch.no_grad():
        decoder.descriptor.linear.weight.copy_(torch.cat([torch.zeros(width, width), identity], dim=1))
        for number, block in enumerate(cast("Iterable[SemanticBlock]", decoder.blocks)):
            normalised = number > 0 or block.route is not None
            length = width**0.5 if normalised else 1.0  # of a query
            factor = (per_product / length) ** 0.5
            block.cross.q.weight.copy_(factor * identity)
            block.cross.k.weight.copy_(factor * identity)
            block.cross.q.bias.fill_(_SMALL)  # what a memory has along (1, .., 1) is multiplied by this
            block.cross.k.bias.fill_(-per_product * cosine / (width * _SMALL))
            residuals = [block.cross.proj, block.linear2]
            if block.route is not None:
                residuals.append(block.route.proj)
            for last in residuals:
                last.weight.zero_()


_SMALL = 0.1
