"""Dense features of CLIP's ResNets by MaskCLIP's value path: the attention pool without its attention.

Paper: MaskCLIP (arXiv 2112.01071), section 3.2; MVP-SEG (arXiv 2304.06957) builds on the same path. No
positional embedding, no mean token, no residual: each position's feature goes through the pool's value and
output projections. The tower is open_clip's `ModifiedResNet`; it is only read.
"""

from __future__ import annotations

from typing import NamedTuple

import torch.nn.functional as F
from open_clip.modified_resnet import ModifiedResNet
from torch import Tensor


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
