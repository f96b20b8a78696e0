"""What one photo told, and the file that keeps it, so that a run can be stopped and continued.

A run's file has one JSON object in each line: first what was asked of whom (`header`), then a photo each. A
line that was cut off by a stop is dropped; of two lines about one photo the later one counts.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ovs_core.evaluation.codes import VOID
from ovs_core.evaluation.metrics import Counts, boundary_margins, confusion_with_void
from ovs_core.evaluation.questions import Question

SCHEMA = "ovs-lens/evaluation-run/1"
"""Changes whenever a field of a line is renamed, removed or changes its meaning."""

Cells = tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class PhotoRecord:
    """What is kept of one photo.

    Attributes:
        photo: its key.
        typed: classes that were typed, numbered from 1; none if there was nothing to ask.
        cells: (truth, answer, pixels) of the confusion matrix where not 0; truth -1 does not count.
        edges: (class, right, truth, answer) pixels in the bands along boundaries.
        seconds: stage -> seconds.
        peak_bytes: most memory held while the photo was answered; None if unknown.
        problem: why there is no answer; empty if there is one.
    """

    photo: str
    typed: tuple[int, ...] = ()
    cells: Cells = ()
    edges: Cells = ()
    seconds: Mapping[str, float] = field(default_factory=dict)
    peak_bytes: int | None = None
    problem: str = ""

    def confusion(self, classes: int) -> Counts:
        """Confusion matrix with a last row for what does not count, (classes + 1, classes)."""
        matrix = np.zeros((classes + 1, classes), np.int64)
        for truth, answer, pixels in self.cells:
            matrix[truth, answer] = pixels  # truth -1 is the last row
        return matrix

    def boundaries(self, classes: int) -> Counts:
        """Margins along boundaries, (3, classes)."""
        counted = np.zeros((3, classes), np.int64)
        for label, *pixels in self.edges:
            counted[:, label] = pixels
        return counted


def counted(key: str, question: Question, labels: np.ndarray, classes: int) -> PhotoRecord:
    """Count an answer's pixels.

    Args:
        key: of the photo.
        question: what was asked.
        labels: the answer, (H, W).
        classes: of the dataset, background included.
    """
    answer = question.answer(labels)
    matrix = confusion_with_void(question.truth, answer, classes)
    edges = boundary_margins(question.truth, answer, classes)
    cells = tuple(
        (VOID if row == classes else int(row), int(column), int(matrix[row, column]))
        for row, column in np.argwhere(matrix)
    )
    bands = tuple(
        (int(label), *(int(pixels) for pixels in edges[:, label]))
        for label in np.flatnonzero(edges.sum(axis=0))
    )
    return PhotoRecord(key, tuple(int(label) for label in question.classes[1:]), cells, bands)


def read_run(path: Path, header: Mapping[str, Any]) -> dict[str, PhotoRecord]:
    """Photos that an earlier run of the same kind has done, by key; nothing if there is no such file.

    Raises:
        ValueError: if the file belongs to another run (the sentence says what differs) or cannot be read.
    """
    lines = _whole_lines(path)
    if not lines:
        return {}
    try:
        first, *others = (json.loads(line) for line in lines)
        if not isinstance(first, dict) or first.get("schema") != SCHEMA:
            raise ValueError("its first line is not the header of a run")
        records = [_record(line) for line in others]
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(
            f"{path} is not a file of an earlier run ({error}); delete it or choose another."
        ) from error
    expected = json.loads(json.dumps(header))
    for name in sorted({*first, *expected} - {"schema"}):
        if first.get(name) != expected.get(name):
            raise ValueError(
                f"{path} belongs to a run with another {name} ({_short(first.get(name))}, now "
                f"{_short(expected.get(name))}); delete it or choose another --out."
            )
    return {record.photo: record for record in records}


def begin_run(path: Path, header: Mapping[str, Any]) -> None:
    """Make a run's file ready for more photos: with its header, without a line that was cut off.

    Raises:
        ValueError: if it cannot be written.
    """
    lines = _whole_lines(path) or [json.dumps({"schema": SCHEMA, **header}, ensure_ascii=False)]
    part = path.with_name(f".{path.name}.part")
    try:
        part.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        part.replace(path)
    except OSError as error:
        raise ValueError(f"Cannot write {path}: {error.strerror or error}.") from error


def append_record(path: Path, record: PhotoRecord) -> None:
    """Add a photo to a run's file.

    Raises:
        ValueError: if it cannot be written.
    """
    content = {name: value for name, value in vars(record).items() if value or name == "photo"}
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(content, ensure_ascii=False) + "\n")
    except OSError as error:
        raise ValueError(f"Cannot write {path}: {error.strerror or error}.") from error


def _record(content: Mapping[str, Any]) -> PhotoRecord:
    """A photo from its line."""
    return PhotoRecord(
        photo=content["photo"],
        typed=tuple(content.get("typed", ())),
        cells=tuple(tuple(cell) for cell in content.get("cells", ())),
        edges=tuple(tuple(edge) for edge in content.get("edges", ())),
        seconds=content.get("seconds", {}),
        peak_bytes=content.get("peak_bytes"),
        problem=content.get("problem", ""),
    )


def _whole_lines(path: Path) -> list[str]:
    """Lines that end with a line break."""
    if not path.is_file():
        return []
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror or error}.") from error
    return text.split("\n")[:-1]


def _short(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else f"{text[:77]}..."
