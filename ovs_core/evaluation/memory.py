"""The most memory that was held while something ran."""

from __future__ import annotations

import sys
from pathlib import Path

import torch

_CLEAR = Path("/proc/self/clear_refs")
_STATUS = Path("/proc/self/status")
_FORGET_PEAK = "5"  # Linux, proc(5): the peak starts anew from what is resident now


def start_peak(device: torch.device) -> None:
    """Forget earlier peaks, where the system can."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    try:
        _CLEAR.write_text(_FORGET_PEAK, encoding="ascii")
    except OSError:  # no Linux, or not allowed: `peak_bytes` then gives the peak of the whole run so far
        return


def peak_bytes(device: torch.device) -> int | None:
    """Largest memory since `start_peak`: tensors on a GPU, else what the process held; None if unknown."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        for line in _STATUS.read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        return _peak_so_far()
    return _peak_so_far()


def _peak_so_far() -> int | None:
    """Peak of the process since it began, where Python can tell."""
    if sys.platform == "win32":
        return None
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
