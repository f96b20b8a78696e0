"""From counted photos to numbers with intervals."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from ovs_core.evaluation.records import THRESHOLDS, PhotoRecord
from ovs_core.labelled.datasets import Dataset
from ovs_core.metrics.confusion import (
    Counts,
    class_iou,
    margins,
    mean_iou,
    pixel_accuracy,
    ratio,
    seen_unseen,
)
from ovs_core.metrics.error_types import ERROR_TYPES, ErrorType, mean_iou_cost
from ovs_core.metrics.panoptic import panoptic_quality, semantic_counts
from ovs_core.metrics.resampling import Interval, Statistic, draws, percentiles, totals

Numbers = NDArray[np.float64]

COSTS: Mapping[str, ErrorType] = MappingProxyType({f"cost_{kind}": kind for kind in ERROR_TYPES})
"""Metric -> error type that it is about."""

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
        "absent_silent": "part of the typed classes not in the photo that win no counted pixel of it",
        "perfect_names_miou": "mIoU (classes in truth) if every region of the answer had the right name",
        "perfect_masks_miou": "mIoU (classes in truth) if every region of the truth had the answer's name",
        "cost_extra_boundary": "mIoU lost to extra pixels along right edges",
        "cost_extra_extent": "mIoU lost to things that were found and drawn too large",
        "cost_extra_segment": "mIoU lost to regions that have nothing to do with the truth",
        "cost_missed_boundary": "mIoU lost to missed pixels along right edges",
        "cost_missed_extent": "mIoU lost to things that were found and drawn too small",
        "cost_missed_segment": "mIoU lost to things that were not found",
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
        errors: kind -> wrong pixels.
        error_costs: kind -> part of the class's union, in [0, 1]; IoU and the six costs sum to 1.
    """

    label: int
    name: str
    photos: int
    iou: float | None
    boundary_iou: float | None
    truth_share: float
    answer_share: float
    false_share: float
    errors: Mapping[str, int]
    error_costs: Mapping[str, float]


@dataclass(frozen=True)
class PhotoNumbers:
    """One photo.

    Attributes:
        iou: mean over the classes in its truth, in [0, 1].
        errors: kind -> wrong pixels of its classes, as part of all its counted pixels.
    """

    iou: float
    errors: Mapping[str, float]


@dataclass(frozen=True, eq=False)
class Summary:
    """One subject on one dataset.

    Attributes:
        metrics: name (as in `MEANINGS`) -> value in [0, 1] with its interval; absent where undefined.
        classes: those in the truth or in an answer, in the dataset's order.
        confusion: pixels by (truth, answer), (K + 1, K + 1).
        counted: number of photos with an answer.
        photos: photo -> its own numbers, where its truth has any class.
        confused: (truth, answer) -> the photos with most pixels of that confusion, and how many.
        nothing_to_ask: photos without a class that could be typed.
        left_out: photo -> why it has no answer.
        seconds: stage -> median over photos; "total" is that of the sums, "total_p90" their 90th percentile.
        peak_bytes: largest over photos; None if unknown.
        typed: mean number of classes typed.
        sweep: (threshold, mIoU over the classes in the truth); none if nobody asked.
    """

    metrics: Mapping[str, Interval]
    classes: tuple[ClassNumbers, ...]
    confusion: Counts
    counted: int
    photos: Mapping[str, PhotoNumbers]
    confused: Mapping[tuple[int, int], tuple[tuple[str, int], ...]]
    nothing_to_ask: tuple[str, ...]
    left_out: Mapping[str, str]
    seconds: Mapping[str, float]
    peak_bytes: int | None
    typed: float
    sweep: tuple[tuple[float, Interval], ...] = ()

    @property
    def photo_iou(self) -> Mapping[str, float]:
        """Photo -> its own mean IoU over the classes in its truth."""
        return {photo: numbers.iou for photo, numbers in self.photos.items()}


@dataclass(frozen=True, eq=False)
class _Stacks:
    """Counts of each photo; without a background class, class 0 is left out of rows of classes."""

    margins: Counts  # (N, 3, classes)
    boundaries: Counts  # (N, 3, classes)
    errors: Counts  # (N, 9, classes): margins, then wrong pixels by kind
    perfect_names: Counts  # (N, 3, classes)
    perfect_masks: Counts  # (N, 3, classes)
    segments: Numbers  # (N, 4, classes)
    false_area: Counts  # (N, classes): pixels given to typed classes that are absent
    false_share: Counts  # (N, 2): all of them, counted pixels
    silent: Counts  # (N, 2): absent typed classes without a pixel, absent typed classes


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
    sums: dict[str, NDArray[np.number]] = {}
    metrics = {}
    for name, (stack, statistic) in _statistics(dataset, unseen).items():
        counts: NDArray[np.number] = getattr(stacks, stack)
        if stack not in sums:
            sums[stack] = totals(counts, drawn)
        value = float(statistic(counts.sum(axis=0)))
        if not np.isnan(value):
            metrics[name] = percentiles(value, statistic(sums[stack]))
    return Summary(
        metrics=metrics,
        classes=_class_numbers(stacks, confusion, dataset),
        confusion=confusion,
        counted=len(answered),
        photos=_photo_numbers(answered, stacks),
        confused=_confused(answered),
        nothing_to_ask=tuple(record.photo for record in records if not record.cells and not record.problem),
        left_out={record.photo: record.problem for record in records if record.problem},
        seconds=_seconds(answered),
        peak_bytes=max((record.peak_bytes for record in answered if record.peak_bytes), default=None),
        typed=float(np.mean([len(record.typed) for record in answered])),
        sweep=_sweep(answered, dataset, drawn) if any(record.sweep for record in answered) else (),
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
    ours_counts, theirs_counts = (
        _stack([run[photo] for photo in photos], dataset)[0] for run in (ours, theirs)
    )
    metrics = {}
    for name, (stack, statistic) in _statistics(dataset, unseen).items():
        counts: list[NDArray[np.number]] = [getattr(side, stack) for side in (ours_counts, theirs_counts)]
        value = float(np.subtract(*(statistic(side.sum(axis=0)) for side in counts)))
        if not np.isnan(value):
            values = np.subtract(*(statistic(totals(side, drawn)) for side in counts))
            metrics[name] = percentiles(value, values)
    return metrics


def _statistics(dataset: Dataset, unseen: Collection[int]) -> dict[str, tuple[str, Statistic]]:
    """Every metric: the counts it is made of (a field of `_Stacks`), and how."""
    first = 0 if dataset.background else 1
    hidden = [label - first for label in unseen]
    every: dict[str, tuple[str, Statistic]] = {
        "miou_truth": ("margins", mean_iou),
        "miou_either": ("margins", partial(mean_iou, divisor="either")),
        "pixel_accuracy": ("margins", pixel_accuracy),
        "boundary_miou": ("boundaries", mean_iou),
        "false_area": ("false_share", ratio),
        "absent_silent": ("silent", ratio),
        "perfect_names_miou": ("perfect_names", mean_iou),
        "perfect_masks_miou": ("perfect_masks", mean_iou),
    }
    for index, name in enumerate(("pq", "sq", "rq")):
        every[name] = ("segments", _first_axis(panoptic_quality, index))
    for index, name in enumerate(COSTS):
        every[name] = ("errors", _last_axis(mean_iou_cost, index))
    if hidden:
        for index, name in enumerate(("seen_miou", "unseen_miou", "harmonic_miou")):
            every[name] = ("margins", _first_axis(partial(seen_unseen, unseen=hidden), index))
    return {name: every[name] for name in MEANINGS if name in every}


def _first_axis(statistic: Statistic, index: int) -> Statistic:
    """One of the numbers that a statistic gives along its first axis."""
    return lambda total: statistic(total)[index]


def _last_axis(statistic: Statistic, index: int) -> Statistic:
    """One of the numbers that a statistic gives along its last axis."""
    return lambda total: statistic(total)[..., index]


def _stack(records: Sequence[PhotoRecord], dataset: Dataset) -> tuple[_Stacks, Counts]:
    """Counts of each photo, and the confusion matrix of all."""
    classes = len(dataset.classes) + 1
    whole = np.zeros((classes, classes), np.int64)
    photos = []
    for record in records:
        matrix = record.confusion(classes)
        whole += matrix
        photos.append(_photo_counts(record, matrix, 0 if dataset.background else 1))
    names = _Stacks.__dataclass_fields__
    return _Stacks(**{name: np.stack([photo[name] for photo in photos]) for name in names}), whole


def _photo_counts(record: PhotoRecord, matrix: Counts, first: int) -> dict[str, NDArray[np.number]]:
    """What one photo adds to each field of `_Stacks`; classes below `first` are left out of rows."""
    classes = len(matrix)
    counts = margins(matrix)
    absent = [label for label in record.typed if counts[1, label] == 0]
    false_area = np.where(np.isin(np.arange(classes), absent), counts[2], 0)[first:]
    segments = semantic_counts(matrix, record.counts("unknown", classes)[0])
    return {
        "margins": counts[:, first:],
        "boundaries": record.counts("edges", classes)[:, first:],
        "errors": np.concatenate([counts, record.counts("errors", classes)])[:, first:],
        "perfect_names": record.counts("perfect_names", classes)[:, first:],
        "perfect_masks": record.counts("perfect_masks", classes)[:, first:],
        "segments": segments[:, first:],
        "false_area": false_area,
        "false_share": np.array([false_area.sum(), matrix.sum()]),
        "silent": np.array([(counts[2, absent] == 0).sum(), len(absent)]),
    }


def _sweep(
    records: Sequence[PhotoRecord], dataset: Dataset, drawn: Numbers
) -> tuple[tuple[float, Interval], ...]:
    """Mean IoU at every threshold, over the same resamples of photos."""
    first = 0 if dataset.background else 1
    counts = np.stack([record.thresholds(len(dataset.classes) + 1)[..., first:] for record in records])
    values, resampled = mean_iou(counts.sum(axis=0)), mean_iou(totals(counts, drawn))
    return tuple(
        (threshold, percentiles(float(values[step]), resampled[:, step]))
        for step, threshold in enumerate(THRESHOLDS)
    )


def _photo_numbers(records: Sequence[PhotoRecord], stacks: _Stacks) -> dict[str, PhotoNumbers]:
    """Numbers of every photo whose truth has a class."""
    iou, pixels = mean_iou(stacks.margins), np.maximum(1, stacks.margins[:, 1].sum(axis=-1))
    parts = stacks.errors[:, 3:].sum(axis=-1) / pixels[:, None]
    return {
        record.photo: PhotoNumbers(float(value), dict(zip(ERROR_TYPES, row.tolist(), strict=True)))
        for record, value, row in zip(records, iou, parts, strict=True)
        if not np.isnan(value)
    }


def _confused(
    records: Sequence[PhotoRecord], most: int = 8
) -> dict[tuple[int, int], tuple[tuple[str, int], ...]]:
    """Photos with most pixels of each confusion."""
    cells: dict[tuple[int, int], list[tuple[str, int]]] = {}
    for record in records:
        for truth, answer, pixels in record.cells:
            if truth != answer:
                cells.setdefault((truth, answer), []).append((record.photo, pixels))
    return {
        cell: tuple(sorted(photos, key=lambda photo: (-photo[1], photo[0]))[:most])
        for cell, photos in cells.items()
    }


def _class_numbers(stacks: _Stacks, confusion: Counts, dataset: Dataset) -> tuple[ClassNumbers, ...]:
    first = 0 if dataset.background else 1
    names = ("background", *dataset.names)
    total = stacks.margins.sum(axis=0)
    iou, boundary = class_iou(total), class_iou(stacks.boundaries.sum(axis=0))
    photos = (stacks.margins[:, 1] > 0).sum(axis=0)
    false_area = stacks.false_area.sum(axis=0)
    errors = stacks.errors.sum(axis=0)[3:]
    costs = errors / np.maximum(1, total[1] + total[2] - total[0])
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
            errors=dict(zip(ERROR_TYPES, errors[:, index].tolist(), strict=True)),
            error_costs=dict(zip(ERROR_TYPES, costs[:, index].tolist(), strict=True)),
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
