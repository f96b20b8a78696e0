"""Crops with masks and what the frozen tower says of them: made once, kept on disk, learnt from often."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from open_clip.transformer import VisionTransformer
from torch import Tensor

from ovs_core.devices import quick_bfloat16
from ovs_core.encoders.mini_pyramid import coarsest, stem_maps
from ovs_core.training.data import CamVid, Pets, Sample, Sampler, crop_sample
from ovs_core.training.losses import Target
from ovs_core.training.mask_photos import CocoInstances, SegmentSource, camvid_sample, paste, pet_sample
from ovs_core.training.mask_plans import MaskCropPlan
from ovs_core.types import UNLISTED

log = logging.getLogger(__name__)

LABEL_STRIDE = 2  # pixels per label that losses see, both ways
MOST_MASKS = 40  # of a crop; smaller ones do not count
LEAST_CELLS = 24  # labels of a mask that counts: about 10 x 10 pixels
NOTHING, UNCLEAR = 254, 255  # in kept labels: no object, not known
NO_MASK = -2  # in kept classes: there is no such mask
_PET_DONORS = 0.3  # of the pasted objects
_BATCH = 4  # crops that the tower sees at once


@dataclass(frozen=True, eq=False)
class MaskCrops:
    """What training reads instead of photos; arrays are mapped from disk.

    Attributes:
        quarter, eighth, sixteenth: the tower's maps (n, C, h, w) float16 at strides 4, 8 and 16.
        labels: number of the mask, NOTHING or UNCLEAR, (n, side / 2, side / 2) uint8.
        classes: class of each mask in the list of seen names, UNLISTED or NO_MASK, (n, MOST_MASKS) int16.
    """

    quarter: NDArray[np.float16]
    eighth: NDArray[np.float16]
    sixteenth: NDArray[np.float16]
    labels: NDArray[np.uint8]
    classes: NDArray[np.int16]

    def __len__(self) -> int:
        return len(self.labels)

    def maps(self, rows: Sequence[int]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The tower's four maps of some crops, (B, C, h, w) float32, finest first."""
        quarter, eighth, sixteenth = (
            torch.from_numpy(stored[list(rows)]).float()
            for stored in (self.quarter, self.eighth, self.sixteenth)
        )
        return quarter, eighth, sixteenth, coarsest(sixteenth)

    def mask_counts(self, rows: Sequence[int]) -> list[int]:
        """Number of masks of some crops."""
        return [int((self.classes[row] != NO_MASK).sum()) for row in rows]

    def targets(self, rows: Sequence[int]) -> list[Target]:
        """What is known of some crops."""
        targets = []
        for row in rows:
            labels, classes = torch.tensor(self.labels[row]), torch.tensor(self.classes[row])
            kept = (classes != NO_MASK).nonzero()[:, 0]
            masks = labels[None] == kept[:, None, None]
            targets.append(Target(classes[kept].long(), masks, labels == UNCLEAR))
        return targets


class Kept(NamedTuple):
    """Labels (h, w) uint8 and classes (MOST_MASKS,) int16 of one crop, as `MaskCrops` has them."""

    labels: NDArray[np.uint8]
    classes: NDArray[np.int16]


def mask_sampler(
    coco: CocoInstances,
    pets: Pets | None,
    camvid: CamVid | None,
    plan: MaskCropPlan,
    more: Mapping[str, SegmentSource] = MappingProxyType({}),
) -> Sampler:
    """Draw whole photos with masks from the sources that are there, pasted objects included."""
    sources: dict[str, Sampler] = {"coco": lambda rng: _coco_sample(coco, pets, plan.pastes, rng)}
    if pets is not None:
        sources["pets"] = lambda rng: pet_sample(pets, rng)
    if camvid is not None:
        sources["camvid"] = lambda rng: camvid_sample(camvid, rng)
    sources |= {name: source.sample for name, source in more.items()}
    weights = [(name, weight) for name, weight in plan.source_weights if name in sources]
    chances = np.array([weight for _, weight in weights])

    def sample(rng: np.random.Generator) -> Sample:
        return sources[weights[rng.choice(len(weights), p=chances / chances.sum())][0]](rng)

    return sample


def _coco_sample(coco: CocoInstances, pets: Pets | None, most: int, rng: np.random.Generator) -> Sample:
    sample = coco.sample(rng)
    for _ in range(rng.integers(most + 1)):
        from_pets = pets is not None and rng.random() < _PET_DONORS
        donor = pet_sample(pets, rng) if pets is not None and from_pets else coco.sample(rng)
        sample = paste(sample, donor, rng)
    return sample


def kept_labels(sample: Sample, seen: Mapping[str, int]) -> Kept:
    """Keep the largest masks of a crop on every second pixel; smaller ones become UNCLEAR.

    Args:
        sample: a crop, labels by object.
        seen: place of each seen class.
    """
    start = LABEL_STRIDE // 2
    given = sample.labels[start::LABEL_STRIDE, start::LABEL_STRIDE]
    labels = np.full(given.shape, UNCLEAR, np.uint8)
    labels[given == UNLISTED] = NOTHING
    classes = np.full(MOST_MASKS, NO_MASK, np.int16)
    areas = np.bincount(given[given > UNLISTED], minlength=len(sample.groups))
    order = np.argsort(-areas, kind="stable")[:MOST_MASKS]
    for slot, index in enumerate(i for i in order.tolist() if areas[i] >= LEAST_CELLS):
        names = sample.groups[index]
        labels[given == index] = slot
        classes[slot] = seen[names[0]] if names else UNLISTED
    return Kept(labels, classes)


def cache_mask_crops(
    visual: VisionTransformer,
    tower: str,
    sampler: Sampler,
    seen: Sequence[str],
    plan: MaskCropPlan,
    folder: Path,
    photos: Sequence[str],
) -> MaskCrops:
    """Crops and their maps, read from `folder` if they are there.

    File names carry a digest of tower, plan and photos, so runs of equal settings share them and others do
    not find them.

    Args:
        visual: the embedded image tower; pixels go in as (-1, 1).
        tower: SHA-256 of its weights.
        sampler: whole photos.
        seen: classes that masks may have.
        plan: which crops.
        folder: where files are kept.
        photos: names of all photos, for the digest.
    """
    settings = [tower, dataclasses.asdict(plan), list(seen), list(photos)]
    digest = hashlib.sha256(json.dumps(settings).encode()).hexdigest()[:12]
    folder.mkdir(parents=True, exist_ok=True)
    names = ("quarter", "eighth", "sixteenth", "labels", "classes")
    paths = {name: folder / f"{name}-{digest}.npy" for name in names}
    if not all(path.exists() for path in paths.values()):
        place = {name: index for index, name in enumerate(seen)}
        _write(paths, plan, lambda rows: _encode(visual, _crops(sampler, plan, rows), place))
    return MaskCrops(**{name: np.load(path, mmap_mode="r") for name, path in paths.items()})


def _crops(sampler: Sampler, plan: MaskCropPlan, rows: range) -> list[Sample]:
    """Crops by number, the same whatever was made before."""
    crops = []
    for row in rows:
        rng = np.random.default_rng((plan.seed, row))
        crops.append(crop_sample(sampler(rng), plan.side, plan.short_side, rng))
    return crops


@torch.no_grad()
def _encode(
    visual: VisionTransformer, crops: Sequence[Sample], seen: Mapping[str, int]
) -> dict[str, NDArray[Any]]:
    pixels = torch.from_numpy(np.stack([crop.pixels for crop in crops]))  # (B, H, W, 3)
    visual.conv1.to(memory_format=torch.channels_last)  # with bfloat16 half the time
    device = visual.positional_embedding.device
    with quick_bfloat16(device):
        maps, _ = stem_maps(visual, pixels.to(device).permute(0, 3, 1, 2).float() / 127.5 - 1)
    quarter, eighth, sixteenth, _ = (level.half().cpu().numpy() for level in maps)
    kept = [kept_labels(crop, seen) for crop in crops]
    return {
        "quarter": quarter,
        "eighth": eighth,
        "sixteenth": sixteenth,
        "labels": np.stack([labels.labels for labels in kept]),
        "classes": np.stack([labels.classes for labels in kept]),
    }


def _write(
    paths: Mapping[str, Path], plan: MaskCropPlan, make: Callable[[range], dict[str, NDArray[Any]]]
) -> None:
    """Make all files; none gets its name before all are whole."""
    stored: dict[str, np.memmap[Any, Any]] = {}
    for start in range(0, plan.count, _BATCH):
        rows = range(start, min(start + _BATCH, plan.count))
        for name, values in make(rows).items():
            if name not in stored:
                shape = (plan.count, *values.shape[1:])
                partial = paths[name].with_suffix(".part")
                stored[name] = np.lib.format.open_memmap(partial, mode="w+", dtype=values.dtype, shape=shape)
            stored[name][start : rows.stop] = values
        if rows.stop % 200 < _BATCH:
            log.info("features of %d of %d crops", rows.stop, plan.count)
    for name, values in stored.items():
        values.flush()
        paths[name].with_suffix(".part").replace(paths[name])
