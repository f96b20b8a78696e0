"""FreeCP's redundancy purification: names that smoothing scatters are taken out of the photo.

A name that is there has a map which smoothing by the tower's own attention leaves where it was; the map of
one that is not is noise, and smoothing blurs it. With P the probabilities softmax(100 cosine) over names and
M the mean attention of earlier blocks between patches, made doubly stochastic, symmetric and squared:

    R = min-max of M (P inside the boxes round where P is above 0.4 of its maximum)
    a name with sum(P R) / (sum P + sum R) of at most 0.15 is absent

Source: FreeCP, Chen et al., arXiv 2508.00557, its first half, with the authors' constants. Deviations: the
names that stay keep their own scores, where FreeCP answers with R; the second half, which asks CLIP again
about crops where two names claim one place, is not here. M is the mean of blocks 2 to L - 1 (FreeCP: 1 to
L - 1). Maps are those of the whole frame, not of each window. Hidden "everything else" names always stay, and
so do all names where none would.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
import scipy  # type: ignore[import-untyped]
import torch
from numpy.typing import NDArray
from torch import Tensor

from ovs_core.methods.training_free.attention_rules import RULES, TEMPERATURE, attention_weights
from ovs_core.methods.training_free.blocks import block_outputs
from ovs_core.options import Option
from ovs_core.types import Features, Window
from ovs_core.windows import accumulate

if TYPE_CHECKING:  # types only: who builds the model loads its library, which takes seconds
    from open_clip.transformer import VisionTransformer

DROP_ABSENT = Option(
    "drop_absent",
    "switch",
    False,
    "Take out names whose map falls apart when attention smooths it (FreeCP).",
    title="Drop words that are not there (FreeCP)",
)
LEAST_OVERLAP = 0.15  # FreeCP's, for OpenAI's towers
LEAST_OVERLAP_MINI = 0.01
"""The embedded tower's: of 20 training photos it keeps 88 % of the names that are there (nearly all of their
area) and 4 % of others; FreeCP's own would keep 28 % of them."""
_BOX_FROM = 0.4  # of a map's maximum
_SINKHORN_ROUNDS = 3
_LEAST = 1e-8
_TOUCHING = np.ones((3, 3), int)  # patches that meet at a corner are one part


def absent_names(
    visual: VisionTransformer, features: Features, cosines: Tensor, typed: int, least: float = LEAST_OVERLAP
) -> Tensor:
    """Which names are not in the photo, (S,) of bool; never one of those behind the first `typed`.

    Args:
        visual: the tower that made the features.
        features: with what leaves earlier blocks (`blocks.deeper`).
        cosines: of every name with every patch of the frame, (S, h, w).
        typed: how many of the names were typed.
        least: overlap up to which a name is absent.
    """
    absent = torch.zeros(len(cosines), dtype=torch.bool, device=cosines.device)
    if len(visual.transformer.resblocks) < 3:  # what enters the first block is not carried
        return absent
    probabilities = (TEMPERATURE * cosines).softmax(dim=0)  # (S, h, w)
    boxed = probabilities[:typed] * boxes(probabilities[:typed].cpu().numpy()).to(cosines.device)
    parts = ((window, _smoothed(visual, window, boxed)) for window in features.windows)
    after = min_max(accumulate(parts, features.grid))
    gone = overlap(probabilities[:typed], after) <= least
    if typed < len(cosines) or not bool(gone.all()):
        absent[:typed] = gone
    return absent


def overlap(before: Tensor, after: Tensor) -> Tensor:
    """sum(P R) / (sum P + sum R) of each map (S, h, w), 0.5 where both are 1 on the same patches: (S,)."""
    both = (before * after).flatten(1).sum(dim=1)
    return both / (before.flatten(1).sum(dim=1) + after.flatten(1).sum(dim=1) + _LEAST)


def transitions(attention: Tensor) -> Tensor:
    """Attention between patches (N, N) made doubly stochastic (Sinkhorn), symmetric, and taken twice."""
    for _ in range(_SINKHORN_ROUNDS):
        for side in (0, 1):
            attention = attention / attention.sum(dim=side, keepdim=True).clamp(min=_LEAST)
    even = (attention + attention.T) / 2
    return even @ even


def boxes(maps: NDArray[np.float32]) -> Tensor:
    """1 inside the boxes round parts of each map (S, h, w) above 0.4 of its maximum, else 0: (S, h, w)."""
    inside = np.zeros(maps.shape, np.float32)
    for one, box in zip(maps, inside, strict=True):
        parts, _ = scipy.ndimage.label(one > _BOX_FROM * one.max(), _TOUCHING)
        for place in scipy.ndimage.find_objects(parts):
            box[place] = 1
    return torch.from_numpy(inside)


def min_max(maps: Tensor) -> Tensor:
    """Each map (S, h, w) from 0 at its lowest to 1 at its highest; one without a difference is 0."""
    low, high = (end.view(-1, 1, 1) for end in maps.flatten(1).aminmax(dim=1))
    return (maps - low) / (high - low + _LEAST)


def _smoothed(visual: VisionTransformer, window: Window, maps: Tensor) -> Tensor:
    """What attention makes of the maps (S, h, w) of the frame inside a window, (S, hh, ww)."""
    height, width = window.grid
    inside = maps[:, window.top : window.top + height, window.left : window.left + width]
    moved = inside.flatten(1) @ transitions(_mean(_attentions(visual, window))).T
    return moved.view(-1, height, width)


def _attentions(visual: VisionTransformer, window: Window) -> Iterable[Tensor]:
    """Attention between patches in blocks 2 to L - 1, (N, N) each."""
    outputs = block_outputs(visual, window)
    for block, x in zip(list(visual.transformer.resblocks)[1:-1], outputs[:-1], strict=True):
        yield attention_weights(RULES["clip"], block, x, window.grid)[1:, 1:]


def _mean(maps: Iterable[Tensor]) -> Tensor:
    total, count = torch.zeros(()), 0
    for attention in maps:
        total, count = attention + total.to(attention.device), count + 1
    return total / count
