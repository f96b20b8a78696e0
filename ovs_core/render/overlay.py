"""The photo with its labels laid over it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ovs_core.types import Labelled

OPACITY = 0.55
"""Weight of the class colour in a tinted pixel; the photo stays readable underneath."""

_SIDE_PER_GROWTH = (
    1600  # the outline is 1 pixel wide up to here, 3 up to twice this, ...: pixels of the longer side
)


def label_picture(
    labels: NDArray[np.integer], colors: Sequence[tuple[int, int, int]] | ArrayLike
) -> NDArray[np.uint8]:
    """Labels (H, W) as flat colours (H, W, 3); `colors` has one RGB row per label, label 0 first."""
    return _table(labels, colors)[labels]


def overlay(result: Labelled, opacity: float = OPACITY, outline: bool = True) -> NDArray[np.uint8]:
    """A result's photo with its labels over it, (H, W, 3), in the photo's own size."""
    return paint(result.image, result.labels, result.label_map.color_table, opacity, outline)


def paint(
    image: NDArray[np.uint8],
    labels: NDArray[np.integer],
    colors: Sequence[tuple[int, int, int]] | ArrayLike,
    opacity: float = OPACITY,
    outline: bool = True,
) -> NDArray[np.uint8]:
    """Photo (H, W, 3) with labels (H, W) over it.

    Classes are tinted with their colour, pixels of label 0 stay as they are, and a thin line separates
    neighbours: white with a dark rim on both sides, so that it shows on any photo.

    Args:
        image: RGB photo.
        labels: one label per pixel of `image`.
        colors: (K + 1, 3) RGB in 0..255, one row per label, label 0 first.
        opacity: weight of the class colour, in [0, 1]; 0 leaves the photo as it is, outlines apart.
        outline: draw the lines.
    """
    if labels.shape != image.shape[:2]:
        raise ValueError(f"labels must have the photo's size {image.shape[:2]}, got {labels.shape}")
    if not 0 <= opacity <= 1:
        raise ValueError(f"opacity must lie in [0, 1], got {opacity}")
    picture = _tinted(image, labels, _table(labels, colors), round(opacity * 256))
    if outline:
        line = borders(labels, growth=max(labels.shape) // _SIDE_PER_GROWTH)
        rim = _grow(line) & ~line
        picture[rim] = picture[rim] // 2
        picture[line] = 255
    return picture


def _tinted(
    image: NDArray[np.uint8], labels: NDArray[np.integer], table: NDArray[np.uint8], weight: int
) -> NDArray[np.uint8]:
    """A photo with `weight` / 256 of each label's colour in it, label 0 left alone.

    Two numbers per label and channel, looked up channel by channel: clips are painted frame by frame, and
    rows of three bytes are slow to look up.
    """
    kept = np.full(len(table), 256 - weight, np.uint16)
    added = table.astype(np.uint16) * weight + 128
    kept[0], added[0] = 256, 128
    picture = np.empty_like(image)
    keep = np.take(kept, labels)
    for channel in range(3):
        mixed = np.take(added[:, channel], labels)
        mixed += image[:, :, channel] * keep
        mixed >>= 8
        picture[:, :, channel] = mixed
    return picture


def borders(labels: NDArray[np.integer], growth: int = 0) -> NDArray[np.bool_]:
    """Pixels (H, W) whose right or lower neighbour has another label, and `growth` pixels on every side."""
    line = np.zeros(labels.shape, bool)
    line[:, :-1] = labels[:, :-1] != labels[:, 1:]
    line[:-1] |= labels[:-1] != labels[1:]
    for _ in range(growth):
        line = _grow(line)
    return line


def _grow(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """One pixel wider on every side (4 neighbours)."""
    wide = mask.copy()
    wide[:, 1:] |= mask[:, :-1]
    wide[:, :-1] |= mask[:, 1:]
    wide[1:] |= mask[:-1]
    wide[:-1] |= mask[1:]
    return wide


def _table(
    labels: NDArray[np.integer], colors: Sequence[tuple[int, int, int]] | ArrayLike
) -> NDArray[np.uint8]:
    """Colours as (K + 1, 3) uint8, checked to cover every label."""
    table = np.asarray(colors, np.uint8)
    highest = int(labels.max(initial=0))
    if table.ndim != 2 or table.shape[1] != 3 or table.shape[0] <= highest:
        raise ValueError(
            f"colors must be ({highest + 1} or more, 3) for labels up to {highest}, got {table.shape}"
        )
    return table
