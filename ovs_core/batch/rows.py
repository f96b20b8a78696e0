"""One photo's answer as one row of a table, and what is said once for a whole file of them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ovs_core.engine import Result
from ovs_core.evidence.proposals import MaskProposals
from ovs_core.export.pictures import label_png
from ovs_core.export.segments import instance_document
from ovs_core.version import VERSION
from ovs_core.vocabulary import thing_labels

SCHEMA = "ovs-lens/batch/1"
"""Changes whenever a column is renamed, removed or changes its meaning; new ones may come without notice."""


@dataclass(frozen=True)
class ClassArea:
    """One class that won pixels of a photo.

    Attributes:
        label: value in the label map; 0 = other.
        name: the first name, as typed; "other" for 0.
        area: pixels.
        mean_score: mean probability of the class over these pixels, in [0, 1].
    """

    label: int
    name: str
    area: int
    mean_score: float


@dataclass(frozen=True)
class InstanceMask:
    """One object, of a method that proposes masks; objects may overlap.

    Attributes:
        label: class, from 1.
        score: in [0, 1].
        area: pixels.
        bbox: left, top, width, height in pixels.
        counts: COCO's compressed run lengths of the mask, whose size is the photo's (height, width).
    """

    label: int
    score: float
    area: int
    bbox: tuple[int, int, int, int]
    counts: str


@dataclass(frozen=True)
class Row:
    """What is known about one photo.

    Attributes:
        id: of the photo, unique in a run.
        path: where it was read from.
        width, height: pixels of the upright photo; None where it could not be read.
        labels: PNG file of the label map, 0 = other, k = k-th class as typed; None with an error.
        classes: those that won at least one pixel; empty with an error.
        instances: best first; None where the method proposes no masks.
        notes: what was out of the ordinary, one sentence each.
        error: why there is no answer, one sentence; None if there is one.
        seconds: spent on this photo, reading included.
    """

    id: str
    path: str
    width: int | None
    height: int | None
    labels: bytes | None
    classes: tuple[ClassArea, ...]
    instances: tuple[InstanceMask, ...] | None
    notes: tuple[str, ...]
    error: str | None
    seconds: float


def row_of(result: Result, photo_id: str, path: str, stuff: str = "default") -> Row:
    """A result as a row, its seconds those that the engine spent.

    Args:
        result: of the photo.
        photo_id: unique in the run.
        path: of the photo.
        stuff: classes that are not counted (`ovs_core.vocabulary.thing_labels`).
    """
    height, width = result.labels.shape
    return Row(
        id=photo_id,
        path=path,
        width=width,
        height=height,
        labels=label_png(result),
        classes=_class_areas(result),
        instances=_instance_masks(result, stuff),
        notes=result.notes,
        error=None,
        seconds=sum(result.seconds.values()),
    )


def error_row(photo_id: str, path: str, error: str, seconds: float = 0.0) -> Row:
    """The row of a photo without an answer; `error` says why in one sentence."""
    return Row(photo_id, path, None, None, None, (), None, (), error, seconds)


def header_of(result: Result, settings: Mapping[str, Any]) -> dict[str, Any]:
    """What a file of rows says once: program, settings, weights; ready for JSON.

    Args:
        result: any of the run.
        settings: what was asked (`BatchPlan.settings`).
    """
    return {
        "schema": SCHEMA,
        "version": VERSION,
        "settings": dict(settings),
        "preset": asdict(result.preset),
        "options": dict(result.options),
        "weights": dict(result.weights),
    }


def check_same_run(old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
    """Refuse to go on with rows that other settings or weights made.

    Args:
        old: header of a file that is there.
        new: header of this run, or the part of it that is known.

    Raises:
        ValueError: naming the first thing that differs.
    """
    for part in ("schema", "settings", "preset", "options", "weights"):
        if part not in new:
            continue
        before, now = _plain(old.get(part)), _plain(new[part])
        if before == now:
            continue
        if isinstance(before, dict) and isinstance(now, dict):
            differing = [key for key in {**before, **now} if before.get(key) != now.get(key)]
            part, before, now = f"{part}: {differing[0]}", before.get(differing[0]), now.get(differing[0])
        raise ValueError(
            f"The rows that are there were made otherwise ({part} was {_short(before)}, now {_short(now)}); "
            "choose another --out, or the settings of before."
        )


def _plain(value: Any) -> Any:
    """A value as JSON gives it back."""
    return json.loads(json.dumps(value))


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:59]}…"


def _class_areas(result: Result) -> tuple[ClassArea, ...]:
    """Classes that won pixels, in the order of the result."""
    areas = np.bincount(result.labels.ravel(), minlength=len(result.vocabulary.classes) + 1)
    return tuple(
        ClassArea(summary.label, summary.names[0], int(areas[summary.label]), float(summary.mean_score))
        for summary in result.classes
        if areas[summary.label]
    )


def _instance_masks(result: Result, stuff: str) -> tuple[InstanceMask, ...] | None:
    """Objects of a result with masks; None for one without."""
    if not isinstance(result.evidence, MaskProposals):
        return None
    annotations = instance_document(result, thing_labels(result.vocabulary, stuff), "")["annotations"]
    return tuple(
        InstanceMask(
            label=annotation["category_id"],
            score=float(annotation["score"]),
            area=int(annotation["area"]),
            bbox=tuple(annotation["bbox"]),
            counts=annotation["segmentation"]["counts"],
        )
        for annotation in annotations
    )
