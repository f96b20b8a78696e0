"""Two questions about labelled photos, through the evaluation and the real Engine, paired by photo.

Refiners against none; the labelled things among the first ten suggestions. Records are kept: a run that was
stopped goes on.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ovs_core.engine import Engine
from ovs_core.engine.suggest import suggest
from ovs_core.evaluation.questions import Question
from ovs_core.evaluation.records import PhotoRecord
from ovs_core.evaluation.run import Answer, Settings, Subject, engine_subject, evaluate
from ovs_core.evaluation.summary import differences, summarise
from ovs_core.image import Photo
from ovs_core.labelled.datasets import Dataset
from ovs_core.labelled.files import Example
from ovs_core.methods import DEFAULT_METHOD
from ovs_core.metrics.resampling import interval
from ovs_core.refine import NO_REFINER
from ovs_core.vocabulary import read_vocabulary
from recipes.hands.lines import Line, Told, ratio
from recipes.mini.exam import MIOU, Exam

LIMIT = 10  # suggestions


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
    value = interval(counts, ratio)
    yield Line("suggestions", "coco val", f"first {LIMIT}", f"recall at {LIMIT}", len(counts), value)


def _found(record: PhotoRecord, classes: int) -> tuple[int, int]:
    """Classes of a photo that were found, and all that it has."""
    matrix = record.confusion(classes)[1:]
    present = matrix.sum(axis=1) > 0
    return int((np.diagonal(matrix, offset=1)[present] > 0).sum()), int(present.sum())


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
) -> Iterator[Line]:
    """The numbers of all subjects, and the others' differences to the first one."""
    folder = out / f"{study} {question}".replace(" ", "_").replace(",", "")
    records = _measured(subjects, dataset, settings, folder, told)
    first = subjects[0].name
    for subject in subjects:
        own: Any = summarise(records[subject.name], dataset)
        change = differences(records[subject.name], records[first], dataset)
        against = None if subject.name == first else change.get(MIOU)
        yield Line(study, question, subject.name, MIOU, own.counted, own.metrics[MIOU], against)
