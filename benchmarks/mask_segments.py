"""Truth of photos with separate objects, as the table of mask methods counts it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ovs_core.training.data import Sample
from ovs_core.types import IGNORE, LabelMap

LEAST_PART = 64  # pixels of a connected part of labels that is a segment


def true_segments(sample: Sample) -> LabelMap:
    """Number of each pixel's segment from 1, in the order of `sample.groups`; 0 is none."""
    return LabelMap((sample.labels.clip(-1) + 1).astype(np.uint16), (), sample.labels != IGNORE)


def true_classes(sample: Sample, names: Sequence[str]) -> LabelMap:
    """Class of each pixel from 1; what no class has is not known."""
    becomes = np.array([0, *(names.index(group[0]) + 1 for group in sample.groups)], np.uint16)
    return LabelMap(becomes[sample.labels.clip(-1) + 1], (), sample.labels >= 0)
