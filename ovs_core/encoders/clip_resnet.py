"""CLIP's ResNets (RN50, RN101): dense features, pyramids and embeddings of regions, for any H x W.

The tower is open_clip's `ModifiedResNet`; it is only read. Four ways to read it:

- the value path of MaskCLIP (arXiv 2112.01071, section 3.2), on which MVP-SEG (2304.06957) builds: the
  attention pool without its attention. No positional embedding, no mean token, no residual: each position's
  feature goes through the pool's value and output projections;
- the pyramid that mask methods start from, whose vectors reach the joint space by the same value path;
- the attention pool as it is, its positions resized to the map: CLIP's embedding of a whole picture;
- the pool's answers for places, averaged inside masks: embeddings of regions (GKC's teacher, arXiv
  2303.09181).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from ovs_core.devices import Cancel, Report, advance
from ovs_core.encoders.base import Channels, normalised
from ovs_core.encoders.pyramids import encode_pyramid
from ovs_core.image import frame_size, to_frame
from ovs_core.options import Preset
from ovs_core.types import Features, Pyramid, Window

if TYPE_CHECKING:  # types only: who builds the model loads its library, which takes seconds
    from open_clip.modified_resnet import ModifiedResNet

STRIDE = 32  # frame pixels per position of the last stage
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # GKC's student: not CLIP's own
_NO_DIVISION_BY_ZERO = 1e-8


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
    first, second, third, last = _stages(visual, pixels)
    return first, second, third, last


def _stages(visual: ModifiedResNet, pixels: Tensor) -> Iterator[Tensor]:
    """Map after each stage, as soon as it is there."""
    x = visual.stem(pixels)
    for stage in (visual.layer1, visual.layer2, visual.layer3, visual.layer4):
        x = stage(x)
        yield x


def value_path(visual: ModifiedResNet, last: Tensor) -> ValuePath:
    """Features and keys of the last stage's map (B, C, h, w), by 1 x 1 convolutions."""
    pool = visual.attnpool
    values, keys = (
        F.conv2d(last, layer.weight[..., None, None], layer.bias) for layer in (pool.v_proj, pool.k_proj)
    )
    return ValuePath(F.conv2d(values, pool.c_proj.weight[..., None, None], pool.c_proj.bias), keys)


def vectors_to_joint_space(visual: ModifiedResNet, vectors: Tensor) -> Tensor:
    """Take vectors (n, C) of the last stage through the pool's value path: (n, D), not normalised."""
    return visual.attnpool.c_proj(visual.attnpool.v_proj(vectors))


def pyramid_channels(visual: ModifiedResNet) -> tuple[int, int, int, int]:
    """Channels of the four maps of this tower, finest first."""
    stages = (visual.layer1, visual.layer2, visual.layer3, visual.layer4)
    first, second, third, last = (stage[-1].conv3.out_channels for stage in stages)
    return first, second, third, last


def attention_pool(visual: ModifiedResNet, last: Tensor) -> Tensor:
    """What the attention pool makes of the last stage's map (B, C, h, w): (B, 1 + h*w, D), not normalised.

    First the embedding of the whole picture, then one per place. Its positions belong to a square map; for
    another one they are resized bilinearly.
    """
    pool = visual.attnpool
    grid = (last.shape[2], last.shape[3])
    places = last.flatten(2).transpose(1, 2)  # (B, h*w, C)
    x = torch.cat([places.mean(dim=1, keepdim=True), places], dim=1) + pool_positions(visual, grid)
    shape = (*x.shape[:2], pool.num_heads, -1)
    q, k, v = (layer(x).reshape(shape).transpose(1, 2) for layer in (pool.q_proj, pool.k_proj, pool.v_proj))
    mixed = F.scaled_dot_product_attention(q, k, v)  # (B, T, 1 + h*w, d)
    return pool.c_proj(mixed.transpose(1, 2).flatten(2))


def pool_positions(visual: ModifiedResNet, grid: tuple[int, int]) -> Tensor:
    """The attention pool's positions for a map (h, w), the whole picture's first: (1 + h*w, C)."""
    table = visual.attnpool.positional_embedding  # (1 + side * side, C)
    side = round((len(table) - 1) ** 0.5)
    if grid == (side, side):
        return table
    square = table[1:].T.reshape(1, -1, side, side)
    resized = F.interpolate(square, size=grid, mode="bilinear", align_corners=False)
    return torch.cat([table[:1], resized[0].flatten(1).T])


def region_means(visual: ModifiedResNet, last: Tensor, masks: Tensor) -> Tensor:
    """Mean of the attention pool's answers for the places inside each mask, (n, D), not normalised.

    Args:
        visual: the tower.
        last: the last stage's map of one picture, (C, h, w).
        masks: (n, h', w') in [0, 1]; brought to the map by averaging, so a small mask keeps its place.
    """
    places = attention_pool(visual, last[None])[0, 1:]  # (h*w, D)
    inside = F.adaptive_avg_pool2d(masks[:, None].to(places), (last.shape[1], last.shape[2])).flatten(
        1
    )  # (n, h*w)
    return inside @ places / (inside.sum(dim=1, keepdim=True) + _NO_DIVISION_BY_ZERO)


def is_resnet(visual: object) -> bool:
    """Whether an image tower is a ResNet of CLIP's: told by its attention pool, without loading open_clip."""
    return hasattr(visual, "attnpool")


def _take_over(visual: nn.Module) -> None:
    """Put a tower into evaluation mode, without gradients.

    Raises:
        ValueError: if it is no ResNet of CLIP's.
    """
    if not is_resnet(visual):
        raise ValueError(f"visual must be open_clip's ModifiedResNet, got {type(visual).__name__}")
    visual.eval().requires_grad_(False)


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
        _take_over(self.visual)

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


@dataclass(frozen=True, eq=False)
class ResNetPyramid:
    """CLIP's ResNet as what mask methods start from, for any H x W; takes the tower over.

    The dense map is the last stage's; `vectors_to_joint_space` takes its cells to the space shared with text.

    Attributes:
        name: registry name.
        identity: name, weights and precision in one string.
        visual: open_clip's `ModifiedResNet`.
        mean, std: per RGB channel of [0, 1]: CLIP's, or ImageNet's for a student that was trained with them.
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
        _take_over(self.visual)

    def encode(
        self, pixels: NDArray[np.uint8], preset: Preset, *, progress: Report = None, cancel: Cancel = None
    ) -> Pyramid:
        """The pyramid, stage by stage (`ovs_core.encoders.pyramids.encode_pyramid`)."""
        return encode_pyramid(self, pixels, preset, progress=progress, cancel=cancel)

    def stages(self, pixels: Tensor) -> Iterator[Tensor]:
        """Map after each stage, as soon as it is there, of normalised (B, 3, Hp, Wp)."""
        return _stages(self.visual, pixels)

    def dense(self, last: Tensor) -> Tensor:
        """The last stage's map (B, C, h, w) as it is."""
        return last

    def features_identity(self, preset: Preset) -> str:
        """What presets of equal pyramids agree on: tower, normalisation and frame; the cache key."""
        return f"{self.identity}|pyramid {self.mean[0]:.3f}|{preset.short_side}"
