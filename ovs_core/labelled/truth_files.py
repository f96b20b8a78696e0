"""Ground truth that a person brings for one photo: a mask, a colour mask, COCO JSON or our own label map."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ovs_core.labelled.class_lists import read_classes, read_lines
from ovs_core.labelled.coco import read_coco_truth
from ovs_core.labelled.mask_values import mask_values, read_mask, why_unreadable
from ovs_core.render.palette import colors_for
from ovs_core.types import Color, LabelClass, LabelMap

# "64 128 64 Animal" (CamVid), "#408040 Animal", "Animal,64,128,64" (class_dict.csv)
_COLOR_FIRST = re.compile(r"\s*(\d{1,3})[\s,;]+(\d{1,3})[\s,;]+(\d{1,3})[\s,;]+(.*?\S)\s*")
_COLOR_LAST = re.compile(r"\s*(.*?\S)\s*[,;\t]\s*(\d{1,3})\s*[,;\t]\s*(\d{1,3})\s*[,;\t]\s*(\d{1,3})\s*")
_HEX = re.compile(r"\s*#([0-9a-fA-F]{6})[\s,;]+(.*?\S)\s*")
_NOT_KNOWN = frozenset({"void", "ignore", "unlabeled", "unlabelled", "unknown"})
_OTHER = frozenset({"background", "other"})

Names = Sequence[tuple[str, ...]]


def read_truth(
    path: Path, size: tuple[int, int], typed: Names, class_list: Path | None = None, photo_name: str = ""
) -> LabelMap:
    """Ground truth of a photo.

    Args:
        path: COCO JSON; a mask of one channel; or a colour mask, which needs a class list with colours.
        size: (H, W) of the photo.
        typed: names of the classes that were asked for: without a class list, value k means the k-th of them
            and 0 other, as in our own label maps.
        class_list: lines like "1 dog" or, with colours, "64 128 64 dog", "#408040 dog" or "dog,64,128,64"; or
            the JSON report beside one of our own label maps.
        photo_name: file name of the photo without the end, for COCO files about several photos.

    Raises:
        ValueError: one sentence that says what does not fit.
    """
    if path.suffix.lower() == ".json":
        return read_coco_truth(path, size, photo_name)
    colors = _color_list(class_list) if class_list is not None else None
    if colors:
        return _by_color(path, size, colors)
    if class_list is None:
        names, background = dict(enumerate(typed, start=1)), True
    else:
        names, background = _named_values(class_list)
    mask = read_mask(path, size)
    if class_list is None and mask.max(initial=0) > len(names):
        raise ValueError(
            f"{path.name} holds the value {int(mask.max())}, and {len(names)} classes were asked for; "
            'give its class list, with lines like "1 dog".'
        )
    labels = dict(zip(names, range(1, len(names) + 1), strict=True))
    pairs = [*labels.items(), *([(0, 0)] if background and 0 not in labels else [])]
    return mask_values(pairs).truth(mask, _classes(list(names.values())))


def _named_values(class_list: Path) -> tuple[dict[int, tuple[str, ...]], bool]:
    """Names by mask value, and whether 0 is other; from lines or from one of our own reports."""
    if class_list.suffix.lower() == ".json":
        try:
            entries = json.loads(class_list.read_text(encoding="utf-8"))["classes"]
            named = {int(entry["id"]): tuple(map(str, entry["names"])) for entry in entries if entry["id"]}
        except (OSError, ValueError, LookupError, TypeError, OverflowError, RecursionError) as error:
            raise ValueError(f"{class_list.name} is not the report of a label map.") from error
        return named, True
    listed = read_classes(class_list)
    pairs = listed.values.pairs()
    return {value: listed.classes[label - 1] for value, label in pairs if label}, (0, 0) in pairs


def _classes(names: Names) -> tuple[LabelClass, ...]:
    colors = colors_for([group[0] for group in names])
    return tuple(LabelClass(label, group, colors[label]) for label, group in enumerate(names, start=1))


def _color_list(path: Path) -> dict[Color, str]:
    """Names by colour; nothing if the list has no colours."""
    if path.suffix.lower() == ".json":
        return {}
    named: dict[Color, str] = {}
    for line in read_lines(path):
        if not line.strip():
            continue
        if match := _HEX.fullmatch(line):
            red, green, blue = bytes.fromhex(match[1])
            named[red, green, blue] = match[2]
        elif match := _COLOR_FIRST.fullmatch(line):
            named[int(match[1]), int(match[2]), int(match[3])] = match[4]
        elif match := _COLOR_LAST.fullmatch(line):
            named[int(match[2]), int(match[3]), int(match[4])] = match[1]
        elif named:
            raise ValueError(f'{path.name} must hold lines like "64 128 64 dog"; got {line!r}.')
    return named


def _by_color(path: Path, size: tuple[int, int], colors: dict[Color, str]) -> LabelMap:
    """Ground truth of a colour mask; colours that the list does not name are not known."""
    try:
        with Image.open(path) as picture:
            if picture.size[::-1] != size:  # before it fills the memory
                raise ValueError(f"the mask {path.name} must be {size} pixels, got {picture.size[::-1]}.")
            pixels = np.asarray(picture.convert("RGB")).astype(np.int32)
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"the mask {path.name} cannot be read: {why_unreadable(error, path)}.") from error
    number = pixels @ np.array([65536, 256, 1], np.int32)
    labels, known = np.zeros(size, np.uint16), np.zeros(size, bool)
    names: list[tuple[str, ...]] = []
    for (red, green, blue), name in colors.items():
        inside: NDArray[np.bool_] = number == red * 65536 + green * 256 + blue
        if name.casefold() in _NOT_KNOWN:
            continue
        known |= inside
        if name.casefold() not in _OTHER:
            names.append((name,))
            labels[inside] = len(names)
    if not known.any():
        raise ValueError(f"the mask {path.name} has none of the colours of its class list.")
    return LabelMap(labels, _classes(names), known)
