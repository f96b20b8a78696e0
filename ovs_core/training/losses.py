"""Losses of mask methods: points instead of pixels, mask-aware scores, features that stay near their start.

Papers: PointRend (arXiv 1912.08193), section 3.1, for the sampling; Mask2Former (2112.01527), section 3.3,
for cross-entropy and dice on points; MAFT+ (2408.00744) for the mask-aware loss and representation
compensation. Numbers follow jiaosiyu1999/MAFT-Plus fd12806.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ovs_core.types import UNLISTED

OVERSAMPLE = 3  # points looked at per point kept
UNSURE_PART = 0.75  # of the points are where the mask is least sure, the others are random
COMPENSATED_SCALES = (1, 2, 4)  # cells per side that representation compensation averages over
_NO_DIVISION_BY_ZERO = 1e-7
_NO_EMPTY_RANGE = 1e-8

Draw = Callable[[tuple[int, ...]], Tensor]  # shape to uniform numbers in [0, 1)


@dataclass(frozen=True, eq=False)
class Target:
    """What is known of one picture.

    Attributes:
        classes: (n,) class of each mask, from 0; UNLISTED where only the mask is to be learnt.
        masks: (n, Hp, Wp) bool or float, on the padded frame's pixels.
        unclear: (Hp, Wp) True where there may be an object that nobody drew; None if there is no such place.
    """

    classes: Tensor
    masks: Tensor
    unclear: Tensor | None = None

    def __post_init__(self) -> None:
        if self.masks.ndim != 3 or self.classes.shape != self.masks.shape[:1]:
            shapes = f"{tuple(self.classes.shape)} and {tuple(self.masks.shape)}"
            raise ValueError(f"classes must be (n,) and masks (n, Hp, Wp), got {shapes}")

    def to(self, device: torch.device) -> Target:
        """The same on a device."""
        unclear = None if self.unclear is None else self.unclear.to(device)
        return Target(self.classes.to(device), self.masks.to(device), unclear)


@dataclass(frozen=True)
class BatchPart:
    """Which pictures of a batch are here, where several processes share it.

    Attributes:
        masks: number of true masks of every picture of the batch.
        own: places of the pictures that are here.
    """

    masks: Sequence[int]
    own: Sequence[int]


@dataclass(frozen=True, eq=False)
class Points:
    """Random points (x, y) in [0, 1) that one prediction is judged by.

    Attributes:
        matching: of each picture those that all its masks are compared at, (1, P, 2) each.
        seen: of each matched mask those that the least sure ones are chosen from, (n, 3 P, 2).
        others: of each matched mask those that are used as they are, (n, P / 4, 2).
    """

    matching: Sequence[Tensor]
    seen: Tensor
    others: Tensor


def draw_from(generator: torch.Generator | None, device: torch.device) -> Draw:
    """Uniform numbers on a device; None takes torch's own generator."""
    return lambda shape: torch.rand(shape, generator=generator, device=device)


def sample_points(maps: Tensor, points: Tensor) -> Tensor:
    """Values of maps (n, h, w) at points (n, P, 2) or (1, P, 2), (x, y) in [0, 1]: (n, P), bilinear."""
    grid = (2 * points - 1).expand(len(maps), -1, -1)[:, :, None]  # (n, P, 1, 2)
    return F.grid_sample(maps[:, None], grid, align_corners=False)[:, 0, :, 0]


def draw_points(part: BatchPart, queries: int, count: int, draw: Draw) -> Points:
    """Draw points for a whole batch and keep those of the pictures that are here.

    So every process draws the same numbers, and a picture's points do not depend on who has it.

    Args:
        part: the batch.
        queries: masks proposed, of which each true mask gets one if there are enough.
        count: P.
        draw: where numbers come from; asked once per picture and twice for all matched masks.
    """
    matching = [draw((1, count, 2)) for _ in part.masks]
    matched = [min(queries, masks) for masks in part.masks]
    unsure = int(UNSURE_PART * count)
    seen = torch.split(draw((sum(matched), OVERSAMPLE * count, 2)), matched)
    others = torch.split(draw((sum(matched), count - unsure, 2)), matched)
    return Points(
        [matching[i] for i in part.own],
        torch.cat([seen[i] for i in part.own]),
        torch.cat([others[i] for i in part.own]),
    )


@torch.no_grad()
def unsure_points(masks: Tensor, seen: Tensor, others: Tensor) -> Tensor:
    """Points (n, P, 2): those of `seen` where masks (n, h, w), logits, are least sure, and `others`."""
    unsure = seen.shape[1] // OVERSAMPLE - others.shape[1]
    doubt = -sample_points(masks, seen).abs()
    best = doubt.topk(unsure, dim=1).indices  # (n, unsure)
    chosen = seen.gather(1, best[..., None].expand(-1, -1, 2))
    return torch.cat([chosen, others], dim=1)


def class_loss(
    logits: Tensor,
    assigned: Sequence[tuple[Tensor, Tensor]],
    no_object: float,
    left_out: Sequence[Tensor] = (),
) -> Tensor:
    """Weighted cross-entropy of queries' classes (B, N, K + 1), "no object" last.

    Args:
        logits: of the class head.
        assigned: per picture the queries that were matched, (n,), and the class of each; a query of UNLISTED
            class does not count.
        no_object: weight of queries that were not matched; the others weigh 1.
        left_out: per picture, (N,) True for queries that do not count unless they were matched.
    """
    wanted = _wanted_classes(logits, assigned, left_out)
    if not (wanted != UNLISTED).any():
        return logits.sum() * 0
    weight = logits.new_ones(logits.shape[2])
    weight[-1] = no_object
    return F.cross_entropy(logits.transpose(1, 2), wanted, weight, ignore_index=UNLISTED)


def class_weight(
    logits: Tensor,
    assigned: Sequence[tuple[Tensor, Tensor]],
    no_object: float,
    left_out: Sequence[Tensor] = (),
) -> Tensor:
    """Sum of the weights that `class_loss` is a mean over, a scalar; arguments as there."""
    wanted = _wanted_classes(logits, assigned, left_out)
    background = logits.shape[2] - 1
    return ((wanted != UNLISTED) & (wanted != background)).sum() + no_object * (wanted == background).sum()


def _wanted_classes(
    logits: Tensor, assigned: Sequence[tuple[Tensor, Tensor]], left_out: Sequence[Tensor]
) -> Tensor:
    """Class that each query should have, (B, N), UNLISTED where it does not count."""
    background = logits.shape[2] - 1
    wanted = torch.full(logits.shape[:2], background, dtype=torch.long, device=logits.device)
    for row, left in zip(wanted, left_out, strict=False):
        row[left] = UNLISTED
    for row, (queries, classes) in zip(wanted, assigned, strict=True):
        row[queries] = classes
    return wanted


@torch.no_grad()
def on_unclear_ground(masks: Tensor, target: Target) -> Tensor:
    """Whether more than half of each mask (N, h, w), logits, lies where nobody knows, (N,)."""
    if target.unclear is None:
        return torch.zeros(len(masks), dtype=torch.bool, device=masks.device)
    size = (masks.shape[1], masks.shape[2])
    unclear = F.adaptive_avg_pool2d(target.unclear.to(masks)[None, None], size)[0, 0]  # (h, w)
    inside = (masks > 0).to(masks)
    return (inside * unclear).sum(dim=(1, 2)) > 0.5 * inside.sum(dim=(1, 2)).clamp(min=1)


def mask_losses(logits: Tensor, truth: Tensor, total: float) -> tuple[Tensor, Tensor]:
    """Cross-entropy and dice loss of masks at points, both (n, P): the sum over masks divided by `total`.

    Args:
        logits: predicted.
        truth: in [0, 1].
        total: number of true masks of the batch, at least 1.
    """
    entropy = F.binary_cross_entropy_with_logits(logits, truth, reduction="none").mean(dim=1)
    chances = logits.sigmoid()
    overlap = 2 * (chances * truth).sum(dim=1)
    dice = 1 - (overlap + 1) / (chances.sum(dim=1) + truth.sum(dim=1) + 1)
    return entropy.sum() / total, dice.sum() / total


def mask_aware_loss(logits: Tensor, masks: Tensor, targets: Sequence[Target]) -> Tensor:
    """Make the probability of a class in every mask follow how well that mask covers the class.

    For each true mask, soft IoU with all N masks, stretched to [0, 1], is what the probabilities of its class
    should be. No gradient goes through masks.

    Args:
        logits: classes of the tower's pooled features without "no object", (B, N, K).
        masks: logits, (B, N, h, w).
        targets: one per picture.
    """
    probabilities = logits.softmax(dim=2)
    predicted, wanted = [], []
    for chances, mask, target in zip(probabilities, masks.detach(), targets, strict=True):
        predicted.append(chances[:, target.classes].T)  # (n, N)
        wanted.append(_stretched_iou(mask, target.masks.to(mask)))
    if not any(len(rows) for rows in predicted):
        return logits.sum() * 0
    return F.smooth_l1_loss(torch.cat(predicted), torch.cat(wanted))


def _stretched_iou(masks: Tensor, truth: Tensor) -> Tensor:
    """Soft IoU (n, N) of masks (N, h, w), logits, with true ones (n, H, W), each row stretched to [0, 1]."""
    size = (truth.shape[1], truth.shape[2])
    chances = F.interpolate(masks.sigmoid()[None], size=size, mode="bilinear", align_corners=False)[0]
    flat, true = chances.flatten(1), truth.flatten(1)
    overlap = true @ flat.T  # (n, N)
    union = true.sum(dim=1, keepdim=True) + flat.sum(dim=1) - overlap
    iou = overlap / (union + _NO_DIVISION_BY_ZERO)
    low, high = iou.amin(dim=1, keepdim=True), iou.amax(dim=1, keepdim=True)
    return (iou - low) / (high - low + _NO_EMPTY_RANGE)


def compensation_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Representation compensation: sums along rows and columns of averaged maps stay as the teacher's.

    Quirk of the official code, kept: maps that are not square are made square first, but the cell size still
    comes from the width before that, so portrait pictures get more cells.

    Args:
        student: (B, C, h, w), with gradient.
        teacher: the same from the tower as it was.

    Raises:
        ValueError: if maps are narrower than 4 cells or differ in shape.
    """
    height, width = student.shape[2:]
    if student.shape != teacher.shape or width < max(COMPENSATED_SCALES):
        raise ValueError(
            f"maps must be equal and at least {max(COMPENSATED_SCALES)} cells wide, got "
            f"{tuple(student.shape)} and {tuple(teacher.shape)}"
        )
    sums = [_line_sums(F.relu(dense), width, max(height, width)) for dense in (student, teacher.detach())]
    return F.smooth_l1_loss(sums[0], sums[1])


def _line_sums(maps: Tensor, width: int, side: int) -> Tensor:
    """Sums over rows and over columns of maps averaged at several scales, (B, ..)."""
    if maps.shape[2] != maps.shape[3]:
        maps = F.interpolate(maps, size=(side, side), mode="bilinear", align_corners=False)
    parts: list[Tensor] = []
    for scale in COMPENSATED_SCALES:
        cell = width // scale
        averaged = F.avg_pool2d(maps, kernel_size=cell, stride=cell)
        parts += [averaged.sum(dim=2).flatten(1), averaged.sum(dim=3).flatten(1)]
    return torch.cat(parts, dim=1)
