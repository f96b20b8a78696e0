"""Prompted refinement: every region of an answer asks SAM for the object it means.

Practice: Trident (arXiv 2411.09219): per connected region a box, its best point and the class's own map as a
coarse mask give one mask, which is kept if SAM trusts it, else the region stays as it was. Deviations: the
coarse mask is in logits of the class's probability times `MASK_LOGIT_SCALE`, as SAM's own answers are; a mask
must also resemble its region; what a region gives up goes to other masks there or to "other", so that edges
can move inwards too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import scipy  # type: ignore[import-untyped]
import torch
from numpy.typing import NDArray
from torch import Tensor

from ovs_core.devices import Cancel, Report, advance
from ovs_core.refine.sam.embedding import SamEmbedding
from ovs_core.refine.sam.prompts import Click, ask, at_photo_size, on_mask_grid
from ovs_core.vocabulary.boxes import Box

if TYPE_CHECKING:  # types only: who builds the model loads its library, which takes seconds
    from segment_anything.modeling import Sam

MASK_LOGIT_SCALE = 10.0  # SAM's answers reach about this far from 0; not tuned, for want of weights
_EIGHT = np.ones((3, 3), np.bool_)  # corners connect


@dataclass(frozen=True)
class PromptSettings:
    """Which regions ask, and which answers are taken.

    Attributes:
        least_area: smallest region that asks, as part of the photo's pixels.
        least_predicted_iou: SAM's own trust in a mask.
        least_overlap: IoU of the mask with its region.
        most_regions: the largest ones of a photo ask.
    """

    least_area: float = 0.001
    least_predicted_iou: float = 0.8
    least_overlap: float = 0.5
    most_regions: int = 64


@dataclass(frozen=True, eq=False)
class Region:
    """One connected region of an answer.

    Attributes:
        label: its class, from 1.
        mask: (H, W).
        area: pixels.
    """

    label: int
    mask: NDArray[np.bool_]
    area: int


@torch.no_grad()
def prompted_labels(
    sam: Sam,
    embedding: SamEmbedding,
    labels: NDArray[np.integer],
    probabilities: Mapping[int, Tensor],
    settings: PromptSettings | None = None,
    *,
    progress: Report = None,
    cancel: Cancel = None,
) -> NDArray[np.integer]:
    """Labels whose regions are SAM's, wherever SAM is sure.

    Args:
        sam: the model that made the embedding.
        embedding: of the photo.
        labels: (H, W) coarse answer; 0 = other.
        probabilities: of each label present, (h, w) in [0, 1] on any grid that covers the photo.
        settings: see `PromptSettings`.
        progress: told (regions done, regions in all) after each region.
        cancel: looked at before each region.

    Returns:
        (H, W) of the type of `labels`.

    Raises:
        ValueError: for labels of another photo, or without probabilities of a class that is there.
        Cancelled: if `cancel` was set.
    """
    settings = settings or PromptSettings()
    if labels.shape != embedding.image_size:
        raise ValueError(f"labels must be {embedding.image_size}, got {labels.shape}")
    absent = set(np.unique(labels).tolist()) - {0} - set(probabilities)
    if absent:
        raise ValueError(f"probabilities are needed of every class present; missing: {sorted(absent)}")
    regions = _largest_regions(labels, settings)
    best = np.zeros(labels.shape, np.float32)
    answer, given_up = labels.copy(), np.zeros(labels.shape, np.bool_)
    advance(0, len(regions), progress, cancel)
    for number, region in enumerate(regions, start=1):
        belief = probabilities[region.label].float()
        chance = _refined(sam, embedding, region, belief, settings)
        if chance is not None:
            score = float(belief.max())
            wins = (chance > 0.5) & (chance * score > best)
            best[wins] = chance[wins] * score
            answer[wins] = region.label
            given_up |= region.mask & (chance <= 0.5)
        advance(number, len(regions), progress, cancel)
    answer[given_up & (best == 0)] = 0
    return answer


def _refined(
    sam: Sam, embedding: SamEmbedding, region: Region, belief: Tensor, settings: PromptSettings
) -> NDArray[np.float32] | None:
    """Probability (H, W) of SAM's mask for a region; None where SAM is not sure or means something else."""
    coarse = MASK_LOGIT_SCALE * (2 * belief - 1)
    masks = ask(
        sam,
        embedding,
        (_peak(region, belief),),
        _box(region),
        on_mask_grid(sam, embedding, coarse, -MASK_LOGIT_SCALE),
    )
    if float(masks.predicted_iou[0]) < settings.least_predicted_iou:
        return None
    logits = at_photo_size(sam, embedding, masks.logits)[0]
    mask = (logits > sam.mask_threshold).cpu().numpy()
    together = int((mask & region.mask).sum())
    if together < settings.least_overlap * int((mask | region.mask).sum()):
        return None
    chance: NDArray[np.float32] = logits.sigmoid().cpu().numpy()
    return chance


def _largest_regions(labels: NDArray[np.integer], settings: PromptSettings) -> list[Region]:
    """Regions that ask, the largest first; corners connect."""
    regions = list(_regions(labels, max(1.0, settings.least_area * labels.size)))
    return sorted(regions, key=lambda region: -region.area)[: settings.most_regions]


def _regions(labels: NDArray[np.integer], least: float) -> Iterator[Region]:
    """Every connected region of every class with at least that many pixels."""
    for label in np.unique(labels).tolist():
        if label == 0:
            continue
        numbers, count = scipy.ndimage.label(labels == label, structure=_EIGHT)
        areas = np.bincount(numbers.ravel(), minlength=count + 1)
        for number in np.flatnonzero(areas[1:] >= least) + 1:
            yield Region(int(label), numbers == number, int(areas[number]))


def _box(region: Region) -> Box:
    """The smallest box around a region."""
    rows, columns = (np.flatnonzero(region.mask.any(axis=axis)) for axis in (1, 0))
    return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)


def _peak(region: Region, belief: Tensor) -> Click:
    """The middle of the pixel inside a region where its class is most likely."""
    height, width = region.mask.shape
    enlarged = torch.nn.functional.interpolate(
        belief[None, None], size=(height, width), mode="bilinear", align_corners=False
    )[0, 0]
    inside = np.where(region.mask, enlarged.cpu().numpy(), -np.inf)
    row, column = divmod(int(inside.argmax()), width)
    return Click(column + 0.5, row + 0.5)
