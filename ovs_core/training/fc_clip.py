"""FC-CLIP's head for the embedded tower: decoders learn from crops whose features are made once.

The tower is frozen (arXiv 2308.02487), so its maps of a fixed set of crops are all that training reads.
Losses, matching and points are those of `ovs_core.training.maft_plus`; what differs from the official recipe
is in `ovs_core.training.mask_plans`. Objects of held-out classes and of places that nobody drew are neither a
class nor "no object": queries that fall on them do not count.
"""

from __future__ import annotations

import dataclasses
import hashlib
import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from open_clip.transformer import VisionTransformer
from torch import Tensor, nn

from ovs_core.checkpoints import load_strict
from ovs_core.decoders.deformable import DeformableAttention
from ovs_core.decoders.mask_decoder import DecoderLayer, MaskDecoderConfig
from ovs_core.decoders.pixel_decoder import PixelDecoderConfig
from ovs_core.encoders.mini_pyramid import pyramid_channels
from ovs_core.encoders.text import TextEncoder
from ovs_core.evidence.base import class_counts
from ovs_core.methods.mask_classification.head import MaskHead, MaskHeadConfig
from ovs_core.methods.mask_classification.head_file import TrainedHead, load_mask_head, save_mask_head
from ovs_core.training.data import SYNONYMS, CamVid, Pets
from ovs_core.training.loop import Schedule, fit
from ovs_core.training.losses import BatchPart, draw_from
from ovs_core.training.maft_plus import MaftPlan, head_losses, optimiser_groups
from ovs_core.training.mask_crops import MaskCrops, cache_mask_crops, mask_sampler
from ovs_core.training.mask_photos import CocoInstances, SegmentSource
from ovs_core.training.mask_plans import FcClipPlan, MaskCropPlan
from ovs_core.training.plans import keep_recipe
from ovs_core.training.processes import SINGLE_PROCESS, Processes, parts_of
from ovs_core.types import Vocabulary
from ovs_core.vocabulary import TEMPLATES

log = logging.getLogger(__name__)

PART = "train2017"  # sub-folder of COCO's images that is learnt from
WARMUP = 100  # steps


@dataclass(frozen=True, eq=False)
class MaskTower:
    """What training reads of the embedded model; training runs where `log_scale` lives.

    Attributes:
        visual: image tower.
        text: text tower.
        log_scale: logarithm of the model's own scale.
        sha256: of the weights.
    """

    visual: VisionTransformer
    text: TextEncoder
    log_scale: Tensor
    sha256: str


@dataclass(frozen=True)
class MaskSources:
    """Folders to learn from, a missing one is left out; and further photos by the name that a plan draws."""

    coco: Path
    pets: Path | None = None
    camvid: Path | None = None
    more: Mapping[str, SegmentSource] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class SeenNames:
    """Classes that training learns, and their words.

    Attributes:
        classes: names as the data set has them; a mask's class is a place in this list.
        vocabulary: the same with synonyms.
        rows: unit embeddings of all its names, (S, D).
    """

    classes: tuple[str, ...]
    vocabulary: Vocabulary
    rows: Tensor

    @property
    def names(self) -> frozenset[str]:
        """Every name, synonyms included."""
        return frozenset(self.vocabulary.rows)


def train_fc_clip(
    tower: MaskTower,
    sources: MaskSources,
    plan: FcClipPlan,
    out: Path,
    *,
    start: Path | None = None,
    processes: Processes = SINGLE_PROCESS,
) -> Path:
    """Train a head on the frozen tower.

    Args:
        tower: the embedded model.
        sources: folders.
        plan: the recipe.
        out: working folder; `fc_clip.safetensors` ends there.
        start: file of a head to start from, which an earlier version of the tower may have been frozen for.
        processes: those that train together, all with the same folders.

    Returns:
        Path of that file.

    Raises:
        CheckpointError: if `start` is no such file, or of another size.
        FileExistsError: if `out` holds a run of another recipe.
        ValueError, OSError: if a folder does not hold what it should, or a step cannot be shared.
    """
    processes.shard(range(plan.batch))  # or a sentence now
    before = None if start is None else load_mask_head(start, None, method="fc_clip")
    origin = None if start is None else hashlib.sha256(start.read_bytes()).hexdigest()
    with processes.main_process_first():
        keep_recipe(dataclasses.asdict(plan) | {"tower": tower.sha256, "start": origin}, out)
    coco = CocoInstances(sources.coco, PART, frozenset(plan.hold_out))
    seen = seen_names(coco, sources.more, tower.text, plan.templates)
    with processes.main_process_first():
        crops = open_crops(tower, sources, coco, seen, plan.crops, out / "crops")
    torch.manual_seed(plan.seed)
    head = MaskHead(head_config(plan, pyramid_channels(tower.visual), seen.rows.shape[1]))
    start_head(head)
    if before is not None:
        load_strict(head, before.head.state_dict(), source=str(start))
    device = tower.log_scale.device
    head.to(device)
    log.info("%.2f M parameters", sum(p.numel() for p in head.parameters()) / 1e6)
    recipe = MaftPlan(points=plan.points, mask_aware=0.0, rate=plan.rate, weight_decay=plan.weight_decay)
    draw = draw_from(None, device)
    counts = class_counts(seen.vocabulary)

    def step_loss(step: int, rng: np.random.Generator) -> dict[str, Tensor]:
        rows = rng.choice(len(crops), size=plan.batch, replace=False).tolist()
        shard = processes.shard(rows)
        maps = [level.to(device) for level in crops.maps(shard)]
        targets = [target.to(device) for target in crops.targets(shard)]
        part = BatchPart(crops.mask_counts(rows), processes.shard(range(len(rows))))
        losses = head_losses(head, maps, seen.rows, counts, targets, recipe, draw, part=part).losses
        return summed(parts_of(losses, processes))

    schedule = Schedule(
        plan.steps,
        warmup=min(WARMUP, plan.steps // 5),
        clip=plan.clip,
        ema=plan.ema,
        seed=plan.seed,
        save_every=100,
    )
    groups = optimiser_groups(head, (), recipe)
    fit(head, [], step_loss, schedule, out / "fc_clip", groups=groups, processes=processes)
    training = {"plan": dataclasses.asdict(plan), "photos": len(coco.photos)}
    if before is not None:
        training["start"] = {"tower": before.tower, **before.training}
    trained = TrainedHead("fc_clip", head.eval(), tower.sha256, seen.names, training=training)
    return save_first(trained, out / "fc_clip.safetensors", processes)


def save_first(trained: TrainedHead, path: Path, processes: Processes) -> Path:
    """Let the first process write a head; all return its path when it is there."""
    with processes.main_process_first():
        return save_mask_head(trained, path) if processes.first else path


def summed(losses: dict[str, Tensor]) -> dict[str, Tensor]:
    """Losses of all predictions added up by kind ("loss_ce", "loss_mask", "loss_dice"), for the log."""
    totals: dict[str, Tensor] = {}
    for name, loss in losses.items():
        kind = "_".join(name.split("_")[:2])
        totals[kind] = totals[kind] + loss if kind in totals else loss
    return totals


def open_crops(
    tower: MaskTower,
    sources: MaskSources,
    coco: CocoInstances,
    seen: SeenNames,
    plan: MaskCropPlan,
    folder: Path,
) -> MaskCrops:
    """Crops of the sources that are there, made or found in `folder`."""
    pets = None if sources.pets is None else Pets(sources.pets)
    camvid = None if sources.camvid is None else CamVid(sources.camvid)
    photos = [path.name for source in (coco, pets, camvid) if source is not None for path in source.photos]
    photos += [f"{name}/{photo}" for name, source in sources.more.items() for photo in source.photos]
    sampler = mask_sampler(coco, pets, camvid, plan, sources.more)
    return cache_mask_crops(tower.visual, tower.sha256, sampler, seen.classes, plan, folder, photos)


def seen_names(
    coco: CocoInstances, more: Mapping[str, SegmentSource], text: TextEncoder, templates: str
) -> SeenNames:
    """Classes that are not held out, with the words people use for them."""
    names = tuple(dict.fromkeys([*coco.seen, *(name for source in more.values() for name in source.names)]))
    vocabulary = Vocabulary(tuple(SYNONYMS.get(name, (name,)) for name in names))
    rows = text.embed(vocabulary, TEMPLATES[templates]).embeddings
    return SeenNames(names, vocabulary, rows)


def head_config(plan: FcClipPlan, inputs: tuple[int, int, int, int], joint: int) -> MaskHeadConfig:
    """Sizes of the head of a recipe on a tower's maps."""
    pixels = PixelDecoderConfig(inputs, plan.width, plan.feedforward, plan.pixel_layers)
    masks = MaskDecoderConfig(joint, plan.width, plan.queries, plan.feedforward, plan.mask_layers)
    return MaskHeadConfig(pixels, masks)


@torch.no_grad()
def start_head(head: nn.Module) -> None:
    """Set weights as Mask2Former does before training (Deformable DETR's start of the offsets).

    The points of attention head t first lie on a ray of their own, point i at distance i + 1, all equally
    weighted; matrices of attention and networks are drawn by Xavier's rule.
    """
    for module in head.modules():
        if isinstance(module, DecoderLayer):
            for parameter in module.parameters():
                if parameter.ndim > 1:
                    nn.init.xavier_uniform_(parameter)
        elif isinstance(module, DeformableAttention):
            for layer in (module.sampling_offsets, module.attention_weights):
                nn.init.zeros_(layer.weight)
                nn.init.zeros_(layer.bias)
            for layer in (module.value_proj, module.output_proj):
                nn.init.xavier_uniform_(layer.weight)
                nn.init.zeros_(layer.bias)
            module.sampling_offsets.bias.copy_(_rays(module.heads, module.levels, module.points))


def _rays(heads: int, levels: int, points: int) -> Tensor:
    """Offsets (x, y) of every head, level and point, flat."""
    angles = torch.arange(heads) * (2 * math.pi / heads)
    rays = torch.stack([angles.cos(), angles.sin()], dim=1)
    rays = rays / rays.abs().amax(dim=1, keepdim=True)  # on the edge of a square
    steps = torch.arange(1, points + 1.0)
    return (rays[:, None, None] * steps[None, None, :, None]).expand(-1, levels, -1, -1).flatten()
