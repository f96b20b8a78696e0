"""Dense features of CLIP's ResNets by MaskCLIP's value path: the attention pool without its attention.

Paper: MaskCLIP (arXiv 2112.01071), section 3.2; MVP-SEG (arXiv 2304.06957) builds on the same path. No
positional embedding, no mean token, no residual: each position's feature goes through the pool's value and
output projections. The tower is open_clip's `ModifiedResNet`; it is only read.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from open_clip.modified_resnet import ModifiedResNet
from torch import Tensor

from ovs_core.devices import Cancel, Report, advance
from ovs_core.encoders.base import Channels, normalised
from ovs_core.image import frame_size, to_frame
from ovs_core.options import Preset
from ovs_core.types import Features, Window

STRIDE = 32  # frame pixels per position of the last stage


class ValuePath(NamedTuple):
    """What the attention pool makes of each position, its query and mixing left out.

    Attributes:
        features: (B, D, h, w) in the joint space, not normalised.
        keys: (B, C, h, w), for MaskCLIP's key smoothing.
    """

    features: Tensor
    keys: Tensor


def pyramid(visual: ModifiedResNet, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Maps after the four stages, strides 4, 8, 16 and 32, for normalised pixels (B, 3, Hf, Wf)."""
    first = visual.layer1(visual.stem(pixels))
    second = visual.layer2(first)
    third = visual.layer3(second)
    return first, second, third, visual.layer4(third)


def value_path(visual: ModifiedResNet, last: Tensor) -> ValuePath:
    """Features and keys of the last stage's map (B, C, h, w), by 1 x 1 convolutions."""
    pool = visual.attnpool
    values, keys = (
        F.conv2d(last, layer.weight[..., None, None], layer.bias) for layer in (pool.v_proj, pool.k_proj)
    )
    return ValuePath(F.conv2d(values, pool.c_proj.weight[..., None, None], pool.c_proj.bias), keys)


@dataclass(frozen=True, eq=False)
class ResNetEncoder:
    """CLIP's ResNet as a slow half: what enters its attention pool, for any H x W; takes the tower over.

    The whole frame is one window, as MaskCLIP runs it. Row 0 of the tokens is the mean over positions, which
    the attention pool has for a class token; the value path does not read it.

    Attributes:
        name: registry name.
        identity: name, weights and precision in one string (`ovs_core.encoders.clip_vit.tower_identity`).
        visual: open_clip's `ModifiedResNet`.
        mean, std: per RGB channel of [0, 1].
        device, dtype: of `visual`.
    """

    name: str
    identity: str
    visual: ModifiedResNet
    mean: Channels
    std: Channels
    device: torch.device
    dtype: torch.dtype

    def __post_init__(self) -> None:
        if not isinstance(self.visual, ModifiedResNet):
            raise ValueError(f"visual must be open_clip's ModifiedResNet, got {type(self.visual).__name__}")  # noqa: TRY004
        self.visual.eval().requires_grad_(False)

    @torch.no_grad()
    def encode(
        self, pixels: NDArray[np.uint8], preset: Preset, *, progress: Report = None, cancel: Cancel = None
    ) -> Features:
        """The last stage's map in one step, as `ovs_core.encoders.base.ImageEncoder` says."""
        height, width = pixels.shape[:2]
        frame = to_frame(pixels, frame_size((height, width), preset.short_side, STRIDE)).to(self.device)
        advance(0, 1, progress, cancel)
        x = normalised(frame, self.mean, self.std).to(self.dtype)
        last = pyramid(self.visual, x[None])[-1]  # (1, C, h, w)
        grid = (last.shape[2], last.shape[3])
        places = last[0].flatten(1).T  # (h*w, C)
        tokens = torch.cat([places.mean(dim=0, keepdim=True), places])
        advance(1, 1, progress, cancel)
        identity = self.features_identity(preset)
        return Features(identity, (height, width), grid, (Window(0, 0, grid, tokens),))

    def features_identity(self, preset: Preset) -> str:
        """What presets of equal features agree on; the cache key."""
        return f"{self.identity}|{preset.short_side}|whole"
