"""What a tower is worth on photos that did not teach it: through `ovs_core.evaluation` and the real Engine.

python -m recipes.mini exam --weights FILE --against FILE --data nyu=DIR --data coco=DIR --part kept
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from ovs_core.encoders.towers import DEFAULT_ENCODER, ENCODERS
from ovs_core.engine import Engine
from ovs_core.evaluation.codes import Codes, codes
from ovs_core.evaluation.datasets import FOLDER, Dataset, Example, open_dataset
from ovs_core.evaluation.metrics import Interval
from ovs_core.evaluation.records import PhotoRecord
from ovs_core.evaluation.run import Settings, engine_subject, evaluate
from ovs_core.evaluation.summary import differences, summarise
from ovs_core.methods import DEFAULT_METHOD
from recipes.mini.labelled import LabelledNames, Split
from recipes.mini.labelled_sets import DECLARED, coco_declares, split_photos
from recipes.mini.tower_file import spec_of_file

MIOU = "miou_truth"  # among the metrics of a summary
# MSRC's horse and mountain are in 3 and 26 photos; the field leaves both out.
TOO_RARE: Mapping[str, tuple[int, ...]] = MappingProxyType({"msrc": (5, 8)})
KEPT_ONLY = ("coco", "camvid")  # sets whose own split says what is kept


@dataclass(frozen=True)
class Exam:
    """Photos, and what is typed about them."""

    name: str
    dataset: Dataset
    settings: Settings


@dataclass(frozen=True)
class Grade:
    """mIoU of a tower on an exam, and minus another tower's, paired by photo; all in [0, 1].

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
        folders: "nyu", "msrc", "coco128", "coco" (val2017) and "camvid" (val), any of them.
        part: which photos of a set that also teaches: those to choose settings on, or those kept for
            measuring. COCO's val2017 and CamVid's val are kept photos, COCO128's are only there to choose on.
        limit: at most so many photos a set, evenly spaced.
    """
    found: list[Exam] = []
    for name, root in folders.items():
        if name in KEPT_ONLY:
            if part == "kept":
                split = "val2017" if name == "coco" else "val"
                found += _questions(name, open_dataset(FOLDER, root, split=split, limit=limit))
            continue
        photos = split_photos(name, sorted((root / "images").glob("*.jpg")))[part]
        if photos:
            names = DECLARED[name] if name in DECLARED else coco_declares(root)
            found += _questions(name, _dataset(name, names, _thinned(photos, limit)))
    return found


def _questions(name: str, dataset: Dataset) -> list[Exam]:
    """Photos of things are asked in three ways; photos with all labelled in one."""
    plain = dataclasses.replace(dataset, background="")
    if not dataset.background:
        return [Exam(name, plain, Settings())]
    foreground = dataclasses.replace(plain, codes=_without_background(dataset))
    return [
        Exam(f"{name} a", dataset, Settings(classes_in_image=True)),
        Exam(f"{name} a, foreground", foreground, Settings(classes_in_image=True)),
        Exam(f"{name} b", dataset, Settings()),
    ]


def _without_background(dataset: Dataset) -> Codes:
    table = dataset.codes.copy()
    table[table == 0] = -1
    return table


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
        codes=codes(table),
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
        runs = [_run(one, exam, method) for one in (engine, against) if one is not None]
        summary = summarise(runs[0], exam.dataset)
        difference = differences(runs[0], runs[1], exam.dataset)[MIOU] if len(runs) > 1 else None
        classes = {one.name: one.iou for one in summary.classes if one.iou is not None}
        yield Grade(exam.name, summary.metrics[MIOU], summary.counted, classes, difference)


def _run(engine: Engine, exam: Exam, method: str) -> list[PhotoRecord]:
    subject = engine_subject(engine, method, exam.dataset, exam.settings)
    return [step.record for step in evaluate([subject], exam.dataset, exam.settings)]
