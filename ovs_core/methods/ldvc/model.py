"""What LDVC and ZegCLIP learn behind the tower, and how a tower's tokens become their scores.

    X      = tokens that leave the prompted tower's last block
    V, V_g = unit( proj( ln_post( norm(X) ) ) ), of patches and of the class token
    S      = decoder(V, V_g, T), the probability of a class is sigmoid(S)

`norm` is ZegCLIP's extra layer norm (eps 1e-6, only where prompts are deep). LDVC is said to use an
intermediate layer as well; which is not known, so `aux_block` is off by default, and where it is on it starts
at zero: tokens of that block -> layer norm -> linear -> added to V (inferred).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ovs_core.decoders.semantic_decoder import (
    Decoded,
    Routing,
    SemanticDecoder,
    SemanticDecoderConfig,
    init_decoder,
)
from ovs_core.encoders.clip_vit import to_joint_space
from ovs_core.types import Vocabulary
from ovs_core.vocabulary.splits import spoken_name

if TYPE_CHECKING:  # types only: who builds the model loads its library, which takes seconds
    from open_clip.transformer import VisionTransformer

MethodName = Literal["zegclip", "ldvc"]
METHODS: tuple[MethodName, ...] = ("zegclip", "ldvc")

EXTRA_NORM_EPS = 1e-6
GAMMA_RANGE = (0.0, 0.3)
GAMMA = 0.1  # ZegCLIP's, for closed lists and heads that never saw an unseen class


@dataclass(frozen=True)
class HeadConfig:
    """Form of a head.

    Attributes:
        decoder: the decoder.
        tower_width: channels of the tower's tokens.
        extra_norm: ZegCLIP's layer norm behind the last block.
        aux_block: block of the tower, from 0, whose tokens are added to the dense features; None for none.
    """

    decoder: SemanticDecoderConfig
    tower_width: int
    extra_norm: bool = True
    aux_block: int | None = None

    def taps(self, blocks: int) -> tuple[int, ...]:
        """Blocks whose outputs the head reads, of a tower with `blocks`: the last one first.

        Raises:
            ValueError: if the tower has no block `aux_block` before its last one.
        """
        if self.aux_block is None:
            return (blocks - 1,)
        if not 0 <= self.aux_block < blocks - 1:
            raise ValueError(f"aux_block must lie in 0..{blocks - 2}, got {self.aux_block}")
        return (blocks - 1, self.aux_block)


class JointFeatures(NamedTuple):
    """A picture in the space shared with text.

    Attributes:
        dense: unit features of patches, (B, D, h, w).
        whole: unit features of pictures, (B, D).
        added: what the intermediate layer adds to `dense`, (B, D, h, w); None where it is not used.
    """

    dense: Tensor
    whole: Tensor
    added: Tensor | None


class SemanticHead(nn.Module):
    """The decoder and the layers between it and the tower.

    Args:
        config: its form.
    """

    def __init__(self, config: HeadConfig) -> None:
        super().__init__()
        self.config = config
        self.decoder = SemanticDecoder(config.decoder)
        self.extra_norm = nn.LayerNorm(config.tower_width, eps=EXTRA_NORM_EPS) if config.extra_norm else None
        self.aux_norm, self.aux_linear = None, None
        if config.aux_block is not None:
            self.aux_norm = nn.LayerNorm(config.tower_width)
            self.aux_linear = nn.Linear(config.tower_width, config.decoder.width)

    def features(
        self, visual: VisionTransformer, taps: tuple[Tensor, ...], grid: tuple[int, int]
    ) -> JointFeatures:
        """Tapped tokens (B, 1 + h*w, C), as `HeadConfig.taps` orders them, in the space shared with text."""
        x = taps[0] if self.extra_norm is None else self.extra_norm(taps[0])
        x = to_joint_space(visual, x.to(visual.class_embedding.dtype)).float()
        joint = F.normalize(x, dim=-1)  # (B, 1 + h*w, D)
        added = None
        if self.aux_norm is not None and self.aux_linear is not None:
            added = _on_grid(self.aux_linear(self.aux_norm(taps[1][:, 1:])), grid)
        return JointFeatures(_on_grid(joint[:, 1:], grid), joint[:, 0], added)

    def forward(self, features: JointFeatures, text: Tensor, *, routing: Routing = "routed") -> Decoded:
        """Scores of class embeddings (S, D), unit."""
        dense = features.dense if features.added is None else features.dense + features.added
        return self.decoder(dense, features.whole, text, routing=routing)


def new_head(config: HeadConfig, seed: int) -> SemanticHead:
    """A head with start values; its intermediate layer adds nothing yet."""
    head = SemanticHead(config)
    init_decoder(head, torch.Generator().manual_seed(seed))
    if head.aux_linear is not None:
        nn.init.zeros_(head.aux_linear.weight)
    return head


def seen_names(names: Iterable[str]) -> frozenset[str]:
    """A data set's class names as `gamma_offsets` reads them: as written and as people say them."""
    return frozenset(form.casefold() for name in names for form in (name, spoken_name(name)))


def gamma_offsets(vocabulary: Vocabulary, seen: frozenset[str], gamma: float) -> Mapping[int, float]:
    """What the probability of each class that training saw is lowered by: label -> -gamma.

    Seen-class calibration: a head prefers what it was trained on. A class was seen if one of its names was.

    Args:
        vocabulary: typed classes.
        seen: names of classes that training saw, in lower case.
        gamma: in `GAMMA_RANGE`; 0 changes nothing.

    Raises:
        ValueError: if gamma is out of range.
    """
    low, high = GAMMA_RANGE
    if not low <= gamma <= high:
        raise ValueError(f"gamma must lie in [{low}, {high}], got {gamma}")
    if gamma == 0:
        return {}
    lowered = {}
    for label, names in enumerate(vocabulary.classes, start=1):
        if any(name.casefold() in seen for name in names):
            lowered[label] = -gamma
    return lowered


def _on_grid(tokens: Tensor, grid: tuple[int, int]) -> Tensor:
    """Tokens (B, h*w, C) as a map (B, C, h, w)."""
    return tokens.transpose(1, 2).reshape(len(tokens), -1, *grid)
