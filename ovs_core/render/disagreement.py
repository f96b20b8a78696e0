"""Where several methods, asked the same question about the same photo, give different answers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ovs_core.render.heatmap import blend, heatmap
from ovs_core.types import Labelled


def disagreement(label_maps: Sequence[NDArray[np.integer]]) -> NDArray[np.float32]:
    """Share of methods that do not side with the most frequent label, (H, W) in [0, 1 - 1/M] for M methods.

    0 where all agree; of four methods, 0.25 where one stands alone and 0.75 where each says something else.

    Args:
        label_maps: one (H, W) label map per method, same size, same vocabulary.

    Raises:
        ValueError: for fewer than two maps or different sizes.
    """
    if len(label_maps) < 2:
        raise ValueError(f"A disagreement map needs at least two results, got {len(label_maps)}.")
    shapes = {labels.shape for labels in label_maps}
    if len(shapes) > 1:
        raise ValueError(f"Results can only be compared at one size, got {sorted(shapes)}.")
    count = len(label_maps)
    votes = [np.ones(label_maps[0].shape, np.int16) for _ in label_maps]
    for first in range(count):
        for second in range(first + 1, count):
            same = label_maps[first] == label_maps[second]
            votes[first] += same
            votes[second] += same
    largest = np.maximum.reduce(votes)
    return ((count - largest) / np.float32(count)).astype(np.float32)


def disagreement_picture(
    results: Sequence[Labelled], opacity: float = 0.75
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Disagreement of several results over their photo (H, W, 3), dark = all agree, and its map (H, W).

    Raises:
        ValueError: where the results do not answer the same question (classes, sizes) or are fewer than two.
    """
    if len({result.vocabulary.classes for result in results}) > 1:
        raise ValueError(
            "Results can only be compared when they were asked for the same classes in the same order."
        )
    share = disagreement([result.labels for result in results])
    most = 1 - 1 / len(results)
    return blend(heatmap(share, share.shape, 0, most, "inferno"), results[0].image, opacity), share
