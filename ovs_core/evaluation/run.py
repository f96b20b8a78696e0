"""Ask about every photo of a dataset, count, and keep what was counted.

    subject = engine_subject(engine, "naclip", dataset, settings)
    for step in evaluate([subject], dataset, settings): ...

Several subjects go through the photos side by side, so that methods on one tower share its pass over a photo.
"""

from __future__ import annotations

import threading
import time
import zlib
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ovs_core.devices import stop_if_cancelled
from ovs_core.encoders.towers import DEFAULT_ENCODER
from ovs_core.engine import Engine, NotEnoughMemory, Result
from ovs_core.evaluation.memory import peak_bytes, start_peak
from ovs_core.evaluation.questions import Question, make_question, present
from ovs_core.evaluation.records import PhotoRecord, append_record, begin_run, count, read_run, sweep_rows
from ovs_core.image import Photo
from ovs_core.labelled.datasets import Dataset, read_example
from ovs_core.labelled.files import Example, digest
from ovs_core.options import Options
from ovs_core.refine import NO_REFINER
from ovs_core.types import LabelMap, Vocabulary

_CPU = torch.device("cpu")
_WARM_UP_SIDE = 64  # pixels


class AnswerError(ValueError):
    """A subject that has no answer about a photo; the message is one sentence that names the file."""


@dataclass(frozen=True)
class Settings:
    """What is typed, and how the engine is set.

    Attributes:
        classes_in_image: type the photo's own classes only, rather than all of the dataset's.
        distractors: with `classes_in_image`, so many classes more that are not in the photo.
        seed: which ones; every photo has its own draw, the same for every method.
        encoder, refiner: registry names.
        options: values of options instead of those that suit method and encoder; each method takes those
            that it declares.
        sweep: measure each threshold of `THRESHOLDS` too, where a subject has one.
    """

    classes_in_image: bool = False
    distractors: int = 0
    seed: int = 0
    encoder: str = DEFAULT_ENCODER
    refiner: str = NO_REFINER
    options: Options = field(default_factory=dict)
    sweep: bool = False

    def __post_init__(self) -> None:
        if self.distractors < 0:
            raise ValueError(f"distractors must be 0 or more, got {self.distractors}.")
        if self.distractors and not self.classes_in_image:
            raise ValueError(
                "distractors go with classes_in_image: with all classes typed, absent ones are there already."
            )


@dataclass(frozen=True, eq=False)
class Answer:
    """What a subject says a photo shows, in classes of the dataset.

    Attributes:
        classes: of each pixel, (H, W).
        seconds: by stage.
        best: the same without a threshold, and the probability in [0, 1] that each pixel was decided by; None
            where there is no threshold or nobody asked.
    """

    classes: NDArray[np.integer]
    seconds: Mapping[str, float]
    best: tuple[NDArray[np.integer], NDArray[np.floating]] | None = None


@dataclass(frozen=True, eq=False)
class Subject:
    """Something that labels photos and is measured.

    Attributes:
        name: what it is called in reports.
        about: what its answers depend on (method, encoder, weights, preset, ...), ready for JSON; two runs
            with equal ones can be continued by each other.
        answer: what a photo shows.
        device: where its memory is measured.
        frame: subjects with equal ones share the "encode" stage: only the first of them pays for a photo.
        files: what is read of a photo beside itself and its mask.
    """

    name: str
    about: Mapping[str, Any]
    answer: Callable[[Example, Photo, Question], Answer]
    device: torch.device = _CPU
    frame: Hashable = None
    files: Callable[[Example], tuple[Path, ...]] = lambda example: ()


@dataclass(frozen=True)
class Step:
    """One photo done by one subject.

    Attributes:
        subject: its name.
        record: what was counted.
        done, total: photos, of all subjects together.
        resumed: whether it was taken from an earlier run.
    """

    subject: str
    record: PhotoRecord
    done: int
    total: int
    resumed: bool = False


def engine_subject(engine: Engine, method: str, dataset: Dataset, settings: Settings) -> Subject:
    """One method of an engine, warmed up on an empty picture, so that no photo pays for loading.

    A dataset without background gets the papers' plain argmax: no threshold, no hidden names.

    Raises:
        ValueError: as `Engine.segment`.
    """
    options = method_options(engine, method, dataset, settings)

    def ask(photo: Photo, vocabulary: Vocabulary) -> Result:
        return engine.segment(
            photo,
            vocabulary,
            method=method,
            encoder=settings.encoder,
            refiner=settings.refiner,
            options=options,
        )

    def answer(example: Example, photo: Photo, question: Question) -> Answer:
        result = ask(photo, question.vocabulary)
        classes, best = question.answer(result.labels), None
        if settings.sweep:
            without = engine.relabel(result, {"threshold": 0.0})
            best = question.answer(without.labels), without.confidence
        return Answer(classes, result.seconds, best)

    first = ask(*_warm_up(dataset))
    preset = first.preset
    about = {
        "method": method,
        "encoder": settings.encoder,
        "refine": settings.refiner,
        "weights": {name: {"sha256": digest} for name, digest in first.weights.items()},
        "preset": asdict(preset),
        "options": dict(first.options),
        "device": f"{engine.compute.device.type}, {str(engine.compute.dtype).removeprefix('torch.')}",
    }
    # Methods share what is seen of a photo unless they look at a frame of their own.
    eyes = method if engine.method_specs[method].own_frame else "shared"
    frame = (settings.encoder, eyes, preset.short_side, preset.frames, preset.window, preset.stride)
    return Subject(method, about, answer, engine.compute.device, frame)


def _warm_up(dataset: Dataset) -> tuple[Photo, Vocabulary]:
    """An empty picture and all the words that will be typed."""
    size = (_WARM_UP_SIDE, _WARM_UP_SIDE)
    empty = LabelMap(np.zeros(size, np.uint16), dataset.label_classes)
    every = range(1, len(dataset.classes) + 1)
    question = make_question(dataset, empty, every, bool(dataset.background))
    return Photo(np.full((*size, 3), 128, np.uint8)), question.vocabulary


def function_subject(
    name: str, function: Callable[[Photo, Vocabulary], NDArray[np.integer]], about: Mapping[str, Any]
) -> Subject:
    """Any function that labels photos; `about` says what its answers depend on."""

    def answer(example: Example, photo: Photo, question: Question) -> Answer:
        started = time.perf_counter()
        labels = function(photo, question.vocabulary)
        return Answer(question.answer(labels), {"answer": time.perf_counter() - started})

    return Subject(name, {"method": name, **about}, answer)


def evaluate(
    subjects: Sequence[Subject],
    dataset: Dataset,
    settings: Settings,
    files: Mapping[str, Path] | None = None,
    cancel: threading.Event | None = None,
) -> Iterator[Step]:
    """Measure every subject on every photo, photo by photo.

    A photo or mask that cannot be used becomes a record with a `problem`; the next run tries it again. What
    an earlier run has done counts as long as its files hold what they held then.

    Args:
        subjects: what is measured.
        dataset: the labelled photos.
        settings: what is typed.
        files: subject -> file that keeps its records; a run that was stopped continues there.
        cancel: set it to stop after the photo in work.

    Yields:
        First the photos that earlier runs have done, then each one as it is done.

    Raises:
        ValueError: if a file belongs to another run or cannot be written.
        Cancelled: if `cancel` was set; what was done is in the files.
    """
    files = files or {}
    total = len(subjects) * len(dataset.examples)
    done = 0
    known: dict[str, dict[str, PhotoRecord]] = {}
    headers = {subject.name: header(subject, dataset, settings) for subject in subjects}
    for subject in subjects:  # all of them are checked before any file is touched
        earlier = read_run(files[subject.name], headers[subject.name]) if subject.name in files else {}
        known[subject.name] = {
            example.key: earlier[example.key]
            for example in dataset.examples
            if example.key in earlier and _still_so(earlier[example.key], subject, example)
        }
    for name, path in files.items():
        begin_run(path, headers[name])
    for subject in subjects:
        for example in dataset.examples:
            if example.key in known[subject.name]:
                done += 1
                yield Step(subject.name, known[subject.name][example.key], done, total, resumed=True)
    for example in dataset.examples:
        waiting = [subject for subject in subjects if example.key not in known[subject.name]]
        if not waiting:
            continue
        for subject, record in _measure(waiting, dataset, example, settings, cancel):
            if subject.name in files:
                append_record(files[subject.name], record)
            done += 1
            yield Step(subject.name, record, done, total)


def header(subject: Subject, dataset: Dataset, settings: Settings) -> dict[str, Any]:
    """What a subject's numbers depend on, ready for JSON; which photos is left to the records."""
    return {
        **subject.about,
        "dataset": dataset.name,
        "title": dataset.title,
        "split": dataset.split,
        "classes": [list(names) for names in dataset.classes],
        "background": dataset.background,
        "mask_values": [list(pair) for pair in dataset.values.pairs()],
        "classes_in_image": settings.classes_in_image,
        "distractors": settings.distractors,
        "seed": settings.seed,
        "sweep": settings.sweep,
    }


def question_for(dataset: Dataset, example: Example, truth: LabelMap, settings: Settings) -> Question | None:
    """What is typed about a photo; None where its own classes are asked for and it has none."""
    everything = range(1, len(dataset.classes) + 1)
    typed = list(everything)
    if settings.classes_in_image:
        own = present(truth)
        if not own:
            return None
        absent = [label for label in everything if label not in own]
        generator = np.random.default_rng(
            [settings.seed, zlib.crc32(example.key.encode(errors="surrogatepass"))]
        )
        extra = generator.choice(len(absent), min(settings.distractors, len(absent)), replace=False)
        typed = sorted([*own, *(absent[index] for index in extra)])
    return make_question(dataset, truth, typed, bool(dataset.background))


def _contents(subject: Subject, example: Example) -> str:
    """SHA-256 of all that a subject's record depends on beside the header."""
    return digest((example.photo, example.mask, *subject.files(example)))


def _still_so(record: PhotoRecord, subject: Subject, example: Example) -> bool:
    """Whether a record of an earlier run is about what the files hold now."""
    return not record.problem and bool(record.contents) and record.contents == _contents(subject, example)


def _measure(
    subjects: Sequence[Subject],
    dataset: Dataset,
    example: Example,
    settings: Settings,
    cancel: threading.Event | None,
) -> Iterator[tuple[Subject, PhotoRecord]]:
    """One photo, all subjects."""
    stop_if_cancelled(cancel)
    try:
        photo, truth = read_example(dataset, example)
    except ValueError as error:
        yield from ((subject, PhotoRecord(example.key, problem=str(error))) for subject in subjects)
        return
    question = question_for(dataset, example, truth, settings)
    encoding: dict[Hashable, float] = {}
    for subject in subjects:
        contents = _contents(subject, example)
        if question is None:
            yield subject, PhotoRecord(example.key, contents)
            continue
        stop_if_cancelled(cancel)
        start_peak(subject.device)
        try:
            answer = subject.answer(example, photo, question)
        except (NotEnoughMemory, AnswerError) as error:
            yield subject, PhotoRecord(example.key, problem=str(error))
            continue
        peak = peak_bytes(subject.device)
        seconds = dict(answer.seconds)
        if "encode" in seconds:
            encoding[subject.frame] = seconds["encode"]
        elif subject.frame in encoding:
            seconds["encode"] = encoding[subject.frame]
        record = count(example.key, question, answer.classes, len(dataset.classes) + 1, contents)
        if answer.best is not None:
            record = replace(record, sweep=sweep_rows(question, *answer.best, len(dataset.classes) + 1))
        yield subject, replace(record, seconds=seconds, peak_bytes=peak)


def method_options(engine: Engine, method: str, dataset: Dataset, settings: Settings) -> Options:
    """Options of one method: those asked for that it declares, and no threshold where there is no background.

    Raises:
        ValueError: for an unknown method.
    """
    declared = {option.name for option in engine.options(method, settings.encoder, settings.refiner)}
    asked = {name: value for name, value in settings.options.items() if name in declared}
    return asked if dataset.background else {"threshold": 0.0, **asked}
