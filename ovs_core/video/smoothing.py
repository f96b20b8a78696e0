"""Quiet answers: the mean of what a method says over the frames so far, older ones weighing less.

Class probabilities are averaged, on a grid, so every kind of evidence can be smoothed: rows per name and
masks alike. Where a camera or a thing moves, the average can be carried along; a cut starts anew.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ovs_core.evidence.decide import class_probabilities
from ovs_core.evidence.protocol import Evidence
from ovs_core.evidence.score_map import ScoreMap
from ovs_core.types import Vocabulary
from ovs_core.video.clips import thumbnail
from ovs_core.video.motion import optical_flow, warped

LONGEST_GRID = 320
"""Cells of the longer side of the grid that is averaged on."""
CUT = 0.18
"""Mean change of grey, in [0, 1], from which the next frame is another shot."""


@dataclass(frozen=True)
class Smoothing:
    """How quiet.

    Attributes:
        weight: of what was before, in [0, 1); 0 leaves every frame alone.
        along_motion: carry what was before along the motion between frames.
    """

    weight: float = 0.0
    along_motion: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.weight < 1:
            raise ValueError(f"smoothing must lie in [0, 1), got {self.weight}")


@dataclass(frozen=True, eq=False)
class Remembered:
    """What a clip so far amounts to.

    Attributes:
        probabilities: mean of class probabilities, (K, h, w) or with `other` last (K + 1, h, w).
        grey: the last frame in grey, on the same grid, (h, w) in [0, 1].
    """

    probabilities: Tensor
    grey: Tensor


def remember(
    before: Remembered | None,
    evidence: Evidence,
    scale: float,
    pixels: NDArray[np.uint8],
    smoothing: Smoothing,
) -> Remembered:
    """The average once a frame is in it.

    Args:
        before: the average so far; None at the start.
        evidence: of the frame.
        scale: at which its scores become probabilities.
        pixels: the frame, (H, W, 3).
        smoothing: how quiet.
    """
    small = thumbnail(pixels, LONGEST_GRID)
    grey = torch.from_numpy(small @ np.full(3, 1 / (3 * 255), np.float32))  # (h, w), mean of channels
    now = class_probabilities(evidence, scale, (grey.shape[0], grey.shape[1])).cpu()
    if before is None or before.grey.shape != grey.shape or is_cut(before.grey, grey):
        return Remembered(now, grey)
    past = before.probabilities
    if smoothing.along_motion:
        past = warped(past, optical_flow(before.grey, grey))
    return Remembered(torch.lerp(now, past, smoothing.weight), grey)


def is_cut(before: Tensor, after: Tensor) -> bool:
    """Whether two grey frames (h, w) are of two shots."""
    return float((before - after).abs().mean()) > CUT


def as_evidence(remembered: Remembered, vocabulary: Vocabulary, image_size: tuple[int, int]) -> ScoreMap:
    """The average as evidence with a row per class, which are probabilities already."""
    return ScoreMap(remembered.probabilities, shown_names(vocabulary), image_size, activation="none")


def shown_names(vocabulary: Vocabulary) -> Vocabulary:
    """The same classes with one name each: the one that is shown."""
    return Vocabulary(tuple((name,) for name in vocabulary.names), vocabulary.other[:1])
