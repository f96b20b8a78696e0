"""COCO photos with masks of things, captions, and a teacher's word on what lies between the things."""

from __future__ import annotations

import json
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from pathlib import Path
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ovs_core.labelled.class_lists import read_classes
from ovs_core.labelled.datasets import CLASS_LIST
from ovs_core.training.data import LARGEST_PASTE_GAIN, PASTE_SIDES, SYNONYMS, Sample, read_mask, read_rgb
from ovs_core.types import IGNORE, UNLISTED

SKY, PLANTS = 1, 2  # values of a teacher's map; 0 is unsure
PLANT_NAMES = ("tree", "grass", "plants", "bush", "hill", "mountain")
LEAST_OUTDOOR = 0.02  # share of a photo from which the teacher's word counts
SYNONYM_CHANCE = 0.4
OUTDOOR_NAMES: Mapping[int, tuple[str, ...]] = MappingProxyType({SKY: ("sky",), PLANTS: PLANT_NAMES})

# Stuff that captions name, with the words that tell of it. COCO's own masks call all of it background.
CAPTION_STUFF: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "grass": ("grass", "grassy", "lawn", "field", "pasture", "meadow"),
        "sky": ("sky", "skies"),
        "snow": ("snow", "snowy", "ski", "skiing", "skier", "snowboarder"),
        "sand": ("sand", "sandy", "beach"),
        "water": ("water", "ocean", "sea", "lake", "river", "wave", "waves", "pond"),
        "road": ("road", "street", "highway"),
        "tree": ("tree", "trees", "forest", "woods"),
        "building": ("building", "buildings", "house", "houses", "city"),
        "mountain": ("mountain", "mountains", "hill", "hills"),
        "floor": ("floor", "rug", "carpet"),
        "wall": ("wall", "walls", "bathroom", "bedroom", "kitchen"),
        "rock": ("rock", "rocks", "stones"),
        "fence": ("fence",),
        "window": ("window", "windows"),
        "table": ("table", "desk", "counter"),
        "plate": ("plate", "plates"),
        "sidewalk": ("sidewalk", "pavement"),
        "flowers": ("flowers", "flower"),
        "cloud": ("clouds", "cloudy"),
        "bridge": ("bridge",),
        "runway": ("runway", "tarmac"),
    }
)


def coco_names(root: Path) -> tuple[str, ...]:
    """Names of a folder's classes, as `ovs_core.labelled` reads them."""
    return read_classes(root / CLASS_LIST).names


class Coco:
    """COCO photos with masks of things; captions and a teacher speak of what lies between them."""

    def __init__(
        self,
        root: Path,
        seen: Mapping[str, NDArray[np.integer]],
        hidden: AbstractSet[str] = frozenset(),
        seen_names: Mapping[int, tuple[str, ...]] = OUTDOOR_NAMES,
    ) -> None:
        """Read the index of `root` (images/train2017, masks/train2017, captions.json, classes.txt).

        Args:
            root: dataset folder; a mask value is the number of a line of `classes.txt`, 0 background.
            seen: photo stem -> (h, w) map of what a teacher sees where nothing is drawn, 0 = unsure.
            hidden: classes held out: their pixels are IGNORE, their names are never said.
            seen_names: value of those maps -> names that would each be right.
        """
        self.names = coco_names(root)
        self.photos = tuple(sorted((root / "images" / "train2017").glob("*.jpg")))
        self.seen_names = seen_names
        self.masks, self.seen = root / "masks" / "train2017", seen
        self.hidden = frozenset(k for k, name in enumerate(self.names, start=1) if name in hidden)
        self.having: dict[int, list[Path]] = {}
        for path in self.photos:
            for k in np.unique(read_mask(self.masks / f"{path.stem}.png")):
                if 0 < k <= len(self.names) and k not in self.hidden:
                    self.having.setdefault(int(k), []).append(path)
        self.known = tuple(sorted(self.having))
        captions = json.loads((root / "captions.json").read_text(encoding="utf-8"))["annotations"]
        self.captions: dict[int, set[str]] = {}
        for entry in captions:
            words = entry["caption"].lower().replace(".", " ").replace(",", " ").split()
            self.captions.setdefault(int(entry["image_id"]), set()).update(words)

    def sample(self, rng: np.random.Generator, rare_chance: float = 0.0, paste_chance: float = 0.0) -> Sample:
        """A whole photo with masks; the caller crops.

        Args:
            rng: draws the photo and its words.
            rare_chance: how often the class is drawn first and a photo that has it second, in [0, 1]; then
                the crop holds a pixel of that class. mIoU counts rare classes like common ones.
            paste_chance: how often a thing of a class drawn evenly, from another photo, is pasted into it, in
                [0, 1] (copy-paste, arXiv 2012.07177); then the crop holds a pixel of that thing.
        """
        path, wanted = self._draw(rng, rare_chance)
        pixels, mask = read_rgb(path), read_mask(self.masks / f"{path.stem}.png")
        if self.known and paste_chance and rng.random() < paste_chance:
            pixels, mask, wanted = self._paste(pixels, mask, rng)
        present = [int(k) for k in np.unique(mask) if 0 < k <= len(self.names) and k not in self.hidden]
        groups: list[tuple[str, ...]] = [(_word(self.names[k - 1], rng),) for k in present]
        labels = np.where(mask == 0, UNLISTED, IGNORE).astype(np.int16)
        for i, k in enumerate(present):
            labels[mask == k] = i
        hints = self._hints(path)
        if path.stem in self.seen:
            mark_materials(self.seen[path.stem], self.seen_names, labels, groups)
        unsaid = self.hidden.union(present)
        absent = tuple(name for k, name in enumerate(self.names, start=1) if k not in unsaid)
        focus = None
        if wanted:
            rows, columns = np.nonzero(mask == wanted)
            at = rng.integers(len(rows))
            focus = (rows[at] / mask.shape[0], columns[at] / mask.shape[1])
        return Sample(pixels, labels, tuple(groups), absent, hints, focus=focus)

    def _paste(
        self, pixels: NDArray[np.uint8], mask: NDArray[np.int16], rng: np.random.Generator
    ) -> tuple[NDArray[np.uint8], NDArray[np.int16], int]:
        """A photo and its mask with all of one class of another photo pasted somewhere, and that class."""
        path, wanted = self._draw(rng, 1.0)
        theirs, mask_of_class = read_rgb(path), read_mask(self.masks / f"{path.stem}.png") == wanted
        box, size = box_and_size(mask_of_class, mask.shape, rng)
        thing = np.asarray(Image.fromarray(theirs[box]).resize(size, Image.Resampling.BILINEAR))
        where = np.asarray(Image.fromarray(mask_of_class[box]).resize(size, Image.Resampling.NEAREST))
        place = random_box(size, mask.shape, rng)
        pixels, mask = pixels.copy(), mask.copy()
        pixels[place][where], mask[place][where] = thing[where], wanted
        return pixels, mask, wanted if where.any() else 0

    def _draw(self, rng: np.random.Generator, rare_chance: float) -> tuple[Path, int]:
        """A photo, and the class that its crop must show (0 = any)."""
        if rng.random() >= rare_chance:
            return self.photos[rng.integers(len(self.photos))], 0
        wanted = self.known[rng.integers(len(self.known))]
        having = self.having[wanted]
        return having[rng.integers(len(having))], wanted

    def _hints(self, path: Path) -> tuple[str, ...]:
        words = self.captions.get(int(path.stem), set())
        return tuple(name for name, signs in CAPTION_STUFF.items() if words & set(signs))


def mark_materials(
    seen: NDArray[np.integer],
    names: Mapping[int, tuple[str, ...]],
    labels: NDArray[np.int16],
    groups: list[tuple[str, ...]],
) -> None:
    """Give pixels that nobody claimed to what a teacher is sure of; changes `labels` and `groups`.

    Names of two values that share a word become one class. Where a drawn class goes by a word of a material,
    nobody knows which of them such a pixel shows: it does not count any more.

    Args:
        seen: the teacher's map (h, w) over the whole photo, 0 = unsure.
        names: value of that map -> names that would each be right.
        labels: (H, W) as in a `Sample`.
        groups: names of the labels so far.
    """
    drawn = {word for group in groups for word in group}
    first = len(groups)
    size = (labels.shape[1], labels.shape[0])
    wide = np.asarray(Image.fromarray(seen.astype(np.uint8)).resize(size, Image.Resampling.NEAREST))
    for value, words in names.items():
        where = (labels == UNLISTED) & (wide == value)
        if where.mean() <= LEAST_OUTDOOR:
            continue
        if drawn & set(words):
            labels[where] = IGNORE
            continue
        same = [index for index in range(first, len(groups)) if set(groups[index]) & set(words)]
        if same:
            labels[where] = same[0]
            groups[same[0]] = tuple(dict.fromkeys((*groups[same[0]], *words)))
        else:
            labels[where] = len(groups)
            groups.append(words)


def box_and_size(
    inside: NDArray[np.bool_], shape: tuple[int, ...], rng: np.random.Generator
) -> tuple[tuple[slice, slice], tuple[int, int]]:
    """Where a thing is in its photo, and the size (width, height) it is pasted at into a photo of `shape`."""
    rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    box = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
    height, width = inside[box].shape
    factor = min(rng.uniform(*PASTE_SIDES) * min(shape) / max(height, width), LARGEST_PASTE_GAIN)
    return box, (max(1, round(width * factor)), max(1, round(height * factor)))


def random_box(
    size: tuple[int, int], shape: tuple[int, ...], rng: np.random.Generator
) -> tuple[slice, slice]:
    """A place of `size` (width, height) in a photo of `shape` (height, width)."""
    top, left = rng.integers(shape[0] - size[1] + 1), rng.integers(shape[1] - size[0] + 1)
    return slice(top, top + size[1]), slice(left, left + size[0])


def _word(name: str, rng: np.random.Generator) -> str:
    """The class name, or now and then another word for it."""
    words = SYNONYMS.get(name, (name,))
    # The word is drawn only when it is used: the condition comes first.
    return words[rng.integers(len(words))] if rng.random() < SYNONYM_CHANCE else name
