"""What the engine, the registry and the tests may assume of an image encoder, and what all of them do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
Parts = TypeVar("Parts", bound=tuple[Tensor | None, ...])


class Remember(Protocol):
    """Gives the parts that are known of a photo under a name, or makes them and keeps them."""

    def __call__(self, name: str, make: Callable[[], Parts]) -> Parts: ...


def made_anew(name: str, make: Callable[[], Parts]) -> Parts:
    """Remembers nothing."""
    return make()


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


@runtime_checkable
class SharesStem(ImageEncoder[Features_co], Protocol[Features_co]):
    """An image encoder whose first part other encoders have, too: a tower's stem under several heads."""

    @property
    def shares_stem(self) -> bool:
        """Whether that part is worth remembering: CLIP's is a single small convolution."""
        ...

    def encode(
        self,
        pixels: NDArray[np.uint8],
        preset: Preset,
        *,
        progress: Report = None,
        cancel: Cancel = None,
        remember: Remember = made_anew,
    ) -> Features_co:
        """As any encoder's, bit for bit; `remember` is asked for what the stem makes of this photo."""
        ...


def stem_name(stem_of: str, mean: Sequence[float], std: Sequence[float], frame: Sequence[int]) -> str:
    """What looks with equal outputs of a stem agree on.

    Args:
        stem_of: identity of the tower that the stem belongs to.
        mean: as in `normalised`.
        std: as in `normalised`.
        frame: (Hf, Wf) in pixels.
    """
    return f"{stem_of}|{tuple(mean)}|{tuple(std)}|{tuple(frame)}"


def normalised(frame: Tensor, mean: Channels, std: Channels) -> Tensor:
    """Take `mean` from a frame (3, Hf, Wf) in [0, 1] and divide it by `std`, channel by channel."""
    centre, spread = (torch.tensor(v, device=frame.device).view(3, 1, 1) for v in (mean, std))
    return (frame - centre) / spread
