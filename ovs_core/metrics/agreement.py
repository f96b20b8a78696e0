"""An answer beside the ground truth of one photo: what a person is shown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ovs_core.metrics.boundary import boundary_margins
from ovs_core.metrics.confusion import class_iou, label_margins, mean_iou, pixel_accuracy
from ovs_core.metrics.error_types import ERROR_TYPES, ErrorType, iou_cost, typed_errors
from ovs_core.types import LabelMap

Untyped = Literal["other", "not known"]
"""What a class of the truth is that the answer does not have: other, or left out."""


@dataclass(frozen=True)
class ClassAgreement:
    """One class of an answer.

    Attributes:
        id, name: in the answer; 0 = other.
        iou, boundary_iou: in [0, 1]; None where the truth has none of it.
        truth_pixels, answer_pixels: on known ground.
        errors: kind -> wrong pixels.
        costs: kind -> part of the class's union, in [0, 1]; IoU and costs sum to 1. Empty without truth.
    """

    id: int
    name: str
    iou: float | None
    boundary_iou: float | None
    truth_pixels: int
    answer_pixels: int
    errors: Mapping[ErrorType, int]
    costs: Mapping[ErrorType, float]


@dataclass(frozen=True, eq=False)
class Agreement:
    """An answer beside its truth.

    Attributes:
        classes: those in the truth or in the answer, by id.
        miou, boundary_miou: means over the classes in the truth, in [0, 1].
        accuracy: share of the known pixels that are right, in [0, 1].
        truth: the truth in the answer's numbers.
        errors: kind of each wrong pixel as a place in `ERROR_TYPES` from 1, 0 where nothing is wrong, (H, W).
        untyped: names of the truth's classes that the answer does not have.
    """

    classes: tuple[ClassAgreement, ...]
    miou: float
    boundary_miou: float
    accuracy: float
    truth: LabelMap
    errors: NDArray[np.uint8]
    untyped: tuple[str, ...]


def agreement(truth: LabelMap, answer: LabelMap, untyped: Untyped = "other") -> Agreement:
    """Compare an answer with the truth; classes belong together that share a name.

    Args:
        truth: of the photo.
        answer: of the same size.
        untyped: what pixels of classes are that the answer does not have. "not known" is fair to an answer
            that has no other.

    Raises:
        ValueError: if the sizes differ, no class of the truth was asked for, or nothing is known.
    """
    if truth.shape != answer.shape:
        raise ValueError(f"The truth must be of the photo's size {answer.shape}, got {truth.shape}.")
    own, missing = in_numbers_of(truth, answer, untyped)
    known = own.known
    if known is not None and not known.any():
        raise ValueError("Nothing of this photo's truth is known for the classes that were asked for.")
    count = max((entry.id for entry in answer.classes), default=0) + 1
    labels = answer.labels
    counts = label_margins(own.labels, labels, count, known)
    kinds, wrong = typed_errors(own.labels, labels, count, known)
    edges = boundary_margins(own.labels, labels, count, known)
    iou, boundary = class_iou(counts), class_iou(edges)
    costs = iou_cost(np.concatenate([counts, kinds]))
    classes = tuple(
        ClassAgreement(
            id=entry.id,
            name=entry.names[0],
            iou=_known(iou[entry.id]),
            boundary_iou=_known(boundary[entry.id]),
            truth_pixels=int(counts[1, entry.id]),
            answer_pixels=int(counts[2, entry.id]),
            errors=dict(zip(ERROR_TYPES, kinds[:, entry.id].tolist(), strict=True)),
            costs=dict(zip(ERROR_TYPES, costs[:, entry.id].tolist(), strict=True))
            if counts[1, entry.id]
            else {},
        )
        for entry in (answer.other, *answer.classes)
        if counts[1:, entry.id].any()
    )
    return Agreement(
        classes,
        float(mean_iou(counts)),
        float(mean_iou(edges)),
        float(pixel_accuracy(counts)),
        own,
        wrong,
        missing,
    )


def in_numbers_of(
    truth: LabelMap, answer: LabelMap, untyped: Untyped = "other"
) -> tuple[LabelMap, tuple[str, ...]]:
    """The truth in the numbers of an answer, and the names of its classes that the answer does not have.

    Raises:
        ValueError: if they have no class in common.
    """
    id_of = {name.casefold(): entry.id for entry in reversed(answer.classes) for name in entry.names}
    largest = max((int(truth.labels.max(initial=0)), *(entry.id for entry in truth.classes)))
    becomes, kept = np.zeros(largest + 1, np.int64), np.ones(largest + 1, bool)
    missing: list[str] = []
    for entry in truth.classes:
        label = next((id_of[name.casefold()] for name in entry.names if name.casefold() in id_of), 0)
        becomes[entry.id], kept[entry.id] = label, bool(label) or untyped == "other"
        if not label:
            missing.append(entry.names[0])
    if truth.classes and len(missing) == len(truth.classes):
        raise ValueError(
            f"None of the truth's classes was asked for: {', '.join(missing[:10])}. Type them as they are "
            "named there."
        )
    if untyped == "not known":
        kept[0] = False
    known = kept[truth.labels] if truth.known is None else truth.known & kept[truth.labels]
    return LabelMap(becomes[truth.labels], answer.classes, known), tuple(missing)


def _known(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
