"""ResCLIP's first half: the last block's attention mixed with query-key attention of earlier blocks.

    A' = tau ((1 - lambda) A + lambda M)

head by head, after the soft-max. A is a host rule's attention without residual and MLP (here NACLIP's), M the
mean of softmax(s q k^T) of blocks 6 to 9 of B/16's 12, which still look at places, tau is 2. Lambda is 0.2 to
0.6 in the authors' settings; 0.4, their COCO value, is the default.

Source: ResCLIP, Yang et al., CVPR 2025, "residual cross-correlation self-attention"; from the formula. The
second half, which feeds a first answer back into the attention, is not here. Deviation: other towers have
blocks at the same relative depth (of the embedded tower's four, 6 to 9 are blocks 2 and 3).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from ovs_core.methods.training_free.attention_rules import (
    RULES,
    Rule,
    attention_heads,
    merge_heads,
    mixed_values,
    project_qkv,
)
from ovs_core.methods.training_free.blocks import at_depth, block_outputs
from ovs_core.options import Option, Options
from ovs_core.types import Window

if TYPE_CHECKING:  # types only: who builds the model loads its library, which takes seconds
    from open_clip.transformer import ResidualAttentionBlock, VisionTransformer

EARLIER_WEIGHT = Option(
    "earlier_weight",
    "number",
    0.4,
    "How much attention of earlier blocks counts in the last one; 0 leaves NACLIP's.",
    low=0,
    high=1,
)
GAIN = 2.0
_FIRST, _LAST = 6, 9  # blocks, in numbers of ViT-B/16


@dataclass(frozen=True)
class CrossCorrelation:
    """A rule whose attention is mixed with that of earlier blocks.

    Attributes:
        host: the rule; it must drop residual and MLP.
        gain: tau.
    """

    host: Rule
    gain: float = GAIN

    def leave(self, visual: VisionTransformer, window: Window, options: Options) -> Tensor:
        """As `LastBlock.leave`; option "earlier_weight" is lambda."""
        block, weight = visual.transformer.resblocks[-1], earlier_weight(options)
        q, k, v = project_qkv(block, window.tokens[None])
        mixed = (1 - weight) * mixed_values(self.host, q, k, v, window.grid)
        earlier = earlier_blocks(visual, window)
        for former, x in earlier:
            own_q, own_k, _ = project_qkv(former, x[None])
            mixed = mixed + weight / len(earlier) * F.scaled_dot_product_attention(own_q, own_k, v)
        return block.ls_1(merge_heads(block, self.gain * mixed))[0]

    def heads(
        self, visual: VisionTransformer, window: Window, rows: Tensor, options: Options
    ) -> Iterator[Tensor]:
        """As `LastBlock.heads`; rows sum to tau."""
        block, weight = visual.transformer.resblocks[-1], earlier_weight(options)
        earlier = earlier_blocks(visual, window)
        every = [attention_heads(RULES["clip"], former, x, window.grid, rows) for former, x in earlier]
        own = attention_heads(self.host, block, window.tokens, window.grid, rows)
        for hosts, *formers in zip(own, *every, strict=True):
            mean = torch.stack(formers).mean(dim=0) if formers else torch.zeros_like(hosts)
            yield self.gain * ((1 - weight) * hosts + weight * mean)


RESCLIP = CrossCorrelation(RULES["naclip"])


def earlier_weight(options: Options) -> float:
    """Lambda, in [0, 1]."""
    return float(str(options.get(EARLIER_WEIGHT.name, EARLIER_WEIGHT.default)))


def earlier_blocks(visual: VisionTransformer, window: Window) -> list[tuple[ResidualAttentionBlock, Tensor]]:
    """Blocks 6 to 9 of 12, or those as deep in this tower, with the tokens that enter each, (1 + h*w, C)."""
    outputs, blocks = block_outputs(visual, window), visual.transformer.resblocks
    first, last = (at_depth(number, len(blocks)) for number in (_FIRST, _LAST))
    return [(blocks[number - 1], outputs[number - 2]) for number in range(max(2, first), last + 1)]
