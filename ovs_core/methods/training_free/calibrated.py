"""SC-CLIP and SFP: abnormal patches repaired, patches averaged with those that earlier blocks find alike.

One procedure with two settings. With x_n the patches that leave block n of B/16's 12, S_n their cosines and
[S] cosines with those below 0.4 set to 0:

    1  find abnormal patches of x_11; each becomes the mean of those of its 8 neighbours that are normal,
       in x_11 and in x_9
    2  x = average(x_11, [S_9]), where average(x, W)_i = sum_j W_ij x_j / sum_j W_ij
    3  y = A(x) v(x) + 0.3 class token, the last block without residual and MLP. A is the mean of self-self
       attention maps of the block and softmax(3 (S_9 - its mean), negative entries left out)
    4  y = average(y, [S_4])
    5  the same two steps (3, 4) for x_4 + ... + x_10 and its class token, added to y

                     abnormal                                    A of x           A of the sum
    SC-CLIP          5 % with the largest local outlier factor   kk and S_9       kk and S_9
    SFP              10 at most that the class token attends     qq, kk and S_9   S_9
                     to more than they attend to themselves

SC-CLIP: Bai et al., arXiv 2411.15869. SFP: Jin et al., "Feature Purification Matters", ICCV 2025, pp.
20291-20300. Written from formulas, with constants of the authors' settings for B/16. Kept quirks of
theirs: the local outlier factor works on squared distances and takes a patch's own distance to its 30th
neighbour for all reach distances; SFP multiplies what the class token attends by 1.5, and takes S_9 for A
after it was cut. Deviations: other towers have blocks at the same relative depth (`at_depth`; of the
embedded tower's four, x_4 is block 1, x_9, x_10 and x_11 are block 3); an abnormal patch with abnormal
neighbours only stays as it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from ovs_core.methods.training_free.attention_rules import (
    RULES,
    Comparison,
    attention_weights,
    compared,
    merge_heads,
    project_qkv,
)
from ovs_core.methods.training_free.blocks import at_depth, block_outputs
from ovs_core.options import Options
from ovs_core.types import Window

if TYPE_CHECKING:  # types only: who builds the model loads its library, which takes seconds
    from open_clip.transformer import ResidualAttentionBlock, VisionTransformer

Abnormal = Literal["local", "attended"]

NEIGHBOURS, ABNORMAL_SHARE = 30, 0.05  # of the local outlier factor
MOST_ATTENDED, CLASS_GAIN = 10, 1.5  # SFP: 0.3 x 5 in its settings
LEAST_COSINE = 0.4
SHARPNESS = 3.0
CLASS_SHARE = 0.3
_LEAST = 1e-6  # of sums of weights, and of distances


@dataclass(frozen=True)
class Calibration:
    """What SC-CLIP and SFP differ in.

    Attributes:
        description: one line for people.
        abnormal: how abnormal patches are found.
        comparisons: attention maps of the last block that are averaged with the cosines of block 9.
        comparisons_of_sum: the same for the sum of blocks.
        cut_first: whether these cosines are cut before they become attention.
    """

    description: str
    abnormal: Abnormal
    comparisons: tuple[Comparison, ...]
    comparisons_of_sum: tuple[Comparison, ...]
    cut_first: bool = False

    def leave(self, visual: VisionTransformer, window: Window, options: Options) -> Tensor:
        """As `LastBlock.leave`; the class token stays as it enters the last block."""
        block, outputs = visual.transformer.resblocks[-1], block_outputs(visual, window)
        patches, affinity = self._prepared(visual, window)
        early = without_low(cosines(_depth(outputs, 4)[1:]))
        first, final = (at_depth(number, len(outputs) + 1) for number in (4, 10))
        summed = torch.stack([tokens.float() for tokens in outputs[first - 1 : final]]).sum(dim=0)
        entering = outputs[-1].float()
        left = torch.zeros_like(patches)
        for x, class_token, comparisons in (
            (patches, entering[:1], self.comparisons),
            (summed[1:], summed[:1], self.comparisons_of_sum),
        ):
            attended = _attend(block, x, affinity, comparisons) + CLASS_SHARE * class_token
            left = left + averaged(attended, early)
        return torch.cat([entering[:1], left]).to(_dtype(block))

    def heads(
        self, visual: VisionTransformer, window: Window, rows: Tensor, options: Options
    ) -> Iterator[Tensor]:
        """As `LastBlock.heads`: A of step 3; the class token keeps to itself."""
        block = visual.transformer.resblocks[-1]
        x, affinity = self._prepared(visual, window)
        q, k, _ = (heads.float()[0] for heads in project_qkv(block, x[None].to(_dtype(block))))
        patches = (rows - 1).clamp(min=0)
        for head in range(len(q)):
            total = affinity[patches]
            for comparison in self.comparisons:
                total = total + compared(comparison, q[head], k[head], patches).softmax(dim=-1)
            weights = F.pad(total / (1 + len(self.comparisons)), (1, 0))  # (R, L)
            own = F.one_hot(rows, weights.shape[1]).to(weights)
            yield torch.where((rows == 0)[:, None], own, weights)

    def _prepared(self, visual: VisionTransformer, window: Window) -> tuple[Tensor, Tensor]:
        """Patches after step 2, (N, C), and what S_9 becomes in step 3, (N, N)."""
        outputs = block_outputs(visual, window)
        odd = self.abnormal_patches(visual, window)
        alike = cosines(repaired(_depth(outputs, 9)[1:], odd, window.grid))
        cut = without_low(alike)
        patches = averaged(repaired(outputs[-1][1:].float(), odd, window.grid), cut)
        return patches, affinity_attention(cut if self.cut_first else alike)

    def abnormal_patches(self, visual: VisionTransformer, window: Window) -> Tensor:
        """Which patches of a window are repaired, (h*w,) of bool."""
        outputs = block_outputs(visual, window)
        if self.abnormal == "local":
            return local_outliers(outputs[-1][1:])
        if len(outputs) < 2:  # a tower of two blocks: what enters the first one is not carried
            return torch.zeros(len(outputs[-1]) - 1, dtype=torch.bool, device=outputs[-1].device)
        block = visual.transformer.resblocks[-2]
        return attended_outliers(attention_weights(RULES["clip"], block, outputs[-2], window.grid))


CALIBRATIONS: Mapping[str, Calibration] = MappingProxyType(
    {
        "sc_clip": Calibration("SC-CLIP", "local", ("kk",), ("kk",)),
        "sfp": Calibration("SFP", "attended", ("qq", "kk"), (), cut_first=True),
    }
)


def local_outliers(patches: Tensor, neighbours: int = NEIGHBOURS, share: float = ABNORMAL_SHARE) -> Tensor:
    """The `share` of patches (N, C) that are farthest out for where they are, (N,) of bool.

    With d_i the squared distance of i to its `neighbours`-th neighbour, fewer where there are fewer patches,
    the factor of i is the mean over its neighbours n of d_i / d_n. Those above the quantile 1 - share are it.
    """
    count = min(neighbours, len(patches) - 1)
    if count < 1:
        return torch.zeros(len(patches), dtype=torch.bool, device=patches.device)
    centred = patches.float() - patches.float().mean(dim=0)  # what all share would drown the distances
    squared = torch.cdist(centred, centred).square()
    near = squared.topk(count + 1, largest=False)  # the first one is the patch itself
    reach = near.values[:, -1].clamp(min=_LEAST)  # (N,)
    factor = reach * (1 / reach)[near.indices[:, 1:]].mean(dim=1)
    return factor > _quantile(factor, 1 - share)


def _quantile(values: Tensor, share: float) -> Tensor:
    """The value (N,) below which that share lies, linear between two; torch's own needs float64."""
    ranked = values.sort().values
    place = share * (len(ranked) - 1)
    low = int(place)
    return ranked[low].lerp(ranked[min(low + 1, len(ranked) - 1)], place - low)


def attended_outliers(weights: Tensor, most: int = MOST_ATTENDED, gain: float = CLASS_GAIN) -> Tensor:
    """Patches that the class token attends to, times `gain`, more than they do to themselves, (h*w,) of bool.

    Args:
        weights: attention of the block before the last one, mean over heads, (1 + h*w, 1 + h*w).
        most: of them, those that it attends to most.
        gain: on what the class token attends to.
    """
    attended = gain * weights[0, 1:]
    attended = attended.masked_fill(attended <= weights.diagonal()[1:], 0.0)
    chosen = attended.topk(min(most, len(attended)))
    return torch.zeros_like(attended, dtype=torch.bool).scatter(0, chosen.indices, chosen.values > 0)


def repaired(patches: Tensor, odd: Tensor, grid: tuple[int, int]) -> Tensor:
    """Patches (h*w, C) float32, those that are `odd` (h*w,) replaced by the mean of their normal neighbours.

    Neighbours are the up to 8 round a patch. Where none of them is normal, the patch stays as it is.
    """
    height, width = grid
    kept = (~odd).float().view(1, 1, height, width)
    maps = patches.float().T.reshape(-1, 1, height, width)  # (C, 1, h, w)
    ring = torch.ones(1, 1, 3, 3, device=patches.device)
    ring[..., 1, 1] = 0
    total = F.conv2d(maps * kept, ring, padding=1)
    count = F.conv2d(kept, ring, padding=1)
    mended = torch.where((kept == 0) & (count > 0), total / count.clamp(min=1), maps)
    return mended.flatten(1).T


def cosines(patches: Tensor) -> Tensor:
    """Cosine of each patch (N, C) with each other one, (N, N) float32."""
    units = F.normalize(patches.float(), dim=-1)
    return units @ units.T


def without_low(alike: Tensor, least: float = LEAST_COSINE) -> Tensor:
    """Cosines (N, N) with those below `least` set to 0."""
    return alike.masked_fill(alike < least, 0.0)


def averaged(patches: Tensor, weights: Tensor) -> Tensor:
    """Mean of patches (N, C) with weights (N, N), row by row."""
    return weights @ patches / (weights.sum(dim=1, keepdim=True) + _LEAST)


def affinity_attention(alike: Tensor, sharpness: float = SHARPNESS) -> Tensor:
    """Attention made of cosines (N, N): softmax(sharpness (S - mean of S)), entries below the mean left out.

    A patch always takes part in its own row, whatever rounding says of a mean of ones.
    """
    centred = (alike - alike.mean()) * sharpness
    place = torch.arange(len(alike), device=alike.device)
    left_out = (centred < 0) & (place[:, None] != place)
    return centred.masked_fill(left_out, -torch.inf).softmax(dim=-1)


def _attend(
    block: ResidualAttentionBlock, x: Tensor, affinity: Tensor, comparisons: tuple[Comparison, ...]
) -> Tensor:
    """Patches x (N, C) after the block's attention with A, no residual, no MLP: (N, C) float32."""
    q, k, v = project_qkv(block, x[None].to(_dtype(block)))
    mixed = affinity.to(v.dtype) @ v
    for comparison in comparisons:
        side = {"qq": q, "kk": k}[comparison]
        mixed = mixed + F.scaled_dot_product_attention(side, side, v)
    return block.ls_1(merge_heads(block, mixed / (1 + len(comparisons))))[0].float()


def _depth(outputs: tuple[Tensor, ...], number: int) -> Tensor:
    """What leaves block `number` of 12, or the block as deep in this tower, in float32."""
    return outputs[at_depth(number, len(outputs) + 1) - 1].float()


def _dtype(block: ResidualAttentionBlock) -> torch.dtype:
    return block.attn.in_proj_weight.dtype
