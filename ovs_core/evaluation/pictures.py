"""Pictures of a report: photo, truth, answer and the kinds of its errors, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ovs_core.labelled.mask_values import known_pixels
from ovs_core.metrics.error_types import error_map
from ovs_core.render.errors import UNKNOWN, UNKNOWN_COLOR, Legend, error_legend, error_picture
from ovs_core.render.overlay import paint
from ovs_core.render.palette import colors_for
from ovs_core.types import LabelMap

_SIDE = 360  # pixels of the longer side of each picture
_OPACITY = 0.7

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
    kinds = np.where(known, error_map(truth.labels, answer, known), UNKNOWN)
    labels = [part[np.ix_(rows, columns)].astype(np.int32) for part in (drawn, answer, kinds)]
    painted = [paint(picture, part, [*colors, UNKNOWN_COLOR], opacity=_OPACITY) for part in labels[:2]]
    errors = error_picture(picture, labels[2])
    shown = [int(label) for label in np.unique(labels[:2]) if label != unknown]
    legend = tuple((names[label - 1] if label else "other", colors[label]) for label in shown)
    if (labels[0] == unknown).any():
        legend = (*legend, ("not known", UNKNOWN_COLOR))
    return Sides(key, iou, (picture, painted[0], painted[1], errors), legend, error_legend(labels[2]))
