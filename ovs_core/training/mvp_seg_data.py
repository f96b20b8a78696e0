"""Frozen features of a fixed set of crops, made once and kept."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from open_clip.modified_resnet import ModifiedResNet
from open_clip.transformer import VisionTransformer

from ovs_core.encoders.clip_resnet import ResNetEncoder
from ovs_core.encoders.clip_vit import VisionEncoder
from ovs_core.methods.mvp_seg.model import dense_features
from ovs_core.options import Preset
from ovs_core.training.data import crop_sample
from ovs_core.training.split_photos import Photos
from ovs_core.types import IGNORE

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class CropPlan:
    """Which crops to cache; all inferred, the paper's data pipeline is unknown.

    Attributes:
        side: of a square crop, pixels, a multiple of the tower's patch.
        short_side: range of a photo's shorter side before cropping, pixels.
        per_photo: crops of each photo.
        label_stride: pixels per label that the loss sees, both ways.
        seed: of the crops.
    """

    side: int = 512
    short_side: tuple[int, int] = (512, 768)
    per_photo: int = 2
    label_stride: int = 8
    seed: int = 0


@dataclass(frozen=True, eq=False)
class CachedCrops:
    """What training reads instead of photos.

    Attributes:
        features: MaskCLIP's unit features, (N, D, h, w) float16, mapped from disk.
        labels: index of a seen class or IGNORE, (N, H', W') int16 at every `label_stride`-th pixel.
    """

    features: NDArray[np.float16]
    labels: NDArray[np.int16]

    def __len__(self) -> int:
        return len(self.labels)


def cache_crops(
    vision: VisionEncoder | ResNetEncoder, photos: Photos, plan: CropPlan, folder: Path
) -> CachedCrops:
    """Features and labels of `plan.per_photo` crops of each photo, read from `folder` if they are there.

    Only seen classes are in the labels. The file names carry a digest of tower, plan and photos, so runs of
    equal settings share them and others do not find them.
    """
    names = [path.name for path in photos.paths]
    settings = [vision.identity, dataclasses.asdict(plan), photos.seen, photos.unseen, names]
    digest = hashlib.sha256(json.dumps(settings).encode()).hexdigest()[:12]
    folder.mkdir(parents=True, exist_ok=True)
    features, labels = (folder / f"{what}-{digest}.npy" for what in ("features", "labels"))
    if not (features.exists() and labels.exists()):
        _write_crops(vision, photos, plan, features, labels)
    return CachedCrops(np.load(features, mmap_mode="r"), np.load(labels))


def _write_crops(
    vision: VisionEncoder | ResNetEncoder, photos: Photos, plan: CropPlan, features: Path, labels: Path
) -> None:
    """Make both files; neither gets its name before it is whole."""
    count = len(photos.paths) * plan.per_photo
    side = -(-plan.side // plan.label_stride)
    cropped = np.full((count, side, side), IGNORE, np.int16)
    partial = features.with_suffix(".part")
    stored: np.memmap[Any, np.dtype[np.float16]] | None = None
    for index in range(count):
        rng = np.random.default_rng((plan.seed, index))
        sample = photos.sample(index // plan.per_photo, unseen=IGNORE)
        crop = crop_sample(sample, plan.side, plan.short_side, rng)
        dense = encode_crop(vision, crop.pixels)
        if stored is None:
            shape = (count, *dense.shape)
            stored = np.lib.format.open_memmap(partial, mode="w+", dtype=np.float16, shape=shape)
        stored[index] = dense
        start = plan.label_stride // 2
        rows = crop.labels[start :: plan.label_stride, start :: plan.label_stride]
        cropped[index, : rows.shape[0], : rows.shape[1]] = rows
        if (index + 1) % 50 == 0:
            log.info("features of %d of %d crops", index + 1, count)
    if stored is not None:
        stored.flush()
    partial.replace(features)
    np.save(labels, cropped)


@torch.no_grad()
def encode_crop(vision: VisionEncoder | ResNetEncoder, pixels: NDArray[np.uint8]) -> NDArray[np.float16]:
    """MaskCLIP's unit features (D, h, w) of a square crop (side, side, 3), in half precision.

    Raises:
        ValueError: if the crop is too large for one window of the tower.
    """
    preset = Preset(1.0, 0.0, pixels.shape[0], None, 0, "single1")
    windows = vision.encode(pixels, preset).windows
    if len(windows) != 1:
        raise ValueError(f"side must fit one window of the tower, got {pixels.shape[0]} pixels")
    visual: VisionTransformer | ModifiedResNet = vision.visual
    dense: NDArray[np.float16] = dense_features(visual, windows[0]).half().cpu().numpy()
    return dense


def draw_classes(
    present: Sequence[int], classes: int, limit: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Classes of a training step, sorted: all that are present, filled up at random to `limit`."""
    others = np.setdiff1d(np.arange(classes), present)
    room = max(0, min(limit, classes) - len(present))
    chosen = rng.permutation(others)[:room]
    return np.sort(np.concatenate([np.asarray(present, np.int64), chosen]))
