"""Edits as values: what was done by hand, in order, as a settings file holds it and as it is done again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import reduce
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ovs_core.edit import classes, pixels
from ovs_core.types import OTHER, LabelMap

Scores = NDArray[np.floating] | None
"""(H, W) probability of the best class at every pixel, in [0, 1]; only thresholds need it."""


@dataclass(frozen=True)
class Merge:
    """Some classes become part of another one (`classes.merge`)."""

    labels: tuple[int, ...]
    into: int

    def apply(self, label_map: LabelMap, scores: Scores) -> LabelMap:
        """The edited map."""
        return classes.merge(label_map, self.labels, self.into)


@dataclass(frozen=True)
class Rename:
    """A class is shown under another name."""

    label: int
    name: str

    def apply(self, label_map: LabelMap, scores: Scores) -> LabelMap:
        """The edited map."""
        return classes.rename(label_map, self.label, self.name)


@dataclass(frozen=True)
class Recolour:
    """A class is painted in another colour."""

    label: int
    color: tuple[int, int, int]

    def apply(self, label_map: LabelMap, scores: Scores) -> LabelMap:
        """The edited map."""
        return classes.recolour(label_map, self.label, self.color)


@dataclass(frozen=True)
class Delete:
    """A class is taken away."""

    label: int

    def apply(self, label_map: LabelMap, scores: Scores) -> LabelMap:
        """The edited map."""
        return classes.delete(label_map, self.label)


@dataclass(frozen=True)
class AddClass:
    """One more class, still without pixels."""

    name: str
    color: tuple[int, int, int]

    def apply(self, label_map: LabelMap, scores: Scores) -> LabelMap:
        """The edited map."""
        return classes.add_class(label_map, self.name, self.color)


@dataclass(frozen=True)
class Threshold:
    """A class keeps only pixels whose probability reaches a threshold of its own."""

    label: int
    threshold: float

    def apply(self, label_map: LabelMap, scores: Scores) -> LabelMap:
        """The edited map.

        Raises:
            ValueError: where no scores were given.
        """
        if scores is None:
            raise ValueError("A class's own threshold needs the scores of an answer; this map has none.")
        return pixels.apply_threshold(label_map, self.label, scores, self.threshold)


@dataclass(frozen=True)
class Reassign:
    """The region under (x, y) is given to a class, or with label 0 erased."""

    place: tuple[float, float]
    label: int = OTHER

    def apply(self, label_map: LabelMap, scores: Scores) -> LabelMap:
        """The edited map."""
        return pixels.reassign(label_map, self.place, self.label)


@dataclass(frozen=True)
class Brush:
    """A stroke is painted with a class, or with label 0 erased."""

    stroke: tuple[tuple[float, float], ...]
    radius: float
    label: int = OTHER

    def apply(self, label_map: LabelMap, scores: Scores) -> LabelMap:
        """The edited map."""
        return pixels.brush(label_map, self.stroke, self.radius, self.label)


@dataclass(frozen=True)
class Paint:
    """The pixels of a mask are given to a class: what a click with SAM ends in.

    Attributes:
        runs: outside and inside in turn, row by row, outside first (`runs_of`).
        label: id of the class.
        whole: whether the mask is all that the class has from now on.
    """

    runs: tuple[int, ...]
    label: int
    whole: bool = False

    def apply(self, label_map: LabelMap, scores: Scores) -> LabelMap:
        """The edited map."""
        mask = mask_of(self.runs, label_map.shape)
        change = pixels.replace_class if self.whole else pixels.paint
        return change(label_map, mask, self.label)


@dataclass(frozen=True)
class DropIslands:
    """Regions of fewer pixels are dissolved into what lies nearest."""

    least_pixels: int

    def apply(self, label_map: LabelMap, scores: Scores) -> LabelMap:
        """The edited map."""
        return pixels.drop_islands(label_map, self.least_pixels)


Edit = Merge | Rename | Recolour | Delete | AddClass | Threshold | Reassign | Brush | Paint | DropIslands

_KINDS: Mapping[str, type[Edit]] = MappingProxyType(
    {
        "merge": Merge,
        "rename": Rename,
        "recolour": Recolour,
        "delete": Delete,
        "add_class": AddClass,
        "threshold": Threshold,
        "reassign": Reassign,
        "brush": Brush,
        "paint": Paint,
        "drop_islands": DropIslands,
    }
)


def apply_edits(label_map: LabelMap, edits: Sequence[Edit], scores: Scores = None) -> LabelMap:
    """Do edits one after the other.

    Raises:
        ValueError: for the first one that cannot be done; names it.
    """
    return reduce(lambda edited, edit: edit.apply(edited, scores), edits, label_map)


def edits_to_json(edits: Sequence[Edit]) -> list[dict[str, Any]]:
    """Edits as plain lists, numbers and texts."""
    names = {kind: name for name, kind in _KINDS.items()}
    return [{"edit": names[type(edit)], **_plain(asdict(edit))} for edit in edits]


def edits_from_json(content: Any) -> tuple[Edit, ...]:
    """Edits as `edits_to_json` wrote them.

    Raises:
        ValueError: for anything else, in one sentence.
    """
    if not isinstance(content, list):
        raise ValueError(f"Edits must be a list, got {type(content).__name__}.")  # noqa: TRY004 - a file
    return tuple(_edit_from_json(number, entry) for number, entry in enumerate(content, start=1))


def runs_of(mask: NDArray[np.bool_]) -> tuple[int, ...]:
    """Run lengths of a mask (H, W), row by row: outside and inside in turn, outside first."""
    flat = mask.ravel()
    turns = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    lengths = tuple(np.diff(turns, prepend=0, append=flat.size).tolist())
    return (0, *lengths) if flat.size and flat[0] else lengths


def mask_of(runs: Sequence[int], shape: tuple[int, int]) -> NDArray[np.bool_]:
    """The mask (H, W) of `runs_of`.

    Raises:
        ValueError: if the runs do not fill the shape.
    """
    height, width = shape
    if any(run < 0 for run in runs) or sum(runs) != height * width:
        raise ValueError(
            f"The mask of an edit is for another photo: {sum(runs)} pixels, not {height} x {width}."
        )
    inside = np.arange(len(runs)) % 2 == 1
    return np.repeat(inside, runs).reshape(shape)


def _edit_from_json(number: int, entry: Any) -> Edit:
    """One edit; its fields have the types of their defaults or none is made."""
    kind = _KINDS.get(entry.get("edit", "")) if isinstance(entry, dict) else None
    if kind is None:
        raise ValueError(f"Edit {number} is of no known kind; kinds: {', '.join(_KINDS)}.")
    values = {name: _tuples(value) for name, value in entry.items() if name != "edit"}
    known = {field.name: str(field.type) for field in fields(kind)}
    try:
        for name, value in values.items():
            _check_type(name, value, known[name])
        return kind(**values)
    except (KeyError, TypeError) as error:
        raise ValueError(f"Edit {number} ({entry['edit']}) needs {', '.join(known)}; {error}.") from error


def _check_type(name: str, value: Any, expected: str) -> None:
    """Compare a value with its field's annotation.

    Raises:
        TypeError: if it is of another type.
    """
    numbers = isinstance(value, tuple) and all(isinstance(part, int | float) for part in value)
    fits = {
        "int": isinstance(value, int),
        "float": isinstance(value, int | float),
        "str": isinstance(value, str),
        "bool": isinstance(value, bool),
        "tuple[int, ...]": numbers and all(isinstance(part, int) for part in value),
        "tuple[int, int, int]": numbers and len(value) == 3,
        "tuple[float, float]": numbers and len(value) == 2,
        "tuple[tuple[float, float], ...]": isinstance(value, tuple)
        and all(isinstance(part, tuple) and len(part) == 2 for part in value)
        and all(isinstance(number, int | float) for part in value for number in part),
    }
    if not fits[expected]:
        raise TypeError(f"{name} is {value!r:.60}")


def _plain(value: Any) -> Any:
    """Tuples as lists, all the way down."""
    if isinstance(value, dict):
        return {name: _plain(part) for name, part in value.items()}
    return [_plain(part) for part in value] if isinstance(value, list | tuple) else value


def _tuples(value: Any) -> Any:
    """Lists as tuples, all the way down."""
    return tuple(_tuples(part) for part in value) if isinstance(value, list) else value
