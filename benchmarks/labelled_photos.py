"""Folders of photos with one class per pixel, and what is asked about them.

A folder holds `images/SPLIT/*.jpg`, `masks/SPLIT/*.png` (one channel of mask values, as large as the photo)
and `classes.txt` with mask values and names: "0 background", "1 person", ...; "void" pixels do not count.
"""

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ovs_core.image import Photo, read_photo
from ovs_core.types import Vocabulary
from ovs_core.vocabulary import parse_vocabulary

VOC_IN_COCO = (
    "airplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "dining table", "dog", "horse", "motorcycle", "person", "potted plant", "sheep", "couch", "train", "tv",
)  # fmt: skip
"""PASCAL VOC's classes in COCO's words."""
LEFT_OUT = -1

Truth = NDArray[np.int16]


@dataclass(frozen=True)
class Rule:
    """What is typed about a photo, and which pixels count.

    Attributes:
        title: column of the table.
        description: one line for people.
        typed: the photo's own classes, all of the folder's, or VOC's twenty.
        other: with the hidden background names, truth that was not typed being background; else plain argmax
            over the typed names, measured on their pixels only.
    """

    title: str
    description: str
    typed: Literal["present", "all", "voc"]
    other: bool


COCO_RULES: Mapping[str, Rule] = MappingProxyType(
    {
        "a": Rule("a", "the photo's own classes typed, + other; background counts", "present", True),
        "a_fg": Rule(
            "a, foreground", "the photo's own classes, no other; their pixels only", "present", False
        ),
        "b": Rule("b", "all classes typed, + other; background counts", "all", True),
        "b_fg": Rule("b, foreground", "all classes typed, no other; labelled pixels only", "all", False),
        "c": Rule("c", "VOC's 20 classes typed, + other; everything else is background", "voc", True),
    }
)
CAMVID_RULES: Mapping[str, Rule] = MappingProxyType(
    {"camvid": Rule("CamVid", "its classes typed, no other; void left out", "all", False)}
)


@dataclass(frozen=True, eq=False)
class Question:
    """One rule applied to one photo.

    Attributes:
        vocabulary: what is typed, K classes.
        classes: class of the folder that each label of an answer means, (K + 1,); label 0 is background.
        truth: (H, W), -1 where a pixel does not count.
    """

    vocabulary: Vocabulary
    classes: NDArray[np.int16]
    truth: Truth


@dataclass(frozen=True, eq=False)
class Folder:
    """Labelled photos of one split.

    Attributes:
        names: name of class k (from 1) at k - 1, in the order of classes.txt; class 0 is background.
        values: mask value -> class, (256,); -1 leaves a pixel out.
        photos: files of the photos, by name.
        masks: folder of the masks.
        skipped: sentences about photos that could not be used, filled by `read`.
    """

    names: tuple[str, ...]
    values: NDArray[np.int16]
    photos: tuple[Path, ...]
    masks: Path
    skipped: list[str] = field(default_factory=list)

    def read(self) -> Iterator[tuple[Photo, Truth]]:
        """Yield photo and truth (H, W); what cannot be read is named on the error stream and left out."""
        for number, path in enumerate(self.photos, start=1):
            try:
                photo = read_photo(path)
                truth = self.values[read_mask(self.masks / f"{path.stem}.png", photo.size)]
            except ValueError as error:
                self.skipped.append(f"{path.name}: {error}")
                print(f"left out {self.skipped[-1]}", file=sys.stderr)
                continue
            yield photo, truth
            if number % 20 == 0:
                print(f"{number} of {len(self.photos)} photos", file=sys.stderr, flush=True)

    def ask(self, rule: Rule, truth: Truth) -> Question | None:
        """Apply a rule to a photo's truth (H, W); None if there is nothing to type.

        Raises:
            ValueError: if the folder lacks one of VOC's classes, or its names cannot be typed.
        """
        if rule.typed == "present":
            ids = [int(label) for label in np.unique(truth) if label > 0]
        elif rule.typed == "voc":
            ids = [self._class_of(name) for name in VOC_IN_COCO]
        else:
            ids = list(range(1, len(self.names) + 1))
        if not ids:
            return None
        typed = tuple(self.names[label - 1] for label in ids)
        vocabulary = parse_vocabulary(";".join(typed), "default" if rule.other else "none")
        if vocabulary.names != typed:
            raise ValueError("classes.txt must hold every name once, without the signs ; , and |.")
        becomes = np.full(len(self.names) + 2, 0 if rule.other else LEFT_OUT, np.int16)
        becomes[ids] = ids
        becomes[LEFT_OUT] = LEFT_OUT  # index -1, the last entry: what is left out stays so
        return Question(vocabulary, np.array([0, *ids], np.int16), becomes[truth])

    def _class_of(self, name: str) -> int:
        if name not in self.names:
            raise ValueError(f"classes.txt must list VOC's classes in COCO's words; {name!r} is not there.")
        return self.names.index(name) + 1


def open_folder(root: Path, split: str, limit: int | None = None) -> Folder:
    """Find the labelled photos of a split.

    Args:
        root: folder laid out as this module says.
        split: name of the sub-folders.
        limit: take so many photos, evenly spaced by name; None takes all.

    Raises:
        ValueError: if classes.txt or photos are missing, or a line cannot be read.
    """
    names, values = read_classes(root / "classes.txt")
    photos = sorted((root / "images" / split).glob("*.jpg"))
    if not photos:
        raise ValueError(f"{root / 'images' / split} must hold photos as .jpg files; it has none.")
    if limit is not None and limit < len(photos):
        photos = [photos[index * len(photos) // limit] for index in range(limit)]
    return Folder(names, values, tuple(photos), root / "masks" / split)


def read_classes(path: Path) -> tuple[tuple[str, ...], NDArray[np.int16]]:
    """Class names in file order and mask value -> class, (256,), from lines "VALUE NAME".

    "background" is class 0; "void" and values that are not listed are -1.

    Raises:
        ValueError: if the file is missing or a line is not a value in 0..255 and a name.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror or error}.") from error
    names: list[str] = []
    values = np.full(256, LEFT_OUT, np.int16)
    for line in filter(str.strip, lines):
        value, _, name = line.strip().partition(" ")
        if not value.isdecimal() or int(value) > 255 or not name.strip():
            raise ValueError(f'{path} must hold lines like "1 person", values 0 to 255; got {line!r}.')
        if name.startswith("void"):
            continue
        if name == "background":
            values[int(value)] = 0
            continue
        names.append(name.strip())
        values[int(value)] = len(names)
    return tuple(names), values


def read_mask(path: Path, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Mask values of a photo of `size` (H, W).

    Raises:
        ValueError: if the mask is missing, damaged, not one 8-bit channel or of another size.
    """
    try:
        with Image.open(path) as picture:
            mode, mask = picture.mode, np.asarray(picture)
    except (OSError, SyntaxError) as error:
        raise ValueError(f"the mask {path.name} cannot be read: {error}.") from error
    if mode not in ("L", "P") or mask.shape != size:
        got = f"{mode} {mask.shape}"
        raise ValueError(f"the mask {path.name} must be one 8-bit channel of {size} pixels, got {got}.")
    return mask
