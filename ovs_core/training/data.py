"""Photos to learn dense labelling from, read from the folders a user names. Nothing read here is shipped.

A `Sample` says for each pixel which names could be right: exact where people drew masks, loose where only a
caption or a teacher speaks, and for tiles of photos with one known object only the name, not the place.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ovs_core.labelled import mask_values as mask_file
from ovs_core.types import IGNORE, UNLISTED

CAMVID_NAMES = (
    ("sky",),
    ("building", "buildings"),
    ("pole", "post"),
    ("road", "street"),
    ("sidewalk", "pavement"),
    ("tree", "trees", "vegetation"),
    ("sign", "traffic sign"),
    ("fence", "railing"),
    ("car", "automobile", "vehicle"),
    ("pedestrian", "person"),
    ("cyclist", "bicyclist", "person on a bicycle"),
)
CAMVID_VOID = 11
CAMVID_CAR, LARGER_CARS = 8, ("truck", "bus")  # which CamVid calls cars too
PET, PET_GROUND = 1, 2  # values of a trimap; 3 is the unsure edge
PASTE_SIDES = (0.2, 0.8)  # longer side of a pasted thing, of the photo's shorter side
LARGEST_PASTE_GAIN = 2.0  # a small thing is not blown up to a blur
MID_GREY = 128
SYNONYMS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "person": ("person", "people"),
        "bicycle": ("bicycle", "bike"),
        "car": ("car", "automobile"),
        "motorcycle": ("motorcycle", "motorbike"),
        "airplane": ("airplane", "plane", "aeroplane"),
        "couch": ("couch", "sofa"),
        "tv": ("tv", "television", "monitor"),
        "cell phone": ("cell phone", "mobile phone"),
        "potted plant": ("potted plant", "plant"),
        "dining table": ("dining table", "table"),
        "cow": ("cow", "cattle"),
        "dog": ("dog", "puppy"),
        "cat": ("cat", "kitten"),
        "boat": ("boat", "ship"),
        "sheep": ("sheep", "lamb"),
        "donut": ("donut", "doughnut"),
        "refrigerator": ("refrigerator", "fridge"),
        "cup": ("cup", "mug"),
    }
)


@dataclass(frozen=True, eq=False)
class Sample:
    """One training picture.

    Attributes:
        pixels: (H, W, 3) uint8 RGB.
        labels: (H, W) int16: i = one of the names in `groups[i]`, UNLISTED = none of those names, or IGNORE.
        groups: names that would each be right for label i; the first is what a person would type.
        absent: names known not to be in the picture, for distractors.
        hints: names said to be somewhere among the UNLISTED pixels (captions).
        placed: True where labels are drawn masks; False where label i only says "somewhere in this tile".
        focus: (row, column) in [0, 1] that a crop must hold, or None.
        maybe: names that UNLISTED pixels may show and others do not; nobody said that they are there.
    """

    pixels: NDArray[np.uint8]
    labels: NDArray[np.int16]
    groups: tuple[tuple[str, ...], ...]
    absent: tuple[str, ...] = ()
    hints: tuple[str, ...] = ()
    placed: bool = True
    focus: tuple[float, float] | None = None
    maybe: tuple[str, ...] = ()


Sampler = Callable[[np.random.Generator], Sample]  # a picture drawn at random


def read_rgb(path: Path) -> NDArray[np.uint8]:
    """Pixels (H, W, 3) uint8."""
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def read_mask(path: Path) -> NDArray[np.int16]:
    """Values of a mask (H, W), up to 32,767.

    Raises:
        ValueError: in one sentence, if it cannot be used.
    """
    return mask_file.read_mask(path).astype(np.int16)


class CamVid:
    """Street scenes with every pixel labelled, 11 classes + void."""

    def __init__(self, root: Path) -> None:
        self.photos = tuple(sorted((root / "images" / "train").glob("*.jpg")))
        self.masks = root / "masks" / "train"

    def sample(self, rng: np.random.Generator) -> Sample:
        """A whole photo; one word of each class."""
        path = self.photos[rng.integers(len(self.photos))]
        mask = read_mask(self.masks / f"{path.stem}.png")
        labels = np.where(mask >= CAMVID_VOID, IGNORE, mask).astype(np.int16)
        groups: list[tuple[str, ...]] = [(names[rng.integers(len(names))],) for names in CAMVID_NAMES]
        groups[CAMVID_CAR] += LARGER_CARS
        return Sample(read_rgb(path), labels, tuple(groups))


class Pets:
    """Cats and dogs with trimaps; a file name is the breed and a number, a cat's with a capital."""

    def __init__(self, root: Path) -> None:
        self.photos = tuple(sorted((root / "images").glob("*.jpg")))
        self.masks = root / "masks"

    def sample(self, rng: np.random.Generator) -> Sample:
        """A whole photo; the animal goes by its kind or its breed."""
        path = self.photos[rng.integers(len(self.photos))]
        mask = read_mask(self.masks / f"{path.stem}.png")
        labels = np.full(mask.shape, IGNORE, np.int16)
        labels[mask == PET], labels[mask == PET_GROUND] = 0, UNLISTED
        breed = path.stem.rsplit("_", 1)[0].replace("_", " ")
        kind = "cat" if breed[0].isupper() else "dog"
        name = (kind, kind, breed.lower(), f"{breed.lower()} {kind}", "pet")[rng.integers(5)]
        other = "dog" if kind == "cat" else "cat"
        return Sample(read_rgb(path), labels, ((name,),), absent=(other,))


def crop_sample(sample: Sample, side: int, short_side: tuple[int, int], rng: np.random.Generator) -> Sample:
    """Resize so that the shorter side falls in `short_side` (pixels), crop (side, side), flip, shift colours.

    Mosaics, squares of `side` already, keep their size. Where the photo ends inside the crop, pixels are mid
    grey and labels IGNORE.
    """
    pixels, labels = sample.pixels, sample.labels
    if sample.placed and labels.shape != (side, side):
        short = rng.uniform(*short_side)
        pixels, labels = _resize_crop(pixels, labels, side, short, sample.focus, rng)
    if rng.random() < 0.5:
        pixels, labels = pixels[:, ::-1], labels[:, ::-1]
    gain = rng.uniform(0.7, 1.3) * rng.uniform(0.93, 1.07, size=3)
    shifted = (pixels.astype(np.float32) - MID_GREY) * rng.uniform(0.75, 1.25) + MID_GREY
    pixels = np.clip(shifted * gain, 0, 255).astype(np.uint8)
    return dataclasses.replace(sample, pixels=pixels, labels=np.ascontiguousarray(labels), focus=None)


def _resize_crop(
    pixels: NDArray[np.uint8],
    labels: NDArray[np.int16],
    side: int,
    short: float,
    focus: tuple[float, float] | None,
    rng: np.random.Generator,
) -> tuple[NDArray[np.uint8], NDArray[np.int16]]:
    """Resize to shorter side `short`, cut (side, side) out, fill up what the photo does not cover."""
    factor = short / min(labels.shape)
    size = (round(labels.shape[1] * factor), round(labels.shape[0] * factor))  # PIL: (width, height)
    photo = np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BILINEAR))
    mask = np.asarray(
        Image.fromarray(labels.astype(np.int32)).resize(size, Image.Resampling.NEAREST), dtype=np.int16
    )
    h, w = mask.shape
    row, column = (None, None) if focus is None else focus
    top, left = start_of_crop(h, side, row, rng), start_of_crop(w, side, column, rng)
    out = np.full((side, side, 3), MID_GREY, np.uint8)
    out_labels = np.full((side, side), IGNORE, np.int16)
    part = mask[top : top + side, left : left + side]
    out[: part.shape[0], : part.shape[1]] = photo[top : top + side, left : left + side]
    out_labels[: part.shape[0], : part.shape[1]] = part
    return out, out_labels


def start_of_crop(length: int, side: int, focus: float | None, rng: np.random.Generator) -> int:
    """Where a crop of `side` pixels starts on an axis of `length`, holding `focus` (in [0, 1]) if given."""
    last = max(length - side, 0)
    if focus is None:
        return int(rng.integers(last + 1))
    at = int(focus * length)
    return int(rng.integers(min(max(at - side + 1, 0), last), min(at, last) + 1))
