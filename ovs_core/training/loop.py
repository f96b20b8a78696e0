"""One training loop: seeded by step, resumable, logged as JSON lines.

Recipes bring the model and the loss of a step.
"""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from ovs_core.checkpoints import read_training_state
from ovs_core.training.processes import SINGLE_PROCESS, Processes, all_reduce

log = logging.getLogger(__name__)

StepLoss = Callable[[int, np.random.Generator], Mapping[str, Tensor]]


@dataclass(frozen=True)
class Schedule:
    """How long and how fast.

    Attributes:
        steps: optimiser steps.
        warmup: steps of linear warm-up; afterwards the rate follows half a cosine to 0.
        weight_decay: AdamW's, on matrices only.
        clip: gradient norm limit.
        ema: decay of the weight average that is kept as the result, 0 for none.
        seed: step t draws from generator (seed, t), so a resumed run sees the same batches.
        log_every, save_every: in steps.
        power: 0 for half a cosine; otherwise the rate falls as (1 - part done) to this power.
        floor: part of the peak rate that it falls to, in [0, 1].
        milestones: steps after which the rate is a tenth of what it was, instead of either.
    """

    steps: int
    warmup: int = 50
    weight_decay: float = 0.05
    clip: float = 1.0
    ema: float = 0.0
    seed: int = 0
    log_every: int = 25
    save_every: int = 200
    power: float = 0.0
    floor: float = 0.0
    milestones: tuple[int, ...] = ()


def parameter_groups(
    parts: Iterable[tuple[nn.Module, float]], weight_decay: float
) -> list[dict[str, object]]:
    """AdamW groups: one learning rate per part, weight decay on tensors with two or more axes only."""
    groups: list[dict[str, object]] = []
    for module, rate in parts:
        tensors = [p for p in module.parameters() if p.requires_grad]
        for chosen, decay in (
            ([p for p in tensors if p.ndim > 1], weight_decay),
            ([p for p in tensors if p.ndim < 2], 0.0),
        ):
            if chosen:
                groups.append({"params": chosen, "lr": rate, "weight_decay": decay})
    return groups


def fit(
    model: nn.Module,
    parts: list[tuple[nn.Module, float]],
    step_loss: StepLoss,
    plan: Schedule,
    out: Path,
    *,
    groups: list[dict[str, object]] | None = None,
    processes: Processes = SINGLE_PROCESS,
) -> None:
    """Train `model` in place; with `plan.ema` its weights end as the running average.

    Args:
        model: holds every trained tensor; its state is what a resume file keeps.
        parts: (module, peak learning rate); only these are trained.
        step_loss: (step, generator) to named scalar losses; the sum of all is minimised. Of several processes
            each gives its part of them (`ovs_core.training.processes.parts_of`).
        plan: the schedule.
        out: folder for `log.jsonl` and, while training goes on, `state.pt`. A run that finds that file goes
            on from it and ends with the same weights, bit for bit, as one that was never stopped.
        groups: AdamW groups instead of those that `parts` make.
        processes: those that train together; all begin with equal weights. The first one writes.
    """
    out.mkdir(parents=True, exist_ok=True)
    optimizer = torch.optim.AdamW(groups or parameter_groups(parts, plan.weight_decay))
    factor = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, plan))
    trained = [p for group in optimizer.param_groups for p in group["params"]]
    average = [p.detach().clone() for p in trained] if plan.ema else []
    first = _resume(out / "state.pt", model, optimizer, factor, average)
    started = time.monotonic()
    for step in range(first, plan.steps):
        seed_torch(plan.seed, step)
        losses = step_loss(step, np.random.default_rng((plan.seed, step)))
        total = torch.stack(list(losses.values())).sum()
        optimizer.zero_grad(set_to_none=True)
        total.backward()  # type: ignore[no-untyped-call]
        losses = all_reduce(trained, losses, processes)
        norm = nn.utils.clip_grad_norm_(trained, plan.clip)
        optimizer.step()
        factor.step()
        _move_average(average, trained, min(plan.ema, (1 + step) / (10 + step)))
        if not processes.first:
            continue
        if (step + 1) % plan.log_every == 0 or step + 1 == plan.steps:
            seconds = time.monotonic() - started
            _write_line(out / "log.jsonl", step + 1, seconds, {"grad_norm": norm, **losses})
        if (step + 1) % plan.save_every == 0 and step + 1 < plan.steps:
            _save(out / "state.pt", step + 1, model, optimizer, factor, average)
    with torch.no_grad():
        for parameter, mean in zip(trained, average, strict=bool(average)):
            parameter.copy_(mean)
    if processes.first:
        (out / "state.pt").unlink(missing_ok=True)


def seed_torch(seed: int, step: int) -> None:
    """Put torch's generator where step `step` of a run with `seed` starts."""
    torch.manual_seed(seed * 1_000_003 + step)


def _write_line(path: Path, step: int, seconds: float, values: Mapping[str, Tensor]) -> None:
    line = {"step": step, "seconds": round(seconds, 1)}
    line |= {name: round(float(value.detach()), 4) for name, value in values.items()}
    log.info("%s", line)
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


def _rate(step: int, plan: Schedule) -> float:
    """Part of the peak learning rate that step `step` takes, in [0, 1]."""
    if step < plan.warmup:
        return (step + 1) / plan.warmup
    if plan.milestones:
        return 0.1 ** sum(step >= milestone for milestone in plan.milestones)
    done = (step - plan.warmup) / max(1, plan.steps - plan.warmup)
    left = (1 - done) ** plan.power if plan.power else 0.5 * (1 + math.cos(math.pi * done))
    return plan.floor + (1 - plan.floor) * left


@torch.no_grad()
def _move_average(average: list[Tensor], trained: list[Tensor], decay: float) -> None:
    """Move `average`, in place, by 1 - `decay` of the way to `trained`; empty where none is kept."""
    if average:
        torch._foreach_lerp_(average, trained, 1 - decay)


def _save(
    path: Path,
    step: int,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    factor: torch.optim.lr_scheduler.LambdaLR,
    average: list[Tensor],
) -> None:
    """Write everything that the next step depends on; a write that is cut leaves the old file."""
    state = {
        "step": step,
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "factor": factor.state_dict(),
        "average": average,
    }
    temporary = path.with_suffix(".part")
    torch.save(state, temporary)
    temporary.replace(path)


def _resume(
    path: Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    factor: torch.optim.lr_scheduler.LambdaLR,
    average: list[Tensor],
) -> int:
    """Continue from `path` if it is there; returns the first step to do."""
    if not path.exists():
        return 0
    state = read_training_state(path)
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    factor.load_state_dict(state["factor"])
    for mean, saved in zip(average, state["average"], strict=True):
        mean.copy_(saved)
    log.info("resumed at step %d from %s", state["step"], path)
    return int(state["step"])
