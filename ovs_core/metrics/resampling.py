"""Intervals by resampling photos (bootstrap, Efron 1979): photos, not pixels, are what is independent."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ovs_core.metrics.confusion import mean_iou

Statistic = Callable[[NDArray[np.number]], NDArray[np.float64]]
"""From counts summed over photos, (..., as of one photo), to numbers (...)."""


@dataclass(frozen=True)
class Interval:
    """A value and its 95 % interval over photos."""

    value: float
    low: float
    high: float


def draws(photos: int, resamples: int = 1000, seed: int = 0) -> NDArray[np.float64]:
    """How often each photo is drawn in each resample, (resamples, photos).

    Equal seeds draw the same photos, so that methods are resampled alike.
    """
    generator = np.random.default_rng(seed)
    return generator.multinomial(photos, np.full(photos, 1 / photos), size=resamples).astype(np.float64)


def totals(photos: NDArray[np.number], drawn: NDArray[np.float64]) -> NDArray[np.float64]:
    """Counts (N, ...) summed up for each resample (R, N): (R, ...)."""
    flat = photos.reshape(len(photos), -1).astype(np.float64)
    return (drawn @ flat).reshape(len(drawn), *photos.shape[1:])


def interval(
    photos: NDArray[np.number], statistic: Statistic = mean_iou, resamples: int = 1000, seed: int = 0
) -> Interval:
    """Bootstrap a statistic over photos: its value, 2.5th and 97.5th percentile.

    Args:
        photos: counts of each photo, (N, ...), N >= 1.
        statistic: from summed counts to numbers.
        resamples: how many times N photos are drawn with replacement.
        seed: as for `draws`.
    """
    values = statistic(totals(photos, draws(len(photos), resamples, seed)))
    return percentiles(float(statistic(photos.sum(axis=0))), values)


def paired_difference(
    first: NDArray[np.number],
    second: NDArray[np.number],
    statistic: Statistic = mean_iou,
    resamples: int = 1000,
    seed: int = 0,
) -> Interval:
    """Bootstrap statistic(first) - statistic(second) of two runs on the same photos, drawn together.

    Far narrower than two intervals of their own: what makes a photo hard is in both runs and cancels.

    Raises:
        ValueError: if the runs are not about equally many photos.
    """
    if first.shape[0] != second.shape[0]:
        raise ValueError(f"both runs must be about the same photos, got {len(first)} and {len(second)}")
    drawn = draws(len(first), resamples, seed)
    values = statistic(totals(first, drawn)) - statistic(totals(second, drawn))
    return percentiles(float(statistic(first.sum(axis=0)) - statistic(second.sum(axis=0))), values)


def percentiles(value: float, values: NDArray[np.float64]) -> Interval:
    """A value with the 2.5th and 97.5th percentile of its resamples; NaN among them are left out."""
    if np.isnan(values).all():
        return Interval(value, float("nan"), float("nan"))
    low, high = np.nanpercentile(values, (2.5, 97.5))
    return Interval(value, float(low), float(high))
