"""From photo pixels to the pyramid of a convolutional tower of four stages: what all such towers do alike.

The frame is normalised first and padded with zeros afterwards, below and to the right, as the official code
of the mask methods does.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ovs_core.devices import Cancel, Report, advance
from ovs_core.encoders.base import Channels, normalised
from ovs_core.image import frame_size, to_frame
from ovs_core.options import Preset
from ovs_core.types import Pyramid

STAGES = 4
SIZE_DIVISOR = 32  # the coarsest map's stride
MAX_RATIO = 1333 / 800  # longest side of a frame, in units of its shorter one, as in COCO's evaluations


class StagedTower(Protocol):
    """A convolutional tower that is read stage by stage."""

    @property
    def mean(self) -> Channels: ...
    @property
    def std(self) -> Channels: ...
    @property
    def device(self) -> torch.device: ...
    @property
    def dtype(self) -> torch.dtype: ...

    def stages(self, pixels: Tensor) -> Iterator[Tensor]:
        """Map after each stage, strides 4 to 32, as soon as it is there, of normalised (B, 3, Hp, Wp)."""
        ...

    def dense(self, last: Tensor) -> Tensor:
        """The dense map of the last stage's, both (B, C, h, w)."""
        ...

    def features_identity(self, preset: Preset) -> str:
        """What presets of equal pyramids agree on."""
        ...


@torch.no_grad()
def encode_pyramid(
    tower: StagedTower,
    pixels: NDArray[np.uint8],
    preset: Preset,
    *,
    progress: Report = None,
    cancel: Cancel = None,
) -> Pyramid:
    """Maps after the four stages, each a step, as `ovs_core.encoders.base.ImageEncoder` says.

    The frame's longer side is at most 1333 / 800 of `preset.short_side`.
    """
    size = (pixels.shape[0], pixels.shape[1])
    frame = frame_size(size, preset.short_side, 1, MAX_RATIO)
    advance(0, STAGES, progress, cancel)
    x = to_frame(pixels, frame).to(tower.device)
    x = normalise_and_pad(x, tower.mean, tower.std).to(tower.dtype)
    padded = (x.shape[1], x.shape[2])
    maps: list[Tensor] = []
    for level in tower.stages(x[None]):
        maps.append(level[0])
        advance(len(maps), STAGES, progress, cancel)
    dense = tower.dense(maps[-1][None])[0]
    return Pyramid(tower.features_identity(preset), size, frame, padded, tuple(maps), dense)


def normalise_and_pad(frame: Tensor, mean: Channels, std: Channels) -> Tensor:
    """Normalise a frame (3, Hf, Wf) in [0, 1], then add zeros below and right to whole strides of 32."""
    bottom, right = (-side % SIZE_DIVISOR for side in frame.shape[1:])
    return F.pad(normalised(frame, mean, std), (0, right, 0, bottom))
