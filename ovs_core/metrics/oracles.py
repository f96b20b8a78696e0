"""Two oracles that split the error into names and masks (the idea of arXiv 2508.04211).

Perfect names: every region of the answer keeps its outline and gets the class that most of its pixels have.
What is still wrong then is the outlines' fault. Perfect masks: every region of the truth keeps its outline
and gets the class that the answer gives most of its pixels. What is still wrong then is the names' fault.
A region is a connected part of one class; of classes with equally many pixels the first one counts.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ovs_core.metrics.confusion import Known, Labels
from ovs_core.metrics.parts import connected_parts


def perfect_names(truth: Labels, answer: Labels, known: Known | None = None) -> Labels:
    """The answer (H, W), its regions named by the truth; those on unknown ground keep their class."""
    regions, classes = connected_parts(answer)
    return _by_majority(regions, classes, truth, known)


def perfect_masks(truth: Labels, answer: Labels, known: Known | None = None) -> Labels:
    """The truth's regions (H, W), named as the answer has it; unknown ground keeps the answer."""
    regions, classes = connected_parts(truth, known)
    return np.where(regions > 0, _by_majority(regions, classes, answer, known), answer)


def _by_majority(
    regions: NDArray[np.int32], classes: NDArray[np.int64], votes: Labels, known: Known | None
) -> NDArray[np.int64]:
    """Every region's commonest vote on known ground, or its own class without any, (H, W)."""
    counted = regions > 0 if known is None else (regions > 0) & known
    count = int(votes.max(initial=0)) + 1
    ballots, tally = np.unique(regions[counted].astype(np.int64) * count + votes[counted], return_counts=True)
    region, vote = np.divmod(ballots, count)
    order = np.lexsort(
        (-vote, tally)
    )  # the last of equal keys is written last: most votes, then lowest class
    names = np.concatenate([[0], classes])
    names[region[order]] = vote[order]
    return names[regions]
