"""Four questions about labelled photos, through the evaluation and the real Engine, paired by photo.

Refiners against none; a word, a box and both for the same classes; the labelled things among the first ten
suggestions; one word alone with its rule and without. Records are kept: a run that was stopped goes on.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ovs_core.engine import Engine
from ovs_core.engine.suggest import suggest
from ovs_core.evaluation.questions import Question
from ovs_core.evaluation.records import PhotoRecord, append_record, begin_run, read_run
from ovs_core.evaluation.run import Answer, Settings, Subject, engine_subject, evaluate, header
from ovs_core.evaluation.summary import differences, summarise
from ovs_core.image import Photo, read_photo
from ovs_core.labelled.datasets import Dataset, read_example
from ovs_core.labelled.files import Example
from ovs_core.labelled.mask_values import known_pixels
from ovs_core.methods import DEFAULT_METHOD
from ovs_core.metrics.resampling import Interval, interval, paired_difference
from ovs_core.refine import NO_REFINER
from ovs_core.types import Vocabulary
from ovs_core.vocabulary import read_vocabulary
from ovs_core.vocabulary.boxes import Box
from ovs_core.vocabulary.exemplars import Exemplar
from recipes.mini.exam import MIOU, Exam, with_classes

LIMIT = 10  # suggestions
LARGEST_BOX = 0.8  # part of its photo; a larger box says nothing about the thing alone
METRICS = (MIOU, "seen_miou", "unseen_miou")
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


def refiners(engine: Engine, exams: Sequence[Exam], out: Path, told: Told) -> Iterator[Line]:
    """Every refiner whose files are here, against none."""
    names = [
        name
        for name, spec in engine.refiner_specs.items()
        if not spec.weights or any(map(engine.store.has, spec.weights))
    ]
    names.sort(key=lambda name: name != NO_REFINER)  # what the others are compared with comes first
    for exam in exams:
        subjects = [
            replace(
                engine_subject(engine, DEFAULT_METHOD, exam.dataset, replace(exam.settings, refiner=name)),
                name=name,
            )
            for name in names
        ]
        yield from _compared("refiners", exam.name, subjects, exam.dataset, exam.settings, out, told)


def exemplars(
    engine: Engine, root: Path, dataset: Dataset, unseen: Sequence[str], out: Path, told: Told
) -> Iterator[Line]:
    """The word, one box on a train photo, and both, for the classes that have such a box.

    Args:
        engine: is asked.
        root: COCO in the layout of `instances.json`, `images/train2017`.
        dataset: val photos and all names.
        unseen: names that the weights did not learn; measured apart from the others.
        out: folder of the records.
        told: hears how far it is.
    """
    boxes = train_boxes(root, dataset.names)
    dataset = with_classes(dataset, [name for name in dataset.names if name in boxes])
    settings = Settings(classes_in_image=True)
    plain = engine_subject(engine, DEFAULT_METHOD, dataset, settings)
    written = json.dumps({name: (path.name, box) for name, (path, box) in boxes.items()}, sort_keys=True)
    about = {**plain.about, "boxes": hashlib.sha256(written.encode()).hexdigest()}
    asks = {"word": False, "box": True, "word and box": True}
    subjects = [
        replace(
            plain,
            name=name,
            about={**about, "asked": name},
            answer=partial(_by_boxes, engine, dataset, boxes, name != "box") if boxed else plain.answer,
        )
        for name, boxed in asks.items()
    ]
    labels = [dataset.names.index(name) + 1 for name in unseen if name in dataset.names]
    yield from _compared("exemplars", "coco a", subjects, dataset, settings, out, told, labels)


def suggestions(engine: Engine, dataset: Dataset, out: Path, told: Told) -> Iterator[Line]:
    """How many of the labelled things are among the first ten words."""
    settings = Settings(classes_in_image=True)
    known = {name: names for names in read_vocabulary("@cocoobject80", "none").classes for name in names}
    spelled = [
        {name.casefold() for given in names for name in known.get(given, (given,))}
        for names in dataset.classes
    ]

    def answer(example: Example, photo: Photo, question: Question) -> Answer:
        """What was suggested, where it is; a thing that was not is other."""
        words = {word.name.casefold() for word in suggest(engine, photo, LIMIT)}
        hits = [label for label, names in enumerate(spelled, start=1) if words & names]
        labels = question.truth.labels
        return Answer(np.where(np.isin(labels, hits), labels, 0), {})

    plain = engine_subject(engine, DEFAULT_METHOD, dataset, settings)
    about = {**plain.about, "asked": f"first {LIMIT} suggestions"}
    subject = replace(plain, name="suggestions", about=about, answer=answer)
    records = _measured([subject], dataset, settings, out / "suggestions", told)["suggestions"]
    counts = np.array([_found(record, len(dataset.classes) + 1) for record in records if record.cells])
    value = interval(counts, _ratio)
    yield Line("suggestions", "coco val", f"first {LIMIT}", f"recall at {LIMIT}", len(counts), value)


def lone_words(engine: Engine, dataset: Dataset, out: Path, told: Told) -> Iterator[Line]:
    """Every class asked alone about every photo, without the rule and with it."""
    settings = Settings()
    plain = engine_subject(engine, DEFAULT_METHOD, dataset, settings)
    counted = {}
    for name in ("rule off", "rule on"):
        subject = replace(plain, name=name, about={**plain.about, "asked": f"one word alone, {name}"})
        counted[name] = np.array(list(_alone(engine, subject, dataset, settings, out, told)))
    metrics: dict[str, Callable[[NDArray[np.number]], NDArray[np.float64]]] = {
        "false area where absent": lambda sums: _ratio(sums[..., :2]),
        "IoU where present": lambda sums: _ratio(sums[..., 2:]),
    }
    off, on = counted["rule off"], counted["rule on"]
    for metric, statistic in metrics.items():
        yield Line("lone word", "coco val", "rule off", metric, len(off), interval(off, statistic))
        change = paired_difference(on, off, statistic)
        yield Line("lone word", "coco val", "rule on", metric, len(on), interval(on, statistic), change)


def train_boxes(root: Path, names: Sequence[str]) -> dict[str, tuple[Path, Box]]:
    """One box a class: its largest instance in the train photos that does not fill its photo.

    Raises:
        ValueError: if the annotations cannot be read.
    """
    path = root / "instances.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        photos = {photo["id"]: photo for photo in content["images"]}
        called = {category["id"]: category["name"] for category in content["categories"]}
        instances = sorted(content["annotations"], key=lambda instance: (-instance["area"], instance["id"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} holds no instances that can be read: {error!r}.") from error
    boxes: dict[str, tuple[Path, Box]] = {}
    for instance in instances:
        name, photo = called[instance["category_id"]], photos[instance["image_id"]]
        file = root / "images" / "train2017" / photo["file_name"]
        left, top, width, height = instance["bbox"]
        whole = width * height > LARGEST_BOX * photo["width"] * photo["height"]
        if name not in names or name in boxes or instance["iscrowd"] or whole or not file.is_file():
            continue
        right, bottom = min(left + width, photo["width"]), min(top + height, photo["height"])
        boxes[name] = (file, (left, top, right, bottom))
    return boxes


def _by_boxes(
    engine: Engine,
    dataset: Dataset,
    boxes: Mapping[str, tuple[Path, Box]],
    words: bool,
    example: Example,
    photo: Photo,
    question: Question,
) -> Answer:
    """Ask for the typed classes by their boxes, with their words or without."""
    names = [dataset.names[label - 1] for label in question.typed]
    shown = [
        Exemplar(read_photo(boxes[name][0]), boxes[name][1], name if words else f"thing {number}")
        for number, name in enumerate(names, start=1)
    ]
    result = engine.segment(
        photo,
        question.vocabulary if words else "",
        background="; ".join(question.vocabulary.other) or "none",
        exemplars=shown,
    )
    return Answer(question.answer(result.labels), result.seconds)


def _alone(
    engine: Engine, subject: Subject, dataset: Dataset, settings: Settings, out: Path, told: Told
) -> Iterator[Counts]:
    """Sums of each photo, (4,).

    False shares of the photo over the absent classes, how many those are, IoU over the present classes, how
    many those are.
    """
    path = out / "lone_word" / f"{subject.name.replace(' ', '_')}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    about = header(subject, dataset, settings)
    done = read_run(path, about)
    begin_run(path, about)
    for number, example in enumerate(dataset.examples, start=1):
        record = done.get(example.key)
        if record is None:
            record = _one_by_one(engine, dataset, example, subject.name == "rule on")
            append_record(path, record)
        told(f"lone word, {subject.name}: {number} of {len(dataset.examples)}")
        yield _lone_counts(record, len(dataset.classes))


def _one_by_one(engine: Engine, dataset: Dataset, example: Example, rule: bool) -> PhotoRecord:
    """Each class asked alone.

    Cells (class, class) are right pixels, (class, 0) missed, (0, class) false and (0, 0) all that are known.
    """
    photo, truth = read_example(dataset, example)
    known = known_pixels(truth)
    cells = [(0, 0, int(known.sum()))]
    for label, names in enumerate(dataset.classes, start=1):
        vocabulary = read_vocabulary("|".join(names), dataset.background or "default")
        result = engine.segment(photo, vocabulary if rule else _as_written(vocabulary))
        answered, there = (result.labels == 1) & known, (truth.labels == label) & known
        cells += [
            (label, label, int((answered & there).sum())),
            (label, 0, int((there & ~answered).sum())),
            (0, label, int((answered & ~there).sum())),
        ]
    return PhotoRecord(example.key, typed=tuple(range(1, len(dataset.classes) + 1)), cells=tuple(cells))


def _as_written(vocabulary: Vocabulary) -> Vocabulary:
    """The same hidden names as a list that the user wrote, which the rule leaves as it is: one capital more.

    The text tower reads lower case, so the row is the same.
    """
    first, *others = vocabulary.other
    return replace(vocabulary, other=(first.capitalize(), *others))


def _lone_counts(record: PhotoRecord, classes: int) -> Counts:
    pixels = {(truth, answer): count for truth, answer, count in record.cells}
    known, sums = max(1, pixels[0, 0]), np.zeros(4)
    for label in range(1, classes + 1):
        right, missed, false = (pixels.get(cell, 0) for cell in ((label, label), (label, 0), (0, label)))
        if right + missed:
            sums[2:] += right / (right + missed + false), 1
        else:
            sums[:2] += false / known, 1
    return sums


def _found(record: PhotoRecord, classes: int) -> tuple[int, int]:
    """Classes of a photo that were found, and all that it has."""
    matrix = record.confusion(classes)[1:]
    present = matrix.sum(axis=1) > 0
    return int((np.diagonal(matrix, offset=1)[present] > 0).sum()), int(present.sum())


def _ratio(sums: NDArray[np.number]) -> NDArray[np.float64]:
    """First sum by the second, (...) from (..., 2)."""
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio: NDArray[np.float64] = np.asarray(sums[..., 0] / sums[..., 1], np.float64)
    return ratio


def _measured(
    subjects: Sequence[Subject], dataset: Dataset, settings: Settings, folder: Path, told: Told
) -> dict[str, list[PhotoRecord]]:
    """Records of every subject; kept in a file each."""
    folder.mkdir(parents=True, exist_ok=True)
    files = {subject.name: folder / f"{subject.name.replace(' ', '_')}.jsonl" for subject in subjects}
    records: dict[str, list[PhotoRecord]] = {subject.name: [] for subject in subjects}
    for step in evaluate(subjects, dataset, settings, files):
        records[step.subject].append(step.record)
        told(f"{folder.name}: {step.done} of {step.total}")
    return records


def _compared(
    study: str,
    question: str,
    subjects: Sequence[Subject],
    dataset: Dataset,
    settings: Settings,
    out: Path,
    told: Told,
    unseen: Sequence[int] = (),
) -> Iterator[Line]:
    """The numbers of all subjects, and the others' differences to the first one."""
    folder = out / f"{study} {question}".replace(" ", "_").replace(",", "")
    records = _measured(subjects, dataset, settings, folder, told)
    first = subjects[0].name
    for subject in subjects:
        own: Any = summarise(records[subject.name], dataset, unseen)
        change = differences(records[subject.name], records[first], dataset, unseen)
        for metric in METRICS:
            if metric in own.metrics:
                against = None if subject.name == first else change.get(metric)
                value = own.metrics[metric]
                yield Line(study, question, subject.name, metric, own.counted, value, against)
