"""Photos with masks of a declared list of names: what is known of each pixel, and what is not.

A set says which names it labels. A pixel that bears one of them is that, and none of its other names. What an
unlabelled pixel means the set says too: none of its names (and possibly any other), or nothing at all. Nobody
else's names are ever denied to it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ovs_core.training.data import Sample, read_mask, read_rgb
from ovs_core.types import IGNORE, UNLISTED
from recipes.mini.coco import mark_materials

FIRST_WORD_CHANCE = 0.5  # of a label's first word; the others share the rest
MAYBE_CHANCE, MOST_MAYBES = 0.5, 4  # materials typed about photos that label none, and how many at most
LEAST_PIXELS = 64  # of a label that a crop may be drawn for
STEP = 2  # pixels between those that are looked at to find out what a mask holds

Split = Literal["train", "choose", "kept"]


@dataclass(frozen=True)
class LabelledNames:
    """What a set labels.

    Attributes:
        words: mask value -> words for it that mean the same; one is drawn, the first most often.
        loose: values that stand for one of several things, whose words are typed together as one class.
        whole: (value, ...) -> words for all of them together ("person" for skin, hair and clothes), typed
            instead of the parts in half of the samples that show any.
        negative: values that mean "none of the names"; all that are neither here nor in `words` mean nothing.
        unlabelled: materials that the set leaves to others, and that an unlabelled pixel may show.
    """

    words: Mapping[int, tuple[str, ...]]
    loose: frozenset[int] = frozenset()
    whole: Mapping[tuple[int, ...], tuple[str, ...]] = field(default_factory=dict)
    negative: frozenset[int] = frozenset()
    unlabelled: tuple[str, ...] = ()


class Labelled:
    """Photos of one set.

    Args:
        photos: image files, `images/NAME.jpg`, whose masks are `masks/NAME.png`.
        names: what is labelled.
        materials: photo stem -> map of what two networks agree on, for photos without drawn materials.
        material_names: value of those maps -> names that would each be right.
        folder: of the masks, beside that of the photos.
    """

    def __init__(
        self,
        photos: Sequence[Path],
        names: LabelledNames,
        materials: Mapping[str, NDArray[np.uint8]] = MappingProxyType({}),
        material_names: Mapping[int, tuple[str, ...]] = MappingProxyType({}),
        folder: str = "masks",
    ) -> None:
        self.photos, self.names, self.folder = tuple(photos), names, folder
        self.materials, self.material_names = materials, material_names
        self.having: dict[int, list[Path]] = {}
        for path in self.photos:
            values, counts = np.unique(self.mask(path)[::STEP, ::STEP], return_counts=True)
            for value, count in zip(values, counts, strict=True):
                if int(value) in names.words and count * STEP**2 >= LEAST_PIXELS:
                    self.having.setdefault(int(value), []).append(path)
        self._values = tuple(sorted(self.having))
        # Square roots: rare names are drawn more often than they occur, and not as often as common ones.
        chances = np.sqrt([len(self.having[value]) for value in self._values])
        self._chances = chances / chances.sum() if len(chances) else chances

    def mask(self, photo: Path) -> NDArray[np.int16]:
        """Mask of a photo, (H, W)."""
        return read_mask(photo.parent.parent / self.folder / f"{photo.stem}.png")

    def sample(self, rng: np.random.Generator, class_chance: float = 0.6) -> Sample:
        """A whole photo and words for what is labelled on it; the caller crops.

        Args:
            rng: draws the photo and its words.
            class_chance: how often a name is drawn first and a photo that has it second, in [0, 1]; then the
                crop holds a pixel of that name.
        """
        path, wanted = self._draw(rng, class_chance)
        mask = self.mask(path)
        merged, words = self._spoken(mask, rng)
        labels = np.full(mask.shape, IGNORE, np.int16)
        labels[np.isin(mask, sorted(self.names.negative))] = UNLISTED
        groups: list[tuple[str, ...]] = []
        for value, group in words.items():
            labels[merged == value] = len(groups)
            groups.append(group)
        present = len(groups)
        if path.stem in self.materials:
            mark_materials(self.materials[path.stem], self.material_names, labels, groups)
        typed = {word for group in groups for word in group}
        absent = self._absent(merged, typed)
        maybe = self._maybe(rng, typed) if present or groups else ()
        return Sample(
            read_rgb(path), labels, tuple(groups), absent, maybe=maybe, focus=_focus(mask, wanted, rng)
        )

    def _draw(self, rng: np.random.Generator, class_chance: float) -> tuple[Path, int | None]:
        """A photo, and the mask value that its crop must show."""
        if not self._values or rng.random() >= class_chance:
            return self.photos[rng.integers(len(self.photos))], None
        value = self._values[rng.choice(len(self._values), p=self._chances)]
        having = self.having[value]
        return having[rng.integers(len(having))], value

    def _spoken(
        self, mask: NDArray[np.int16], rng: np.random.Generator
    ) -> tuple[NDArray[np.int16], dict[int, tuple[str, ...]]]:
        """The mask with parts put together where the whole is named, and the words of its values."""
        words: dict[int, tuple[str, ...]] = {}
        taken: dict[int, int] = {}
        for parts, whole in self.names.whole.items():
            if rng.random() < 0.5:
                taken |= dict.fromkeys(parts, parts[0])
                words[parts[0]] = (_word(whole, rng),)
        merged = mask
        if taken:
            merged = mask.copy()
            for part, value in taken.items():
                merged[mask == part] = value
        spoken: dict[int, tuple[str, ...]] = {}
        for value in (int(pixel) for pixel in np.unique(merged)):
            if value in words:
                spoken[value] = words[value]
            elif value in self.names.words:
                known = self.names.words[value]
                spoken[value] = known if value in self.names.loose else (_word(known, rng),)
        return merged, spoken

    def _absent(self, merged: NDArray[np.int16], typed: set[str]) -> tuple[str, ...]:
        """Declared names that the photo does not show, by their first words."""
        if not self.names.negative and not self.names.words:
            return ()
        shown = {int(value) for value in np.unique(merged)}
        parts = {part for whole in self.names.whole for part in whole}
        return tuple(
            words[0]
            for value, words in self.names.words.items()
            if value not in shown | parts and not typed & set(words)
        )

    def _maybe(self, rng: np.random.Generator, typed: set[str]) -> tuple[str, ...]:
        """A few materials that the set does not label: labelled pixels are none of them."""
        free = [name for name in self.names.unlabelled if name not in typed]
        if not free or rng.random() >= MAYBE_CHANCE:
            return ()
        count = min(len(free), 1 + int(rng.integers(MOST_MAYBES)))
        return tuple(free[i] for i in rng.choice(len(free), size=count, replace=False))


def _word(words: tuple[str, ...], rng: np.random.Generator) -> str:
    """The first of the words, or another."""
    if len(words) == 1 or rng.random() < FIRST_WORD_CHANCE:
        return words[0]
    return words[1 + int(rng.integers(len(words) - 1))]


def _focus(
    mask: NDArray[np.int16], wanted: int | None, rng: np.random.Generator
) -> tuple[float, float] | None:
    """A pixel of `wanted`, (row, column) in [0, 1]."""
    if wanted is None:
        return None
    rows, columns = np.nonzero(mask == wanted)
    at = rng.integers(len(rows))
    return float(rows[at] / mask.shape[0]), float(columns[at] / mask.shape[1])


def in_blocks(
    photos: Sequence[Path], blocks: int, size: int, margin: int, offset: float = 0.5
) -> tuple[tuple[Path, ...], tuple[Path, ...]]:
    """Photos taken out in blocks of neighbours, and the others without those beside a block.

    Neighbours in number show one room: what is learnt must not lie beside what is measured.

    Args:
        photos: in their order.
        blocks: how many, evenly spaced.
        size: photos of a block.
        margin: photos left out on either side of one.
        offset: where in its stretch of photos a block begins, in [0, 1).

    Raises:
        ValueError: if there are too few photos.
    """
    stretch = len(photos) / blocks
    if stretch * (1 - offset) < size + margin or stretch * offset < margin:
        raise ValueError(
            f"{len(photos)} photos are too few for {blocks} blocks of {size} and {margin} beside."
        )
    starts = [int(stretch * (block + offset)) for block in range(blocks)]
    out = {index for start in starts for index in range(start, start + size)}
    beside = {index for start in starts for index in range(start - margin, start + size + margin)}
    return (
        tuple(photo for index, photo in enumerate(photos) if index in out),
        tuple(photo for index, photo in enumerate(photos) if index not in beside),
    )
