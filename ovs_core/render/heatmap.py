"""Low-resolution maps as colour over the photo, on one scale for maps that are to be compared."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

ColorMap = Literal["viridis", "inferno"]


def common_range(maps: Iterable[NDArray[np.floating]]) -> tuple[float, float]:
    """Lowest and highest finite value over all maps, to draw them on one scale; (0, 1) if there is none."""
    finite = [values[np.isfinite(values)] for values in map(np.asarray, maps)]
    finite = [values for values in finite if values.size]
    if not finite:
        return 0.0, 1.0
    return float(min(values.min() for values in finite)), float(max(values.max() for values in finite))


def heatmap(
    values: NDArray[np.floating],
    size: tuple[int, int],
    low: float,
    high: float,
    colormap: ColorMap = "viridis",
) -> NDArray[np.uint8]:
    """Map (h, w), interpolated to `size` = (H, W), in perceptually uniform colours (H, W, 3).

    Values up to `low` get the first colour, from `high` on the last; a scale without width gives the first.

    Raises:
        ValueError: for a map that is not (h, w), a scale that runs backwards, or a value that is no number.
    """
    grid = np.asarray(values, np.float32)
    if grid.ndim != 2 or not grid.size:
        raise ValueError(f"a heat map needs values of shape (h, w), got {grid.shape}")
    if not low <= high:
        raise ValueError(f"the scale must run from low to high, got {low} to {high}")
    if np.isnan(grid).any():
        raise ValueError("a heat map cannot be drawn from values that are not numbers (NaN)")
    unit = np.clip((grid - low) / (high - low if high > low else np.inf), 0, 1).astype(np.float32)
    fine = Image.fromarray(unit).resize((size[1], size[0]), Image.Resampling.BILINEAR)
    steps = np.round(np.asarray(fine) * 255).astype(np.uint8)
    return _colors(colormap)[steps]


def blend(picture: NDArray[np.uint8], image: NDArray[np.uint8], opacity: float = 0.7) -> NDArray[np.uint8]:
    """Colours (H, W, 3) laid over the photo (H, W, 3), which is greyed so that its own colours do not speak.

    `opacity` is the weight of the colours, in [0, 1].
    """
    if picture.shape != image.shape:
        raise ValueError(f"the picture must have the photo's shape {image.shape}, got {picture.shape}")
    if not 0 <= opacity <= 1:
        raise ValueError(f"opacity must lie in [0, 1], got {opacity}")
    grey = image @ np.array([0.299, 0.587, 0.114], np.float32)  # Rec. 601 luma
    mixed = picture * np.float32(opacity) + grey[:, :, None] * np.float32(1 - opacity)
    return np.round(mixed).astype(np.uint8)


def scale_bar(width: int, height: int, colormap: ColorMap = "viridis") -> NDArray[np.uint8]:
    """The colours from low (left) to high (right), (height, width, 3), for a caption beside the maps."""
    steps = np.round(np.linspace(0, 255, width)).astype(np.uint8)
    return np.tile(_colors(colormap)[steps], (height, 1, 1))


def _colors(colormap: ColorMap) -> NDArray[np.uint8]:
    """The 256 colours of a matplotlib map, (256, 3)."""
    from matplotlib import colormaps  # takes half a second to load: only for those who see a heat map

    return colormaps[colormap](np.arange(256), bytes=True)[:, :3]
