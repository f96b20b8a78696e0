"""What one photo told, and the file that keeps it, so that a run can be stopped and continued.

A run's file has one JSON object in each line: first what was asked of whom (`header`), then a photo each. A
line that was cut off by a stop is dropped; of two lines about one photo the later one counts.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ovs_core.evaluation.questions import Question
from ovs_core.metrics.boundary import boundary_margins
from ovs_core.metrics.confusion import Counts, answered_unknown, confusion, label_margins
from ovs_core.metrics.error_types import ERROR_TYPES, error_types
from ovs_core.metrics.oracles import perfect_masks, perfect_names

SCHEMA = "ovs-lens/evaluation-run/2"
"""Changes whenever a field of a line is renamed, removed or changes its meaning."""

THRESHOLDS = (0.0, 0.02, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
"""Probabilities under which a pixel becomes 0, for a sweep."""

# A file name that is no UTF-8 has lone surrogates in Python; this writes each as its JSON escape.
_ODD_NAMES = "backslashreplace"
_ANY_SCHEMA = "ovs-lens/evaluation-run/"

Rows = tuple[tuple[int, ...], ...]
"""(class, count, count, ...) of every class with any count."""


@dataclass(frozen=True)
class PhotoRecord:
    """What is kept of one photo.

    Attributes:
        photo: its key.
        contents: SHA-256 of the files that were read; a file that changed is measured again.
        typed: classes that were typed, numbered from 1; none if there was nothing to ask.
        cells: (truth, answer, pixels) of the confusion matrix where not 0.
        unknown: (class, pixels) of the answer where the truth is not known.
        edges: (class, right, truth, answer) pixels in the bands along boundaries.
        errors: (class, wrong pixels of each kind in `ERROR_TYPES`).
        perfect_names, perfect_masks: (class, right, truth, answer) pixels of the two oracles.
        sweep: (place in `THRESHOLDS`, class, right, truth, answer) pixels; none if nobody asked.
        seconds: stage -> seconds.
        peak_bytes: most memory held while the photo was answered; None if unknown.
        problem: why there is no answer; empty if there is one.
    """

    photo: str
    contents: str = ""
    typed: tuple[int, ...] = ()
    cells: Rows = ()
    unknown: Rows = ()
    edges: Rows = ()
    errors: Rows = ()
    perfect_names: Rows = ()
    perfect_masks: Rows = ()
    sweep: Rows = ()
    seconds: Mapping[str, float] = field(default_factory=dict)
    peak_bytes: int | None = None
    problem: str = ""

    def confusion(self, classes: int) -> Counts:
        """Confusion matrix, (classes, classes)."""
        matrix = np.zeros((classes, classes), np.int64)
        for truth, answer, pixels in self.cells:
            matrix[truth, answer] = pixels
        return matrix

    def counts(self, name: _Counted, classes: int) -> Counts:
        """Counts by class as an array (counts, classes)."""
        counts = np.zeros((_HEIGHTS[name], classes), np.int64)
        rows: Rows = getattr(self, name)
        for label, *pixels in rows:
            counts[:, label] = pixels
        return counts

    def thresholds(self, classes: int) -> Counts:
        """Margins at every threshold, (len(THRESHOLDS), 3, classes)."""
        counts = np.zeros((len(THRESHOLDS), 3, classes), np.int64)
        for step, label, *pixels in self.sweep:
            counts[step, :, label] = pixels
        return counts


_Counted = Literal["unknown", "edges", "errors", "perfect_names", "perfect_masks"]
_HEIGHTS: Mapping[_Counted, int] = MappingProxyType(
    {"unknown": 1, "edges": 3, "errors": len(ERROR_TYPES), "perfect_names": 3, "perfect_masks": 3}
)


def count(
    key: str, question: Question, answer: NDArray[np.integer], classes: int, contents: str = ""
) -> PhotoRecord:
    """Count an answer's pixels.

    Args:
        key: of the photo.
        question: what was asked.
        answer: class of each pixel, (H, W), in the dataset's numbers.
        classes: of the dataset, background included.
        contents: SHA-256 of the files that were read.
    """
    truth, known = question.truth.labels, question.truth.known
    matrix = confusion(truth, answer, classes, known)
    cells = tuple((int(row), int(column), int(matrix[row, column])) for row, column in np.argwhere(matrix))
    oracles = (perfect(truth, answer, known) for perfect in (perfect_names, perfect_masks))
    names, masks = (_rows(label_margins(truth, oracle, classes, known)) for oracle in oracles)
    return PhotoRecord(
        key,
        contents,
        question.typed,
        cells,
        _rows(answered_unknown(answer, classes, known)[None]),
        _rows(boundary_margins(truth, answer, classes, known)),
        _rows(error_types(truth, answer, classes, known)),
        names,
        masks,
    )


def sweep_rows(
    question: Question, best: NDArray[np.integer], confidence: NDArray[np.floating], classes: int
) -> Rows:
    """Pixels at every threshold: what was decided by less becomes 0.

    Args:
        question: what was asked.
        best: class of each pixel without a threshold, (H, W), in the dataset's numbers.
        confidence: probability that each was decided by, (H, W), in [0, 1].
        classes: of the dataset, background included.
    """
    truth, known = question.truth.labels, question.truth.known
    kept = (np.where(confidence >= threshold, best, 0) for threshold in THRESHOLDS)
    return tuple(
        (step, *row)
        for step, answer in enumerate(kept)
        for row in _rows(label_margins(truth, answer, classes, known))
    )


def _rows(counts: Counts) -> Rows:
    """Classes with any count, from (counts, classes)."""
    return tuple((int(label), *counts[:, label].tolist()) for label in np.flatnonzero(counts.any(axis=0)))


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
        schema = first.get("schema") if isinstance(first, dict) else None
        if not isinstance(schema, str) or not schema.startswith(_ANY_SCHEMA):
            raise ValueError("its first line is not the header of a run")
        if schema != SCHEMA:
            raise ValueError("another version of OVS Lens wrote it")
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
        part.write_bytes("".join(f"{line}\n" for line in lines).encode("utf-8", _ODD_NAMES))
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
        with path.open("a", encoding="utf-8", errors=_ODD_NAMES) as file:
            file.write(json.dumps(content, ensure_ascii=False) + "\n")
    except OSError as error:
        raise ValueError(f"Cannot write {path}: {error.strerror or error}.") from error


def _record(content: Mapping[str, Any]) -> PhotoRecord:
    """A photo from its line."""
    fields = ("cells", "sweep", *_HEIGHTS)
    rows = {name: tuple(tuple(row) for row in content.get(name, ())) for name in fields}
    return PhotoRecord(
        photo=content["photo"],
        contents=content.get("contents", ""),
        typed=tuple(content.get("typed", ())),
        seconds=content.get("seconds", {}),
        peak_bytes=content.get("peak_bytes"),
        problem=content.get("problem", ""),
        **rows,
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
