"""What LDVC and ZegCLIP are trained on: crops of labelled photos behind a frozen stem."""

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
from ovs_core.training.split_photos import Photos
from ovs_core.types import UNLISTED

log = logging.getLogger(__name__)

_TRIES = 10  # for a crop in which one class does not fill nearly everything (mmsegmentation)


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
        drawn = []
        for number in range(len(self)):
            rng = np.random.default_rng((self._plan.seed, number))
            frame, own = self._draw(number // self._plan.per_photo, rng)
            patches = stem(self._visual, frame[None])[0].half().cpu().numpy()
            if stored is None:
                shape = (len(self), *patches.shape)
                stored = np.lib.format.open_memmap(partial, mode="w+", dtype=np.float16, shape=shape)
            stored[number] = patches
            drawn.append(own)
            if (number + 1) % 50 == 0:
                log.info("stem features of %d of %d crops", number + 1, len(self))
        if stored is not None:
            stored.flush()
        partial.replace(features)
        np.save(labels, np.stack(drawn))


@torch.no_grad()
def stem(visual: VisionTransformer, frames: Tensor) -> Tensor:
    """What the stem makes of normalised frames (B, 3, Hf, Wf): patches (B, C, h, w)."""
    patches: Tensor = visual.conv1(frames)
    return patches
