"""Masks of everything in a photo, by a grid of points, and the regions that they cut it into.

Paper: Segment Anything (arXiv 2304.02643), appendix B, "fully automatic stage"; scores, stability and box
suppression as in `segment_anything.SamAutomaticMaskGenerator`, for the whole photo without crops. Deviations:
masks are judged on SAM's own low-resolution grid and enlarged once they are kept, which is many times faster
on a CPU; the photo's embedding is shared with every other use of SAM.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ovs_core.devices import Cancel, Report, advance
from ovs_core.refine.sam.embedding import SamEmbedding
from ovs_core.refine.sam.prompts import at_photo_size, decode

if TYPE_CHECKING:  # types only: who builds the model loads its library, which takes seconds
    from segment_anything.modeling import Sam

_STABILITY_OFFSET = 1.0  # logits, of segment-anything


@dataclass(frozen=True)
class GridSettings:
    """How masks are asked for and which are kept.

    Attributes:
        points_per_side: of the grid of points.
        points_per_batch: asked at once; memory grows with it.
        least_predicted_iou: SAM's own trust in a mask.
        least_stability: IoU of the mask's stricter and laxer forms.
        most_overlap: IoU of two boxes above which the less trusted mask is dropped.
    """

    points_per_side: int = 16
    points_per_batch: int = 16
    least_predicted_iou: float = 0.7
    least_stability: float = 0.85
    most_overlap: float = 0.7

    def __post_init__(self) -> None:
        if not 1 <= self.points_per_side <= 64:
            raise ValueError(f"points_per_side must lie in 1..64, got {self.points_per_side}")
        if self.points_per_batch < 1:
            raise ValueError(f"points_per_batch must be at least 1, got {self.points_per_batch}")


@torch.no_grad()
def sam_regions(
    sam: Sam,
    embedding: SamEmbedding,
    settings: GridSettings | None = None,
    *,
    progress: Report = None,
    cancel: Cancel = None,
) -> NDArray[np.int32]:
    """Cut a photo into the masks of everything, smaller ones on top of larger ones.

    Args:
        sam: the model that made the embedding.
        embedding: of the photo.
        settings: see `GridSettings`.
        progress: told (steps done, steps in all) after every batch of points and once masks are enlarged.
        cancel: looked at before every batch.

    Returns:
        (H, W) number of the region from 1, largest first; 0 where no mask is.

    Raises:
        Cancelled: if `cancel` was set.
    """
    from segment_anything.utils.amg import build_point_grid  # loads torchvision: only with SAM

    settings = settings or GridSettings()
    height, width = embedding.image_size
    places = torch.from_numpy(build_point_grid(settings.points_per_side) * (width, height)).float()
    batches = torch.split(places, settings.points_per_batch)
    kept: list[tuple[Tensor, Tensor]] = []
    advance(0, len(batches) + 1, progress, cancel)
    for number, batch in enumerate(batches, start=1):
        kept.append(_reliable(sam, embedding, batch, settings))
        advance(number, len(batches) + 1, progress, cancel)
    logits, trust = (torch.cat(parts) for parts in zip(*kept, strict=True))
    regions = _painted(sam, embedding, logits[_apart(logits > sam.mask_threshold, trust, settings)], cancel)
    advance(len(batches) + 1, len(batches) + 1, progress, cancel)
    return regions


def _reliable(
    sam: Sam, embedding: SamEmbedding, places: Tensor, settings: GridSettings
) -> tuple[Tensor, Tensor]:
    """Logits (N, h, w) and trust (N,) of the reliable masks at some places (B, 2)."""
    from segment_anything.utils.amg import calculate_stability_score

    inside = torch.ones(len(places), 1, dtype=torch.int64)
    logits, trust = decode(sam, embedding, places[:, None], inside, several=True)
    logits, trust = logits.flatten(0, 1), trust.flatten()
    rows, columns = logits.shape[1:]
    # What SAM says about the padding is no part of a mask.
    logits[:, -(-embedding.frame[0] * rows // embedding.side) :] = sam.mask_threshold - 1
    logits[:, :, -(-embedding.frame[1] * columns // embedding.side) :] = sam.mask_threshold - 1
    stable = calculate_stability_score(logits, sam.mask_threshold, _STABILITY_OFFSET)
    reliable = (trust >= settings.least_predicted_iou) & (stable >= settings.least_stability)
    reliable &= (logits > sam.mask_threshold).flatten(1).any(1)
    return logits[reliable], trust[reliable]


def _apart(masks: Tensor, trust: Tensor, settings: GridSettings) -> Tensor:
    """Places of masks (N, h, w) that are left when less trusted ones with almost the same box are dropped."""
    from segment_anything.utils.amg import batched_mask_to_box
    from torchvision.ops import nms

    return nms(batched_mask_to_box(masks).float(), trust, settings.most_overlap)


def _painted(sam: Sam, embedding: SamEmbedding, logits: Tensor, cancel: Cancel) -> NDArray[np.int32]:
    """Regions (H, W) of masks with logits (N, h, w), largest first and so undermost."""
    regions = np.zeros(embedding.image_size, np.int32)
    areas = (logits > sam.mask_threshold).flatten(1).sum(1)
    for number, place in enumerate(areas.argsort(descending=True, stable=True).tolist(), start=1):
        advance(number - 1, len(logits), None, cancel)
        mask = at_photo_size(sam, embedding, logits[place : place + 1])[0] > sam.mask_threshold
        regions[mask.cpu().numpy()] = number
    return regions
