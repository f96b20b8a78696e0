"""Photos of one known thing each: mosaics of them, and the things set apart, to paste into other photos."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ovs_core.training.data import Sample, read_rgb
from ovs_core.types import IGNORE, UNLISTED
from recipes.mini.coco import box_and_size, random_box

KIND_CHANCE = 0.35
FOUR_TILES_CHANCE = 0.7
STRANGERS = 24  # names drawn for the distractors of a mosaic
SALIENT, FAINT = 0.7, 0.1  # a pixel is surely the photo's thing from here, surely not up to there
THING_SHARES = (0.03, 0.8)  # of a photo: a map with less found nothing, one with more does not set it apart
LEAST_SURE = 0.75  # of what is not surely background, the part that is surely the thing
SECOND_THING_CHANCE = 0.3


@dataclass(frozen=True)
class Named:
    """A photo of one thing: its names (best first, then what it is a kind of)."""

    path: Path
    names: tuple[str, ...]
    kinds: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Thing:
    """A photo of one thing and where it is: (H, W) uint8, 255 = surely here."""

    photo: Named
    salience: NDArray[np.uint8]


def segmentable(photos: Sequence[Named], salience: Mapping[str, NDArray[np.uint8]]) -> list[Thing]:
    """The photos whose thing a salience map (`teachers.salience_maps`) sets apart from its background."""
    things = []
    for photo in photos:
        salient = salience.get(salience_key(photo.path))
        if salient is None:
            continue
        sure, faint = float((salient >= SALIENT * 255).mean()), float((salient > FAINT * 255).mean())
        if THING_SHARES[0] <= sure <= THING_SHARES[1] and sure >= LEAST_SURE * faint:
            things.append(Thing(photo, salient))
    return things


def salience_key(photo: Path) -> str:
    """What a photo goes by among salience maps: its folder and its stem."""
    return f"{photo.parent.name}/{photo.stem}"


def depicts(photo: Named, words: AbstractSet[str]) -> bool:
    """Whether a photo is said to show one of `words` or a kind of it ("brown bear" is a bear)."""
    return any(
        name == word or name.endswith(f" {word}") for name in (*photo.names, *photo.kinds) for word in words
    )


class Mosaic:
    """Four photos of one known thing each, side by side.

    Without salience maps nobody says where in its tile a thing is; with them the labels are placed.

    Args:
        photos: among them at least four whose names do not say the same.
        side: of the square, pixels.
        things: photos with their maps, instead of `photos`.
    """

    def __init__(self, photos: Sequence[Named], side: int, things: Sequence[Thing] = ()) -> None:
        self.photos = tuple(thing.photo for thing in things) if things else tuple(photos)
        self.maps = {thing.photo.path: thing.salience for thing in things}
        self.side = side

    def sample(self, rng: np.random.Generator) -> Sample:
        """Square of 1 or 2 x 2 tiles, whose names do not say the same."""
        count = 4 if rng.random() < FOUR_TILES_CHANCE else 1
        chosen = self._choose(count, rng)
        tile = self.side if count == 1 else self.side // 2
        pixels = np.zeros((self.side, self.side, 3), np.uint8)
        labels = np.full((self.side, self.side), IGNORE, np.int16)
        for i, (photo, _) in enumerate(chosen):
            place = np.s_[i // 2 * tile : (i // 2 + 1) * tile, i % 2 * tile : (i % 2 + 1) * tile]
            shown = read_rgb(photo.path)
            box = _square(shown.shape[:2], rng)
            pixels[place] = _resized(shown[box], (tile, tile))
            labels[place] = _placed(self.maps[photo.path][box], (tile, tile), i) if self.maps else i
        absent = tuple(self._strangers(chosen, rng))
        names = tuple((name,) for _, name in chosen)
        return Sample(pixels, labels, names, absent, placed=bool(self.maps))

    def _choose(self, count: int, rng: np.random.Generator) -> list[tuple[Named, str]]:
        """Photos and what each is called; no name may also be right for another photo."""
        chosen: list[tuple[Named, str]] = []
        while len(chosen) < count:
            photo = self.photos[rng.integers(len(self.photos))]
            name = _called(photo, rng)
            names = {name, *photo.names, *photo.kinds}
            if all(n not in names and name not in {*p.names, *p.kinds} for p, n in chosen):
                chosen.append((photo, name))
        return chosen

    def _strangers(self, chosen: list[tuple[Named, str]], rng: np.random.Generator) -> list[str]:
        """Names of things that are in no tile."""
        shown = {n for photo, _ in chosen for n in (*photo.names, *photo.kinds)}
        picks = [self.photos[i] for i in rng.integers(len(self.photos), size=STRANGERS)]
        return [p.names[0] for p in picks if p.names[0] not in shown and not shown & set(p.kinds[:1])]


def _called(photo: Named, rng: np.random.Generator) -> str:
    """One of the names of a photo's thing, or now and then of what it is a kind of; the first ones mostly."""
    use_kind = bool(photo.kinds) and rng.random() < KIND_CHANCE
    words = photo.kinds if use_kind else photo.names
    return words[min(int(rng.exponential(0.7)), len(words) - 1)]


def _square(shape: tuple[int, ...], rng: np.random.Generator) -> tuple[slice, slice]:
    """A random square that keeps most of a picture of `shape` (height, width)."""
    h, w = shape[0], shape[1]
    size = int(min(h, w) * rng.uniform(0.8, 1.0))
    top, left = rng.integers(h - size + 1), rng.integers(w - size + 1)
    return slice(top, top + size), slice(left, left + size)


def _resized(pixels: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """A picture of another size (width, height)."""
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BILINEAR))


def _placed(salience: NDArray[np.uint8], size: tuple[int, int], label: int) -> NDArray[np.int16]:
    """Labels of a salience map at another size (width, height): `label`, UNLISTED, or IGNORE between."""
    resized = _resized(salience, size)
    labels = np.full(resized.shape, IGNORE, np.int16)
    labels[resized >= SALIENT * 255], labels[resized <= FAINT * 255] = label, UNLISTED
    return labels


def paste_things(sample: Sample, things: Sequence[Thing], rng: np.random.Generator) -> Sample:
    """`sample` with one or two things pasted in (copy-paste, arXiv 2012.07177); its crop shows the last.

    A thing whose names are also right for something that the sample is known to show is left out.

    Args:
        sample: a picture with drawn masks.
        things: to draw from, at least one.
        rng: draws what, where and how large.
    """
    for _ in range(2 if rng.random() < SECOND_THING_CHANCE else 1):
        sample = _paste_thing(sample, things[int(rng.integers(len(things)))], rng)
    return sample


def _paste_thing(sample: Sample, thing: Thing, rng: np.random.Generator) -> Sample:
    name = _called(thing.photo, rng)
    known = {*sample.hints, *(word for names in sample.groups for word in names)}
    if name in known or depicts(thing.photo, known):
        return sample
    h, w = sample.labels.shape
    box, size = box_and_size(thing.salience >= FAINT * 255, (h, w), rng)
    shown, alpha = _resized(read_rgb(thing.photo.path)[box], size), _resized(thing.salience[box], size)
    if rng.random() < 0.5:
        shown, alpha = shown[:, ::-1], alpha[:, ::-1]
    solid, edge = alpha >= SALIENT * 255, alpha > FAINT * 255
    if not solid.any():
        return sample
    place = random_box(size, (h, w), rng)
    pixels, labels = sample.pixels.copy(), sample.labels.copy()
    opacity = (alpha / 255)[..., None] * edge[..., None]
    pixels[place] = (opacity * shown + (1 - opacity) * pixels[place]).round().astype(np.uint8)
    labels[place][edge] = IGNORE
    labels[place][solid] = len(sample.groups)
    inside = np.argwhere(solid)
    at = inside[rng.integers(len(inside))]
    return dataclasses.replace(
        sample,
        pixels=pixels,
        labels=labels,
        groups=(*sample.groups, (name,)),
        absent=tuple(word for word in sample.absent if word != name and not depicts(thing.photo, {word})),
        focus=((place[0].start + at[0]) / h, (place[1].start + at[1]) / w),
    )
