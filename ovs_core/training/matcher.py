"""Which query is responsible for which true mask: the assignment of least cost (DETR, arXiv 2005.12872).

Costs are Mask2Former's (arXiv 2112.01527, section 3.3): the class's probability, and cross-entropy and dice
between masks at random points that all masks of a picture share.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from scipy.optimize import linear_sum_assignment  # type: ignore[import-untyped]
from torch import Tensor

from ovs_core.training.losses import Target, sample_points
from ovs_core.types import UNLISTED


@dataclass(frozen=True)
class MatchWeights:
    """What a bad class, a bad pixel and a bad overlap cost; official values of Mask2Former and MAFT+."""

    classes: float = 2.0
    mask: float = 5.0
    dice: float = 5.0


@torch.no_grad()
def match(
    logits: Tensor, masks: Tensor, target: Target, places: Tensor, weights: MatchWeights
) -> tuple[Tensor, Tensor]:
    """Assign each true mask of one picture to a query of its own.

    Args:
        logits: classes with "no object" last, (N, K + 1).
        masks: logits, (N, h, w).
        target: what is known of the picture.
        places: (1, P, 2), (x, y) in [0, 1], where masks are compared.
        weights: of the costs.

    Returns:
        Queries in rising order and the true mask of each, (n,) each; n is the smaller of N and the number of
        true masks.
    """
    predicted = sample_points(masks.float(), places)  # (N, P)
    true = sample_points(target.masks.to(predicted), places)  # (n, P)
    cost = weights.mask * entropy_costs(predicted, true)
    # A mask of unknown class goes by its shape alone.
    known = (target.classes != UNLISTED).to(predicted)  # (n,)
    probabilities = logits.float().softmax(dim=1)[:, target.classes.clamp(min=0)]
    cost = cost - weights.classes * probabilities * known
    cost = cost + weights.dice * dice_costs(predicted, true)
    queries, true_masks = linear_sum_assignment(cost.cpu().numpy())
    device = logits.device
    return torch.as_tensor(queries, device=device), torch.as_tensor(true_masks, device=device)


def entropy_costs(logits: Tensor, truth: Tensor) -> Tensor:
    """Mean binary cross-entropy of every pair, (N, n), of logits (N, P) and truth (n, P) in [0, 1]."""
    inside, outside = F.softplus(-logits), F.softplus(logits)
    return (inside @ truth.T + outside @ (1 - truth).T) / logits.shape[1]


def dice_costs(logits: Tensor, truth: Tensor) -> Tensor:
    """Dice loss of every pair, (N, n), of logits (N, P) and truth (n, P) in [0, 1]."""
    chances = logits.sigmoid()
    overlap = 2 * chances @ truth.T
    return 1 - (overlap + 1) / (chances.sum(dim=1, keepdim=True) + truth.sum(dim=1) + 1)
