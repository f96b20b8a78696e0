"""What LDVC and ZegCLIP are trained on: labelled photos with a split, as crops behind a frozen stem."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from open_clip.transformer import VisionTransformer
from torch import Tensor

from ovs_core.encoders.base import Channels, normalised
from ovs_core.encoders.clip_vit import VisionEncoder
from ovs_core.training.data import crop_sample
from ovs_core.training.mvp_seg_data import Photos
from ovs_core.types import IGNORE, UNLISTED
from ovs_core.vocabulary.splits import Split

log = logging.getLogger(__name__)

_NO_CLASS = ("background", "void", "(ignore)", "other")  # names that begin so are no words
_MOST_VALUES = 256
_BLOCKS, _HELD_OUT = 10, (4, 9)  # of photos in order: neighbours often show one place
_TRIES = 10  # for a crop in which one class does not fill nearly everything (mmsegmentation)


def open_split(root: Path, split: Split, part: str, *, held_out: bool = False) -> Photos:
    """Find labelled photos with seen and unseen classes.

    Args:
        root: folder with `classes.txt` (lines "VALUE NAME", or VALUE, NAME and counts with tabs between),
            `images` and `masks`, each with a sub-folder `part` or without. Names that are no words
            ("background", "void", "other...") do not count.
        split: seen and unseen.
        part: e.g. "train2017"; where there is no such sub-folder, the photos in order are cut into ten,
            and two parts are held out.
        held_out: give those two.

    Raises:
        ValueError: if the classes are not the split's, a line cannot be read or there is no photo.
        OSError: if there is no classes.txt.
    """
    named = _named_values(root / "classes.txt")
    missing = set(split.unseen) - set(named.values())
    if missing or len(named) != split.classes:
        expected = f"{split.classes} classes, {', '.join(sorted(missing)) or 'all unseen ones'} among them"
        raise ValueError(f"{root / 'classes.txt'} must name {expected}; it names {len(named)}.")
    seen = tuple(name for name in named.values() if name not in split.unseen)
    unseen = tuple(name for name in named.values() if name in split.unseen)
    place = {name: index for index, name in enumerate((*seen, *unseen))}
    becomes = np.full(_MOST_VALUES, IGNORE, np.int16)
    becomes[list(named)] = [place[name] for name in named.values()]
    whole = not (root / "images" / part).is_dir()
    folder, masks = (root / kind if whole else root / kind / part for kind in ("images", "masks"))
    paths = tuple(sorted(folder.glob("*.jpg")))
    if whole:
        paths = tuple(path for i, path in enumerate(paths) if _is_held_out(i, len(paths)) == held_out)
    if not paths:
        raise ValueError(f"{folder} holds no .jpg photo.")
    return Photos(seen, unseen, becomes, paths, masks)


def _is_held_out(index: int, count: int) -> bool:
    return index * _BLOCKS // count in _HELD_OUT


def _named_values(path: Path) -> dict[int, str]:
    """Value -> name of the classes in a list."""
    named: dict[int, str] = {}
    for line in filter(str.strip, path.read_text(encoding="utf-8").splitlines()):
        if line.startswith("#"):
            continue
        value, _, rest = line.strip().partition("\t" if "\t" in line else " ")
        name = rest.split("\t")[0].strip()
        if not value.isdecimal() or int(value) >= _MOST_VALUES or not name:
            raise ValueError(f'{path} must hold lines like "1 person"; got {line!r}.')
        if not name.startswith(_NO_CLASS):
            named[int(value)] = name
    return named


@dataclass(frozen=True)
class CropPlan:
    """How crops are drawn.

    Attributes:
        side: of a square crop in pixels, a multiple of the tower's patch.
        short_side: range of a photo's shorter side before cropping, pixels.
        label_stride: pixels per label that the loss sees, both ways; official: 1.
        largest_class: a crop in which one class has more than this share of the labelled pixels is drawn
            again, a few times.
        per_photo: crops that are drawn once, of each photo, whose stem features are kept on disk: for towers
            with a costly stem. 0 draws anew for every step.
        seed: of the crops that are kept.
    """

    side: int = 512
    short_side: tuple[int, int] = (256, 1024)
    label_stride: int = 1
    largest_class: float = 0.75
    per_photo: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.side < self.label_stride or self.label_stride < 1:
            raise ValueError(f"label_stride must lie in 1..{self.side}, got {self.label_stride}")


class Batch(NamedTuple):
    """Crops of a step.

    Attributes:
        patches: what the stem makes of them, (B, C, h, w).
        labels: index of a seen class, UNLISTED or IGNORE, (B, H', W') int64.
    """

    patches: Tensor
    labels: Tensor


class Crops:
    """Gives batches of crops behind a frozen stem, all on one device.

    Args:
        vision: the image tower.
        photos: with their split.
        plan: how crops are drawn.
        mean: subtracted per RGB channel of [0, 1].
        std: divided by.
        folder: where crops that are kept go.
    """

    def __init__(
        self,
        vision: VisionEncoder,
        photos: Photos,
        plan: CropPlan,
        mean: Channels,
        std: Channels,
        folder: Path,
    ) -> None:
        self._visual, self._device, self._dtype = vision.visual, vision.device, vision.dtype
        self._photos, self._plan, self._mean, self._std = photos, plan, mean, std
        self._kept: tuple[NDArray[np.float16], NDArray[np.int16]] | None = None
        if plan.per_photo:
            settings = [vision.identity, asdict(plan), photos.seen, photos.unseen, mean, std]
            settings.append([path.name for path in photos.paths])
            digest = hashlib.sha256(json.dumps(settings).encode()).hexdigest()[:12]
            self._kept = self._keep(folder, digest)

    def __len__(self) -> int:
        return len(self._photos.paths) * max(1, self._plan.per_photo)

    def choose(self, count: int, rng: np.random.Generator) -> list[tuple[int, int]]:
        """Numbers of up to `count` different crops, each with a seed to draw it by where it is not kept."""
        numbers = rng.choice(len(self), size=min(count, len(self)), replace=False)
        seeds = rng.integers(1 << 31, size=len(numbers))
        return list(zip(numbers.tolist(), seeds.tolist(), strict=True))

    def batch(self, chosen: Sequence[tuple[int, int]]) -> Batch:
        """Crops that `choose` gave."""
        if self._kept is not None:
            index = np.asarray([number for number, _ in chosen])
            patches, labels = self._kept[0][index].astype(np.float32), self._kept[1][index]
            tensor = torch.from_numpy(patches).to(self._device, self._dtype)
            return Batch(tensor, torch.from_numpy(labels.astype(np.int64)).to(self._device))
        drawn = [self._draw(number, np.random.default_rng(seed)) for number, seed in chosen]
        labels = np.stack([labels for _, labels in drawn]).astype(np.int64)
        frames = torch.stack([frame for frame, _ in drawn])
        return Batch(stem(self._visual, frames), torch.from_numpy(labels).to(self._device))

    def _draw(self, photo: int, rng: np.random.Generator) -> tuple[Tensor, NDArray[np.int16]]:
        """A crop of a photo as a normalised frame (3, side, side), and its labels (H', W')."""
        sample = self._photos.sample(photo, unseen=UNLISTED)
        for _ in range(_TRIES):
            crop = crop_sample(sample, self._plan.side, self._plan.short_side, rng)
            known = crop.labels[crop.labels >= 0]
            if not known.size or np.bincount(known).max() <= self._plan.largest_class * known.size:
                break
        step = self._plan.label_stride
        frame = torch.from_numpy(crop.pixels).to(self._device).permute(2, 0, 1).float() / 255
        frame = normalised(frame, self._mean, self._std).to(self._dtype)
        return frame, crop.labels[step // 2 :: step, step // 2 :: step]

    def _keep(self, folder: Path, digest: str) -> tuple[NDArray[np.float16], NDArray[np.int16]]:
        """Stem features and labels of every crop, read from `folder` if they are there."""
        folder.mkdir(parents=True, exist_ok=True)
        features, labels = (folder / f"{what}-{digest}.npy" for what in ("stem", "stem-labels"))
        if not (features.exists() and labels.exists()):
            self._write(features, labels)
        return np.load(features, mmap_mode="r"), np.load(labels)

    def _write(self, features: Path, labels: Path) -> None:
        """Make both files; neither gets its name before it is whole."""
        partial = features.with_suffix(".part")
        stored: np.memmap[Any, np.dtype[np.float16]] | None = None
        found = []
        for number in range(len(self)):
            rng = np.random.default_rng((self._plan.seed, number))
            frame, own = self._draw(number // self._plan.per_photo, rng)
            patches = stem(self._visual, frame[None])[0].half().cpu().numpy()
            if stored is None:
                shape = (len(self), *patches.shape)
                stored = np.lib.format.open_memmap(partial, mode="w+", dtype=np.float16, shape=shape)
            stored[number] = patches
            found.append(own)
            if (number + 1) % 50 == 0:
                log.info("stem features of %d of %d crops", number + 1, len(self))
        if stored is not None:
            stored.flush()
        partial.replace(features)
        np.save(labels, np.stack(found))


@torch.no_grad()
def stem(visual: VisionTransformer, frames: Tensor) -> Tensor:
    """What the stem makes of normalised frames (B, 3, Hf, Wf): patches (B, C, h, w)."""
    patches: Tensor = visual.conv1(frames)
    return patches
