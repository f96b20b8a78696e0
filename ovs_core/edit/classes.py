"""Edits of what the numbers of a label map mean; ids of the classes that stay never change."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import numpy as np

from ovs_core.types import OTHER, Color, LabelClass, LabelMap
from ovs_core.vocabulary import MAX_NAME_LENGTH, MAX_NAMES


def merge(label_map: LabelMap, labels: Collection[int], into: int) -> LabelMap:
    """Make some classes part of another one, which takes their names as synonyms.

    Args:
        label_map: what to edit.
        labels: ids of classes that disappear.
        into: id of the class that stays; 0 makes them "other", names and all.

    Raises:
        ValueError: for an id that is not there, or nothing to merge.
    """
    gone = [require_class(label_map, label) for label in sorted(set(labels) - {into})]
    if not gone:
        raise ValueError("Choose at least one class to merge into another one.")
    target = label_map.class_of(into)
    ids = [entry.id for entry in gone]
    names = [*target.names, *(name for entry in gone for name in entry.names)]
    pixels = np.where(np.isin(label_map.labels, ids), into, label_map.labels)
    merged = _with_class(label_map, replace(target, names=tuple(dict.fromkeys(names)))) if into else label_map
    classes = tuple(entry for entry in merged.classes if entry.id not in ids)
    instances = label_map.instances
    if instances is not None and into == OTHER:
        instances = np.where(pixels == OTHER, 0, instances).astype(instances.dtype)
    return replace(merged, labels=pixels.astype(label_map.labels.dtype), classes=classes, instances=instances)


def delete(label_map: LabelMap, label: int) -> LabelMap:
    """Take a class away; its pixels become "other".

    Raises:
        ValueError: for an id that is not there.
    """
    return merge(label_map, (require_class(label_map, label).id,), OTHER)


def rename(label_map: LabelMap, label: int, name: str) -> LabelMap:
    """Show a class under another name; its other synonyms stay.

    Raises:
        ValueError: for an id that is not there, an empty or too long name, or one that another class has.
    """
    entry = require_class(label_map, label)
    shown = checked_name(name)
    taken = {other.names[0].casefold() for other in label_map.classes if other.id != label}
    if shown.casefold() in taken:
        raise ValueError(f'There is a class "{shown}" already; merge the two instead.')
    rest = [synonym for synonym in entry.names[1:] if synonym.casefold() != shown.casefold()]
    return _with_class(label_map, replace(entry, names=(shown, *rest)))


def recolour(label_map: LabelMap, label: int, color: Color) -> LabelMap:
    """Paint a class in another colour, (R, G, B) in 0..255, in every picture.

    Raises:
        ValueError: for an id that is not there or a colour out of range.
    """
    return _with_class(label_map, replace(require_class(label_map, label), color=checked_color(color)))


def add_class(label_map: LabelMap, name: str, color: Color) -> LabelMap:
    """One more class without pixels; its id follows the largest one.

    Raises:
        ValueError: for a bad name or colour, a name that is there already, or one class too many.
    """
    shown = checked_name(name)
    if any(entry.names[0].casefold() == shown.casefold() for entry in label_map.classes):
        raise ValueError(f'There is a class "{shown}" already.')
    number = max((entry.id for entry in label_map.classes), default=0) + 1
    if number > MAX_NAMES:
        raise ValueError(f"A label map can have up to {MAX_NAMES:,} classes.")
    labels = label_map.labels
    if number > np.iinfo(labels.dtype).max:
        labels = labels.astype(np.uint16)
    entry = LabelClass(number, (shown,), checked_color(color))
    return replace(label_map, labels=labels, classes=(*label_map.classes, entry))


def require_class(label_map: LabelMap, label: int) -> LabelClass:
    """The class with that id, which is not "other".

    Raises:
        ValueError: if there is none.
    """
    for entry in label_map.classes:
        if entry.id == label:
            return entry
    known = ", ".join(f"{entry.id} {entry.names[0]}" for entry in label_map.classes[:10]) or "none"
    raise ValueError(f"There is no class {label} in this picture; its classes: {known}.")


def checked_name(name: str) -> str:
    """A name with white space collapsed.

    Raises:
        ValueError: if nothing is left of it, or it is too long.
    """
    shown = " ".join(name.split())
    if not shown:
        raise ValueError("Type a name for the class.")
    if len(shown) > MAX_NAME_LENGTH:
        raise ValueError(
            f"A class name can have up to {MAX_NAME_LENGTH} characters; this one has {len(shown)}."
        )
    return shown


def checked_color(color: Color) -> Color:
    """A colour of three whole numbers in 0..255.

    Raises:
        ValueError: for any other.
    """
    parts: tuple[float, ...] = color  # what comes from a file may be anything
    if len(parts) != 3 or any(part not in range(256) for part in parts):
        raise ValueError(f"color must be three whole numbers in 0..255, got {color}")
    red, green, blue = map(int, color)
    return red, green, blue


def _with_class(label_map: LabelMap, changed: LabelClass) -> LabelMap:
    """The map with one class described anew."""
    classes = tuple(changed if entry.id == changed.id else entry for entry in label_map.classes)
    return replace(label_map, classes=classes)
