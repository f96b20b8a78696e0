"""What to try when memory runs out, and what to say about it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from ovs_core.devices import is_out_of_memory
from ovs_core.engine.request import NotEnoughMemory
from ovs_core.options import Preset

TOO_LARGE = "This photo does not fit into memory. Make it smaller, type fewer classes or turn refinement off."
SMALLEST_WINDOW = 96  # pixels; below this a window no longer holds a thing to recognise


@contextmanager
def too_large_in_one_sentence() -> Iterator[None]:
    """Say what to do where memory runs out inside.

    Raises:
        NotEnoughMemory: instead of what torch or numpy raise.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if is_out_of_memory(error):
            raise NotEnoughMemory(TOO_LARGE) from error
        raise


def smaller_preset(preset: Preset, windows: bool) -> tuple[Preset | None, str]:
    """Settings that need less memory, and what to call them: windows, smaller ones, then a smaller frame."""
    side = preset.short_side if preset.window is None else preset.window // 2
    if windows and side >= SMALLEST_WINDOW:
        return replace(preset, window=side, stride=max(1, side // 2)), "smaller windows"
    if preset.short_side >= 2 * SMALLEST_WINDOW:
        return replace(preset, short_side=preset.short_side // 2), "a smaller frame"
    return None, ""


def memory_notes(asked: Preset, used: Preset) -> tuple[str, ...]:
    """Say what an answer is worth that memory was too small for as asked; nothing where it was not."""
    if used == asked:
        return ()
    where = f"a frame of {used.short_side} pixels on its shorter side"
    if used.window is not None:
        where = f"windows of {used.window} pixels in {where}"
    return (f"Memory ran out: this was answered in {where}, smaller than asked.",)
