"""From values of any kind to 8-bit RGB: depths, alpha, colour modes; with notes on what was changed."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Levels = NDArray[np.uint8]
Notes = tuple[str, ...]

_DEPTHS = (8, 10, 12, 14)  # bits of sensors and scanners, whose values come in 16 bits
_STRIP_VALUES = 1 << 22  # converted at a time
_FAINTEST = 8  # of 255: a picture none of which is more opaque than this cannot be seen
TRANSPARENT = "All of it is transparent; it is shown as if it were not."


class ImageError(ValueError):
    """A photo that cannot be used; the message is one sentence for the user."""


def pil_to_rgb(image: Image.Image) -> tuple[Levels, Notes]:
    """Convert any PIL mode to (H, W, 3) uint8 RGB."""
    if image.mode.startswith("I;16"):
        return values_to_rgb(np.array(image).astype(np.uint16))
    if image.mode in ("I", "F"):
        return _wide_to_rgb(np.asarray(image))
    if image.mode == "La":  # PIL knows no direct way from here
        image = image.convert("LA")
    if image.has_transparency_data:
        return values_to_rgb(_converted(image, "RGBA"))
    return _converted(image, "RGB"), ()


def _converted(image: Image.Image, mode: str) -> Levels:
    """Values (H, W, 3) or (H, W, 4) of a picture in another mode of PIL."""
    width, height = image.size
    levels = np.empty((height, width, len(mode)), np.uint8)
    for rows in _strips(levels):
        bottom = min(height, rows.stop)
        levels[rows] = np.asarray(image.crop((0, rows.start, width, bottom)).convert(mode))
    return levels


def array_to_rgb(values: NDArray[np.generic]) -> tuple[Levels, Notes]:
    """Convert an array (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) to (H, W, 3) uint8 RGB in its own memory.

    Raises:
        ImageError: for another shape, no pixels, no numbers, or numbers outside what their type stands for.
    """
    if values.ndim not in (2, 3) or (values.ndim == 3 and values.shape[2] not in (1, 3, 4)):
        channels_first = values.ndim == 3 and values.shape[0] in (1, 3, 4)
        hint = "; put the channels last" if channels_first else ""
        raise ImageError(f"An array must be (H, W), (H, W, 3) or (H, W, 4), got {values.shape}{hint}.")
    if values.size == 0:
        raise ImageError(f"The picture has no pixels (shape {values.shape}).")
    if values.dtype == np.bool_:
        values = values.astype(np.uint8) * np.uint8(255)
    if values.dtype.kind not in "uif":
        raise ImageError(f"An array must hold numbers, got {values.dtype}.")
    if values.dtype not in (np.uint8, np.uint16):
        low, high = float(values.min()), float(values.max())
        limit = 1 if values.dtype.kind == "f" else 255
        if not (low >= 0 and high <= limit):
            raise ImageError(f"A {values.dtype} array must lie in [0, {limit}], got [{low:g}, {high:g}].")
        values = _round(values.astype(np.float32) * (255 / limit))
    return values_to_rgb(values)


def values_to_rgb(values: NDArray[np.generic]) -> tuple[Levels, Notes]:
    """Convert uint8 or uint16 values (H, W), (H, W, 1), RGB or RGBA, to (H, W, 3) uint8 in its own memory."""
    if values.dtype == np.uint16:
        values, notes = _from_16_bits(values.astype(np.uint16, copy=False))
    else:
        notes = ()
    levels = values.view(np.uint8)
    if levels.ndim == 2 or levels.shape[2] == 1:
        return _grey_to_rgb(levels.reshape(levels.shape[:2])), notes
    if levels.shape[2] == 3:
        return np.array(levels, order="C"), notes
    if levels[..., 3].max() < _FAINTEST:
        return np.array(levels[..., :3], order="C"), (*notes, TRANSPARENT)
    return _on_white(levels), notes


def bands_to_rgb(values: NDArray[np.generic]) -> tuple[Levels, Notes]:
    """Convert one or three bands (H, W, B) of any number type to (H, W, 3) uint8, all by one scale."""
    if values.dtype in (np.uint8, np.uint16):
        return values_to_rgb(values)
    levels, notes = _wide_levels(values)
    return (np.repeat(levels, 3, axis=2) if levels.shape[2] == 1 else levels), notes


def _from_16_bits(values: NDArray[np.uint16]) -> tuple[Levels, Notes]:
    """Scale colours by the depth that holds the largest of them, alpha (of four channels) by its own."""
    colors = values[..., :3] if values.ndim == 3 and values.shape[2] == 4 else values
    white, notes = _white_of(int(colors.max()))
    levels = _levels_up_to(white)[values]
    if colors is not values:
        opaque, _ = _white_of(int(values[..., 3].max()))
        levels[..., 3] = _levels_up_to(opaque)[values[..., 3]]
    return levels, notes


def _levels_up_to(white: int) -> Levels:
    """Level of every 16-bit value (65536,) where `white` is 255."""
    return _round(np.minimum(np.arange(65536), white) * (255 / white))


def _white_of(highest: int) -> tuple[int, Notes]:
    """The value that is white where `highest` is the largest of 16 bits, with a note if it is not 65535."""
    depth = next((depth for depth in _DEPTHS if highest < 1 << depth), 16)
    if depth == 16 or highest == 0:
        return 65535, ()
    note = f"Its 16-bit values end at {highest}; they were read as {depth} bits (0 to {(1 << depth) - 1})."
    return (1 << depth) - 1, (note,)


def _wide_to_rgb(values: NDArray[np.generic]) -> tuple[Levels, Notes]:
    """Scale 32-bit values (H, W) to (H, W, 3)."""
    levels, notes = _wide_levels(values)
    return _grey_to_rgb(levels), notes


def _wide_levels(values: NDArray[np.generic]) -> tuple[Levels, Notes]:
    """Scale 32-bit values by the narrowest range that holds them: [0, 1] if float, 8 to 16 bits.

    Values outside all of them are stretched between their own smallest and largest, with a note.
    """
    low, high = float(values.min()), float(values.max())
    if not np.isfinite(low + high):
        raise ImageError("The picture holds values that are not numbers; save it as 8-bit PNG or JPEG.")
    if low < 0 or high > 65535:
        note = f"Its values run from {low:g} to {high:g}; they were stretched from black to white."
        return _by_strips(values, lambda wide: (wide - low) * (255 / ((high - low) or 1))), (note,)
    if high <= 1 and values.dtype.kind == "f":
        return _by_strips(values, lambda wide: wide * 255), ()
    if high <= 255:
        return _by_strips(values, lambda wide: wide), ()
    white, notes = _white_of(int(high))
    return _by_strips(values, lambda wide: np.minimum(wide, white) * (255 / white)), notes


def _by_strips(
    values: NDArray[np.generic], scaled: Callable[[NDArray[np.float32]], NDArray[np.floating]]
) -> Levels:
    """Round `scaled` float32 values, a strip of rows at a time."""
    levels = np.empty(values.shape, np.uint8)
    for rows in _strips(values):
        levels[rows] = _round(scaled(values[rows].astype(np.float32)))
    return levels


def _strips(values: NDArray[np.generic]) -> Iterator[slice]:
    """Rows to convert at a time: intermediate values of a large photo would take gigabytes."""
    height = max(1, _STRIP_VALUES // max(1, values[0].size))
    return (slice(top, top + height) for top in range(0, len(values), height))


def _round(values: NDArray[np.floating]) -> Levels:
    """Nearest integer of values in [0, 255], halves up."""
    return (values + 0.5).astype(np.uint8)


def _grey_to_rgb(levels: Levels) -> Levels:
    """Repeat one channel (H, W) three times."""
    return np.repeat(levels[..., None], 3, axis=2)


def _on_white(levels: Levels) -> Levels:
    """Lay straight-alpha RGBA (H, W, 4) on white; exact in 16 bits, since 255 * 255 + 127 < 65536."""
    white = np.empty((*levels.shape[:2], 3), np.uint8)
    for rows in _strips(levels):
        alpha = levels[rows, :, 3:].astype(np.uint16)
        blended = levels[rows, :, :3] * alpha + np.uint16(255) * (255 - alpha) + np.uint16(127)
        white[rows] = blended // 255
    return white
