"""What a tower is worth on photos that did not teach it: through `ovs_core.evaluation` and the real Engine.

    python -m recipes.mini exam --weights FILE --against FILE --data nyu=DIR --data coco=DIR --part kept

Every question is one `Dataset` and one `Settings`; towers are compared photo by photo.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from ovs_core.encoders.towers import DEFAULT_ENCODER, ENCODERS
from ovs_core.engine import Engine
from ovs_core.evaluation.records import PhotoRecord
from ovs_core.evaluation.run import Settings, Subject, engine_subject, evaluate
from ovs_core.evaluation.summary import differences, summarise
from ovs_core.labelled.datasets import FOLDER, Dataset, open_dataset
from ovs_core.labelled.files import Example
from ovs_core.labelled.mask_values import mask_values
from ovs_core.methods import DEFAULT_METHOD
from ovs_core.metrics.resampling import Interval
from recipes.mini.labelled import LabelledNames, Split
from recipes.mini.labelled_sets import DECLARED, coco_declares, split_photos
from recipes.mini.tower_file import spec_of_file

MIOU = "miou_truth"  # among the metrics of a summary
# MSRC's horse and mountain are in 3 and 26 photos; the field leaves both out.
TOO_RARE: Mapping[str, tuple[int, ...]] = MappingProxyType({"msrc": (5, 8)})
KEPT_ONLY: Mapping[str, str] = MappingProxyType({"coco": "val2017", "camvid": "val"})  # set -> its own split
VOC_IN_COCO = (
    *("airplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "dining table"),
    *("dog", "horse", "motorcycle", "person", "potted plant", "sheep", "couch", "train", "tv"),
)
"""PASCAL VOC's classes in COCO's words."""


@dataclass(frozen=True)
class Exam:
    """Photos, and what is typed about them."""

    name: str
    dataset: Dataset
    settings: Settings


@dataclass(frozen=True)
class Grade:
    """mIoU on an exam, and minus another tower's, paired by photo; all in [0, 1].

    Attributes:
        exam: its name.
        value: with its 95 % interval.
        photos: how many counted.
        classes: IoU by name, of those in the truth.
        difference: to the other tower, with its interval; None without one.
    """

    exam: str
    value: Interval
    photos: int
    classes: Mapping[str, float]
    difference: Interval | None = None


def engine_of(weights: Path | None) -> Engine:
    """An engine whose default encoder has these weights; None takes those that ship."""
    if weights is None:
        return Engine("cpu", offline=True)
    return Engine("cpu", offline=True, encoders={**ENCODERS, DEFAULT_ENCODER: spec_of_file(weights)})


def exams(folders: Mapping[str, Path], part: Split, limit: int | None = None) -> list[Exam]:
    """What can be asked with the folders that are there.

    Args:
        folders: sets of `recipes.mini.labelled_sets.SETS`, "coco" (val2017) and "camvid" (val), any of them.
        part: which photos of a set that also teaches: those to choose settings on, or those kept for
            measuring. COCO's val2017 and CamVid's val are kept photos, COCO128's are only there to choose on.
        limit: at most so many photos a set, evenly spaced.

    Raises:
        ValueError: if a folder is laid out otherwise.
    """
    asked: list[Exam] = []
    for name, root in folders.items():
        if name in KEPT_ONLY:
            if part == "kept":
                asked += questions(name, open_dataset(FOLDER, root, split=KEPT_ONLY[name], limit=limit))
            continue
        photos = split_photos(name, sorted((root / "images").glob("*.jpg")))[part]
        if photos:
            names = DECLARED[name] if name in DECLARED else coco_declares(root)
            asked += questions(name, _dataset(name, names, _thinned(photos, limit)))
    return asked


def questions(name: str, dataset: Dataset) -> list[Exam]:
    """Photos of things are asked in several ways; photos with all labelled in one.

    a: the photo's own classes typed, everything else is "other", which counts. a, foreground: the same
    without "other", pixels that bear a name only. b: all classes typed. c: VOC's 20 names typed, where they
    are all there.
    """
    plain = dataclasses.replace(dataset, background="")
    if not dataset.background:
        return [Exam(name, plain, Settings())]
    labelled = mask_values(pair for pair in dataset.values.pairs() if pair[1])
    foreground = dataclasses.replace(plain, values=labelled)
    asked = [
        Exam(f"{name} a", dataset, Settings(classes_in_image=True)),
        Exam(f"{name} a, foreground", foreground, Settings(classes_in_image=True)),
        Exam(f"{name} b", dataset, Settings()),
    ]
    if set(VOC_IN_COCO) <= set(dataset.names):
        asked.append(Exam(f"{name} c", with_classes(dataset, VOC_IN_COCO), Settings()))
    return asked


def with_classes(dataset: Dataset, names: Sequence[str]) -> Dataset:
    """The same photos, of which only these classes are asked for; the others are background."""
    label = {dataset.names.index(name) + 1: place for place, name in enumerate(names, start=1)}
    return dataclasses.replace(
        dataset,
        classes=tuple(dataset.classes[dataset.names.index(name)] for name in names),
        values=mask_values((value, label.get(old, 0)) for value, old in dataset.values.pairs()),
    )


def _dataset(name: str, names: LabelledNames, photos: Sequence[Path]) -> Dataset:
    """A set's photos as the evaluation reads them: every value by its first word."""
    values = [value for value in names.words if value not in TOO_RARE.get(name, ())]
    table = [(value, label) for label, value in enumerate(values, start=1)]
    table += [(value, 0) for value in names.negative]
    return Dataset(
        name=name,
        title=name,
        split="",
        classes=tuple((names.words[value][0],) for value in values),
        background="default" if names.negative else "",
        values=mask_values(table),
        examples=tuple(
            Example(path.stem, path, path.parent.parent / "masks" / f"{path.stem}.png") for path in photos
        ),
    )


def _thinned(photos: Sequence[Path], limit: int | None) -> tuple[Path, ...]:
    if limit is None or limit >= len(photos):
        return tuple(photos)
    return tuple(photos[round(index * len(photos) / limit)] for index in range(limit))


def grades(
    engine: Engine, against: Engine | None, asked: Sequence[Exam], method: str = DEFAULT_METHOD
) -> Iterator[Grade]:
    """Ask a tower, and another one about the same photos.

    Args:
        engine: with the tower.
        against: with the other one, or None.
        asked: the exams.
        method: registry name.
    """
    for exam in asked:
        runs = [
            run(exam, engine_subject(tower, method, exam.dataset, exam.settings))
            for tower in (engine, against)
            if tower is not None
        ]
        yield grade(exam, *runs)


def grade(exam: Exam, records: Sequence[PhotoRecord], others: Sequence[PhotoRecord] = ()) -> Grade:
    """Sum up one run, and its difference to another one on the same photos."""
    summary = summarise(records, exam.dataset)
    difference = differences(records, others, exam.dataset)[MIOU] if others else None
    classes = {numbers.name: numbers.iou for numbers in summary.classes if numbers.iou is not None}
    return Grade(exam.name, summary.metrics[MIOU], summary.counted, classes, difference)


def run(
    exam: Exam, subject: Subject, kept: Path | None = None, told: Callable[[int, int], None] | None = None
) -> list[PhotoRecord]:
    """What was counted of each photo.

    Args:
        exam: photos and settings.
        subject: who is asked.
        kept: file of the records; a run that was stopped goes on there.
        told: hears how many photos are done and how many there are.
    """
    files = None if kept is None else {subject.name: kept}
    records = []
    for step in evaluate([subject], exam.dataset, exam.settings, files):
        records.append(step.record)
        if told is not None:
            told(step.done, step.total)
    return records
