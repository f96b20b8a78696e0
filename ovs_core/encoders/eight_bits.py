"""Weights of a file in whole numbers of 8 bits: half of what a clone has to fetch.

A matrix (any tensor of two axes or more) has one step for each row of its first axis, which a convolution or
a linear layer calls an output channel and a table an entry. Nothing computes in 8 bits: weights are made
whole again when they are read. A matrix that began as an identity and learnt small values beside it stays as
it is: with steps as large as its diagonal asks for, those would be lost (measured: two points of NYUv2).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

STEPS, WEIGHT = ".steps", ".weight"
LARGEST = 127  # of the 8-bit numbers, which are symmetric
FEWEST = 4096  # values of a matrix that is worth a row of steps
LARGEST_PEAK = (
    16  # largest value over mean size of a row; 3 to 11 in trained matrices, above 100 in such ones
)
_NO_DIVISION_BY_ZERO = 1e-8


def in_eight_bits(state: Mapping[str, Tensor], whole: tuple[str, ...] = ()) -> dict[str, Tensor]:
    """A state whose large matrices are in 8 bits, with their steps beside them.

    `in_full` undoes it, to 1/254 of a row's largest value.

    Args:
        state: of a model.
        whole: beginnings of the names of what stays as it is.
    """
    small: dict[str, Tensor] = {}
    for name, value in state.items():
        large = value.ndim >= 2 and value.numel() >= FEWEST and value.is_floating_point()
        if not large or name.startswith(whole) or _peak(value) > LARGEST_PEAK:
            small[name] = value
            continue
        rows = value.float().flatten(1)
        step = (rows.abs().amax(dim=1) / LARGEST).clamp(min=_NO_DIVISION_BY_ZERO)
        small[name] = (rows / step[:, None]).round().to(torch.int8).reshape(value.shape)
        small[name.removesuffix(WEIGHT) + STEPS] = step
    return small


def _peak(matrix: Tensor) -> float:
    """How far the largest value of a row stands above its mean size, in the median row."""
    sizes = matrix.float().flatten(1).abs()
    return float((sizes.amax(dim=1) / sizes.mean(dim=1).clamp(min=_NO_DIVISION_BY_ZERO)).median())


def in_full(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Undo `in_eight_bits`; a state without such matrices is left as it is."""
    whole = dict(state)
    for name in [name for name in state if name.endswith(STEPS)]:
        base = name.removesuffix(STEPS)
        matrix = base + WEIGHT if base + WEIGHT in whole else base
        rows = whole[matrix].to(torch.float32, copy=True).flatten(1)
        whole[matrix] = rows.mul_(whole.pop(name).reshape(-1, 1)).reshape(whole[matrix].shape)
    return whole
