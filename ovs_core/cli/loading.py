"""How libraries are loaded: without a look for garbage, and with threads that give way."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager

_SPINS = (
    "10000"  # about 0.4 ms on a processor of today; the library's own 300,000 are longer than a time slice
)


@contextmanager
def no_garbage_collected() -> Iterator[None]:
    """Load libraries without looking for garbage among what they make, then nor later.

    torch and gradio make a million objects that live as long as the program. Looking through all of them
    again and again takes a third of the time of loading.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def yield_soon() -> None:
    """Let threads that wait for each other give their core away after 0.4 ms; call before torch is loaded.

    GNU OpenMP, which torch brings on Linux, keeps a waiting thread busy for 13 ms. Where another program
    wants a core, the thread that is waited for does not get it, thousands of times in one photo: on two cores
    beside one busy program a photo took more than 8 s, now 1 to 2.5 s; alone nothing changes. A
    number that somebody set, or a policy (`OMP_WAIT_POLICY`), stays.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", _SPINS)
