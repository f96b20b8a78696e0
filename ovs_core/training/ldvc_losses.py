"""Losses of ZegCLIP and LDVC: focal and dice over the masks of classes, and pseudo-labels for unseen ones.

Numbers follow ZiqinZhou66/ZegCLIP 9ba4bb5 (MIT), written anew and held to it by tests. K is the number of
pairs (picture, class in it) of the batch, at least 1.

    focal = 1/K  sum_{b,c} mean over pixels of a_t BCE(S, O) (1 - p_t)^2,  a_t = 0.25 where O = 1, else 0.75
    dice  = 1/K  sum over pairs of 1 - (2 sum(p O) + 1) / (sum p + sum O + 1)

Pixels without a label are not masked: O is 0 there for every class, so they count against all of them in both
losses. So does the official code.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

FOCAL_WEIGHT, DICE_WEIGHT = 100.0, 1.0
_ALPHA, _POWER = 0.25, 2
_SMOOTH = 1.0


class MaskLosses(NamedTuple):
    """Sums over pairs, before they are divided by K.

    Attributes:
        focal: a scalar.
        dice: a scalar.
        pairs: how many pictures have how many classes, a scalar without gradient.
    """

    focal: Tensor
    dice: Tensor
    pairs: Tensor


def mask_losses(logits: Tensor, labels: Tensor) -> MaskLosses:
    """Losses of masks (B, S, H, W), before a sigmoid.

    Args:
        logits: at the labels' size.
        labels: row of S, or a negative number where there is none, (B, H, W).
    """
    target = torch.stack([labels == row for row in range(logits.shape[1])], dim=1)  # (B, S, H, W)
    truth = target.to(logits.dtype)
    cross_entropy = F.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    p = logits.sigmoid()
    right = torch.where(target, p, 1 - p)
    alpha = torch.where(target, _ALPHA, 1 - _ALPHA)
    focal = (alpha * cross_entropy * (1 - right) ** _POWER).mean(dim=(2, 3)).sum()
    present = target.flatten(2).any(dim=2)  # (B, S)
    both, either = (p * truth).sum(dim=(2, 3)), (p + truth).sum(dim=(2, 3))
    dice = 1 - (2 * both + _SMOOTH) / (either + _SMOOTH)
    return MaskLosses(focal, dice[present].sum(), present.sum())


def weighted(losses: MaskLosses, pairs: Tensor) -> dict[str, Tensor]:
    """Losses as they are minimised.

    Args:
        losses: of the pictures here.
        pairs: K of the whole batch, those of other processes included, a scalar.
    """
    pairs = pairs.clamp(min=1)
    return {"focal": FOCAL_WEIGHT * losses.focal / pairs, "dice": DICE_WEIGHT * losses.dice / pairs}


@torch.no_grad()
def pseudo_labels(logits: Tensor, labels: Tensor, unseen: Tensor, marked: int) -> Tensor:
    """Labels (B, H, W) in which pixels of unseen classes have the best unseen class, whatever its score.

    Self-training: which pixels are of unseen classes is known, which class it is not.

    Args:
        logits: scores of all classes now, (B, S, H, W).
        labels: row of S, `marked` for pixels of unseen classes, or other negative numbers, which stay.
        unseen: rows of the unseen classes, (U,).
        marked: the number that marks them.
    """
    guess = unseen.to(logits.device)[logits[:, unseen].argmax(dim=1)]
    return torch.where(labels == marked, guess.to(labels.dtype), labels)
