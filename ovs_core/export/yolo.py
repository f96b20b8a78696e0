"""YOLO segmentation labels: https://docs.ultralytics.com/datasets/segment/."""

from __future__ import annotations

import numpy as np

from ovs_core.export.numbers import yolo_indices
from ovs_core.export.outlines import TOLERANCE, outlines
from ovs_core.types import Labelled


def yolo_lines(result: Labelled, tolerance: float = TOLERANCE) -> str:
    """One line per region: index of the class, then x y of each corner in parts of width and height.

    Args:
        result: what to describe.
        tolerance: of polygons, in pixels (`ovs_core.export.outlines`).
    """
    height, width = result.labels.shape
    indices = yolo_indices(result)
    lines = []
    for k in np.unique(result.labels).tolist():
        if k:
            for ring in outlines(result.labels == k, tolerance):
                points = (ring / (width, height)).ravel()
                lines.append(" ".join([str(indices[k]), *(f"{value:.6f}" for value in points.tolist())]))
    return "".join(f"{line}\n" for line in lines)


def yolo_names(result: Labelled) -> str:
    """The class names by index, one a line; the line of a number without a class says so."""
    names = {
        yolo_indices(result)[entry.id]: " ".join(entry.names[0].split()) for entry in result.label_map.classes
    }
    return "".join(f"{names.get(index, f'unused {index}')}\n" for index in range(max(names, default=-1) + 1))
