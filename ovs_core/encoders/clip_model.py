"""A plain CLIP (Radford et al., arXiv 2103.00020, section 2.4) for the embedded model, as open_clip has it.

Both towers are pre-norm transformers. Names of parameters, starting values and every operation are those of
open_clip, so that whatever reads an open_clip model reads this one too, bit for bit; tests hold it to that.
Loading open_clip loads torchvision, timm and torch's compiler: a third of the time from a typed command to
an answer.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

_START_SCALE = math.log(1 / 0.07)  # logarithm of what cosines are multiplied by, before training


class LayerNorm(nn.LayerNorm):
    """Layer norm that answers in the precision it was asked in, under mixed precision too."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).to(x.dtype)


class ResidualBlock(nn.Module):
    """Attention and a two-layer perceptron, each behind a layer norm and added to what came in.

    Args:
        width: channels C of a token.
        heads: of the attention.
        mlp_ratio: hidden channels per channel.
    """

    def __init__(self, width: int, heads: int, mlp_ratio: float) -> None:
        super().__init__()
        self.ln_1 = LayerNorm(width)
        self.attn = nn.MultiheadAttention(width, heads, batch_first=True)
        self.ls_1 = nn.Identity()  # layer scale, which attention rules apply where a tower has it
        self.ln_2 = LayerNorm(width)
        hidden = int(width * mlp_ratio)
        self.mlp = nn.Sequential()
        self.mlp.add_module("c_fc", nn.Linear(width, hidden))
        self.mlp.add_module("gelu", nn.GELU())
        self.mlp.add_module("c_proj", nn.Linear(hidden, width))
        self.ls_2 = nn.Identity()

    def forward(self, x: Tensor, attn_mask: Tensor | None = None) -> Tensor:
        """(B, L, C) to (B, L, C); the mask (L, L) is added to the logits of the attention."""
        y = self.ln_1(x)
        x = x + self.attn(y, y, y, need_weights=False, attn_mask=attn_mask)[0]
        out: Tensor = x + self.mlp(self.ln_2(x))
        return out


class Transformer(nn.Module):
    """Blocks one after the other."""

    def __init__(self, width: int, layers: int, heads: int, mlp_ratio: float) -> None:
        super().__init__()
        self.resblocks = nn.ModuleList(ResidualBlock(width, heads, mlp_ratio) for _ in range(layers))

    def forward(self, x: Tensor, attn_mask: Tensor | None = None) -> Tensor:
        """(B, L, C) to (B, L, C)."""
        for block in self.resblocks:
            x = block(x, attn_mask=attn_mask)
        return x


class VisionTower(nn.Module):
    """The parts of an image tower; `ovs_core.encoders.clip_vit` runs them.

    Args:
        joint: width of the space shared with text.
        image_size, patch_size: in pixels, of the square photos that positions are learnt for.
        width, layers, head_width, mlp_ratio: of the transformer.
    """

    attn_pool = None  # open_clip's other way of pooling: none here

    def __init__(
        self,
        joint: int,
        *,
        image_size: int,
        patch_size: int,
        width: int,
        layers: int,
        head_width: int = 64,
        mlp_ratio: float = 4.0,
    ) -> None:
        super().__init__()
        scale = width**-0.5
        places = (image_size // patch_size) ** 2
        self.conv1: Any = nn.Conv2d(3, width, patch_size, patch_size, bias=False)  # or another stem
        self.class_embedding = nn.Parameter(nn.init.normal_(torch.empty(width), std=scale))
        self.positional_embedding = nn.Parameter(nn.init.normal_(torch.empty(1 + places, width), std=scale))
        self.ln_pre = LayerNorm(width)
        self.transformer = Transformer(width, layers, width // head_width, mlp_ratio)
        self.ln_post = LayerNorm(width)
        self.proj = nn.Parameter(nn.init.normal_(torch.empty(width, joint), std=scale))


class PlainClip(nn.Module):
    """Both towers; the text tower's parts stand beside `visual`, as open_clip has them.

    Args:
        joint: width of the space that both end in.
        vision: arguments of `VisionTower`.
        text: `context_length`, `vocab_size`, `width`, `heads` and `layers` of the text tower.
    """

    text_pool_type = "argmax"  # prompts are read at the end of text, which has the largest id

    def __init__(self, joint: int, vision: Mapping[str, Any], text: Mapping[str, int]) -> None:
        super().__init__()
        self.context_length, self.vocab_size = text["context_length"], text["vocab_size"]
        width, layers = text["width"], text["layers"]
        self.visual = VisionTower(joint, **vision)
        self.token_embedding = nn.Embedding(self.vocab_size, width)
        self.positional_embedding = nn.Parameter(torch.empty(self.context_length, width))
        self.transformer = Transformer(width, layers, text["heads"], 4.0)
        self.ln_final = LayerNorm(width)
        self.text_projection = nn.Parameter(torch.empty(width, joint))
        # No word reads those behind it.
        mask = torch.full((self.context_length, self.context_length), -math.inf).triu(1)
        self.register_buffer("attn_mask", mask, persistent=False)
        self.logit_scale = nn.Parameter(torch.ones([]) * _START_SCALE)
        self._start_text(width, layers)

    def _start_text(self, width: int, layers: int) -> None:
        """Random values of the text tower, as small as GPT-2 starts with."""
        nn.init.normal_(self.token_embedding.weight, std=0.02)
        nn.init.normal_(self.positional_embedding, std=0.01)
        leaving = width**-0.5 * (2 * layers) ** -0.5
        for name, value in self.transformer.named_parameters():
            if name.endswith("attn.in_proj_weight"):
                nn.init.normal_(value, std=width**-0.5)
            elif name.endswith(("attn.out_proj.weight", "mlp.c_proj.weight")):
                nn.init.normal_(value, std=leaving)
            elif name.endswith("mlp.c_fc.weight"):
                nn.init.normal_(value, std=(2 * width) ** -0.5)
        nn.init.normal_(self.text_projection, std=width**-0.5)
