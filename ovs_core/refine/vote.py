"""Region vote: inside every region of a photo, the class that wins there takes all.

Practice: SAM masks over a training-free answer (CorrCLIP, OV-Stitcher: every region takes its most frequent
class). The regions may come from SAM (`ovs_core.refine.sam.everything`) or from the photo itself
(`ovs_core.refine.regions`).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def region_vote(
    labels: NDArray[np.integer], regions: NDArray[np.integer], *, majority: float = 0.5
) -> NDArray[np.integer]:
    """Labels where every region has its most frequent label, if that one is frequent enough.

    Args:
        labels: (H, W), from 0.
        regions: (H, W), number of the region from 1; 0 = no region, labels stay.
        majority: least part of a region's pixels that the winner must have; other regions keep their labels.

    Returns:
        (H, W) of the type of `labels`.

    Raises:
        ValueError: for sizes that differ or a majority out of range.
    """
    if labels.shape != regions.shape:
        raise ValueError(f"regions must be {labels.shape}, got {regions.shape}")
    if not 0 <= majority <= 1:
        raise ValueError(f"majority must lie in [0, 1], got {majority}")
    present, column = np.unique(labels, return_inverse=True)
    rows = int(regions.max(initial=0)) + 1
    votes = np.bincount(
        regions.ravel().astype(np.int64) * len(present) + column.ravel(), minlength=rows * len(present)
    ).reshape(rows, len(present))
    clear = votes.max(axis=1) >= majority * votes.sum(axis=1)
    clear[0] = False
    winner = present[votes.argmax(axis=1)].astype(labels.dtype)  # the first of equals
    answer: NDArray[np.integer] = np.where(clear[regions], winner[regions], labels)
    return answer
