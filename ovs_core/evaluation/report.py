"""One report of a measurement, for programs (JSON); `page` makes one for people of the same values.

Every field is explained in docs/evaluation.md.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ovs_core.evaluation.pictures import Sides, sides
from ovs_core.evaluation.records import PhotoRecord
from ovs_core.evaluation.run import Settings, Subject, question_for
from ovs_core.evaluation.summary import MEANINGS, Summary, differences, summarise
from ovs_core.labelled.datasets import Dataset, read_example
from ovs_core.metrics.error_types import REMEDIES
from ovs_core.metrics.resampling import Interval

SCHEMA = "ovs-lens/evaluation/1"
"""Changes whenever a field is renamed, removed or changes its meaning; new fields may come without notice."""

RESAMPLES = 1000
_CELLS_WITH_PICTURES = 12  # confusions, the largest ones, whose worst photo is drawn


@dataclass(frozen=True, eq=False)
class Report:
    """All subjects on one dataset.

    Attributes:
        dataset, settings: what was asked.
        unseen: classes, numbered from 1, that were named as unseen.
        about: subject -> what its answers depend on.
        summaries: subject -> numbers.
        differences: subject -> metric -> the first subject minus this one, paired by photo.
    """

    dataset: Dataset
    settings: Settings
    unseen: tuple[int, ...]
    about: Mapping[str, Mapping[str, Any]]
    summaries: Mapping[str, Summary]
    differences: Mapping[str, Mapping[str, Interval]]


def make_report(
    subjects: Sequence[Subject],
    records: Mapping[str, Sequence[PhotoRecord]],
    dataset: Dataset,
    settings: Settings,
    unseen: Collection[int] = (),
) -> Report:
    """Sum up every subject's records, and pair the first subject with the others.

    Raises:
        ValueError: if a subject has no counted photo.
    """
    summaries = {
        subject.name: summarise(records[subject.name], dataset, unseen, RESAMPLES) for subject in subjects
    }
    first = subjects[0].name
    paired = {
        subject.name: differences(records[first], records[subject.name], dataset, unseen, RESAMPLES)
        for subject in subjects[1:]
    }
    about = {subject.name: subject.about for subject in subjects}
    return Report(dataset, settings, tuple(sorted(unseen)), about, summaries, paired)


@dataclass(frozen=True, eq=False)
class Gallery:
    """Pictures of some photos.

    Attributes:
        best, worst: keys by their own mean IoU, the best first and the worst first.
        photos: key -> picture, of those and of the photos with most pixels of the largest confusions.
    """

    best: tuple[str, ...] = ()
    worst: tuple[str, ...] = ()
    photos: Mapping[str, Sides] = field(default_factory=dict)


def gallery(
    subject: Subject, summary: Summary, dataset: Dataset, settings: Settings, count: int = 3
) -> Gallery:
    """Draw the best photos, the worst, and examples of the largest confusions; each is asked about again."""
    ranked = sorted(summary.photo_iou, key=lambda photo: (-summary.photo_iou[photo], photo))
    best = tuple(ranked[: min(count, (len(ranked) + 1) // 2)])
    worst = tuple([photo for photo in reversed(ranked) if photo not in best][:count])
    largest = sorted(summary.confused, key=lambda cell: -int(summary.confusion[cell]))[:_CELLS_WITH_PICTURES]
    examples = [summary.confused[cell][0][0] for cell in largest]
    drawn = _sides(subject, tuple(dict.fromkeys((*best, *worst, *examples))), summary, dataset, settings)
    return Gallery(best, worst, {picture.photo: picture for picture in drawn})


def document(report: Report) -> dict[str, Any]:
    """A report ready for JSON: shares in [0, 1], seconds, bytes; what is undefined is null or absent."""
    dataset, settings = report.dataset, report.settings
    names = ("background", *dataset.names)
    return {
        "schema": SCHEMA,
        "dataset": {
            "name": dataset.name,
            "title": dataset.title,
            "split": dataset.split,
            "photos": len(dataset.examples),
            "background": bool(dataset.background),
            "classes": [list(each) for each in dataset.classes],
        },
        "settings": {**asdict(settings), "unseen": [names[label] for label in report.unseen]},
        "intervals": {"level": 0.95, "method": "bootstrap over photos", "resamples": RESAMPLES, "seed": 0},
        "meanings": dict(MEANINGS),
        "remedies": dict(REMEDIES),
        "subjects": {
            name: {"about": dict(report.about[name]), **_numbers(summary, names)}
            for name, summary in report.summaries.items()
        },
        "differences": [
            {"first": next(iter(report.summaries)), "second": name, "metrics": _intervals(metrics)}
            for name, metrics in report.differences.items()
        ],
    }


def write_json(report: Report, path: Path) -> None:
    """Write the report for programs, whole or not at all.

    Raises:
        ValueError: if it cannot be written.
    """
    write_text(path, json.dumps(document(report), ensure_ascii=False, indent=1, allow_nan=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a text beside its place and move it there in one step; half a surrogate pair becomes its escape.

    Raises:
        ValueError: if it cannot be written.
    """
    part = path.with_name(f".{path.name}.part")
    try:
        part.write_bytes(text.encode("utf-8", "backslashreplace"))
        part.replace(path)
    except OSError as error:
        raise ValueError(f"Cannot write {path}: {error.strerror or error}.") from error


def _sides(
    subject: Subject, photos: Sequence[str], summary: Summary, dataset: Dataset, settings: Settings
) -> Iterator[Sides]:
    by_key = {example.key: example for example in dataset.examples}
    for key in photos:
        if key not in summary.photo_iou:
            continue
        photo, truth = read_example(dataset, by_key[key])
        question = question_for(dataset, by_key[key], truth, settings)
        if question is not None:
            answer = subject.answer(by_key[key], photo, question).classes
            yield sides(key, summary.photo_iou[key], photo.pixels, question.truth, answer, dataset.names)


def _numbers(summary: Summary, names: Sequence[str]) -> dict[str, Any]:
    """Numbers of one subject; the confusion as its non-zero cells."""
    rows, columns = summary.confusion.nonzero()
    return {
        "photos": {
            "counted": summary.counted,
            "nothing_to_ask": list(summary.nothing_to_ask),
            "left_out": dict(summary.left_out),
        },
        "metrics": _intervals(summary.metrics),
        "classes": [asdict(numbers) for numbers in summary.classes],
        "typed_classes": summary.typed,
        "seconds": dict(summary.seconds),
        "peak_bytes": summary.peak_bytes,
        "confusion": [
            {
                "truth": names[row],
                "answer": names[column],
                "pixels": int(summary.confusion[row, column]),
                "photos": [photo for photo, _ in summary.confused.get((row, column), ())],
            }
            for row, column in zip(rows.tolist(), columns.tolist(), strict=True)
        ],
        "sweep": [{"threshold": threshold, **asdict(interval)} for threshold, interval in summary.sweep],
        "photo_iou": dict(summary.photo_iou),
        "photo_errors": {photo: dict(numbers.errors) for photo, numbers in summary.photos.items()},
    }


def _intervals(metrics: Mapping[str, Interval]) -> dict[str, dict[str, float | None]]:
    return {
        name: {key: None if math.isnan(value) else value for key, value in asdict(interval).items()}
        for name, interval in metrics.items()
    }
