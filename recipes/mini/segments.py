"""Segments of labelled sets, for the mask heads: things one by one, each material as a whole.

The sets have masks of classes and not of objects: connected parts stand for objects, which is right where
they do not touch. What a set leaves unlabelled may show any class of another set, so it is not known here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np

from ovs_core.training.data import SYNONYMS, Sample, read_mask, read_rgb
from ovs_core.training.mask_photos import SegmentSource, connected_parts
from ovs_core.types import IGNORE
from recipes.mini.labelled import LabelledNames
from recipes.mini.labelled_sets import DECLARED, split_photos

# What these sets label and nobody counts; everything else is a thing with instances.
UNCOUNTED = frozenset(
    {
        *("wall", "floor", "ceiling", "counter", "blinds", "shelves", "curtain", "floor mat", "clothes"),
        *("books", "paper", "shower curtain", "whiteboard", "building", "grass", "tree", "sky", "mountain"),
        *("water", "flower", "road", "pavement", "facade", "vegetation", "street", "cabinet", "bookshelf"),
    }
)
# Parts of a thing that another set has whole, and words too vague to be told from another class.
LEFT_OUT = frozenset({"face", "body", "sign", "skin", "hair"})
# MSRC's and NYUv2's words for what COCO has a name for are looked up among COCO's synonyms.
SETS = ("nyu", "msrc", "voc", "labelme_facade")


def segment_sources(folders: Mapping[str, Path], hidden: AbstractSet[str]) -> dict[str, SegmentSource]:
    """Segments of the sets that are there.

    Args:
        folders: set -> its folder.
        hidden: COCO's classes that are held out: their segments are not known here either.
    """
    sources: dict[str, SegmentSource] = {}
    for name in SETS:
        if name in folders:
            photos = split_photos(name, sorted((folders[name] / "images").glob("*.jpg")))["train"]
            segments = Segments(photos, DECLARED[name], hidden)
            names = tuple(dict.fromkeys(segments.classes.values()))
            sources[name] = SegmentSource(names, tuple(photo.name for photo in photos), segments.sample)
    return sources


@dataclass(frozen=True)
class Segments:
    """Photos of one set and the classes of its mask values, in the words that COCO uses where it has one."""

    photos: Sequence[Path]
    names: LabelledNames
    hidden: AbstractSet[str]

    @property
    def classes(self) -> Mapping[int, str]:
        """Mask value -> class, of those that may be learnt."""
        known = {word: name for name, words in SYNONYMS.items() for word in words}
        first = {
            value: words[0] for value, words in self.names.words.items() if value not in self.names.loose
        }
        named = {value: known.get(word, word) for value, word in first.items() if word not in LEFT_OUT}
        return MappingProxyType({value: name for value, name in named.items() if name not in self.hidden})

    def sample(self, rng: np.random.Generator) -> Sample:
        """A whole photo, labels by segment."""
        path = self.photos[int(rng.integers(len(self.photos)))]
        mask = read_mask(path.parent.parent / "masks" / f"{path.stem}.png")
        labels = np.full(mask.shape, IGNORE, np.int16)
        groups: list[tuple[str, ...]] = []
        for value, name in self.classes.items():
            where = mask == value
            if not where.any():
                continue
            for part in [where] if self.names.words[value][0] in UNCOUNTED else connected_parts(where):
                labels[part] = len(groups)
                groups.append((name,))
        return Sample(read_rgb(path), labels, tuple(groups))
