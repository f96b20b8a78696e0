"""MAFT+ on the embedded tower: its transformer learns to follow the masks of a trained head, which stays.

Paper: arXiv 2408.00744; losses in `ovs_core.training.losses`. The stem and with it all maps that masks are
made of stay as they are: masks are the same before and after, naming changes. So the masks of a fixed set of
crops and the dense maps of the tower as it was are made once; a step runs the transformer forth and back.

Deviations from the official recipe: the head comes trained and stays; of the tower the transformer alone is
tuned; masks whose class is not asked about do not count.
"""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import json
import logging
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ovs_core.checkpoints import CheckpointError
from ovs_core.devices import quick_bfloat16
from ovs_core.encoders.mini_pyramid import dense_map, vectors_to_joint_space
from ovs_core.evidence.base import class_counts
from ovs_core.methods.mask_classification.head import MaskHead
from ovs_core.methods.mask_classification.head_file import TrainedHead, load_mask_head
from ovs_core.training.fc_clip import (
    PART,
    MaskSources,
    MaskTower,
    open_crops,
    save_first,
    seen_names,
)
from ovs_core.training.loop import Schedule, fit
from ovs_core.training.losses import Target
from ovs_core.training.maft_plus import (
    TrainingTower,
    tower_logits,
    weighted_compensation,
    weighted_mask_aware,
)
from ovs_core.training.mask_crops import MaskCrops
from ovs_core.training.mask_photos import CocoInstances
from ovs_core.training.mask_plans import FcClipPlan, TuningPlan
from ovs_core.training.plans import keep_recipe, plan_from_json
from ovs_core.training.processes import SINGLE_PROCESS, Processes, parts_of
from ovs_core.types import UNLISTED

log = logging.getLogger(__name__)

TUNED = "transformer.resblocks."  # names of the tower's tensors that are trained
_BATCH = 8  # crops that the head sees at once
_WARMUP = 20  # steps


@dataclass(frozen=True, eq=False)
class FrozenViews:
    """What does not change while the tower is tuned; arrays are mapped from disk.

    Attributes:
        masks: logits of the head's last masks, (n, N, side / 4, side / 4) float16.
        dense: the tower's dense maps before tuning, (n, C, side / 16, side / 16) float16.
    """

    masks: NDArray[np.float16]
    dense: NDArray[np.float16]


def train_maft_plus(
    tower: MaskTower,
    sources: MaskSources,
    start: Path,
    plan: TuningPlan,
    out: Path,
    *,
    cache: Path | None = None,
    processes: Processes = SINGLE_PROCESS,
) -> Path:
    """Tune the tower for the masks of a trained head, and train the transfer of names.

    Args:
        tower: the embedded model.
        sources: folders.
        start: file of an FC-CLIP head for this tower.
        plan: the recipe.
        out: working folder; `maft_plus.safetensors` ends there.
        cache: folder of the head's crops; `out / "crops"` by default, where they are made anew.
        processes: those that train together, all with the same folders.

    Returns:
        Path of that file.

    Raises:
        CheckpointError: if `start` is not such a file.
        FileExistsError: if `out` holds a run of another recipe.
        ValueError, OSError: if a folder does not hold what it should, or a step cannot be shared.
    """
    given = load_mask_head(start, tower.sha256, method="fc_clip")
    before = _first_plan(given, start)
    digest = hashlib.sha256(start.read_bytes()).hexdigest()
    with processes.main_process_first():
        keep_recipe(dataclasses.asdict(plan) | {"tower": tower.sha256, "head": digest}, out)
    coco = CocoInstances(sources.coco, PART, frozenset(before.hold_out))
    seen = seen_names(coco, sources.more, tower.text, before.templates)
    cache = cache or out / "crops"
    device = tower.log_scale.device
    with processes.main_process_first():
        crops = open_crops(tower, sources, coco, seen, before.crops, cache)
        number = min(plan.count, len(crops))
        views = _frozen_views(given.head.to(device), tower, crops, number, digest, cache)
    learner = TunedTower(tower, given.head, plan)
    counts = class_counts(seen.vocabulary)
    asked = [row for row in range(number) if (crops.classes[row] >= 0).any()]
    if not asked:
        raise ValueError(f"{sources.coco} shows no object of a class that is learnt.")
    batch = min(plan.batch, len(asked))
    processes.shard(range(batch))  # or a sentence now

    def step_loss(step: int, rng: np.random.Generator) -> dict[str, Tensor]:
        rows = processes.shard(rng.choice(asked, size=batch, replace=False).tolist())
        masks = torch.from_numpy(views.masks[rows]).to(device).float()
        with quick_bfloat16(device):  # on a CPU nearly twice as fast
            dense = learner.dense(torch.from_numpy(crops.sixteenth[rows]).to(device).float())
        dense = dense.float()
        logits = tower_logits(learner.head, learner.reading, dense, masks, seen.rows, counts)[..., :-1]
        targets = [_with_class(target.to(device)) for target in crops.targets(rows)]
        losses = {"ranking_loss": weighted_mask_aware(plan.mask_aware, logits, masks, targets)}
        if plan.compensation:
            teacher = torch.from_numpy(views.dense[rows]).to(device).float()
            losses["rc_loss"] = weighted_compensation(plan.compensation, dense, teacher)
        return parts_of(losses, processes)

    schedule = Schedule(
        plan.steps,
        warmup=min(_WARMUP, plan.steps // 5),
        weight_decay=plan.weight_decay,
        clip=plan.clip,
        seed=plan.seed,
        save_every=100,
    )
    parts = learner.parts(plan)
    fit(learner, parts, step_loss, schedule, out / "maft_plus", processes=processes)
    training = {
        "plan": dataclasses.asdict(plan),
        "head": dict(given.training),
        "photos": len(coco.photos),
    }
    trained = TrainedHead(
        "maft_plus", learner.head.eval(), tower.sha256, seen.names, learner.tuned(), training
    )
    return save_first(trained, out / "maft_plus.safetensors", processes)


class TunedTower(nn.Module):
    """A copy of the image tower whose transformer learns, and a copy of the head with a transfer of its own.

    Args:
        tower: the embedded model; unchanged.
        head: trained, without transfer; unchanged.
        plan: the recipe; without `transfer` the transfer changes nothing and does not learn.
    """

    def __init__(self, tower: MaskTower, head: MaskHead, plan: TuningPlan) -> None:
        super().__init__()
        self.visual = copy.deepcopy(tower.visual).requires_grad_(False)
        self.visual.transformer.requires_grad_(True)
        torch.manual_seed(plan.seed)
        self.head = MaskHead(dataclasses.replace(head.config, transfer="panoptic"))
        self.head.load_state_dict(head.state_dict(), strict=False)
        self.head.requires_grad_(False)
        if self.head.cdt is not None:
            nn.init.constant_(self.head.cdt.norm.weight, plan.transfer_gain)
            self.head.cdt.requires_grad_(plan.transfer)
        self.head.to(tower.log_scale.device)
        self.reading = TrainingTower(
            maps=_no_maps,
            teacher=None,
            to_joint_space=partial(vectors_to_joint_space, self.visual),
            logit_scale=tower.log_scale,
        )

    def dense(self, sixteenth: Tensor) -> Tensor:
        """Dense map (B, C, h, w) of the map at stride 16, whose first channels are the stem's patches."""
        return dense_map(self.visual, sixteenth[:, : self.visual.conv1.mix.out_channels])

    def parts(self, plan: TuningPlan) -> list[tuple[nn.Module, float]]:
        """What learns, and how fast."""
        parts: list[tuple[nn.Module, float]] = [(self.visual.transformer, plan.tower_rate)]
        if plan.transfer and self.head.cdt is not None:
            parts.append((self.head.cdt, plan.transfer_rate))
        return parts

    def tuned(self) -> dict[str, Tensor]:
        """Tensors of the image tower that learnt."""
        state = self.visual.state_dict()
        return {name: value for name, value in state.items() if name.startswith(TUNED)}


def _no_maps(pixels: Tensor) -> tuple[tuple[Tensor, ...], Tensor]:
    raise ValueError("pixels are not read: maps are made once")


def _with_class(target: Target) -> Target:
    """Masks whose class is known."""
    kept = target.classes != UNLISTED
    return Target(target.classes[kept], target.masks[kept])


def _first_plan(given: TrainedHead, path: Path) -> FcClipPlan:
    """Recipe that the head was trained with."""
    try:
        return plan_from_json(FcClipPlan(), given.training["plan"])
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path} does not say how it was trained: {error}.") from error


@torch.no_grad()
def _frozen_views(
    head: MaskHead, tower: MaskTower, crops: MaskCrops, number: int, digest: str, folder: Path
) -> FrozenViews:
    """Masks and dense maps of the first `number` crops, made or found in `folder`."""
    settings = json.dumps([digest, tower.sha256, number, list(crops.sixteenth.shape)])
    key = hashlib.sha256(settings.encode() + crops.labels[:8].tobytes()).hexdigest()[:12]
    paths = {name: folder / f"{name}-{key}.npy" for name in ("masks", "dense")}
    if not all(path.exists() for path in paths.values()):
        stored: dict[str, np.memmap[Any, Any]] = {}
        width = tower.visual.conv1.mix.out_channels
        for start in range(0, number, _BATCH):
            rows = list(range(start, min(start + _BATCH, number)))
            maps = [level.to(tower.log_scale.device) for level in crops.maps(rows)]
            last = head.mask_decoder(head.pixel_decoder(maps)).predictions[-1]
            views = {"masks": last.masks, "dense": dense_map(tower.visual, maps[2][:, :width])}
            for name, values in views.items():
                if name not in stored:
                    shape = (number, *values.shape[1:])
                    partial_path = paths[name].with_suffix(".part")
                    stored[name] = np.lib.format.open_memmap(
                        partial_path, mode="w+", dtype=np.float16, shape=shape
                    )
                stored[name][rows[0] : rows[-1] + 1] = values.half().cpu().numpy()
        for name, values in stored.items():
            values.flush()
            paths[name].with_suffix(".part").replace(paths[name])
        log.info("masks of %d crops", number)
    return FrozenViews(**{name: np.load(path, mmap_mode="r") for name, path in paths.items()})
