"""Where an MVP-SEG+ student on a frozen trunk starts: at what a linear convolution can say of its teacher.

Ours, for a few hundred photos: from random values a head learns all names from them alone, and labels far
worse than its teacher. The first branch is set to the least-squares solution of

    min_W  sum over cells | W x - F |^2 + lambda |W|^2

(x: the 3 x 3 dilated neighbourhood of a cell, F: MaskCLIP's features there) times the teacher's own scale
tau1, so that scores before any step are nearly tau1 sum_i m_i. Statistics of the norms are those of the same
crops and stay: batches of four crops know them badly.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ovs_core.methods.mvp_seg.student import DeepLabV2Head

FeaturesOf = Callable[[Tensor], Tensor]
"""From what a trunk made of a crop, (C, h, w), to the teacher's unit features there, (D, h, w)."""
RIDGE = 1e-3  # of the mean square of an input
OTHERS = 0.1  # size of the other branches' outputs beside the first one's, at the start


@torch.no_grad()
def start_at_teacher(
    head: DeepLabV2Head, maps: Sequence[Tensor], features_of: FeaturesOf, scale: float
) -> None:
    """Set a head's first branch and all its norms; the other branches keep their random convolutions.

    Args:
        head: with a linear first branch.
        maps: what the trunk made of some crops, (C, h, w) each.
        features_of: the teacher.
        scale: of the outputs; the teacher's tau1.
    """
    first, _ = head.pairs[0]
    weight, bias = _least_squares(first, maps, features_of)
    first.weight.copy_(weight)
    for convolution, norm in head.pairs:
        outputs = torch.cat([convolution(one[None])[0].flatten(1) for one in maps], dim=1)
        mean, variance = outputs.mean(dim=1), outputs.var(dim=1)
        norm.load_state_dict(norm.state_dict() | {"running_mean": mean, "running_var": variance})
        if convolution is first:
            norm.weight.copy_(scale * (variance + norm.eps).sqrt())
            norm.bias.copy_(scale * (mean + bias))
        else:
            norm.weight.fill_(OTHERS * scale / math.sqrt(len(outputs)))
            norm.bias.zero_()


def _least_squares(
    convolution: nn.Conv2d, maps: Sequence[Tensor], features_of: FeaturesOf
) -> tuple[Tensor, Tensor]:
    """Weight (D, C, 3, 3) and bias (D,) of the convolution that comes nearest to the teacher's features."""
    inputs = 9 * convolution.in_channels + 1
    products = torch.zeros(inputs, inputs, dtype=torch.float64)
    targets = torch.zeros(inputs, convolution.out_channels, dtype=torch.float64)
    dilation = convolution.dilation[0]
    for one in maps:
        x = F.unfold(one[None], 3, dilation=dilation, padding=dilation)[0]  # (9 C, h w)
        x = torch.cat([x, torch.ones(1, x.shape[1])])
        products += (x @ x.T).double()
        targets += (x @ features_of(one).flatten(1).T).double()
    products.diagonal().add_(RIDGE * float(products.diagonal().mean()))
    solution = torch.linalg.solve(products, targets).float()  # (9 C + 1, D)
    weight = solution[:-1].T.reshape(convolution.weight.shape)
    return weight, solution[-1]


def some_of(maps: np.ndarray, count: int) -> list[Tensor]:
    """Up to `count` of the kept maps, evenly spaced."""
    places = np.linspace(0, len(maps) - 1, min(count, len(maps))).round().astype(int)
    return [torch.from_numpy(maps[place].astype(np.float32)) for place in places]
