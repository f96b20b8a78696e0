"""GKC's head for the embedded tower: decoders and projection learn from crops whose features are made once.

Paper: GKC (ICCV 2023, arXiv 2303.09181). The tower stays as it is, so the head is all that is learnt. The
teacher is the same frozen tower: its dense features averaged inside each true mask (the paper's form of a
region's embedding; the code's crops on grey would have to be looked at one by one). Captions tell of whole
photos and crops show parts, so there is no grounding here (`ovs_core.training.gkc_photos` has it).
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from open_clip.transformer import VisionTransformer
from torch import Tensor, nn

from ovs_core.checkpoints import load_strict, sha256_of
from ovs_core.decoders.mask_decoder import MaskDecoderConfig
from ovs_core.decoders.pixel_decoder import PixelDecoderConfig
from ovs_core.encoders.mini_pyramid import dense_map, pyramid_channels, vectors_to_joint_space
from ovs_core.methods.gkc.head_file import TrainedGkc, save_gkc_head
from ovs_core.methods.gkc.student import GkcHead, GkcHeadConfig, with_dense
from ovs_core.methods.gkc.synonyms import read_synonyms
from ovs_core.methods.gkc.teacher import teach_places
from ovs_core.methods.mask_classification.head_file import load_mask_head
from ovs_core.training.fc_clip import (
    PART,
    WARMUP,
    MaskSources,
    MaskTower,
    open_crops,
    seen_names,
    start_head,
)
from ovs_core.training.gkc_lessons import Words, learn_words, make_lesson, with_shared_length
from ovs_core.training.gkc_model import GkcLossPlan, GkcProjections, batch_losses
from ovs_core.training.loop import Schedule, fit
from ovs_core.training.losses import BatchPart, Target, draw_from
from ovs_core.training.maft_plus import MaftPlan, optimiser_groups
from ovs_core.training.mask_photos import CocoInstances
from ovs_core.training.mask_plans import HELD_OUT, MaskCropPlan
from ovs_core.training.plans import keep_recipe, plan_from_json
from ovs_core.training.processes import SINGLE_PROCESS, Processes, parts_of
from ovs_core.vocabulary import TEMPLATES

log = logging.getLogger(__name__)

FILE = "gkc.safetensors"


@dataclass(frozen=True)
class GkcPlan:
    """GKC on the embedded tower.

    Attributes:
        crops: what is learnt from.
        losses: weights and settings; `sampling` "plain" turns text diversification off, `distillation` and
            `structure` 0 turn the teacher off.
        width, queries, pixel_layers, mask_layers, feedforward: sizes, as in `FcClipPlan`.
        class_width: of a query's class feature (`GkcHeadConfig`); None takes `width`, as official code does.
        steps, batch, rate, weight_decay, clip, ema: of the optimiser, as there.
        templates: prompts that names are put in, from `ovs_core.vocabulary.TEMPLATES`.
        hold_out: class names that are never learnt: their instances do not count.
        seed: of everything that is drawn.
    """

    crops: MaskCropPlan = field(default_factory=MaskCropPlan)
    losses: GkcLossPlan = field(
        default_factory=lambda: GkcLossPlan(points=1024, grounding=0.0, own_masks=10.0)
    )
    width: int = 96
    queries: int = 50
    pixel_layers: int = 1
    mask_layers: int = 3
    feedforward: int = 384
    class_width: int | None = 1024
    steps: int = 1300
    batch: int = 4
    rate: float = 6e-4
    weight_decay: float = 0.05
    clip: float = 1.0
    ema: float = 0.995
    templates: str = "single1"
    hold_out: tuple[str, ...] = HELD_OUT
    seed: int = 0


def train_gkc(
    tower: MaskTower,
    sources: MaskSources,
    plan: GkcPlan,
    out: Path,
    *,
    start: Path | None = None,
    processes: Processes = SINGLE_PROCESS,
) -> Path:
    """Train a head on the frozen tower.

    Args:
        tower: what it learns on.
        sources: photos.
        plan: recipe.
        out: working folder; a stopped run goes on there.
        start: FC-CLIP's head of this tower and these sizes, whose decoders already propose masks; what names
            them is learnt anew. None starts as Mask2Former does (the paper). Few photos make few masks.
        processes: who shares the work.

    Returns:
        Path of the head's file, `gkc.safetensors` in `out`.

    Raises:
        CheckpointError: if `start` is no such head; else as `ovs_core.training.fc_clip.train_fc_clip`.
    """
    processes.shard(range(plan.batch))  # or a sentence now
    with processes.main_process_first():
        began = {} if start is None else {"start": sha256_of(start)}
        keep_recipe(dataclasses.asdict(plan) | {"tower": tower.sha256} | began, out)
    coco = CocoInstances(sources.coco, PART, frozenset(plan.hold_out))
    seen = seen_names(coco, sources.more, tower.text, plan.templates)
    table = read_synonyms()
    words = learn_words(seen.classes, table, tower.text, TEMPLATES[plan.templates], tower.log_scale)
    with processes.main_process_first():
        crops = open_crops(tower, sources, coco, seen, plan.crops, out / "crops")
    torch.manual_seed(plan.seed)
    model = StudentModel(head_config(plan, student_channels(tower.visual), words.plain.shape[1]))
    if start is not None:
        take_decoders(model.head, start, tower.sha256)
    device = tower.log_scale.device
    model.to(device)
    log.info("%.2f M parameters", sum(p.numel() for p in model.head.parameters()) / 1e6)
    draw = draw_from(None, device)

    def step_loss(step: int, rng: np.random.Generator) -> dict[str, Tensor]:
        rows = rng.choice(len(crops), size=plan.batch, replace=False).tolist()
        shard = processes.shard(rows)
        maps: Sequence[Tensor] = [level.to(device) for level in crops.maps(shard)]
        targets = [target.to(device) for target in crops.targets(shard)]
        dense = dense_of_crops(tower.visual, maps[2])
        regions = region_embeddings(tower.visual, dense, targets)
        every = plan.losses.pooling is not None
        rngs = processes.shard(rng.spawn(plan.batch))
        lesson = make_lesson(words, targets, regions, plan.losses.sampling, rngs, every_name=every)
        lesson = with_shared_length(lesson, processes)
        if plan.losses.own_masks:
            lesson = dataclasses.replace(lesson, dense=unit_cells(tower.visual, dense))
        part = BatchPart(crops.mask_counts(rows), processes.shard(range(len(rows))))
        maps = with_dense(maps, dense)
        # What is left out differs in number from process to process, all else must go on equal.
        own_draws = torch.Generator().manual_seed(int(rng.integers(1 << 32)) + processes.rank)
        losses = batch_losses(
            model.head, model.projections, maps, lesson, plan.losses, draw, part=part, generator=own_draws
        )
        return summed_by_kind(parts_of(losses, processes))

    schedule = Schedule(
        plan.steps, min(WARMUP, plan.steps // 5), clip=plan.clip, ema=plan.ema, seed=plan.seed, save_every=100
    )
    groups = optimiser_groups(model, (), MaftPlan(rate=plan.rate, weight_decay=plan.weight_decay))
    fit(model, [], step_loss, schedule, out / "gkc", groups=groups, processes=processes)
    training = {"plan": dataclasses.asdict(plan), "photos": len(coco.photos)}
    trained = TrainedGkc(model.head.eval(), tower.sha256, said_names(words, plan.losses), training=training)
    with processes.main_process_first():
        return save_gkc_head(trained, out / FILE) if processes.first else out / FILE


def take_decoders(head: GkcHead, start: Path, tower: str) -> None:
    """Give a head the pixel and mask decoder of FC-CLIP's; what it reads beyond that one begins at zero.

    Raises:
        CheckpointError: if the file is no head of FC-CLIP for this tower, or of other sizes.
    """
    given = load_mask_head(start, tower, method="fc_clip").head.state_dict()
    parts = ("pixel_decoder.", "mask_decoder.")
    kept = {name: value for name, value in head.state_dict().items() if not name.startswith(parts)}
    shared = {
        name: _widened(given[name], value)
        for name, value in head.state_dict().items()
        if name not in kept and name in given
    }
    load_strict(head, {**kept, **shared}, source=str(start))


def _widened(given: Tensor, wanted: Tensor) -> Tensor:
    """A convolution (C, n, 1, 1) with zeros for the inputs behind the n it knows; others as they are."""
    if given.ndim != 4 or wanted.ndim != 4 or given.shape[1] >= wanted.shape[1]:
        return given
    return F.pad(given, (0, 0, 0, 0, 0, wanted.shape[1] - given.shape[1]))


class StudentModel(nn.Module):
    """A head, started as Mask2Former starts, and what training has beside it.

    Args:
        config: sizes of the head.
    """

    def __init__(self, config: GkcHeadConfig) -> None:
        super().__init__()
        self.head = GkcHead(config)
        masks = config.masks
        self.projections = GkcProjections(config.class_width or masks.width, masks.joint, masks.layers)
        start_head(self.head)


@torch.no_grad()
def dense_of_crops(visual: VisionTransformer, sixteenth: Tensor) -> Tensor:
    """What leaves the frozen embedded tower, (B, C, h, w), for its maps at stride 16.

    These begin with the stem's patches; the rest is not looked at.
    """
    return dense_map(visual, sixteenth[:, : visual.conv1.mix.out_channels])


@torch.no_grad()
def region_embeddings(visual: VisionTransformer, dense: Tensor, targets: list[Target]) -> list[Tensor]:
    """What the frozen embedded tower makes of each true mask's region, (n, D) each.

    Args:
        visual: the tower.
        dense: of `dense_of_crops`.
        targets: masks.
    """
    return [teach_places(visual, own, target.masks) for own, target in zip(dense, targets, strict=True)]


@torch.no_grad()
def unit_cells(visual: VisionTransformer, dense: Tensor) -> Tensor:
    """The same of every cell of a dense map (B, C, h, w), unit, (B, D, h, w)."""
    cells = vectors_to_joint_space(visual, dense.flatten(2).transpose(1, 2)).float()
    unit = F.normalize(cells, dim=2).transpose(1, 2)
    return unit.reshape(len(dense), -1, dense.shape[2], dense.shape[3])


def head_config(plan: GkcPlan, inputs: tuple[int, int, int, int], joint: int) -> GkcHeadConfig:
    """Sizes of the head of a recipe on a tower's maps."""
    pixels = PixelDecoderConfig(inputs, plan.width, plan.feedforward, plan.pixel_layers)
    masks = MaskDecoderConfig(joint, plan.width, plan.queries, plan.feedforward, plan.mask_layers)
    return GkcHeadConfig(pixels, masks, reads_dense=True, class_width=plan.class_width)


def student_channels(visual: VisionTransformer) -> tuple[int, int, int, int]:
    """Channels of the four maps that a student on this embedded tower reads, finest first."""
    quarter, eighth, sixteenth, _ = pyramid_channels(visual)
    coarse = sixteenth + visual.class_embedding.shape[0]
    return quarter, eighth, coarse, coarse


def said_names(words: Words, losses: GkcLossPlan) -> frozenset[str]:
    """Every name that training said."""
    diversified = losses.sampling != "plain" or losses.pooling is not None
    return frozenset(name for names in words.synonyms for name in (names if diversified else names[:1]))


def summed_by_kind(losses: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Losses of all predictions added up by kind ("loss_syn", "loss_text_kd", ..), for the log."""
    summed: dict[str, Tensor] = {}
    for name, loss in losses.items():
        kind, _, number = name.rpartition("_")
        kind = kind if number.isdigit() else name
        summed[kind] = summed[kind] + loss if kind in summed else loss
    return summed


def gkc_plan(values: Mapping[str, Any]) -> GkcPlan:
    """The recipe with `values` in it, as JSON writes them; `crops` and `losses` may be in part too.

    Raises:
        ValueError: for a name that the recipe does not have.
    """
    return plan_from_json(GkcPlan(), values)
