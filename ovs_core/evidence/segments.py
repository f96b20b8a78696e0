"""From mask proposals to segments: panoptic and instance answers (the semantic one is `decide.decide`).

Papers: MaskFormer (arXiv 2107.06278), section 3.4, and Mask2Former (2112.01527) for the scores; numbers as
in FC-CLIP's and MAFT+'s official code. Masks come to the photo's size one tile at a time: N x H x W is never
held.

Two steps of our own follow: `without_other` takes regions of the hidden "everything else" names out, and
`flattened` lays instances, which may overlap, over each other for a picture.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ovs_core.evidence.proposals import MaskProposals
from ovs_core.evidence.protocol import Evidence

SegmentKind = Literal["panoptic", "instances"]

OBJECT_THRESHOLD = 0.2  # least probability of a mask's class, official panoptic configurations
OVERLAP_THRESHOLD = 0.7  # least part of a mask that it must win
MAX_INSTANCES = 100
_NO_DIVISION_BY_ZERO = 1e-6


@dataclass(frozen=True)
class Segment:
    """One region of a panoptic answer.

    Attributes:
        number: value in the map, from 1.
        label: class of the region, from 1; 0 = other.
        thing: whether it is one object; False for all of a material ("stuff") together.
        score: probability of the class in the mask, in [0, 1]; the largest of masks that make up stuff.
        area: pixels.
    """

    number: int
    label: int
    thing: bool
    score: float
    area: int


@dataclass(frozen=True, eq=False)
class Panoptic:
    """Every pixel in at most one segment.

    Attributes:
        numbers: (H, W) int32, 0 = no segment.
        segments: in order of their numbers.
    """

    numbers: NDArray[np.int32]
    segments: tuple[Segment, ...]


@dataclass(frozen=True)
class Instance:
    """One object; instances may overlap.

    Attributes:
        mask: which proposal it is.
        label: class, from 1; 0 = other.
        score: probability of the class times the mask's mean probability inside itself, in [0, 1].
        area: pixels of the photo.
    """

    mask: int
    label: int
    score: float
    area: int


def panoptic(
    proposals: MaskProposals,
    things: Collection[int],
    *,
    object_threshold: float = OBJECT_THRESHOLD,
    overlap_threshold: float = OVERLAP_THRESHOLD,
) -> Panoptic:
    """Let confident masks compete for pixels and keep those that win most of themselves.

    Args:
        proposals: masks of a photo.
        things: labels of classes whose regions are told apart.
        object_threshold: least probability of a mask's best class.
        overlap_threshold: least part of a mask's own pixels that it must win.
    """
    scores = proposals.competing
    best, column = torch.cat([scores, proposals.void[:, None]], dim=1).max(dim=1)
    kept = ((column < scores.shape[1]) & (best > object_threshold)).nonzero()[:, 0]
    height, width = proposals.image_size
    numbers = np.zeros((height, width), np.int32)
    if not len(kept):
        return Panoptic(numbers, ())
    winners, areas = _compete(proposals, kept, best[kept])
    segments: list[Segment] = []
    stuff: dict[int, int] = {}  # label to place in `segments`
    for place, (mask, (won, own, inside)) in enumerate(zip(kept.tolist(), areas.tolist(), strict=True)):
        if not (won and own and inside) or won / own < overlap_threshold:
            continue
        label, score = proposals.labels[column[mask]], float(best[mask])
        if label in stuff:
            old = segments[stuff[label]]
            new = replace(old, score=max(old.score, score), area=old.area + inside)
            segments[stuff[label]] = new
        else:
            new = Segment(len(segments) + 1, label, label in things, score, inside)
            if not new.thing:
                stuff[label] = len(segments)
            segments.append(new)
        numbers[winners == place] = new.number
    return Panoptic(numbers, tuple(segments))


def instances(
    proposals: MaskProposals, things: Collection[int], *, limit: int = MAX_INSTANCES
) -> tuple[Instance, ...]:
    """The best pairs of mask and class, best first; a mask may appear with several classes.

    Args:
        proposals: masks of a photo.
        things: labels of classes that have instances; other pairs are dropped after the best were taken.
        limit: pairs to take.
    """
    scores = proposals.competing
    columns = scores.shape[1]
    best, pair = scores.flatten().topk(min(limit, scores.numel()))
    chosen = [
        (index // columns, proposals.labels[index % columns], score)
        for index, score in zip(pair.tolist(), best.tolist(), strict=True)
    ]
    chosen = [entry for entry in chosen if entry[1] in things]
    needed = sorted({mask for mask, _, _ in chosen})
    if not needed:
        return ()
    area, chance = (dict(zip(needed, values.tolist(), strict=True)) for values in _inside(proposals, needed))
    kept = [
        Instance(mask, label, score * chance[mask] / (area[mask] + _NO_DIVISION_BY_ZERO), int(area[mask]))
        for mask, label, score in chosen
    ]
    return tuple(sorted(kept, key=lambda one: -one.score))


def instance_mask(proposals: MaskProposals, mask: int) -> NDArray[np.bool_]:
    """Pixels (H, W) of one proposal, where its logit is above 0."""
    pixels = np.empty(proposals.image_size, np.bool_)
    for top, left, logits in proposals.only([mask]).mask_tiles(proposals.image_size):
        rows, columns = logits.shape[1:]
        pixels[top : top + rows, left : left + columns] = (logits[0] > 0).cpu().numpy()
    return pixels


def require_proposals(evidence: Evidence) -> MaskProposals:
    """Masks behind an answer.

    Raises:
        ValueError: if there are none.
    """
    if evidence.proposals is None:
        raise ValueError(
            "This method labels pixels and proposes no masks, so it has no panoptic or instance answer; "
            "choose a mask method."
        )
    return evidence.proposals


def segments_of(
    evidence: Evidence, kind: SegmentKind, things: Collection[int], size: tuple[int, int] | None = None
) -> Panoptic:
    """An answer as regions of typed classes, none on top of another.

    Args:
        evidence: of a method that proposes masks.
        kind: "panoptic", or "instances" laid over each other.
        things: labels of classes whose objects are told apart; the others have no instances.
        size: (H, W) in pixels; the photo's own by default.

    Raises:
        ValueError: for an answer without masks, or another kind.
    """
    if kind not in get_args(SegmentKind):
        raise ValueError(f"kind must be one of {', '.join(get_args(SegmentKind))}, got {kind!r}")
    proposals = require_proposals(evidence)
    proposals = replace(proposals, image_size=size or proposals.image_size)
    if kind == "panoptic":
        return without_other(panoptic(proposals, things))
    return flattened(proposals, instances(proposals, things))


def without_other(answer: Panoptic) -> Panoptic:
    """The segments of typed classes, numbered anew from 1; pixels of the others become 0."""
    kept = [segment for segment in answer.segments if segment.label]
    numbers = np.zeros(len(answer.segments) + 1, np.int32)
    numbers[[segment.number for segment in kept]] = np.arange(1, len(kept) + 1)
    return Panoptic(
        numbers[answer.numbers],
        tuple(replace(segment, number=number) for number, segment in enumerate(kept, start=1)),
    )


def flattened(
    proposals: MaskProposals,
    ranked: Sequence[Instance],
    *,
    least_score: float = OBJECT_THRESHOLD,
    least_part: float = OVERLAP_THRESHOLD,
) -> Panoptic:
    """Instances laid over each other, the best on top; segment areas are what is seen of each.

    Args:
        proposals: masks of the photo.
        ranked: from `instances`, best first.
        least_score: instances below are left out.
        least_part: part of an instance that must be seen, or it is left out: another one of the same object.
    """
    numbers = np.zeros(proposals.image_size, np.int32)
    segments: list[Segment] = []
    for instance in ranked:
        if instance.score < least_score or not instance.area:
            continue
        seen = instance_mask(proposals, instance.mask) & (numbers == 0)
        area = int(seen.sum())
        if area >= least_part * instance.area:
            segments.append(Segment(len(segments) + 1, instance.label, True, instance.score, area))
            numbers[seen] = len(segments)
    return Panoptic(numbers, tuple(segments))


def _compete(
    proposals: MaskProposals, kept: Tensor, scores: Tensor
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Give each pixel to the mask with the largest score times probability.

    Returns:
        (H, W) place in `kept` of the winner where its own probability is at least a half, else -1; and per
        mask (n, 3): pixels won, pixels of its own (probability at least a half), pixels that are both.
    """
    winners = np.empty(proposals.image_size, np.int32)
    areas = torch.zeros(len(kept), 3, dtype=torch.int64, device=scores.device)
    for top, left, logits in proposals.only(kept).mask_tiles(proposals.image_size):
        chances = logits.sigmoid()
        winner = (chances * scores[:, None, None]).argmax(dim=0)  # (rows, columns)
        own = chances >= 0.5
        sure = own.gather(0, winner[None])[0]
        areas[:, 0] += winner.flatten().bincount(minlength=len(kept))
        areas[:, 1] += own.flatten(1).sum(dim=1)
        areas[:, 2] += winner[sure].bincount(minlength=len(kept))
        rows, columns = winner.shape
        where = (slice(top, top + rows), slice(left, left + columns))
        winners[where] = torch.where(sure, winner, -1).cpu().numpy()
    return winners, areas.cpu().numpy()


def _inside(proposals: MaskProposals, masks: list[int]) -> tuple[Tensor, Tensor]:
    """Of each mask, pixels of the photo inside it and the sum of its probability there, (n,) each."""
    area = proposals.masks.new_zeros(len(masks), dtype=torch.float64)
    chance = torch.zeros_like(area)
    for _, _, logits in proposals.only(masks).mask_tiles(proposals.image_size):
        inside = logits > 0
        area += inside.flatten(1).sum(dim=1)
        chance += (logits.sigmoid() * inside).flatten(1).sum(dim=1)
    return area, chance
