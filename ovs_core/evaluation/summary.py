"""From counted photos to numbers with intervals."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from ovs_core.evaluation.datasets import Dataset
from ovs_core.evaluation.metrics import (
    Counts,
    Interval,
    class_iou,
    draws,
    margins,
    mean_iou,
    panoptic_quality,
    percentiles,
    pixel_accuracy,
    seen_unseen,
    segment_counts,
    share,
    totals,
)
from ovs_core.evaluation.records import PhotoRecord

Numbers = NDArray[np.float64]
Statistic = Callable[[NDArray[np.number]], Numbers]
"""From counts summed over photos, (..., as of one photo), to numbers (...)."""

MEANINGS: Mapping[str, str] = MappingProxyType(
    {
        "miou_truth": "mean IoU over the classes that are in the truth",
        "miou_either": "mean IoU over the classes that are in the truth or in an answer",
        "pixel_accuracy": "share of the counted pixels that are right",
        "boundary_miou": "mean IoU of bands along boundaries (2 % of the diagonal), classes in the truth",
        "pq": "panoptic quality, each class of a photo taken as one segment",
        "sq": "segmentation quality: mean IoU of matched segments",
        "rq": "recognition quality: F1 of matched segments (IoU above 0.5)",
        "seen_miou": "mean IoU over the classes in the truth that training saw",
        "unseen_miou": "mean IoU over the classes in the truth that were named as unseen",
        "harmonic_miou": "harmonic mean of the two",
        "false_area": "share of the counted pixels given to a typed class that is not in the photo",
        "absent_silent": "share of the typed classes not in the photo that win no counted pixel of it",
    }
)
"""Every number of a summary: what it is, on the whole set, all photos counted in one."""


@dataclass(frozen=True)
class ClassNumbers:
    """One class over all photos; shares are of the counted pixels, in [0, 1].

    Attributes:
        label: 0 = background, k = k-th class.
        name: shown first.
        photos: with the class in their truth.
        iou, boundary_iou: None where the truth has none of it.
        truth_share, answer_share: how much of the area it has and gets.
        false_share: how much it gets in photos that do not have it.
    """

    label: int
    name: str
    photos: int
    iou: float | None
    boundary_iou: float | None
    truth_share: float
    answer_share: float
    false_share: float


@dataclass(frozen=True, eq=False)
class Summary:
    """One subject on one dataset.

    Attributes:
        metrics: name (as in `MEANINGS`) -> value in [0, 1] with its interval; absent where undefined.
        classes: those in the truth or in an answer, in the dataset's order.
        confusion: pixels by (truth, answer), (K + 1, K + 1).
        counted: number of photos with an answer.
        photo_iou: photo -> its own mean IoU over the classes in its truth.
        nothing_to_ask: photos without a class that could be typed.
        left_out: photo -> why it has no answer.
        seconds: stage -> median over photos; "total" is that of the sums, "total_p90" their 90th percentile.
        peak_bytes: largest over photos; None if unknown.
        typed: mean number of classes typed.
    """

    metrics: Mapping[str, Interval]
    classes: tuple[ClassNumbers, ...]
    confusion: Counts
    counted: int
    photo_iou: Mapping[str, float]
    nothing_to_ask: tuple[str, ...]
    left_out: Mapping[str, str]
    seconds: Mapping[str, float]
    peak_bytes: int | None
    typed: float


@dataclass(frozen=True, eq=False)
class _Stacks:
    """Counts of each photo; without a background class, class 0 is left out of rows of classes."""

    margins: Counts  # (N, 3, classes)
    boundaries: Counts  # (N, 3, classes)
    segments: Numbers  # (N, 4, classes)
    false_area: Counts  # (N, classes): pixels given to typed classes that are absent
    silent: Counts  # (N, 2): absent typed classes without a pixel, absent typed classes
    pixels: Counts  # (N,): counted


def summarise(
    records: Sequence[PhotoRecord],
    dataset: Dataset,
    unseen: Collection[int] = (),
    resamples: int = 1000,
    seed: int = 0,
) -> Summary:
    """Sum up what was counted.

    Args:
        records: one for each photo.
        dataset: whose photos they are.
        unseen: classes, numbered from 1, that no training saw.
        resamples: of the bootstrap over photos.
        seed: of the bootstrap.

    Raises:
        ValueError: if no photo was counted.
    """
    answered = [record for record in records if record.cells]
    if not answered:
        raise ValueError("No photo could be measured: none was readable and had a class to ask about.")
    stacks, confusion = _stack(answered, dataset)
    drawn = draws(len(answered), resamples, seed)
    metrics = {
        name: interval
        for name, (stack, statistic) in _statistics(stacks, dataset, unseen).items()
        if not np.isnan((interval := _bootstrapped(stack, statistic, drawn)).value)
    }
    own = mean_iou(stacks.margins)
    return Summary(
        metrics=metrics,
        classes=_class_numbers(stacks, confusion, dataset),
        confusion=confusion,
        counted=len(answered),
        photo_iou={
            record.photo: float(iou) for record, iou in zip(answered, own, strict=True) if not np.isnan(iou)
        },
        nothing_to_ask=tuple(record.photo for record in records if not record.cells and not record.problem),
        left_out={record.photo: record.problem for record in records if record.problem},
        seconds=_seconds(answered),
        peak_bytes=max((record.peak_bytes for record in answered if record.peak_bytes), default=None),
        typed=float(np.mean([len(record.typed) for record in answered])),
    )


def differences(
    first: Sequence[PhotoRecord],
    second: Sequence[PhotoRecord],
    dataset: Dataset,
    unseen: Collection[int] = (),
    resamples: int = 1000,
    seed: int = 0,
) -> dict[str, Interval]:
    """Metrics of the first run minus those of the second, bootstrapped over the photos that both answered.

    Each resample draws the same photos for both: what makes a photo hard cancels.
    """
    ours, theirs = ({record.photo: record for record in run if record.cells} for run in (first, second))
    photos = [photo for photo in ours if photo in theirs]
    if not photos:
        return {}
    drawn = draws(len(photos), resamples, seed)
    sides = [
        _statistics(_stack([run[photo] for photo in photos], dataset)[0], dataset, unseen)
        for run in (ours, theirs)
    ]
    found = {}
    for name in sides[0]:
        (one, statistic), (other, _) = sides[0][name], sides[1][name]
        value = statistic(one.sum(axis=0)) - statistic(other.sum(axis=0))
        values = statistic(totals(one, drawn)) - statistic(totals(other, drawn))
        if not np.isnan(value):
            found[name] = percentiles(float(value), values)
    return found


def _statistics(
    stacks: _Stacks, dataset: Dataset, unseen: Collection[int]
) -> dict[str, tuple[NDArray[np.number], Statistic]]:
    """Every metric: the counts it is made of, and how."""
    first = 0 if dataset.background else 1
    hidden = [label - first for label in unseen]
    found: dict[str, tuple[NDArray[np.number], Statistic]] = {
        "miou_truth": (stacks.margins, mean_iou),
        "miou_either": (stacks.margins, lambda total: mean_iou(total, "either")),
        "pixel_accuracy": (stacks.margins, pixel_accuracy),
        "boundary_miou": (stacks.boundaries, mean_iou),
        "false_area": (np.stack([stacks.false_area.sum(axis=1), stacks.pixels], axis=1), share),
        "absent_silent": (stacks.silent, share),
    }
    for index, name in enumerate(("pq", "sq", "rq")):
        found[name] = (stacks.segments, _row(panoptic_quality, index))
    if hidden:
        for index, name in enumerate(("seen_miou", "unseen_miou", "harmonic_miou")):
            found[name] = (stacks.margins, _row(partial(seen_unseen, unseen=hidden), index))
    return {name: found[name] for name in MEANINGS if name in found}


def _row(statistic: Statistic, index: int) -> Statistic:
    """One of the numbers that a statistic gives."""
    return lambda total: statistic(total)[index]


def _bootstrapped(stack: NDArray[np.number], statistic: Statistic, drawn: Numbers) -> Interval:
    return percentiles(float(statistic(stack.sum(axis=0))), statistic(totals(stack, drawn)))


def _stack(records: Sequence[PhotoRecord], dataset: Dataset) -> tuple[_Stacks, Counts]:
    """Counts of each photo, and the confusion matrix of all."""
    classes = len(dataset.classes) + 1
    first = 0 if dataset.background else 1
    whole = np.zeros((classes, classes), np.int64)
    right, bands, segments, false_area, silent, pixels = [], [], [], [], [], []
    for record in records:
        matrix = record.confusion(classes)
        inside, void = matrix[:classes], matrix[classes]
        whole += inside
        counts = margins(inside)
        absent = [label for label in record.typed if counts[1, label] == 0]
        right.append(counts[:, first:])
        bands.append(record.boundaries(classes)[:, first:])
        segments.append(segment_counts(inside, void)[:, first:])
        false_area.append(np.where(np.isin(np.arange(classes), absent), counts[2], 0)[first:])
        pixels.append(inside.sum())
        silent.append([(counts[2, absent] == 0).sum(), len(absent)])
    stacks = _Stacks(
        np.stack(right),
        np.stack(bands),
        np.stack(segments),
        np.stack(false_area),
        np.array(silent, np.int64),
        np.array(pixels, np.int64),
    )
    return stacks, whole


def _class_numbers(stacks: _Stacks, confusion: Counts, dataset: Dataset) -> tuple[ClassNumbers, ...]:
    first = 0 if dataset.background else 1
    names = ("background", *dataset.names)
    total = stacks.margins.sum(axis=0)
    iou, boundary = class_iou(total), class_iou(stacks.boundaries.sum(axis=0))
    photos = (stacks.margins[:, 1] > 0).sum(axis=0)
    false_area = stacks.false_area.sum(axis=0)
    pixels = max(1, int(confusion.sum()))
    return tuple(
        ClassNumbers(
            label=int(index) + first,
            name=names[index + first],
            photos=int(photos[index]),
            iou=_known(iou[index]),
            boundary_iou=_known(boundary[index]),
            truth_share=float(total[1, index] / pixels),
            answer_share=float(total[2, index] / pixels),
            false_share=float(false_area[index] / pixels),
        )
        for index in np.flatnonzero(total[1] + total[2])
    )


def _known(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _seconds(records: Sequence[PhotoRecord]) -> dict[str, float]:
    """Medians over photos."""
    stages = dict.fromkeys(stage for record in records for stage in record.seconds)
    medians = {
        stage: float(np.median([record.seconds.get(stage, 0.0) for record in records])) for stage in stages
    }
    sums = [sum(record.seconds.values()) for record in records]
    return {**medians, "total": float(np.median(sums)), "total_p90": float(np.percentile(sums, 90))}
