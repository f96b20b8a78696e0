"""Region vote: inside every region of a photo, the class that wins there takes all.

Practice: SAM masks over a training-free answer (CorrCLIP, OV-Stitcher: every region takes its most frequent
class). The regions may come from SAM (`ovs_core.refine.sam.everything`) or from the photo itself
(`ovs_core.refine.regions`).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ovs_core.options import Option

MAJORITY = Option(
    "region_majority",
    "number",
    0.7,
    "Least part of a region that its most frequent class must have to take all of it.",
    title="Region majority",
    low=0.0,
    high=1.0,
    slider=(0.0, 1.0, 0.05),
)


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


def vote_with_confidence(
    labels: NDArray[np.integer],
    confidence: NDArray[np.float32],
    regions: NDArray[np.integer],
    *,
    majority: float = 0.5,
) -> tuple[NDArray[np.integer], NDArray[np.float32]]:
    """`region_vote`, and how sure each pixel is: one that was outvoted is as sure as those that outvoted it.

    Args:
        labels: (H, W), from 0.
        confidence: (H, W) in [0, 1].
        regions: (H, W), number of the region from 1; 0 = no region.
        majority: see `region_vote`.

    Raises:
        ValueError: for sizes that differ or a majority out of range.
    """
    if confidence.shape != labels.shape:
        raise ValueError(f"confidence must be {labels.shape}, got {confidence.shape}")
    voted = region_vote(labels, regions, majority=majority)
    stayed, outvoted = voted == labels, voted != labels
    if not outvoted.any():
        return voted, confidence
    rows = int(regions.max()) + 1
    count = np.bincount(regions[stayed], minlength=rows)
    mean = np.bincount(regions[stayed], confidence[stayed], minlength=rows) / count.clip(min=1)
    answer = np.where(outvoted, mean[regions], confidence).astype(np.float32)
    return voted, answer
