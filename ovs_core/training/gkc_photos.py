"""GKC's official recipe: a CLIP ResNet learns as a whole, taught by itself as it was and by captions.

Paper: GKC (ICCV 2023, arXiv 2303.09181), section 4.1; numbers as in yongliu20/GKC 21313c8. Student and
teacher start from CLIP's weights. The student's batch normalisation is in training mode and it sees
ImageNet's mean and deviation; the teacher sees each region alone on grey with CLIP's own.

Deviations: the teacher is in evaluation mode (the released code leaves its batch normalisation in training
mode, so that regions of one batch change each other); one data set of annotated objects is read, not COCO's
panoptic PNGs; colours are shifted a little. With several processes grounding compares, batch normalisation
measures and distillation chooses its 200 regions among the photos of each; all else is that of one process.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from open_clip.modified_resnet import ModifiedResNet
from torch import Tensor, nn

from ovs_core.decoders.mask_decoder import MaskDecoderConfig
from ovs_core.decoders.pixel_decoder import PixelDecoderConfig
from ovs_core.encoders.base import Channels, normalised
from ovs_core.encoders.clip_resnet import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    STRIDE,
    pyramid,
    pyramid_channels,
)
from ovs_core.encoders.region_crops import CROP_SIDE
from ovs_core.encoders.text import TextEncoder
from ovs_core.methods.gkc.head_file import TrainedGkc, save_gkc_head
from ovs_core.methods.gkc.student import GkcHeadConfig
from ovs_core.methods.gkc.synonyms import read_synonyms
from ovs_core.methods.gkc.teacher import RegionForm, teach_resnet
from ovs_core.training.data import Sample, crop_sample
from ovs_core.training.fc_clip import PART
from ovs_core.training.gkc import FILE, StudentModel, said_names, summed_by_kind
from ovs_core.training.gkc_lessons import (
    caption_nouns,
    known_nouns,
    learn_words,
    make_lesson,
    read_captions,
    some_nouns,
    with_shared_length,
)
from ovs_core.training.gkc_model import GkcLossPlan, batch_losses
from ovs_core.training.loop import Schedule, fit
from ovs_core.training.losses import BatchPart, Target, draw_from
from ovs_core.training.maft_plus import MaftPlan, optimiser_groups
from ovs_core.training.mask_photos import CocoInstances
from ovs_core.training.plans import keep_recipe, plan_from_json
from ovs_core.training.processes import SINGLE_PROCESS, Processes, parts_of
from ovs_core.types import UNLISTED
from ovs_core.vocabulary import TEMPLATES

LEAST_PIXELS = 16  # of a mask that counts
CAPTIONS = "captions.json"


@dataclass(frozen=True)
class GkcPhotoPlan:
    """GKC on a CLIP ResNet; official values.

    Attributes:
        losses: weights and settings of the losses.
        regions: "crops" shows the teacher each region on grey (the code), "places" averages its answers for
            places inside the mask (the paper).
        side: of a square crop, pixels.
        jitter: smallest and largest shorter side before cropping, in units of `side`.
        width, queries, pixel_layers, mask_layers: sizes of the head.
        pixel_feedforward, mask_feedforward: hidden channels of the decoders' layers.
        steps, batch, rate, tower_rate, weight_decay, clip, warmup: of the optimiser.
        milestones: steps after which both rates are a tenth of what they were.
        templates: prompts of names; officially the bare name.
        hold_out: class names that are never learnt.
        seed: of everything that is drawn.
    """

    losses: GkcLossPlan = field(default_factory=GkcLossPlan)
    regions: RegionForm = "crops"
    side: int = 512
    jitter: tuple[float, float] = (0.8, 1.2)
    width: int = 256
    queries: int = 100
    pixel_layers: int = 6
    mask_layers: int = 9
    pixel_feedforward: int = 1024
    mask_feedforward: int = 2048
    steps: int = 50_000
    batch: int = 112
    rate: float = 3e-4
    tower_rate: float = 3e-5
    weight_decay: float = 0.05
    clip: float = 0.01
    warmup: int = 10
    milestones: tuple[int, ...] = (40_000, 45_000)
    templates: str = "name"
    hold_out: tuple[str, ...] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        if self.regions not in ("crops", "places"):
            raise ValueError(f'regions must be "crops" or "places", got {self.regions!r}')
        if self.side % STRIDE:
            raise ValueError(f"side must be a multiple of {STRIDE} pixels, got {self.side}")


@dataclass(frozen=True, eq=False)
class ResNetTower:
    """What training reads of a CLIP ResNet; training runs where `log_scale` lives.

    Attributes:
        visual: image tower as it is; the student is a copy.
        text: text tower, frozen.
        log_scale: logarithm of CLIP's scale.
        sha256: of the weights.
    """

    visual: ModifiedResNet
    text: TextEncoder
    log_scale: Tensor
    sha256: str


class _Learning(nn.Module):
    """Everything that is trained, for resuming."""

    def __init__(self, tower: ModifiedResNet, student: StudentModel) -> None:
        super().__init__()
        self.tower, self.student = tower, student


def train_gkc_photos(
    tower: ResNetTower, coco: Path, plan: GkcPhotoPlan, out: Path, *, processes: Processes = SINGLE_PROCESS
) -> Path:
    """Train student and head on annotated photos, with captions where the folder has `captions.json`.

    Args:
        tower: CLIP as it is.
        coco: folder as `CocoInstances` reads it.
        plan: the recipe.
        out: working folder; a stopped run goes on where it was.
        processes: those that train together, all with the same folders.

    Returns:
        Path of the head's file, the student's tower in it, `gkc.safetensors` in `out`.

    Raises:
        FileExistsError: if `out` holds a run of another recipe.
        ValueError, OSError: if the folder does not hold what it should, or a step cannot be shared.
    """
    processes.shard(range(plan.batch))
    with processes.main_process_first():
        keep_recipe(dataclasses.asdict(plan) | {"tower": tower.sha256}, out)
    photos = CocoInstances(coco, PART, frozenset(plan.hold_out))
    table = read_synonyms()
    captions = read_captions(coco / CAPTIONS) if (coco / CAPTIONS).is_file() else {}
    known = known_nouns(table)
    extra = tuple(known) if captions and plan.losses.grounding else ()
    words = learn_words(photos.seen, table, tower.text, TEMPLATES[plan.templates], tower.log_scale, extra)
    device = tower.log_scale.device
    torch.manual_seed(plan.seed)
    learning = _learning(tower, plan, words.plain.shape[1]).to(device)
    teacher = tower.visual.eval().requires_grad_(False)
    draw, crop_side = draw_from(None, device), min(CROP_SIDE, plan.side)
    place = {name: index for index, name in enumerate(photos.seen)}

    def step_loss(step: int, rng: np.random.Generator) -> dict[str, Tensor]:
        learning.tower.train()
        numbers = rng.integers(len(photos.photos), size=plan.batch).tolist()
        seeds = rng.integers(1 << 32, size=plan.batch).tolist()
        # Crops of all are cut everywhere: their masks must be counted, and cutting is cheap beside learning.
        samples = [_crop(photos.read(n), plan, s) for n, s in zip(numbers, seeds, strict=True)]
        targets = [target_of(sample, place).to(device) for sample in samples]
        shard = processes.shard(range(plan.batch))
        rngs = processes.shard(rng.spawn(plan.batch))
        maps = pyramid(learning.tower, _pixels([samples[i].pixels for i in shard], device))
        mine = [targets[i] for i in shard]
        regions = [
            teach_resnet(teacher, samples[i].pixels, targets[i].masks, plan.regions, crop_side) for i in shard
        ]
        nouns = None
        if extra:
            nouns = [
                _nouns(captions, photos.photos[numbers[i]], known, own)
                for i, own in zip(shard, rngs, strict=True)
            ]
        every = plan.losses.pooling is not None
        lesson = make_lesson(
            words, mine, regions, plan.losses.sampling, rngs, every_name=every, captions=nouns
        )
        lesson = with_shared_length(lesson, processes)
        part = BatchPart([len(target.masks) for target in targets], shard)
        student = learning.student
        own_draws = torch.Generator().manual_seed(int(rng.integers(1 << 32)) + processes.rank)
        losses = batch_losses(
            student.head,
            student.projections,
            maps,
            lesson,
            plan.losses,
            draw,
            part=part,
            generator=own_draws,
        )
        return summed_by_kind(parts_of(losses, processes))

    schedule = Schedule(
        plan.steps,
        plan.warmup,
        clip=plan.clip,
        seed=plan.seed,
        milestones=plan.milestones,
    )
    rates = MaftPlan(rate=plan.rate, tower_rate=plan.tower_rate, weight_decay=plan.weight_decay)
    groups = optimiser_groups(learning.student, [learning.tower], rates)
    fit(learning, [], step_loss, schedule, out / "gkc", groups=groups, processes=processes)
    learning.eval()
    share_statistics(learning.tower, processes)
    tuned = {n: v for n, v in learning.tower.state_dict().items() if not n.startswith("attnpool.")}
    training: Mapping[str, Any] = {"plan": dataclasses.asdict(plan), "photos": len(photos.photos)}
    trained = TrainedGkc(learning.student.head, tower.sha256, said_names(words, plan.losses), tuned, training)
    with processes.main_process_first():
        return save_gkc_head(trained, out / FILE) if processes.first else out / FILE


def _learning(tower: ResNetTower, plan: GkcPhotoPlan, joint: int) -> _Learning:
    pixels = PixelDecoderConfig(
        pyramid_channels(tower.visual), plan.width, plan.pixel_feedforward, plan.pixel_layers
    )
    masks = MaskDecoderConfig(joint, plan.width, plan.queries, plan.mask_feedforward, plan.mask_layers)
    student = copy.deepcopy(tower.visual).requires_grad_(True)
    student.attnpool.requires_grad_(False)
    return _Learning(student, StudentModel(GkcHeadConfig(pixels, masks)))


@torch.no_grad()
def share_statistics(tower: nn.Module, processes: Processes) -> None:
    """Make running means and variances, in place, the means over processes: each saw its own photos."""
    for statistics in tower.buffers():
        if statistics.is_floating_point():
            statistics.copy_(processes.add(statistics) / processes.count)


def _crop(sample: Sample, plan: GkcPhotoPlan, seed: int) -> Sample:
    low, high = (max(STRIDE, round(part * plan.side)) for part in plan.jitter)
    return crop_sample(sample, plan.side, (low, high), np.random.default_rng(seed))


def target_of(sample: Sample, seen: Mapping[str, int]) -> Target:
    """Masks of a crop's objects that hold a few pixels, their classes, and where nobody knows.

    Args:
        sample: labels by object.
        seen: place of each seen class.
    """
    labels = torch.from_numpy(sample.labels.astype(np.int64))
    areas = torch.bincount(labels[labels >= 0], minlength=len(sample.groups))
    kept = [index for index in range(len(sample.groups)) if areas[index] >= LEAST_PIXELS]
    classes = [seen[sample.groups[i][0]] if sample.groups[i] else UNLISTED for i in kept]
    masks = labels[None] == torch.tensor(kept, dtype=torch.long)[:, None, None]
    ignored = (labels < 0) & (labels != UNLISTED)
    return Target(torch.tensor(classes, dtype=torch.long), masks, ignored)


def _pixels(crops: Sequence[NDArray[np.uint8]], device: torch.device) -> Tensor:
    """Crops as the student sees them, (B, 3, side, side)."""
    mean: Channels = IMAGENET_MEAN
    stacked = torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2).float().to(device) / 255
    return torch.stack([normalised(crop, mean, IMAGENET_STD) for crop in stacked])


def _nouns(
    captions: Mapping[int, Sequence[str]], photo: Path, known: Mapping[str, str], rng: np.random.Generator
) -> tuple[str, ...]:
    """Nouns of one caption of a photo, or none."""
    own = captions.get(int(photo.stem), ())
    return some_nouns(caption_nouns(own[int(rng.integers(len(own)))], known), rng) if own else ()


def gkc_photo_plan(values: Mapping[str, Any]) -> GkcPhotoPlan:
    """The recipe with `values` in it, as JSON writes them.

    Raises:
        ValueError: for a name that the recipe does not have, or a value out of range.
    """
    return plan_from_json(GkcPhotoPlan(), values)
