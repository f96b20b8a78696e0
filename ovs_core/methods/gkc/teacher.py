"""What frozen CLIP makes of regions: the teacher of text-guided distillation, and of which synonym suits.

Paper: GKC (ICCV 2023, arXiv 2303.09181), section 3.3, has the answers for places averaged inside each mask;
its code (yongliu20/GKC 21313c8) shows CLIP each region alone on grey. Training reads both
(`ovs_core.training.gkc`, `.gkc_photos`); an answer's views ask the teacher about the student's own masks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ovs_core.encoders.base import normalised
from ovs_core.encoders.clip_resnet import attention_pool, pyramid, region_means
from ovs_core.encoders.loading import CLIP_MEAN, CLIP_STD
from ovs_core.encoders.mini_pyramid import vectors_to_joint_space
from ovs_core.encoders.region_crops import CROP_SIDE, region_crops
from ovs_core.methods.photo_pyramid import PhotoPyramid, masks_on_photo
from ovs_core.types import Pyramid

if TYPE_CHECKING:  # types only: who builds the model loads its library, which takes seconds
    from open_clip.modified_resnet import ModifiedResNet
    from open_clip.transformer import VisionTransformer

RegionForm = Literal["crops", "places"]
"""Each region alone on grey (the code), or answers for places averaged inside the mask (the paper)."""
Looked = Pyramid | PhotoPyramid
"""What the student reads of a photo; with the photo itself where the teacher has to look at it."""


@dataclass(frozen=True, eq=False)
class Teacher:
    """Frozen CLIP beside a student.

    Attributes:
        see: from what the student read and the logits (n, h, w) of masks on a grid that covers its padded
            frame, each with a cell above 0: embeddings of the regions, (n, D), not normalised.
        say: unit embeddings of words in `ovs_core.methods.gkc.synonyms.REGION_PROMPT`, (s, D).
        log_scale: logarithm of CLIP's scale.
    """

    see: Callable[[Looked, Tensor], Tensor]
    say: Callable[[Sequence[str]], Tensor]
    log_scale: Tensor


def pooled_regions(dense: Tensor, masks: Tensor) -> Tensor:
    """Mean feature of a dense map (C, h, w) inside each mask (n, H, W) in [0, 1]: (n, C)."""
    inside = F.adaptive_avg_pool2d(masks[:, None].to(dense), (dense.shape[1], dense.shape[2])).flatten(1)
    return inside @ dense.flatten(1).T / inside.sum(dim=1, keepdim=True).clamp(min=1e-6)


def teach_places(visual: VisionTransformer, dense: Tensor, masks: Tensor) -> Tensor:
    """What the frozen embedded tower makes of the regions of masks (n, H, W) in [0, 1], (n, D).

    Args:
        visual: the tower.
        dense: what leaves it, (C, h, w).
        masks: on any grid that covers the same frame.
    """
    return vectors_to_joint_space(visual, pooled_regions(dense, masks)).float()


@torch.no_grad()
def teach_resnet(
    visual: ModifiedResNet,
    pixels: NDArray[np.uint8],
    masks: Tensor,
    form: RegionForm,
    side: int = CROP_SIDE,
) -> Tensor:
    """What a frozen CLIP ResNet makes of regions of a picture, (n, D), with CLIP's own mean and deviation.

    Args:
        visual: the tower, in evaluation mode.
        pixels: the picture, (H, W, 3).
        masks: True inside, (n, H, W), none of them empty; answers are made on their device.
        form: see `RegionForm`.
        side: of a crop, in pixels.
    """
    if not len(masks):
        return torch.zeros(0, visual.attnpool.c_proj.out_features, device=masks.device)
    if form == "places":
        whole = torch.from_numpy(pixels).permute(2, 0, 1).float().to(masks.device) / 255
        last = pyramid(visual, normalised(whole, CLIP_MEAN, CLIP_STD)[None])[-1][0]
        return region_means(visual, last, masks.float())
    crops = region_crops(pixels, masks.cpu().numpy(), side).to(masks.device)
    shown = torch.stack([normalised(crop, CLIP_MEAN, CLIP_STD) for crop in crops])
    return attention_pool(visual, pyramid(visual, shown)[-1])[:, 0]


def see_places(visual: VisionTransformer, looked: Looked, masks: Tensor) -> Tensor:
    """`Teacher.see` of the embedded tower: the student's pyramid holds what it needs."""
    dense = (looked.pyramid if isinstance(looked, PhotoPyramid) else looked).dense
    return teach_places(visual, dense, (masks > 0).to(dense))


def see_photo(visual: ModifiedResNet, form: RegionForm, looked: Looked, masks: Tensor) -> Tensor:
    """`Teacher.see` of a CLIP ResNet: it looks at the photo; a region without a pixel of it becomes 0.

    Raises:
        ValueError: if the photo was not kept.
    """
    if not isinstance(looked, PhotoPyramid):
        raise ValueError("the teacher must be given the photo")  # noqa: TRY004 - the engine's, not a caller's type
    regions = torch.from_numpy(np.stack(list(masks_on_photo(masks, looked)))).to(masks.device)
    seen = regions.flatten(1).any(dim=1)
    answers = masks.new_zeros(len(masks), visual.attnpool.c_proj.out_features)
    answers[seen] = teach_resnet(visual, looked.pixels, regions[seen], form).to(answers)
    return answers
