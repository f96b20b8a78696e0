"""Several processes that train one model together, one GPU each, as `accelerate launch` starts them.

Equal seeds make every process draw the same batch and the same random numbers; each takes its own samples of
it and works out its part of the loss. Parts and their gradients are added up over processes, so a step is
that of one process with the whole batch, up to rounding. One process needs no package and adds nothing up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from ovs_core.devices import choose_compute

_PATIENCE = timedelta(hours=12)  # of processes that wait for the first one to make files
_LEAST_WEIGHT = 1e-6  # no division by zero where nothing counts

T = TypeVar("T")


def _itself(tensor: Tensor) -> Tensor:
    return tensor


def _at_once() -> None:
    return None


@dataclass(frozen=True)
class Processes:
    """Which process this is, and how it reaches the others.

    Attributes:
        rank: number of this process, from 0; the first one logs and saves.
        count: how many there are.
        add: sum of a tensor over processes; all must ask in the same order.
        wait: returns once all processes have come as far.
    """

    rank: int = 0
    count: int = 1
    add: Callable[[Tensor], Tensor] = _itself
    wait: Callable[[], None] = _at_once

    @property
    def first(self) -> bool:
        """Whether this is the process that logs and saves."""
        return self.rank == 0

    def shard(self, batch: Sequence[T]) -> Sequence[T]:
        """Samples of a batch that this process takes.

        Raises:
            ValueError: if there are fewer samples than processes.
        """
        if len(batch) < self.count:
            raise ValueError(
                f"a step of {len(batch)} crops cannot be shared by {self.count} processes; "
                "start fewer or set a larger batch."
            )
        return batch[self.rank :: self.count]

    @contextmanager
    def main_process_first(self) -> Iterator[None]:
        """Let the first process do the block before the others do, who then find its files."""
        if not self.first:
            self.wait()
        yield
        if self.first:
            self.wait()


SINGLE_PROCESS = Processes()


@contextmanager
def started(device: str, environment: Mapping[str, str]) -> Iterator[tuple[Processes, torch.device]]:
    """Join the processes that were started together; this process's place among them, and its device.

    Args:
        device: one of `ovs_core.devices.DEVICES`.
        environment: variables of this process; `accelerate launch` says there how many there are.

    Raises:
        ValueError: for a device that is not there, or that processes cannot share.
        ModuleNotFoundError: if there are several and accelerate is not installed.
    """
    chosen = choose_compute(device, "fp32").device
    if int(environment.get("WORLD_SIZE", "1")) == 1:
        yield SINGLE_PROCESS, chosen
        return
    if chosen.type == "mps":
        raise ValueError("several processes need a CUDA device each, or --device cpu.")
    try:
        from accelerate import PartialState
        from accelerate.utils import reduce
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("several processes need accelerate: pip install accelerate.") from error
    state = PartialState(cpu=chosen.type == "cpu", timeout=_PATIENCE)
    processes = Processes(
        state.process_index,
        state.num_processes,
        lambda tensor: reduce(tensor, "sum"),
        state.wait_for_everyone,
    )
    yield processes, state.device
    state.destroy_process_group()


class Mean(NamedTuple):
    """A loss that is a mean.

    Attributes:
        value: of what this process has, a scalar.
        weight: of what it has, a scalar without gradient; 0 where that is nothing.
    """

    value: Tensor
    weight: Tensor


def parts_of(means: Mapping[str, Mean], processes: Processes) -> dict[str, Tensor]:
    """What this process has of each loss of the whole batch: summed over processes, they are those losses."""
    if processes.count == 1:
        return {name: mean.value for name, mean in means.items()}
    weights = torch.stack([mean.weight.float() for mean in means.values()])
    parts = weights / processes.add(weights).clamp(min=_LEAST_WEIGHT)
    return {name: mean.value * part for (name, mean), part in zip(means.items(), parts, strict=True)}


@torch.no_grad()
def all_reduce(
    parameters: Sequence[nn.Parameter], losses: Mapping[str, Tensor], processes: Processes
) -> Mapping[str, Tensor]:
    """Add gradients, in place, and losses up over processes; gives the losses of the whole batch.

    A tensor that no process has a gradient for stays without.
    """
    if processes.count == 1:
        return losses
    gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
    known = torch.tensor([float(p.grad is not None) for p in parameters], device=gradients[0].device)
    flat = [*(gradient.flatten() for gradient in gradients), known, torch.stack(list(losses.values()))]
    *sums, having, values = torch.split(processes.add(torch.cat(flat)), [len(part) for part in flat])
    for parameter, total, some in zip(parameters, sums, having.tolist(), strict=True):
        parameter.grad = total.view_as(parameter) if some else None
    return dict(zip(losses, values, strict=True))
