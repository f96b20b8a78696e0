"""The embedded model's pyramid: from photo pixels to what mask methods start from, for any H x W.

Maps at strides 4 and 8 are those of the stem's trunks, side by side (the detector has none at 4). The map at
stride 16 is the trunks' last ones behind the tokens that the stem makes of them, at stride 32 it is averaged
over 2 x 2 cells. None of
them depends on the transformer: tuning the transformer renames masks and never moves them. The dense map is
what leaves the transformer; `ln_post` and the projection take its cells, or means of them, to the space
shared with text.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ovs_core.devices import Cancel, Report, advance
from ovs_core.encoders.base import Channels, Remember, made_anew, normalised, stem_name
from ovs_core.encoders.clip_vit import check_visual, to_joint_space, tokens_of_patches
from ovs_core.encoders.detector import WIDTH
from ovs_core.encoders.mini import (
    CHANNELS,
    DETECTOR_CHANNELS,
    EIGHTH_CHANNELS,
    QUARTER_CHANNELS,
    ConvStem,
)
from ovs_core.encoders.mosaic import CONTEXT, DECODED
from ovs_core.encoders.pyramids import SIZE_DIVISOR
from ovs_core.image import frame_size, to_frame
from ovs_core.options import Preset
from ovs_core.types import Pyramid

if TYPE_CHECKING:  # types only: who builds the model loads its library, which takes seconds
    from open_clip.transformer import VisionTransformer

_STEPS = 2  # the stem, then the transformer


@dataclass(frozen=True, eq=False)
class MiniPyramid:
    """The embedded image tower as a pyramid; takes the tower over (evaluation mode, no gradients).

    Attributes:
        name: registry name.
        identity: name, weights and precision in one string; part of every cache key.
        visual: open_clip's `VisionTransformer` with a `ConvStem`.
        mean, std: what the tower was trained to have subtracted and divided by, per RGB channel of [0, 1].
        device: where `visual` lives.
        dtype: precision of `visual`; maps come out in it.
        stem_of: identity of the tower whose stem this is; "" for its own.
    """

    name: str
    identity: str
    visual: VisionTransformer
    mean: Channels
    std: Channels
    device: torch.device
    dtype: torch.dtype
    stem_of: str = ""

    def __post_init__(self) -> None:
        check_mini_tower(self.visual)
        self.visual.eval().requires_grad_(False)

    @torch.no_grad()
    def encode(
        self,
        pixels: NDArray[np.uint8],
        preset: Preset,
        *,
        progress: Report = None,
        cancel: Cancel = None,
        remember: Remember = made_anew,
    ) -> Pyramid:
        """Four maps and the dense one, as `ovs_core.encoders.base.ImageEncoder` says.

        Two steps, stem and transformer. Sides are rounded to whole strides of 32: no padding is needed.
        A tower with a tuned transformer has the stem of the plain one.
        """
        size = (pixels.shape[0], pixels.shape[1])
        frame = frame_size(size, preset.short_side, SIZE_DIVISOR)
        advance(0, _STEPS, progress, cancel)
        name = stem_name(self.stem_of or self.identity, self.mean, self.std, frame)

        def look() -> tuple[Tensor, Tensor, Tensor]:
            x = normalised(to_frame(pixels, frame).to(self.device), self.mean, self.std).to(self.dtype)
            (quarter, eighth, sixteenth, _), _ = stem_maps(self.visual, x[None])
            return quarter, eighth, sixteenth

        quarter, eighth, sixteenth = remember(f"{name}|maps", look)
        maps = (quarter, eighth, sixteenth, coarsest(sixteenth))
        patches = patches_of(self.visual, sixteenth)
        advance(1, _STEPS, progress, cancel)
        dense = dense_map(self.visual, patches)[0]
        advance(_STEPS, _STEPS, progress, cancel)
        return Pyramid(
            self.features_identity(preset), size, frame, frame, tuple(level[0] for level in maps), dense
        )

    @property
    def shares_stem(self) -> bool:
        """Always."""
        return True

    def features_identity(self, preset: Preset) -> str:
        """What presets of equal pyramids agree on: tower and frame; the cache key."""
        return f"{self.identity}|pyramid|{preset.short_side}"


def check_mini_tower(visual: VisionTransformer) -> None:
    """Return if this image tower is one of the embedded model's kind.

    Raises:
        ValueError: if it has another stem.
    """
    check_visual(visual)
    stem, known = type(visual.conv1), isinstance(visual.conv1, ConvStem)
    if not known:
        raise ValueError(f"visual must have the embedded model's stem, got {stem.__name__}")


def pyramid_channels(visual: VisionTransformer) -> tuple[int, int, int, int]:
    """Channels of the four maps of this tower, finest first."""
    stem: ConvStem = visual.conv1
    quarter = 2 * QUARTER_CHANNELS
    eighth, coarse = 2 * EIGHTH_CHANNELS, stem.mix.out_channels + 2 * CHANNELS
    if stem.detector is not None:
        eighth, coarse = eighth + WIDTH, coarse + DETECTOR_CHANNELS
    if stem.materials is not None:
        quarter += stem.material_words.in_channels
        eighth, coarse = eighth + DECODED, coarse + CONTEXT
    return quarter, eighth, coarse, coarse


def stem_maps(
    visual: VisionTransformer, pixels: Tensor
) -> tuple[tuple[Tensor, Tensor, Tensor, Tensor], Tensor]:
    """Four maps (B, C_i, Hf/s, Wf/s), finest first, and patches (B, C, h, w), of pixels (B, 3, Hf, Wf).

    Sides of the frame must be whole strides of 32.
    """
    patches, maps = visual.conv1.with_maps(pixels)
    sixteenth = torch.cat([patches, maps.last], dim=1)
    return (maps.quarter, maps.eighth, sixteenth, coarsest(sixteenth)), patches


def patches_of(visual: VisionTransformer, sixteenth: Tensor) -> Tensor:
    """The stem's patches (B, C, h, w), with which the map at stride 16 begins."""
    return sixteenth[:, : visual.conv1.mix.out_channels]


def coarsest(sixteenth: Tensor) -> Tensor:
    """The map at stride 32 (B, C, h / 2, w / 2) of that at stride 16."""
    return F.avg_pool2d(sixteenth, 2)


def dense_map(visual: VisionTransformer, patches: Tensor) -> Tensor:
    """What leaves the transformer for the stem's patches, both (B, C, h, w); with gradients."""
    tokens = tokens_of_patches(visual, patches)  # (B, 1 + h*w, C)
    leaving = visual.transformer.resblocks[-1](tokens)[:, 1:]
    return leaving.transpose(1, 2).reshape(patches.shape)


def dense_of_stem(visual: VisionTransformer, pyramid: Pyramid) -> Tensor:
    """Dense map (C, h, w) of the embedded tower for a photo, from a pyramid that has the same stem.

    Tuning leaves the stem as it is.
    """
    return dense_map(visual, patches_of(visual, pyramid.maps[2][None]))[0]


def vectors_to_joint_space(visual: VisionTransformer, vectors: Tensor) -> Tensor:
    """Take vectors (n, C) of the dense map through the tower's own head: (n, D), not normalised."""
    return to_joint_space(visual, vectors)


def picture_embeddings(visual: VisionTransformer, pixels: Tensor) -> Tensor:
    """What the tower makes of whole pictures, (B, D), not normalised, of normalised pixels (B, 3, H, W)."""
    tokens = tokens_of_patches(visual, visual.conv1(pixels))
    leaving = visual.transformer.resblocks[-1](tokens)[:, :1]  # (B, 1, C): the class token
    return to_joint_space(visual, leaving)[:, 0]
