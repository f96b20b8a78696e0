"""CLIP's ConvNeXt image towers: from photo pixels to a pyramid of maps, for any H x W.

Tower: open_clip's timm ConvNeXt (convnext_base_w_320, convnext_large_d_320), only read. FC-CLIP (arXiv
2308.02487) and MAFT+ (2408.00744) use one such tower as backbone of the mask generator and as classifier.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ovs_core.devices import Cancel, Report
from ovs_core.encoders.base import Channels
from ovs_core.encoders.pyramids import encode_pyramid
from ovs_core.options import Preset
from ovs_core.types import Pyramid

if TYPE_CHECKING:  # types only: who builds the model loads its library, which takes seconds
    from open_clip.timm_model import TimmModel

# The official numbers, on pixels in 0..255: CLIP's own, rounded to four digits.
PIXEL_MEAN = (122.7709 / 255, 116.7460 / 255, 104.0937 / 255)
PIXEL_STD = (68.5005 / 255, 66.6322 / 255, 70.3232 / 255)
STAGE_CHANNELS = MappingProxyType(
    {
        "convnext_base_w_320": (128, 256, 512, 1024),
        "convnext_large_d_320": (192, 384, 768, 1536),
    }
)
"""Channels of the four maps of each architecture that official weights exist for."""


@dataclass(frozen=True, eq=False)
class ConvEncoder:
    """A convolutional image tower with all it takes to run it; takes the tower over (evaluation mode).

    Attributes:
        name: registry name.
        identity: name, weights and precision in one string; part of every cache key.
        visual: open_clip's `TimmModel` around a ConvNeXt.
        device: where `visual` lives.
        dtype: precision of `visual`; maps come out in it.
        mean, std: what the tower was trained to have subtracted and divided by, per RGB channel of [0, 1].
    """

    name: str
    identity: str
    visual: TimmModel
    device: torch.device
    dtype: torch.dtype
    mean: Channels = PIXEL_MEAN
    std: Channels = PIXEL_STD

    def __post_init__(self) -> None:
        check_conv_tower(self.visual)
        self.visual.eval().requires_grad_(False)

    def encode(
        self, pixels: NDArray[np.uint8], preset: Preset, *, progress: Report = None, cancel: Cancel = None
    ) -> Pyramid:
        """The pyramid, stage by stage (`ovs_core.encoders.pyramids.encode_pyramid`)."""
        return encode_pyramid(self, pixels, preset, progress=progress, cancel=cancel)

    def stages(self, pixels: Tensor) -> Iterator[Tensor]:
        """Map after each stage, as soon as it is there, of normalised (B, 3, Hp, Wp)."""
        return _stages(self.visual, pixels)

    def dense(self, last: Tensor) -> Tensor:
        """The last stage's map (B, C, h, w) after the trunk's norm."""
        return self.visual.trunk.norm_pre(last)

    def features_identity(self, preset: Preset) -> str:
        """What presets of equal pyramids agree on: tower and frame; the cache key."""
        return f"{self.identity}|{preset.short_side}"


def check_conv_tower(visual: TimmModel) -> None:
    """Return if this image tower has a pyramid and a head that takes single vectors.

    Raises:
        ValueError: if it is another architecture.
    """
    trunk = getattr(visual, "trunk", None)
    if len(getattr(trunk, "stages", ())) != 4 or not all(
        hasattr(trunk, part) for part in ("stem", "norm_pre", "head")
    ):
        raise ValueError(f"visual must be open_clip's ConvNeXt of four stages, got {type(visual).__name__}")


def pyramid(visual: TimmModel, pixels: Tensor) -> tuple[tuple[Tensor, ...], Tensor]:
    """Maps after the four stages (strides 4, 8, 16, 32) and the dense map, of normalised (B, 3, Hp, Wp)."""
    maps = tuple(_stages(visual, pixels))
    return maps, visual.trunk.norm_pre(maps[-1])


def _stages(visual: TimmModel, pixels: Tensor) -> Iterator[Tensor]:
    """Map after each stage, as soon as it is there."""
    x = visual.trunk.stem(pixels)
    for stage in visual.trunk.stages:
        x = stage(x)
        yield x


def conv_to_joint_space(visual: TimmModel, vectors: Tensor) -> Tensor:
    """Take single vectors (n, C) of the dense map through the tower's own head: (n, D), not normalised."""
    return visual.head(visual.trunk.head(vectors[..., None, None]))
