"""What the engine, the registry and the tests may assume of an image encoder, and what all of them do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeVar, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ovs_core.devices import Cancel, Report
from ovs_core.options import Preset

Features_co = TypeVar("Features_co", covariant=True)
Channels = tuple[float, float, float]
"""A number per RGB channel."""


class ImageEncoder(Protocol[Features_co]):
    """The slow half: everything a tower says about a photo before any word is known.

    An encoder holds weights and settings, never anything about a photo: the same photo and preset give
    bit-equal answers whatever ran before.
    """

    @property
    def identity(self) -> str:
        """Name, weights and precision in one string (`ovs_core.encoders.clip_vit.tower_identity`)."""
        ...

    def encode(
        self, pixels: NDArray[np.uint8], preset: Preset, *, progress: Report = None, cancel: Cancel = None
    ) -> Features_co:
        """Look at a photo.

        Args:
            pixels: upright RGB photo, (H, W, 3) in 0..255.
            preset: frame size and windows; its other settings are not read.
            progress: told (steps done, steps in all) after each step.
            cancel: looked at before each step.

        Raises:
            Cancelled: if `cancel` was set before the last step began.
        """
        ...

    def features_identity(self, preset: Preset) -> str:
        """What presets of equal answers agree on; the cache key."""
        ...


@runtime_checkable
class EncodesMany(ImageEncoder[Features_co], Protocol[Features_co]):
    """An image encoder that looks at several photos in one batch."""

    def frame(self, size: tuple[int, int], preset: Preset) -> tuple[int, int]:
        """Frame (Hf, Wf) in pixels at which a photo of size (H, W) is looked at."""
        ...

    def encode_many(
        self,
        photos: Sequence[NDArray[np.uint8]],
        preset: Preset,
        *,
        progress: Report = None,
        cancel: Cancel = None,
    ) -> Sequence[Features_co]:
        """As `encode`, of photos whose frames have one size; numbers may differ from it by rounding."""
        ...


def normalised(frame: Tensor, mean: Channels, std: Channels) -> Tensor:
    """Take `mean` from a frame (3, Hf, Wf) in [0, 1] and divide it by `std`, channel by channel."""
    centre, spread = (torch.tensor(v, device=frame.device).view(3, 1, 1) for v in (mean, std))
    return (frame - centre) / spread
