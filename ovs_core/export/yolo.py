"""YOLO segmentation labels: https://docs.ultralytics.com/datasets/segment/."""

from __future__ import annotations

import numpy as np

from ovs_core.export.outlines import outlines
from ovs_core.types import Labelled


def yolo_lines(result: Labelled) -> str:
    """One line per region: class index from 0, then x y of each corner as shares of width and height."""
    height, width = result.labels.shape
    lines = []
    for k in np.unique(result.labels).tolist():
        if k:
            for ring in outlines(result.labels == k):
                shares = (ring / (width, height)).ravel()
                lines.append(" ".join([str(k - 1), *(f"{share:.6f}" for share in shares.tolist())]))
    return "".join(f"{line}\n" for line in lines)


def yolo_names(result: Labelled) -> str:
    """The class names by index, one a line."""
    return "".join(f"{' '.join(name.split())}\n" for name in result.vocabulary.names)
