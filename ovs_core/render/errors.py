"""Kinds of errors as colours: `ovs_core.metrics.error_types` over the photo."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from ovs_core.metrics.error_types import ERROR_TYPES, ErrorType
from ovs_core.types import Color

Legend = tuple[tuple[str, Color], ...]

# Extra is warm, missed is cold (Okabe and Ito's colours); the worse the kind, the darker.
ERROR_COLORS: tuple[Color, ...] = (
    *((240, 228, 66), (230, 159, 0), (160, 50, 0)),
    *((153, 221, 255), (86, 160, 233), (0, 60, 130)),
)
"""Colour of each kind in `ERROR_TYPES`."""

UNKNOWN = len(ERROR_COLORS) + 1
"""Stands in a map of kinds where the truth is not known."""
UNKNOWN_COLOR: Color = (255, 255, 255)

ERROR_NAMES: Mapping[ErrorType, str] = MappingProxyType(
    {
        "extra_boundary": "extra: edge",
        "extra_extent": "extra: too large",
        "extra_segment": "extra: not there",
        "missed_boundary": "missed: edge",
        "missed_extent": "missed: too small",
        "missed_segment": "missed: not found",
    }
)
"""What each kind is called for people."""


def error_picture(picture: NDArray[np.uint8], kinds: NDArray[np.integer]) -> NDArray[np.uint8]:
    """Draw errors over a photo (h, w, 3) that is greyed, (h, w, 3).

    No outlines: they would hide thin strips.

    Args:
        picture: RGB photo.
        kinds: place in `ERROR_TYPES` from 1 of each pixel's error, 0 = none, `UNKNOWN`, (h, w).
    """
    grey = picture @ np.array([0.299, 0.587, 0.114], np.float32)  # Rec. 601 luma
    pale = np.repeat((128 + grey[:, :, None] / 2).astype(np.uint8), 3, axis=2)
    table = np.array([(0, 0, 0), *ERROR_COLORS, UNKNOWN_COLOR], np.uint8)
    return np.where(kinds[:, :, None] > 0, table[kinds], pale)


def error_legend(kinds: NDArray[np.integer]) -> Legend:
    """Name and colour of every kind of error in a map (h, w)."""
    present = [int(kind) for kind in np.unique(kinds) if 0 < kind < UNKNOWN]
    return tuple((ERROR_NAMES[ERROR_TYPES[kind - 1]], ERROR_COLORS[kind - 1]) for kind in present)
