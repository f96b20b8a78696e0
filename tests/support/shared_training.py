"""Small runs that several processes can share; as a script one of those processes.

`python tests/shared_training.py OUT` with the variables that `accelerate launch` sets.
"""

import os
import sys
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from instance_toys import SMALL_GKC_PHOTOS, SMALL_HEAD, make_instances, toy_resnet, toy_tower
from torch import nn
from training_toys import make_camvid, make_pets

from ovs_core.training import gkc_photos, mask_tuning
from ovs_core.training.fc_clip import MaskSources, train_fc_clip
from ovs_core.training.gkc import gkc_plan, train_gkc
from ovs_core.training.gkc_photos import gkc_photo_plan, train_gkc_photos
from ovs_core.training.loop import Schedule, fit
from ovs_core.training.mask_plans import FcClipPlan, TuningPlan
from ovs_core.training.plans import plan_from_json
from ovs_core.training.processes import SINGLE_PROCESS, Mean, Processes, parts_of, started

STEPS, SAVED = 9, 4
CROPS = {"count": 8, "side": 64, "short_side": [64, 72], "pastes": 2}
FC_CLIP = {**SMALL_HEAD, "crops": CROPS, "steps": 4, "batch": 5}
TUNING = {"count": 8, "steps": 3, "batch": 3}
GKC = {**SMALL_HEAD, "class_width": 40, "crops": CROPS, "steps": 4, "batch": 5}
GKC["losses"] = {"points": GKC.pop("points"), "grounding": 0.0}


class PowerCutError(Exception):
    """The run ends here."""


def make_sources(root: Path) -> MaskSources:
    """Toy photos: some crops of them hold several masks, some none."""
    return MaskSources(make_instances(root / "coco"), make_pets(root / "pets"), make_camvid(root / "camvid"))


def line(out: Path, processes: Processes = SINGLE_PROCESS, stop_at: int | None = None) -> nn.Module:
    """Fit five points a step, of which only those with a positive first number count for the second loss."""
    torch.manual_seed(3)
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2))
    unused = nn.Linear(2, 2)  # never gets a gradient, so weight decay must not move it

    def step_loss(step: int, rng: np.random.Generator) -> dict[str, torch.Tensor]:
        if step == stop_at:
            raise PowerCutError
        rows = processes.shard(torch.from_numpy(rng.standard_normal((5, 4)).astype(np.float32)))
        noise = processes.shard(0.01 * torch.randn(5, 2))
        wrong = (model(rows) + noise - rows[:, :2]) ** 2
        counted = rows[:, 0] > 0
        second = (wrong[:, 1] * counted).sum() / counted.sum().clamp(min=1)
        means = {
            "first": Mean(wrong[:, 0].mean(), torch.tensor(len(rows))),
            "second": Mean(second, counted.sum()),
        }
        return parts_of(means, processes)

    plan = Schedule(STEPS, warmup=2, ema=0.9, log_every=3, save_every=SAVED)
    fit(model, [(model, 0.03), (unused, 0.03)], step_loss, plan, out, processes=processes)
    return nn.ModuleList([model, unused])


def make_start(sources: MaskSources, out: Path) -> Path:
    """A head to tune the tower for, trained until its masks hold cells of the dense map."""
    plan = plan_from_json(FcClipPlan(), {**FC_CLIP, "steps": 8, "rate": 3e-3})
    return train_fc_clip(toy_tower(), sources, plan, out)


def heads(
    sources: MaskSources, start: Path, out: Path, processes: Processes = SINGLE_PROCESS
) -> tuple[Path, ...]:
    """A head for FC-CLIP, the toy tower tuned for the head `start`, and a head for GKC.

    In single precision and with a large eps: where a gradient is no more than rounding, AdamW goes by its
    sign, and a batch and its parts round differently, by how much depends on the processor.
    """
    plan, tuning = plan_from_json(FcClipPlan(), FC_CLIP), plan_from_json(TuningPlan(), TUNING)
    smooth = partial(torch.optim.AdamW, eps=1e-3)
    with (
        patch.object(torch.optim, "AdamW", smooth),
        patch.object(mask_tuning, "quick_bfloat16", lambda _: nullcontext()),
    ):
        return (
            train_fc_clip(toy_tower(), sources, plan, out / "fc", processes=processes),
            mask_tuning.train_maft_plus(
                toy_tower(), sources, start, tuning, out / "maft", processes=processes
            ),
            train_gkc(toy_tower(), sources, gkc_plan(GKC), out / "gkc", processes=processes),
        )


def photos(sources: MaskSources, out: Path, processes: Processes) -> Path:
    """GKC's official recipe on a toy ResNet; all processes must end with equal weights and statistics.

    Batch normalisation goes by the photos of each process, so this is not what one process learns.
    """
    learnt = []

    def watched(model: nn.Module, *arguments: Any, **settings: Any) -> None:
        fit(model, *arguments, **settings)
        learnt.append(model)

    plan = gkc_photo_plan({**SMALL_GKC_PHOTOS, "batch": 4})
    with patch.object(gkc_photos, "fit", watched):
        path = train_gkc_photos(toy_resnet(), sources.coco, plan, out / "photos", processes=processes)
    for name, value in learnt[0].state_dict().items():
        assert torch.equal(processes.add(value.clone()), value * processes.count), name
    return path


def work(root: Path) -> None:
    """What one process of the test does; `root / "line.pt"` holds the fitted weights."""
    with started("cpu", os.environ) as (processes, _):
        try:
            line(root / "line", processes, stop_at=SAVED + 1)
        except PowerCutError:
            model = line(root / "line", processes)
        sources = MaskSources(root / "coco", root / "pets", root / "camvid")
        heads(sources, root / "start" / "fc_clip.safetensors", root, processes)
        photos(sources, root, processes)
        if processes.first:
            torch.save(model.state_dict(), root / "line.pt")


if __name__ == "__main__":
    work(Path(sys.argv[1]))
