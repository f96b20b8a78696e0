"""Where tensors live and in which precision: chosen once per engine, passed in everywhere, never global."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import MappingProxyType

import torch

DEVICES = ("auto", "cpu", "cuda", "mps")
PRECISIONS = ("auto", "fp32", "bf16", "fp16")
_DTYPES = MappingProxyType({"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16})
_POLL_SECONDS = 0.05

Report = Callable[[int, int], None] | None
"""Told (steps done, steps in all); None where nobody listens."""
Cancel = threading.Event | None
"""Set from outside to stop work between two of its steps; None for work that nobody stops."""


class Cancelled(RuntimeError):  # noqa: N818 - a wish, not an error
    """The person who asked for this work no longer wants it."""


def stop_if_cancelled(cancel: Cancel) -> None:
    """Return, unless `cancel` is set.

    Raises:
        Cancelled: if it is.
    """
    if cancel is not None and cancel.is_set():
        raise Cancelled("Stopped at your request.")


def advance(done: int, total: int, report: Report, cancel: Cancel) -> None:
    """Before the first step of long work and after each: tell how many are done, stop where that is wished.

    What is done to the end is kept, whatever is wished.

    Raises:
        Cancelled: if `cancel` is set and there are steps left.
    """
    if report is not None and done:
        report(done, total)
    if done < total:
        stop_if_cancelled(cancel)


@dataclass(frozen=True)
class Compute:
    """One device, the precision towers run in on it, and how many requests at a time may use it.

    Attributes:
        device: where towers and features live.
        dtype: precision of the towers; attention weights and evidence are float32 whatever it is.
        slots: one is held while the device works for a request, and none while a caller looks at a partial
            answer. One for all, unless said otherwise.
    """

    device: torch.device
    dtype: torch.dtype
    slots: threading.BoundedSemaphore = field(
        default_factory=threading.BoundedSemaphore, compare=False, repr=False
    )

    @contextmanager
    def hold(self, cancel: Cancel = None, waiting: Callable[[], None] = lambda: None) -> Iterator[None]:
        """Use the device for the length of a `with` block; waiting for it can be cancelled.

        Args:
            cancel: as everywhere.
            waiting: called once if the device is not free at once.

        Raises:
            Cancelled: if `cancel` is set before the device is free.
        """
        stop_if_cancelled(cancel)
        if not self.slots.acquire(blocking=False):
            waiting()
            while not self.slots.acquire(timeout=_POLL_SECONDS):
                stop_if_cancelled(cancel)
        try:
            yield
        finally:
            self.slots.release()

    def wait(self) -> None:
        """Return once the device has done what it was given, so that a stopwatch tells the truth."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        elif self.device.type == "mps":
            torch.mps.synchronize()

    def free_memory(self) -> None:
        """Give memory that no tensor uses any more back to the device."""
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        elif self.device.type == "mps":
            torch.mps.empty_cache()


def choose_compute(device: str = "auto", precision: str = "auto", at_once: int = 1) -> Compute:
    """Pick a device and a precision by name; "auto" takes a GPU if there is one, half precision on CUDA only.

    On a CPU bfloat16 is for who asks: image towers of the embedded model take half the time, and up to a few
    per cent of the pixels get another label.

    Args:
        device: one of `DEVICES`.
        precision: one of `PRECISIONS`.
        at_once: requests that a CPU may work for at the same time; on a GPU it is always one, as its memory
            is made for one.

    Raises:
        ValueError: for an unknown name, a device this machine lacks, or a precision that it lacks.
    """
    if device not in DEVICES:
        raise ValueError(f"device must be one of {', '.join(DEVICES)}; got {device!r}")
    if precision not in PRECISIONS:
        raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}; got {precision!r}")
    present = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    chosen = device if device != "auto" else next(name for name in ("cuda", "mps", "cpu") if present[name])
    if not present[chosen]:
        available = ", ".join(name for name, there in present.items() if there)
        raise ValueError(f"device {chosen!r} is not available on this machine; found: {available}")
    on_this_cpu = ("auto", "fp32", *(["bf16"] if _cpu_has_bfloat16() else []))
    if chosen == "cpu" and precision not in on_this_cpu:
        raise ValueError(f"precision must be one of {', '.join(on_this_cpu)} on this CPU; got {precision!r}")
    if precision == "auto":
        precision = "fp32" if chosen != "cuda" else "bf16" if torch.cuda.is_bf16_supported() else "fp16"
    slots = threading.BoundedSemaphore(at_once if chosen == "cpu" else 1)
    return Compute(torch.device(chosen), _DTYPES[precision], slots)


def quick_bfloat16(device: torch.device) -> torch.autocast:
    """Products in bfloat16 inside a `with` block, on CPUs and GPUs that have it; elsewhere no change.

    A CPU without such instructions imitates them: with AVX2 alone, in fourteen times the time of float32.
    """
    has_it = {"cuda": _cuda_has_bfloat16, "cpu": _cpu_has_bfloat16}.get(device.type, lambda: False)
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=has_it())


def _cuda_has_bfloat16() -> bool:
    return torch.cuda.is_bf16_supported(including_emulation=False)


def _cpu_has_bfloat16() -> bool:
    """Whether this processor multiplies in bfloat16; torch has no public question for it."""
    return bool(getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)())


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, on a GPU or on the host."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and ("out of memory" in text or "can't allocate memory" in text)
