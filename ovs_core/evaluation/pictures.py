"""Pictures of a report: photo, truth, answer and the kinds of its errors, side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ovs_core.labelled.mask_values import known_pixels
from ovs_core.metrics.error_types import ERROR_TYPES, ErrorType, error_map
from ovs_core.render.overlay import paint
from ovs_core.render.palette import colors_for
from ovs_core.types import Color, LabelMap

_SIDE = 360  # pixels of the longer side of each picture
_UNKNOWN_COLOR: Color = (255, 255, 255)
_OPACITY = 0.7

# Extra is warm, missed is cold (Okabe and Ito's colours); the worse the kind, the darker.
ERROR_COLORS: tuple[Color, ...] = (
    *((240, 228, 66), (230, 159, 0), (160, 50, 0)),
    *((153, 221, 255), (86, 160, 233), (0, 60, 130)),
)
"""Colour of each kind in `ERROR_TYPES`."""

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

Legend = tuple[tuple[str, Color], ...]
Picture = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Sides:
    """One photo beside its truth, an answer and its errors.

    Attributes:
        photo: its key.
        iou: its mean IoU, in [0, 1].
        pictures: photo, truth, answer and errors, each (h, w, 3).
        legend: name and colour of every class in truth or answer, and of pixels that are not known.
        errors: name and colour of every kind of error in the photo.
    """

    photo: str
    iou: float
    pictures: tuple[Picture, Picture, Picture, Picture]
    legend: Legend
    errors: Legend


def sides(
    key: str, iou: float, image: Picture, truth: LabelMap, answer: NDArray[np.integer], names: Sequence[str]
) -> Sides:
    """Draw a photo (H, W, 3), its truth and an answer (H, W) in classes of the dataset.

    Pixels whose truth is not known are white. Errors are of the full size's kinds.
    """
    height, width = image.shape[:2]
    scale = min(1.0, _SIDE / max(height, width))
    small = (max(1, round(height * scale)), max(1, round(width * scale)))
    rows = ((np.arange(small[0]) + 0.5) * height / small[0]).astype(int)
    columns = ((np.arange(small[1]) + 0.5) * width / small[1]).astype(int)
    picture = np.asarray(Image.fromarray(image).resize((small[1], small[0]), Image.Resampling.LANCZOS))
    colors = colors_for(names)
    unknown = len(colors)
    known = known_pixels(truth)
    drawn = np.where(known, truth.labels, unknown)
    kinds = np.where(known, error_map(truth.labels, answer, known), len(ERROR_COLORS) + 1)
    labels = [part[np.ix_(rows, columns)].astype(np.int32) for part in (drawn, answer, kinds)]
    painted = [paint(picture, part, [*colors, _UNKNOWN_COLOR], opacity=_OPACITY) for part in labels[:2]]
    errors = _error_picture(picture, labels[2])
    shown = [int(label) for label in np.unique(labels[:2]) if label != unknown]
    legend = tuple((names[label - 1] if label else "other", colors[label]) for label in shown)
    if (labels[0] == unknown).any():
        legend = (*legend, ("not known", _UNKNOWN_COLOR))
    present = [int(kind) for kind in np.unique(labels[2]) if 0 < kind <= len(ERROR_TYPES)]
    kinds_legend = tuple((ERROR_NAMES[ERROR_TYPES[kind - 1]], ERROR_COLORS[kind - 1]) for kind in present)
    return Sides(key, iou, (picture, painted[0], painted[1], errors), legend, kinds_legend)


def _error_picture(picture: Picture, kinds: NDArray[np.integer]) -> Picture:
    """Kinds of errors (h, w) on the greyed photo; without outlines, which would hide thin strips."""
    grey = picture @ np.array([0.299, 0.587, 0.114], np.float32)  # Rec. 601 luma
    pale = np.repeat((128 + grey[:, :, None] / 2).astype(np.uint8), 3, axis=2)
    table = np.array([(0, 0, 0), *ERROR_COLORS, _UNKNOWN_COLOR], np.uint8)
    return np.where(kinds[:, :, None] > 0, table[kinds], pale)
