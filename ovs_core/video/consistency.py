"""How quiet an answer is: flicker without any ground truth, consistency (VSPW, CVPR 2021) with it."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ovs_core.labelled.mask_values import known_pixels
from ovs_core.types import LabelMap

STILL = 10
"""Largest change of a colour channel, in 0..255, of a pixel that counts as unmoved: above a codec's noise."""


def flickering(
    before: NDArray[np.integer],
    after: NDArray[np.integer],
    pixels_before: NDArray[np.uint8],
    pixels_after: NDArray[np.uint8],
) -> tuple[int, int]:
    """Pixels that did not change but whose label did, and pixels that did not change.

    Args:
        before: labels (H, W) of a frame.
        after: those of the next one.
        pixels_before: the frame, (H, W, 3).
        pixels_after: the next one.
    """
    change = np.maximum(pixels_before, pixels_after) - np.minimum(pixels_before, pixels_after)
    near = change <= STILL
    still = near[:, :, 0] & near[:, :, 1] & near[:, :, 2]
    return int(np.count_nonzero(still & (before != after))), int(np.count_nonzero(still))


@dataclass(eq=False)
class FlickerCount:
    """Counts flicker frame by frame; holds one frame and nothing else.

    Attributes:
        changed, still: sums of what `flickering` gives.
    """

    changed: int = 0
    still: int = 0
    _last: tuple[NDArray[np.integer], NDArray[np.uint8]] | None = field(default=None, repr=False)

    def add(self, labels: NDArray[np.integer], pixels: NDArray[np.uint8]) -> None:
        """Take the next frame; labels (H, W) and pixels (H, W, 3)."""
        if self._last is not None:
            changed, still = flickering(self._last[0], labels, self._last[1], pixels)
            self.changed, self.still = self.changed + changed, self.still + still
        self._last = (labels, pixels)

    @property
    def share(self) -> float | None:
        """Share of unmoved pixels whose label changed to the next frame; None where none is unmoved."""
        return self.changed / self.still if self.still else None


@dataclass(eq=False)
class Consistency:
    """Video consistency VC_n (VSPW): of pixels whose true class stays for n frames, the share always right.

    Attributes:
        length: n.
        scores: of each window of n frames that has such pixels.
    """

    length: int = 8
    scores: list[float] = field(default_factory=list)
    _window: deque[tuple[LabelMap, NDArray[np.bool_]]] = field(default_factory=deque, repr=False)

    def add(self, truth: LabelMap, right: NDArray[np.bool_]) -> None:
        """Take the next frame: its truth, and where the answer is right, (H, W)."""
        self._window.append((truth, right))
        if len(self._window) > self.length:
            self._window.popleft()
        if len(self._window) == self.length:
            first = self._window[0][0].labels
            constant = np.logical_and.reduce(
                [known_pixels(other) & (first == other.labels) for other, _ in self._window]
            )
            if constant.any():
                always = np.logical_and.reduce([right for _, right in self._window])
                self.scores.append(float((always & constant).sum() / constant.sum()))

    @property
    def mean(self) -> float | None:
        """mVC_n: mean over windows; None where no window had a lasting pixel."""
        return float(np.mean(self.scores)) if self.scores else None
