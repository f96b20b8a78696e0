"""Labelled photos as people have them on disk, opened as one frozen value.

    dataset = open_dataset("voc21", Path("VOCdevkit"))              # a benchmark, see `layouts`
    dataset = open_dataset("folder", Path("mine"), split="val")     # images/val, masks/val, classes.txt

Classes are numbered as labels are: 0 = background ("other"), k = k-th class.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product
from pathlib import Path

from ovs_core.image import Photo, read_photo
from ovs_core.labelled.class_lists import read_classes
from ovs_core.labelled.files import MASK_ENDS, PHOTO_ENDS, Example, keyed_files
from ovs_core.labelled.layouts import BENCHMARKS, CAMVID_NAMES, Benchmark
from ovs_core.labelled.mask_values import MaskValues, read_mask
from ovs_core.render.palette import colors_for
from ovs_core.types import LabelClass, LabelMap
from ovs_core.vocabulary import BENCHMARKS as CLASS_LISTS

FOLDER = "folder"
CLASS_LIST = "classes.txt"
DATASETS = (*BENCHMARKS, FOLDER)
"""What can be opened: the benchmarks, and a plain folder of anyone's own."""


@dataclass(frozen=True, eq=False)
class Dataset:
    """Labelled photos of one split.

    Attributes:
        name, title, split: name on the command line, name in reports, and which part of it.
        classes: names of class k (from 1) at k - 1, the one shown first.
        background: hidden names for "none of them", as they may be typed, where that is a class that counts
            (0); "" where such pixels are not known.
        values: mask value -> class.
        examples: the photos, by key.
    """

    name: str
    title: str
    split: str
    classes: tuple[tuple[str, ...], ...]
    background: str
    values: MaskValues
    examples: tuple[Example, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Name shown for each class, (K,)."""
        return tuple(names[0] for names in self.classes)

    @cached_property
    def label_classes(self) -> tuple[LabelClass, ...]:
        """The classes as a label map has them."""
        colors = colors_for(self.names)
        return tuple(
            LabelClass(label, names, colors[label]) for label, names in enumerate(self.classes, start=1)
        )


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


def read_example(dataset: Dataset, example: Example) -> tuple[Photo, LabelMap]:
    """Photo and ground truth of its size.

    Raises:
        ValueError: one sentence that names the file, where one of both cannot be used.
    """
    photo = read_photo(example.photo)
    return photo, dataset.values.truth(read_mask(example.mask, photo.size), dataset.label_classes)


def _open_benchmark(
    name: str, benchmark: Benchmark, root: Path, split: str | None, class_list: Path | None
) -> Dataset:
    """Find a benchmark's photos, whichever way they lie there."""
    splits = (split,) if split else benchmark.splits
    classes, background = _classes(benchmark, class_list)
    for place, layout, part in product(benchmark.places, benchmark.layouts, splits):
        examples = layout.find(root / place, part)
        if examples:
            values = layout.values(len(classes), benchmark.background)
            return Dataset(name, benchmark.title, part, classes, background, values, examples)
    expected = benchmark.expected.format(split=splits[0])
    raise ValueError(f'"{root}" is not laid out like {benchmark.title}: it must hold {expected}.')


def _classes(benchmark: Benchmark, class_list: Path | None) -> tuple[tuple[tuple[str, ...], ...], str]:
    """Names of each class of a benchmark, and its background, "" where it has none."""
    classes: tuple[tuple[str, ...], ...] = tuple((name,) for name in CAMVID_NAMES)
    background = ""
    if benchmark.classes is not None:
        usual = read_classes(CLASS_LISTS[benchmark.classes])
        classes, background = usual.classes, usual.background
    if class_list is not None:
        own = read_classes(class_list)
        if len(own.classes) != len(classes):
            expected = f"the {len(classes)} classes in order"
            raise ValueError(f"{class_list} must name {expected}, got {len(own.classes)}.")
        classes, background = own.classes, own.background or background
    return classes, (background or "default") if benchmark.background else ""


def _open_folder(root: Path, split: str, class_list: Path | None) -> Dataset:
    """Find the photos of a plain folder: images/[split/], masks/[split/] and classes.txt."""
    listed = class_list or root / CLASS_LIST
    photos, masks = root / "images" / split, root / "masks" / split
    inside = f"{split}/*" if split else "*"
    expected = f'images/{inside} and masks/{inside} of equal names, and classes.txt with lines like "1 dog"'
    if not photos.is_dir() or not masks.is_dir() or not listed.is_file():
        raise ValueError(f'"{root}" is not a folder of labelled photos: it must hold {expected}.')
    names = read_classes(listed)
    mask_files = keyed_files(masks, MASK_ENDS)
    photo_files = _photos_of(photos, mask_files)
    if mask_files.keys().isdisjoint(photo_files):
        raise ValueError(f'"{root}" has no photo with a mask: it must hold {expected}.')
    examples = tuple(
        Example(key, path, mask_files.get(key, (masks / f"{key}{MASK_ENDS[0]}",))[0])
        for key, path in sorted(photo_files.items())
    )
    title = root.resolve().name
    return Dataset(FOLDER, title, split, names.classes, names.background, names.values, examples)


def _photos_of(folder: Path, masks: Collection[str]) -> dict[str, Path]:
    """Photos by key; what has a mask and is of a kind that cannot be read is among them, to be named."""
    readable = keyed_files(folder, PHOTO_ENDS)
    twice = next((key for key, paths in readable.items() if len(paths) > 1), None)
    if twice is not None:
        raise ValueError(f'"{folder}" holds two photos called {twice!r}; only one mask can be theirs.')
    others = {
        path.relative_to(folder).with_suffix("").as_posix(): path for path in sorted(folder.rglob("*.*"))
    }
    unreadable = {key: path for key, path in others.items() if key in masks and key not in readable}
    return unreadable | {key: paths[0] for key, paths in readable.items()}


def _thinned(dataset: Dataset, limit: int) -> Dataset:
    """A dataset of at most `limit` photos, evenly spaced."""
    examples = dataset.examples
    if limit >= len(examples):
        return dataset
    kept = tuple(examples[index * len(examples) // limit] for index in range(limit))
    return replace(dataset, examples=kept)
