"""Photos with one mask per object, to learn masks from. Nothing read here is shipped.

A `Sample`'s label is an object here, not a class: label i has the class `groups[i]`, or, where that is empty,
a mask that counts but whose class nobody asks about. IGNORE covers what may be an object and is not known:
held-out classes, crowds, what nobody drew. UNLISTED is known to hold no object of the known classes.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy import ndimage  # type: ignore[import-untyped]

from ovs_core.training.data import (
    CAMVID_VOID,
    LARGEST_PASTE_GAIN,
    PASTE_SIDES,
    PET,
    CamVid,
    Pets,
    Sample,
    Sampler,
    read_mask,
    read_rgb,
)
from ovs_core.types import IGNORE, UNLISTED

LEAST_PASTED = 1000  # pixels of an object that may be pasted elsewhere
LEAST_PART = 200  # pixels of a part of CamVid's things that is a mask of its own
CAMVID_THINGS = (2, 6, 8, 9, 10)  # pole, sign, car, pedestrian, cyclist: one mask per connected part

Annotation = Mapping[str, Any]  # of COCO's instances.json


@dataclass(frozen=True)
class SegmentSource:
    """Further photos whose segments have names: things one by one, each material as a whole.

    Attributes:
        names: classes that its masks may have.
        photos: what its photos are called, so that what was made of others is not taken for theirs.
        sample: draws a whole photo, labels by segment.
    """

    names: tuple[str, ...]
    photos: tuple[str, ...]
    sample: Sampler


class CocoInstances:
    """COCO photos with their annotated objects.

    Args:
        root: folder with `instances.json` and `images/PART/*.jpg`.
        part: e.g. "train2017".
        hidden: classes held out: their objects are IGNORE.

    Raises:
        ValueError: if there is no photo, or a hidden class is unknown.
        OSError: if there is no instances.json.
    """

    def __init__(self, root: Path, part: str, hidden: AbstractSet[str] = frozenset()) -> None:
        content = json.loads((root / "instances.json").read_text(encoding="utf-8"))
        self.names = tuple(category["name"] for category in content["categories"])
        unknown = sorted(hidden - set(self.names))
        if unknown:
            raise ValueError(f"{root / 'instances.json'} has no class called {', '.join(unknown)}.")
        self.seen = tuple(name for name in self.names if name not in hidden)
        self.photos = tuple(sorted((root / "images" / part).glob("*.jpg")))
        if not self.photos:
            raise ValueError(f"{root / 'images' / part} holds no .jpg photo.")
        self._class = {category["id"]: category["name"] for category in content["categories"]}
        self._annotations: dict[int, list[Annotation]] = {}
        for annotation in content["annotations"]:
            self._annotations.setdefault(annotation["image_id"], []).append(annotation)
        self._hidden = hidden

    def sample(self, rng: np.random.Generator) -> Sample:
        """A whole photo, drawn evenly."""
        return self.read(int(rng.integers(len(self.photos))))

    def read(self, index: int) -> Sample:
        """Photo `index`; where objects overlap, the smaller one is in front."""
        path = self.photos[index]
        pixels = read_rgb(path)
        labels = np.full(pixels.shape[:2], UNLISTED, np.int16)
        groups: list[tuple[str, ...]] = []
        for annotation in sorted(self._annotations.get(int(path.stem), []), key=lambda entry: -entry["area"]):
            inside = drawn(annotation["segmentation"], pixels.shape[:2])
            name = self._class[annotation["category_id"]]
            if annotation["iscrowd"] or name in self._hidden:
                labels[inside] = IGNORE
            else:
                labels[inside] = len(groups)
                groups.append((name,))
        return Sample(pixels, labels, tuple(groups))


def drawn(segmentation: Any, size: Sequence[int]) -> NDArray[np.bool_]:
    """Pixels (H, W) of an annotation: polygons of x, y in pixels, or runs down the columns (crowds)."""
    height, width = size
    if isinstance(segmentation, Mapping):
        counts = segmentation["counts"]
        runs = np.repeat(np.arange(len(counts)) % 2 == 1, counts)
        return runs.reshape(width, height).T
    picture = Image.new("1", (width, height))
    pen = ImageDraw.Draw(picture)
    for polygon in segmentation:
        pen.polygon(polygon, fill=1)
    return np.array(picture)


def pet_sample(pets: Pets, rng: np.random.Generator) -> Sample:
    """One animal, a cat or a dog; what lies around it is not known."""
    path = pets.photos[rng.integers(len(pets.photos))]
    mask = read_mask(pets.masks / f"{path.stem}.png")
    labels = np.where(mask == PET, 0, IGNORE).astype(np.int16)
    kind = "cat" if path.stem[0].isupper() else "dog"
    return Sample(read_rgb(path), labels, ((kind,),))


def camvid_sample(camvid: CamVid, rng: np.random.Generator) -> Sample:
    """A street: one mask per material, one per connected part of things; nobody asks for classes."""
    path = camvid.photos[rng.integers(len(camvid.photos))]
    mask = read_mask(camvid.masks / f"{path.stem}.png")
    labels = np.full(mask.shape, IGNORE, np.int16)
    count = 0
    for value in np.unique(mask[mask < CAMVID_VOID]).tolist():
        where = mask == value
        for part in connected_parts(where) if value in CAMVID_THINGS else [where]:
            labels[part] = count
            count += 1
    return Sample(read_rgb(path), labels, ((),) * count)


def connected_parts(where: NDArray[np.bool_]) -> list[NDArray[np.bool_]]:
    """Connected parts (H, W) of a mask, those of a few pixels left out."""
    parts, _ = ndimage.label(where)
    sizes = np.bincount(parts.ravel())
    return [parts == part for part in (np.flatnonzero(sizes[1:] >= LEAST_PART) + 1).tolist()]


def paste(onto: Sample, donor: Sample, rng: np.random.Generator) -> Sample:
    """`onto` with one object of `donor` in front (copy-paste, arXiv 2012.07177), or unchanged if it has none.

    The crop will hold a pixel of it.
    """
    areas = np.bincount(donor.labels[donor.labels >= 0], minlength=len(donor.groups))
    chosen = [i for i, names in enumerate(donor.groups) if names and areas[i] >= LEAST_PASTED]
    if not chosen:
        return onto
    index = chosen[rng.integers(len(chosen))]
    inside = donor.labels == index
    rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    box = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
    height, width = inside[box].shape
    factor = rng.uniform(*PASTE_SIDES) * min(onto.labels.shape) / max(height, width)
    factor = min(factor, LARGEST_PASTE_GAIN)
    size = (max(1, round(width * factor)), max(1, round(height * factor)))  # PIL: (width, height)
    thing = np.asarray(Image.fromarray(donor.pixels[box]).resize(size, Image.Resampling.BILINEAR))
    where = np.asarray(Image.fromarray(inside[box]).resize(size, Image.Resampling.NEAREST))
    if rng.random() < 0.5:
        thing, where = thing[:, ::-1], where[:, ::-1]
    top = int(rng.integers(onto.labels.shape[0] - size[1] + 1))
    left = int(rng.integers(onto.labels.shape[1] - size[0] + 1))
    pixels, labels = onto.pixels.copy(), onto.labels.copy()
    place = (slice(top, top + size[1]), slice(left, left + size[0]))
    pixels[place][where], labels[place][where] = thing[where], len(onto.groups)
    focus = ((top + size[1] / 2) / labels.shape[0], (left + size[0] / 2) / labels.shape[1])
    groups = (*onto.groups, donor.groups[index])
    return dataclasses.replace(onto, pixels=pixels, labels=labels, groups=groups, focus=focus)
