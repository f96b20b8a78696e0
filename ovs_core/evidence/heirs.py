"""Who has the area of a class once it no longer competes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Heir:
    """A class that inherits.

    Attributes:
        label: its label; 0 = other.
        share: part of the area that it has now, in (0, 1].
    """

    label: int
    share: float


def heirs(before: NDArray[np.integer], after: NDArray[np.integer], label: int) -> tuple[Heir, ...]:
    """Say who has the pixels that a class had, the largest share first; nothing for a class without any.

    Args:
        before: labels (H, W) in which the class competed.
        after: labels (H, W) in which it does not.
        label: of the class.

    Raises:
        ValueError: for maps of different size.
    """
    if before.shape != after.shape:
        raise ValueError(f"after must be {before.shape}, got {after.shape}")
    area = after[before == label]
    labels, pixels = np.unique(area, return_counts=True)
    order = np.argsort(-pixels, kind="stable")
    return tuple(Heir(int(labels[at]), float(pixels[at] / area.size)) for at in order)
