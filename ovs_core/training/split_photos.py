"""Labelled photos of a data set with seen and unseen classes: what zero-shot training reads."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ovs_core.labelled.class_lists import read_classes
from ovs_core.labelled.datasets import CLASS_LIST
from ovs_core.labelled.files import MASK_ENDS, PHOTO_ENDS, file_of, keyed_files
from ovs_core.labelled.mask_values import LARGEST_VALUE
from ovs_core.training.data import Sample, read_mask, read_rgb
from ovs_core.types import IGNORE
from ovs_core.vocabulary.splits import Split

_NO_WORD = "other"  # a name that begins so ("otherfurniture") is what is left, and no word to learn
_BLOCKS, _HELD_OUT = 10, (4, 9)  # of photos in order: neighbours often show one place


@dataclass(frozen=True, eq=False)
class Photos:
    """Labelled photos of a data set with its split.

    Attributes:
        seen, unseen: names, in the data set's order.
        becomes: mask value -> index into `seen`, or len(seen) + index into `unseen`, or IGNORE, (65536,).
        paths: the photos.
        masks: folder of their masks.
    """

    seen: tuple[str, ...]
    unseen: tuple[str, ...]
    becomes: NDArray[np.int16]
    paths: tuple[Path, ...]
    masks: Path

    def sample(self, index: int, *, unseen: int) -> Sample:
        """Photo `index` whole; pixels of unseen classes are labelled `unseen`, the others by their class."""
        path = self.paths[index]
        labels = self.becomes[read_mask(file_of(self.masks, path.stem, MASK_ENDS))]
        labels = np.where(labels >= len(self.seen), unseen, labels).astype(np.int16)
        return Sample(read_rgb(path), labels, ())


def open_photos(root: Path, split: Split, part: str, *, held_out: bool = False) -> Photos:
    """Find labelled photos.

    Args:
        root: folder with `images`, `masks`, each with a sub-folder `part` or without, and `classes.txt`, as
            `ovs_core.labelled` reads them; the background and what is not known do not count.
        split: seen and unseen.
        part: e.g. "train2017"; where there is no such sub-folder, the photos in order are cut into ten,
            and two parts are held out.
        held_out: give those two.

    Raises:
        ValueError: if the classes are not the split's, their list cannot be read or there is no photo.
    """
    listed = read_classes(root / CLASS_LIST)
    named = {value: listed.names[label - 1] for value, label in listed.values.pairs() if label}
    named = {value: name for value, name in named.items() if not name.startswith(_NO_WORD)}
    missing = set(split.unseen) - set(named.values())
    if missing or len(named) != split.classes:
        expected = f"{split.classes} classes, {', '.join(sorted(missing)) or 'all unseen ones'} among them"
        raise ValueError(f"{root / CLASS_LIST} must name {expected}; it names {len(named)}.")
    seen = tuple(name for name in named.values() if name not in split.unseen)
    unseen = tuple(name for name in named.values() if name in split.unseen)
    place = {name: index for index, name in enumerate((*seen, *unseen))}
    becomes = np.full(LARGEST_VALUE + 1, IGNORE, np.int16)
    becomes[list(named)] = [place[name] for name in named.values()]
    whole = not (root / "images" / part).is_dir()
    photos, masks = (root / kind if whole else root / kind / part for kind in ("images", "masks"))
    paths = tuple(files[0] for _, files in sorted(keyed_files(photos, PHOTO_ENDS).items()))
    if whole:
        paths = tuple(path for path in paths if path.parent == photos)
        paths = tuple(path for i, path in enumerate(paths) if _is_held_out(i, len(paths)) == held_out)
    if not paths:
        raise ValueError(f"{photos} holds no photo{f' and no folder {part}' if whole else ''}.")
    return Photos(seen, unseen, becomes, paths, masks)


def _is_held_out(index: int, count: int) -> bool:
    return index * _BLOCKS // count in _HELD_OUT
