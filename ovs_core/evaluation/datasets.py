"""Labelled photos as people have them on disk, opened as one frozen value.

    dataset = open_dataset("voc21", Path("VOCdevkit"))              # a benchmark, see `layouts`
    dataset = open_dataset("folder", Path("mine"), split="val")     # images/val, masks/val, classes.txt

Classes are numbered as labels are: 0 = background ("other"), k = k-th class, -1 = does not count.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import numpy as np

from ovs_core.evaluation.codes import Codes, Truth, codes, read_mask
from ovs_core.evaluation.layouts import BENCHMARKS, CAMVID_NAMES, Benchmark
from ovs_core.image import Photo, read_photo
from ovs_core.vocabulary import BENCHMARKS as CLASS_LISTS

FOLDER = "folder"
DATASETS = (*BENCHMARKS, FOLDER)
"""What can be opened: the benchmarks, and a plain folder of anyone's own."""

_PHOTO_ENDS = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")
_MASK_ENDS = (".png", ".tif", ".tiff", ".bmp")
_LINE = re.compile(r"\s*([0-9]{1,5})(?:\s*(:)|\s)\s*(.*?)\s*")  # value, sign, names
LARGEST_VALUE = np.iinfo(np.uint16).max
_NO_CLASS = ("void", "ignore", "invalid_class_id", "unlabeled", "unlabelled")


@dataclass(frozen=True)
class Example:
    """One labelled photo: its key, unique in its dataset, and its two files."""

    key: str
    photo: Path
    mask: Path


@dataclass(frozen=True, eq=False)
class Dataset:
    """Labelled photos of one split.

    Attributes:
        name, title, split: name on the command line, name in reports, and which part of it.
        classes: names of class k (from 1) at k - 1, the one shown first.
        background: hidden names for "none of them", as they may be typed, where that is a class that counts
            (0); "" where such pixels are left out.
        codes: mask value -> class.
        examples: the photos, by key.
    """

    name: str
    title: str
    split: str
    classes: tuple[tuple[str, ...], ...]
    background: str
    codes: Codes
    examples: tuple[Example, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Name shown for each class, (K,)."""
        return tuple(names[0] for names in self.classes)


def open_dataset(
    name: str,
    root: Path,
    *,
    split: str | None = None,
    limit: int | None = None,
    class_list: Path | None = None,
) -> Dataset:
    """Find the labelled photos of a split; no picture is read yet.

    Args:
        name: one of `DATASETS`.
        root: the benchmark's folder, or one that holds it.
        split: name of the part; None takes the one papers measure on, of a plain folder all photos.
        limit: take so many photos, evenly spaced by name; None takes all.
        class_list: names of the classes, instead of the benchmark's own or the folder's classes.txt.

    Raises:
        ValueError: in one sentence: the name is unknown, the folder is laid out otherwise, a list is wrong.
    """
    if limit is not None and limit < 1:
        raise ValueError(f"limit must be at least 1 photo, got {limit}.")
    if not root.is_dir():
        raise ValueError(f'There is no folder "{root}".')
    if name == FOLDER:
        dataset = _open_folder(root, split or "", class_list)
    elif name in BENCHMARKS:
        dataset = _open_benchmark(name, BENCHMARKS[name], root, split, class_list)
    else:
        raise ValueError(f"dataset must be one of {', '.join(DATASETS)}; got {name!r}.")
    return dataset if limit is None else _thinned(dataset, limit)


def read_example(dataset: Dataset, example: Example) -> tuple[Photo, Truth]:
    """Photo and class of each of its pixels, (H, W).

    Raises:
        ValueError: one sentence that names the file, where one of both cannot be used.
    """
    photo = read_photo(example.photo)
    return photo, dataset.codes[read_mask(example.mask, photo.size)]


def read_classes(path: Path) -> tuple[tuple[tuple[str, ...], ...], Codes, str]:
    """Names of the classes in the order of their values, table of mask values, and what the background is.

    A line is "VALUE NAME", synonyms separated by `|`, or "VALUE:NAME,NAME". "background" is class 0 and may
    name what stands for it; "void" and values without a line do not count.

    Returns:
        Names of each class; mask value -> class; the background as it may be typed, "" where there is none.

    Raises:
        ValueError: if the file is missing, a line cannot be read or a value stands twice.
    """
    entries = _entries(path)
    classes: list[tuple[str, ...]] = []
    values: list[tuple[int, int]] = []
    background = ""
    for value, names in sorted(entries.items()):
        first = names[0].casefold()
        if first.split("(")[0].strip() in _NO_CLASS:
            continue
        if first == "background":
            background = ";".join(names) if len(names) > 1 else "default"
            values.append((value, 0))
        else:
            classes.append(names)
            values.append((value, len(classes)))
    if not classes:
        raise ValueError(f'{path} must name at least one class, in a line like "1 person".')
    return tuple(classes), codes(values), background


def _entries(path: Path) -> dict[int, tuple[str, ...]]:
    """Mask value -> names, in file order."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ValueError(f"{path} cannot be read: {reason}.") from error
    entries: dict[int, tuple[str, ...]] = {}
    for line in filter(str.strip, lines):
        match = _LINE.fullmatch(line)
        names = _names(match[3], ",|" if match[2] else "|") if match else ()
        if match is None or not names or int(match[1]) > LARGEST_VALUE:
            raise ValueError(
                f'{path} must hold lines like "1 person", values 0 to {LARGEST_VALUE}; got {line!r}.'
            )
        if int(match[1]) in entries:
            raise ValueError(f"{path} names the value {int(match[1])} twice.")
        entries[int(match[1])] = names
    return entries


def _names(text: str, signs: str) -> tuple[str, ...]:
    """Names separated by any of the signs, each once."""
    return tuple(dict.fromkeys(filter(None, (name.strip() for name in re.split(f"[{signs}]", text)))))


def _open_benchmark(
    name: str, benchmark: Benchmark, root: Path, split: str | None, class_list: Path | None
) -> Dataset:
    """Find a benchmark's photos, whichever way they lie there."""
    splits = (split,) if split else benchmark.splits
    classes, background = _classes(benchmark, class_list)
    for place, layout, found in product(benchmark.places, benchmark.layouts, splits):
        keys = layout.find(root / place, found)
        if not keys:
            continue
        photos, masks = (root / place / one.format(split=found) for one in (layout.photos, layout.masks))
        examples = tuple(
            Example(key, photos / f"{key}{layout.photo_end}", masks / f"{key}{layout.mask_end}")
            for key in keys
        )
        table = layout.codes(len(classes), benchmark.background)
        return Dataset(name, benchmark.title, found, classes, background, table, examples)
    expected = benchmark.expected.format(split=splits[0])
    raise ValueError(f'"{root}" is not laid out like {benchmark.title}: it must hold {expected}.')


def _classes(benchmark: Benchmark, class_list: Path | None) -> tuple[tuple[tuple[str, ...], ...], str]:
    """Names of each class of a benchmark, and its background, "" where it has none."""
    classes: tuple[tuple[str, ...], ...] = tuple((name,) for name in CAMVID_NAMES)
    background = ""
    if benchmark.classes is not None:
        classes, _, background = read_classes(CLASS_LISTS[benchmark.classes])
    if class_list is not None:
        own, _, own_background = read_classes(class_list)
        if len(own) != len(classes):
            raise ValueError(f"{class_list} must name the {len(classes)} classes in order, got {len(own)}.")
        classes, background = own, own_background or background
    return classes, (background or "default") if benchmark.background else ""


def _open_folder(root: Path, split: str, class_list: Path | None) -> Dataset:
    """Find the photos of a plain folder: images/[split/], masks/[split/] and classes.txt."""
    listed = class_list or root / "classes.txt"
    photos, masks = root / "images" / split, root / "masks" / split
    inside = f"{split}/*" if split else "*"
    expected = f'images/{inside} and masks/{inside} of equal names, and classes.txt with lines like "1 dog"'
    if not photos.is_dir() or not masks.is_dir() or not listed.is_file():
        raise ValueError(f'"{root}" is not a folder of labelled photos: it must hold {expected}.')
    classes, table, background = read_classes(listed)
    found = [path for path in sorted(photos.rglob("*")) if _is_photo(path)]
    keys = [path.relative_to(photos).with_suffix("").as_posix() for path in found]
    examples = [Example(key, path, _mask_path(masks, key)) for key, path in zip(keys, found, strict=True)]
    if not any(example.mask.is_file() for example in examples):
        raise ValueError(f'"{root}" has no photo with a mask: it must hold {expected}.')
    if len(set(keys)) < len(keys):
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f'"{photos}" holds two photos called {twice!r}; only one mask can be theirs.')
    return Dataset(FOLDER, root.resolve().name, split, classes, background, table, tuple(examples))


def _is_photo(path: Path) -> bool:
    return path.suffix.lower() in _PHOTO_ENDS and not path.name.startswith(".") and path.is_file()


def _mask_path(masks: Path, key: str) -> Path:
    """The photo's mask; where there is none, the name it should have."""
    paths = [masks / f"{key}{end}" for end in _MASK_ENDS]
    return next((path for path in paths if path.is_file()), paths[0])


def _thinned(dataset: Dataset, limit: int) -> Dataset:
    """A dataset of at most `limit` photos, evenly spaced."""
    found = dataset.examples
    if limit >= len(found):
        return dataset
    kept = tuple(found[index * len(found) // limit] for index in range(limit))
    return replace(dataset, examples=kept)
