"""What each training-free method does in the last block of a frozen CLIP tower: data and pure functions.

The five methods of this file run blocks 1..L-1 of the tower unchanged and differ only in which projections of
a token are compared to make the attention maps, whether a Gaussian favours near patches, and whether the
residual and the MLP of the block are kept. `Rule` says exactly that and nothing else.

    clip       the block as it was trained                          Radford et al., arXiv 2103.00020
    maskclip   every token keeps its own value: no mixing at all    Zhou et al., arXiv 2112.01071
    sclip      softmax(s q q^T) + softmax(s k k^T), summed          Wang et al., arXiv 2312.01597
    clearclip  softmax(s q q^T), no residual, no MLP                Lan et al., arXiv 2407.12442
    naclip     softmax(s k k^T + Gaussian), no residual, no MLP         Hajimiri et al., arXiv 2404.08181

with s = head width ** -0.5. Written from the formulas. Deviation: papers disagree about MaskCLIP on a ViT;
the rule here drops residual and MLP (the form later papers compare with), `maskclip_value_path` keeps both
(the form of the official code, which MVP-SEG builds on).

A block is open_clip's `ResidualAttentionBlock`; it is only read. Layer scale, where a tower has it, belongs
to the branch it scales. Shapes: x (B, L, C) are tokens, class token first, grid (h, w) with L = 1 + h*w;
heads T of width d.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from ovs_core.options import Options
from ovs_core.types import Window

if TYPE_CHECKING:  # types only: who builds the model loads its library, which takes seconds
    from open_clip.transformer import ResidualAttentionBlock, VisionTransformer

Comparison = Literal["qk", "qq", "kk"]

TEMPERATURE = 100.0  # MaskCLIP turns cosines into probabilities at CLIP's own logit scale
ROWS_AT_ONCE = 4097  # of an attention map: those of the largest window
SUPPRESSED = -100.0  # MaskCLIP's score for a class that prompt denoising takes out of the photo


class LastBlock(Protocol):
    """What a method does in the last block of a tower: all that `TrainingFree` needs to know of it."""

    def leave(self, visual: VisionTransformer, window: Window, options: Options) -> Tensor:
        """Tokens of a window after the last block, (1 + h*w, C), class token first; `ln_post` comes later."""
        ...

    def heads(
        self, visual: VisionTransformer, window: Window, rows: Tensor, options: Options
    ) -> Iterator[Tensor]:
        """How much tokens `rows` (R,), class token 0, take from each token: (R, L) float32, head by head."""
        ...


@dataclass(frozen=True)
class Rule:
    """How the last block mixes patches.

    Attributes:
        description: one line for people.
        comparisons: one attention map each, summed and not averaged; none means every token keeps its own
            value.
        kernel_std: standard deviation in patches of a Gaussian added before the softmax; None adds none.
        keep_residual_and_mlp: residual connection and MLP of the block stay.
    """

    description: str
    comparisons: tuple[Comparison, ...]
    kernel_std: float | None = None
    keep_residual_and_mlp: bool = False

    def __post_init__(self) -> None:
        if self.kernel_std is not None and not self.kernel_std > 0:
            raise ValueError(f"kernel_std must be above 0 patches, got {self.kernel_std}")

    def leave(self, visual: VisionTransformer, window: Window, options: Options) -> Tensor:
        """As `LastBlock.leave`."""
        return leave_last_block(self, visual.transformer.resblocks[-1], window.tokens[None], window.grid)[0]

    def heads(
        self, visual: VisionTransformer, window: Window, rows: Tensor, options: Options
    ) -> Iterator[Tensor]:
        """As `LastBlock.heads`."""
        return attention_heads(self, visual.transformer.resblocks[-1], window.tokens, window.grid, rows)


RULES: Mapping[str, Rule] = MappingProxyType(
    {
        "clip": Rule("CLIP's own last block, unchanged", ("qk",), keep_residual_and_mlp=True),
        "maskclip": Rule("every patch keeps its own value and looks nowhere else", ()),
        "sclip": Rule(
            "patches with like queries and like keys share their values",
            ("qq", "kk"),
            keep_residual_and_mlp=True,
        ),
        "clearclip": Rule("patches with like queries share their values; residual and MLP dropped", ("qq",)),
        "naclip": Rule("patches with like keys share their values, near ones most", ("kk",), kernel_std=5.0),
        "kk_reduced": Rule("NACLIP without its preference for near patches", ("kk",)),
    }
)


def leave_last_block(rule: Rule, block: ResidualAttentionBlock, x: Tensor, grid: tuple[int, int]) -> Tensor:
    """What leaves the last block, (B, L, C), when `rule` decides how its tokens x (B, L, C) are mixed."""
    mixed = mixed_values(rule, *project_qkv(block, x), grid)
    branch = block.ls_1(merge_heads(block, mixed))
    return finish_block(block, x + branch) if rule.keep_residual_and_mlp else branch


def mixed_values(rule: Rule, q: Tensor, k: Tensor, v: Tensor, grid: tuple[int, int]) -> Tensor:
    """Values v (B, T, L, d) mixed as `rule` says, from queries and keys of that shape."""
    if not rule.comparisons:
        return v
    parts, bias = [], None
    for start in range(0, q.shape[2], ROWS_AT_ONCE):  # all windows stitched together may be many tokens
        rows = torch.arange(start, min(start + ROWS_AT_ONCE, q.shape[2]), device=q.device)
        if rule.kernel_std is not None:
            bias = gaussian_kernel(grid, rule.kernel_std, like=q, rows=rows)
        part = torch.zeros_like(v[:, :, : len(rows)])
        for comparison in rule.comparisons:
            left, right = _sides(comparison, q, k)
            left = left[:, :, start : start + len(rows)]
            part = part + F.scaled_dot_product_attention(left, right, v, attn_mask=bias)
        parts.append(part)
    return torch.cat(parts, dim=2)


def attention_weights(
    rule: Rule, block: ResidualAttentionBlock, x: Tensor, grid: tuple[int, int], rows: Tensor | None = None
) -> Tensor:
    """How much each token takes from each other one, (R, L) float32, mean over heads.

    Args:
        rule: whose map; rows sum to the number of its comparisons (MaskCLIP: to 1, on the token itself).
        block: last block of the tower.
        x: tokens of one window, (L, C).
        grid: (h, w) of that window.
        rows: which tokens to answer for, (R,) indices with the class token at 0; None answers for all.
    """
    if rows is None:
        rows = torch.arange(len(x), device=x.device)
    total = torch.zeros(len(rows), len(x), device=x.device)
    for weights in attention_heads(rule, block, x, grid, rows):
        total += weights
    return total / block.attn.num_heads


def attention_heads(
    rule: Rule, block: ResidualAttentionBlock, x: Tensor, grid: tuple[int, int], rows: Tensor
) -> Iterator[Tensor]:
    """The same for each head in turn, (R, L) float32: all heads at once may not fit."""
    q, k, _ = (heads.float()[0] for heads in project_qkv(block, x[None]))
    bias = 0.0 if rule.kernel_std is None else gaussian_kernel(grid, rule.kernel_std, like=q, rows=rows)
    for head in range(len(q)):
        if not rule.comparisons:
            yield F.one_hot(rows, len(x)).float()
            continue
        maps = (compared(comparison, q[head], k[head], rows) + bias for comparison in rule.comparisons)
        yield torch.stack([scores.softmax(dim=-1) for scores in maps]).sum(dim=0)


def compared(comparison: Comparison, q: Tensor, k: Tensor, rows: Tensor) -> Tensor:
    """Scores of one head before any soft-max, (R, L): `rows` (R,) of q or k (L, d) against all."""
    left, right = _sides(comparison, q, k)
    return left[rows] @ right.T * left.shape[-1] ** -0.5


def project_qkv(block: ResidualAttentionBlock, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values of the block's attention for tokens x (B, L, C), each (B, T, L, d)."""
    attention = block.attn
    packed = F.linear(block.ln_1(x), attention.in_proj_weight, attention.in_proj_bias)  # (B, L, 3*C)
    shape = (*x.shape[:2], 3, attention.num_heads, -1)
    q, k, v = packed.reshape(shape).permute(2, 0, 3, 1, 4)  # (3, B, T, L, d)
    return q, k, v


def merge_heads(block: ResidualAttentionBlock, heads: Tensor) -> Tensor:
    """Heads (B, T, L, d) put side by side and through the block's output projection, (B, L, C)."""
    return block.attn.out_proj(heads.transpose(1, 2).flatten(2))  # (B, L, T*d)


def finish_block(block: ResidualAttentionBlock, x: Tensor) -> Tensor:
    """The MLP half of the block, with its residual: (B, L, C) to (B, L, C)."""
    return x + block.ls_2(block.mlp(block.ln_2(x)))


def gaussian_kernel(grid: tuple[int, int], std: float, *, like: Tensor, rows: Tensor | None = None) -> Tensor:
    """NACLIP's preference for near patches, (1 + h*w, 1 + h*w), in the dtype and on the device of `like`.

    exp(-distance^2 / (2 std^2)) between patches, distance in patches, peak 1; the class token's row and
    column are 0. With `rows` (R,), the class token being 0, only those rows: (R, 1 + h*w).
    """
    h, w = grid
    rows = torch.arange(1 + h * w, device=like.device) if rows is None else rows
    down, across = (_falloff(n, std).to(like.device) for n in (h, w))
    place = (rows - 1).clamp(min=0)
    near = down[place // w][:, :, None] * across[place % w][:, None, :]  # (R, h, w)
    near = near.masked_fill((rows == 0)[:, None, None], 0.0)
    return F.pad(near.flatten(1), (1, 0)).to(like.dtype)


def _falloff(n: int, std: float) -> Tensor:
    """One axis of the kernel, (n, n): a Gaussian of a distance in the plane is a product over its axes."""
    place = torch.arange(n, dtype=torch.float32)
    return torch.exp(-((place[:, None] - place) ** 2) / (2 * std**2))


def _sides(comparison: Comparison, q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
    """The two projections an attention map compares."""
    pairs: dict[Comparison, tuple[Tensor, Tensor]] = {"qk": (q, k), "qq": (q, q), "kk": (k, k)}
    return pairs[comparison]


class ValuePath(NamedTuple):
    """Last block of MaskCLIP's official code on a ViT, (B, L, C): what leaves it, queries, keys."""

    values: Tensor
    queries: Tensor
    keys: Tensor


def maskclip_value_path(block: ResidualAttentionBlock, x: Tensor) -> ValuePath:
    """MaskCLIP's last block as its official code has it on a ViT, for tokens x (B, L, C).

    Queries, keys and values each go through the output projection; the values keep the residual and the MLP.
    `ln_post` and `proj` are for the caller to apply (to the values).
    Source: MaskCLIP (arXiv 2112.01071), section 3.2, as used by MVP-SEG (arXiv 2304.06957).
    """
    queries, keys, values = (merge_heads(block, heads) for heads in project_qkv(block, x))
    return ValuePath(finish_block(block, x + block.ls_1(values)), queries, keys)


def prompt_denoising(scores: Tensor, floor: float) -> Tensor:
    """Cosines (S, h, w) with every name that is nowhere convincing taken out of the whole photo.

    A name whose probability, softmax(100 * cosine) over names, stays below `floor` everywhere gets -100
    everywhere. The official setting of `floor` is 0.5. Source: MaskCLIP, section 3.3.
    """
    best = (TEMPERATURE * scores).softmax(dim=0).flatten(1).amax(dim=1)  # (S,)
    return scores.masked_fill((best < floor)[:, None, None], SUPPRESSED)


def key_smoothing(scores: Tensor, keys: Tensor, ceiling: float) -> Tensor:
    """Probabilities (S, h, w) of the names, those of unsure patches gathered from patches with like keys.

    Where the best probability is below `ceiling` (1.0, the official setting, means nearly everywhere) it
    becomes the sum over patches of key similarity x probability: a score, not a probability, since rows of
    similarities are not normalised. Official quirk, kept: each key channel is normalised over the patches,
    not each key over its channels. Source: MaskCLIP, section 3.3.

    Args:
        scores: cosines, (S, h, w), or what `prompt_denoising` left of them.
        keys: one key per patch of the same grid, (h*w, C), class token left out.
        ceiling: probability from which a patch is sure enough to be left alone.
    """
    probabilities = (TEMPERATURE * scores).softmax(dim=0).flatten(1)  # (S, h*w)
    keys = F.normalize(keys.to(probabilities.dtype), dim=0)
    gathered = (probabilities @ keys) @ keys.T  # (S, h*w), without the h*w x h*w similarities
    unsure = probabilities.amax(dim=0) < ceiling
    return torch.where(unsure, gathered, probabilities).reshape(scores.shape)
