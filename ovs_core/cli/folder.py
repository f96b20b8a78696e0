"""What `ovs-lens segment` asks of every photo, and what comes of it: files, lines, a line in the journal."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ovs_core.cli.journal import Entry, digest, file_digest, note_entry
from ovs_core.cli.options import say, write_line
from ovs_core.cli.overlap import PixelBudget, in_order
from ovs_core.cli.photos import Source
from ovs_core.edit.record import Edit
from ovs_core.engine import Engine, NotEnoughMemory, Result
from ovs_core.export.files import save_result
from ovs_core.image import ImageError, Photo, read_photo
from ovs_core.options import Options
from ovs_core.render.legend import percent
from ovs_core.types import Vocabulary
from ovs_core.vocabulary.exemplars import Exemplar

AT_ONCE = 2
"""Photos under way: each keeps busy what the other cannot, and a third would take memory and give little."""
GPU_AT_ONCE = 8
"""The same beside a GPU: while a batch is looked at, the next one's photos are read others labelled."""

_PIXELS = 40_000_000  # labelled in one moment; each takes some 25 bytes while it is
_CLASSES_SHOWN = 5


@dataclass(frozen=True)
class Task:
    """What to do with every photo."""

    vocabulary: Vocabulary
    options: dict[str, Options]  # by method: its own among those asked for
    encoder: str
    refiner: str
    formats: tuple[str, ...]
    out: Path
    stuff: str
    exemplars: tuple[Exemplar, ...]
    tolerance: float
    edits: tuple[Edit, ...]
    excluded: tuple[int, ...]  # labels of classes that were switched off
    asked: Mapping[str, Any]  # what every answer depends on besides photo, method and weights
    done: Mapping[tuple[str, str], Entry]  # by an earlier run; empty unless this one goes on with it
    weights: Mapping[str, Mapping[str, str]]  # by method, known only then

    def question(self, method: str, weights: Mapping[str, str]) -> str:
        """What an answer depends on besides its photo, as a digest."""
        options = {name: repr(value) for name, value in self.options[method].items()}
        return digest({**self.asked, "method": method, "options": options, "weights": dict(weights)})


@dataclass(frozen=True)
class Answer:
    """What is left of an answer once its files are written: an entry, notes, and a line for stdout."""

    entry: Entry
    word_notes: tuple[str, ...]
    notes: tuple[str, ...]
    summary: str


@dataclass(frozen=True)
class Outcome:
    """What came of a photo; `reason` says why not all of it, where the photo is the obstacle."""

    source: Source
    notes: tuple[str, ...]
    answers: tuple[Answer, ...]
    reason: str = ""


def answer_all(
    sources: Sequence[Source],
    task: Task,
    engine: Engine,
    finish: Callable[[Outcome], None],
    threads: int | None = None,
) -> None:
    """Answer and write photos, several at once; `finish` is told each, in order, in the caller's thread.

    Photos go one by one until the first is answered: models are then loaded, and words known to all.

    Args:
        sources: photos.
        task: what is asked of each.
        engine: who is asked.
        finish: told what came of each.
        threads: photos under way; None takes `AT_ONCE`, or `GPU_AT_ONCE` beside a GPU.

    Raises:
        ValueError: as `Engine.segment`, or where the folder cannot be written; what was under way by then is
            finished.
        KeyboardInterrupt: the same.
    """
    threads = threads or (AT_ONCE if engine.compute.device.type == "cpu" else GPU_AT_ONCE)
    left = deque(sources)
    budget = PixelBudget(_PIXELS)
    answered = False
    while left and not answered:
        outcome = _outcome(left.popleft(), task, engine, budget)
        answered = not outcome.reason
        finish(outcome)
    in_order(lambda source: _outcome(source, task, engine, budget), left, finish, threads)


def report(outcome: Outcome, task: Task, told: set[str]) -> None:
    """Say what came of a photo, and write down that its files are whole.

    Notes about the words are said once; `told` holds those that were.

    Raises:
        ValueError: where the folder cannot be written.
    """
    title = outcome.source.title
    say(*(f"{title}: {note}" for note in outcome.notes))
    for answer in outcome.answers:
        new = [note for note in answer.word_notes if note not in told]
        told.update(new)
        say(*new, *(f"{title}: {note}" for note in answer.notes))
        note_entry(task.out, answer.entry)
        write_line(answer.summary, sys.stdout)
    if outcome.reason:
        say(f"Skipped {outcome.source.path}: {outcome.reason}")


def _outcome(source: Source, task: Task, engine: Engine, budget: PixelBudget) -> Outcome:
    """Do one photo with every method."""
    notes: tuple[str, ...] = ()
    answers: list[Answer] = []
    try:
        photo_digest = file_digest(source.path)  # before: a photo that changes now is asked again
        photo = read_photo(source.path)
        notes = photo.notes
        height, width = photo.size
        with budget.hold(height * width):
            for method in task.options:
                answers.append(_answer(photo, photo_digest, method, source, task, engine))
    except (ImageError, NotEnoughMemory) as error:
        return Outcome(source, notes, tuple(answers), str(error))
    return Outcome(source, notes, tuple(answers))


def _answer(
    photo: Photo, photo_digest: str, method: str, source: Source, task: Task, engine: Engine
) -> Answer:
    """Ask one method about one photo, and write its files."""
    result = engine.segment(
        photo,
        task.vocabulary,
        method=method,
        encoder=task.encoder,
        refiner=task.refiner,
        options=task.options[method],
        exemplars=task.exemplars,
    )
    if task.excluded:
        result = replace(engine.relabel(result, without=task.excluded), seconds=result.seconds)
    result = result.edited(task.edits) if task.edits else result
    files = save_result(result, task.out, source.stem, task.formats, source.title, task.stuff, task.tolerance)
    names = tuple(file.relative_to(task.out).as_posix() for file in files)
    entry = Entry(source.stem, method, photo_digest, task.question(method, result.weights), names)
    return Answer(entry, result.vocabulary.notes, result.notes, _summary(source.stem, result))


def _summary(stem: str, result: Result) -> str:
    """One line for stdout: the files' start and the largest classes."""
    largest = sorted(result.classes, key=lambda summary: -summary.area_share)[:_CLASSES_SHOWN]
    shares = (f"{summary.names[0]} {percent(summary.area_share)}" for summary in largest)
    return f"{stem}.{result.method}: {', '.join(shares)}"
