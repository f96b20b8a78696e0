"""A row of the table that every study prints."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ovs_core.metrics.resampling import Interval

Counts = NDArray[np.float64]
Told = Callable[[str], None]


@dataclass(frozen=True)
class Line:
    """One row of the table; numbers in [0, 1].

    Attributes:
        study, question, what, metric: which number it is.
        photos: how many counted.
        value: with its 95 % interval.
        difference: to the first `what` of the question, paired by photo; None for that one.
    """

    study: str
    question: str
    what: str
    metric: str
    photos: int
    value: Interval
    difference: Interval | None = None


def ratio(sums: NDArray[np.number]) -> NDArray[np.float64]:
    """First sum by the second, (...) from (..., 2)."""
    with np.errstate(invalid="ignore", divide="ignore"):
        found: NDArray[np.float64] = np.asarray(sums[..., 0] / sums[..., 1], np.float64)
    return found
