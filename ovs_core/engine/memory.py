"""What to try when memory runs out, and what to say about it."""

from __future__ import annotations

from dataclasses import replace

from ovs_core.options import Preset

SMALLEST_WINDOW = 96  # pixels; below this a window no longer holds a thing to recognise


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
