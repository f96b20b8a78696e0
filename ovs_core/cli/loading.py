"""Libraries load quicker while nobody looks for garbage."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


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
