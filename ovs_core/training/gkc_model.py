"""What GKC trains, and every loss of one batch.

Paper: GKC (ICCV 2023, arXiv 2303.09181), sections 3 and 4.1; numbers follow yongliu20/GKC 21313c8, written
anew from its description. All losses apply to the last prediction and to those before each decoder layer,
which have projections of their own. Queries are matched with true masks by plain names.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ovs_core.decoders.mask_pooling import resize_masks
from ovs_core.methods.gkc.student import GkcHead, class_logits, name_logits
from ovs_core.methods.gkc.synonyms import Sampling
from ovs_core.training.gkc_losses import (
    GROUNDED_REGIONS,
    Distilled,
    Grounded,
    StructureForm,
    distillation,
    grounding_loss,
    padded_rows,
    some_regions,
)
from ovs_core.training.gkc_words import Pooling, pooled_logits
from ovs_core.training.losses import (
    BatchPart,
    Draw,
    Points,
    Target,
    class_loss,
    class_weight,
    draw_points,
    mask_losses,
    on_unclear_ground,
    sample_points,
    unsure_points,
)
from ovs_core.training.matcher import MatchWeights, match
from ovs_core.training.processes import Mean
from ovs_core.types import UNLISTED


@dataclass(frozen=True)
class GkcLossPlan:
    """Weights and settings of the losses; the paper's values where it tells them.

    Attributes:
        points: places a mask is compared at.
        matching: costs of matching.
        masks: weight of cross-entropy and of dice of masks.
        plain: weight of the class loss on plain names.
        diversified: weight of the class loss on each photo's own list, which holds synonyms.
        no_object: weight of queries without a true mask in both class losses.
        region_dropout: how often the class of a matched query does not count, in [0, 1].
        grounding: weight of the grounding loss, where there are captions.
        distillation: weight of the plain term of distillation.
        structure: weight of its structure term.
        structure_form: the code's or the paper's.
        own_masks: weight of distillation of all masks that the student proposes, labelled or not, into what
            is compared with names. Not in the paper, which has 118,000 labelled photos.
        sampling: how a region's word is drawn.
        pooling: pool all synonyms of all classes in the plain class loss; None says plain names alone.
    """

    points: int = 12544
    matching: MatchWeights = field(default_factory=MatchWeights)
    masks: float = 5.0
    plain: float = 0.0
    diversified: float = 2.0
    no_object: float = 0.1
    region_dropout: float = 0.0
    grounding: float = 2.0
    distillation: float = 2.0
    structure: float = 2.0
    structure_form: StructureForm = "code"
    own_masks: float = 0.0
    sampling: Sampling = "thresholded"
    pooling: Pooling | None = None


class GkcProjections(nn.Module):
    """What training has beside the head: projections of earlier predictions, and those of distillation.

    Args:
        width: channels of a query's class feature.
        joint: width of the joint space.
        layers: decoder layers: as many predictions come before the last one.
    """

    def __init__(self, width: int, joint: int, layers: int) -> None:
        super().__init__()
        self.aux_embed = nn.ModuleList(nn.Linear(width, joint) for _ in range(layers))
        self.kd_proj = nn.Linear(width, joint)
        self.aux_kd = nn.ModuleList(nn.Linear(width, joint) for _ in range(layers))
        self.gamma = nn.Parameter(torch.tensor(1.0))


@dataclass(frozen=True, eq=False)
class Lesson:
    """What one batch of pictures is to teach.

    Attributes:
        targets: masks and classes, one per picture.
        plain: unit rows of all classes' names, (S, D).
        counts: names per class in `plain`.
        lists: each picture's own class list, padded, (B, M, D); None leaves that loss out.
        labels: place in its picture's list of each true mask, (n,) each.
        words: row of the word that is used for each true mask, (n, D) each.
        teacher: what frozen CLIP makes of each true mask's region, (n, D) each; None leaves distillation out.
        captions: rows of nouns of each picture's caption, (w, D) each; None leaves grounding out.
        dense: what frozen CLIP makes of every cell, unit in the joint space, (B, D, h, w); None leaves the
            distillation of the student's own masks out.
    """

    targets: Sequence[Target]
    plain: Tensor
    counts: Sequence[int]
    lists: Tensor | None = None
    labels: Sequence[Tensor] = ()
    words: Sequence[Tensor] = ()
    teacher: Sequence[Tensor] | None = None
    captions: Sequence[Tensor] | None = None
    dense: Tensor | None = None


Matched = Sequence[tuple[Tensor, Tensor]]
"""Per picture the queries that are responsible, and the true mask of each, (n,) each."""


def batch_losses(
    head: GkcHead,
    projections: GkcProjections,
    maps: Sequence[Tensor],
    lesson: Lesson,
    plan: GkcLossPlan,
    draw: Draw,
    *,
    part: BatchPart | None = None,
    generator: torch.Generator | None = None,
) -> dict[str, Mean]:
    """Every weighted loss: "loss_ce", "loss_syn", "loss_mask", "loss_dice", "loss_kd", "loss_text_kd",
    "loss_grounding" of the last prediction, then those of the earlier ones in order ("_0" to ..).

    Args:
        head: trained.
        projections: trained along.
        maps: four maps (B, C, h, w), finest first; with gradient where the tower learns too.
        lesson: what is known of the pictures.
        plan: the recipe.
        draw: where random points come from; for each prediction `draw_points`.
        part: of a batch that several processes share; None if these pictures are the whole batch.
        generator: where dropped classes and left-out regions are drawn; None takes torch's own.
    """  # noqa: D205 - one sentence
    part = part or BatchPart([len(target.masks) for target in lesson.targets], range(len(lesson.targets)))
    decoded = head.propose(maps, every_layer=True).decoded
    *earlier, last = decoded.predictions
    losses: dict[str, Mean] = {}
    # The last one first: that is the order in which official code draws.
    for place, prediction in [(None, last), *enumerate(earlier)]:
        queries = head.class_features(prediction)
        if place is None:
            embedded, distilled = head.embed_proj(F.relu(queries)), projections.kd_proj(queries)
        else:
            embedded = projections.aux_embed[place](F.relu(queries))
            distilled = projections.aux_kd[place](queries)
        points = draw_points(part, queries.shape[1], plan.points, draw)
        outputs = QueryOutputs(embedded, distilled, prediction.masks)
        ending = "" if place is None else f"_{place}"
        own = prediction_losses(head, projections.gamma, outputs, lesson, plan, points, generator)
        losses |= {name + ending: loss for name, loss in own.items()}
    return losses


@dataclass(frozen=True, eq=False)
class QueryOutputs:
    """One prediction of a batch.

    Attributes:
        embedded: queries in the joint space, for names and captions, (B, N, D).
        distilled: queries in the joint space, for the teacher, (B, N, D).
        masks: logits, (B, N, h, w).
    """

    embedded: Tensor
    distilled: Tensor
    masks: Tensor


def prediction_losses(
    head: GkcHead,
    gamma: Tensor,
    outputs: QueryOutputs,
    lesson: Lesson,
    plan: GkcLossPlan,
    points: Points,
    generator: torch.Generator | None = None,
) -> dict[str, Mean]:
    """Match queries with truth, then every weighted loss of one prediction; see `batch_losses`."""
    plain = head.with_void(lesson.plain)
    logits = class_logits(outputs.embedded, plain, head.logit_scale, lesson.counts)
    matched = [
        match(logits[i], outputs.masks[i], target, points.matching[i], plan.matching)
        for i, target in enumerate(lesson.targets)
    ]
    losses = _mask_losses(outputs.masks, matched, lesson.targets, plan, points)
    dropped = [_dropped(len(queries), plan.region_dropout, generator) for queries, _ in matched]
    unclear = [
        on_unclear_ground(mask, target) for mask, target in zip(outputs.masks, lesson.targets, strict=True)
    ]
    if plan.plain:
        if plan.pooling is not None:
            names = name_logits(outputs.embedded, plain, head.logit_scale)
            logits = pooled_logits(names, lesson.counts, plan.pooling)
        classes = [target.classes for target in lesson.targets]
        losses["loss_ce"] = _class_loss(plan.plain, logits, matched, classes, dropped, unclear, plan)
    if plan.diversified and lesson.lists is not None:
        own = name_logits(outputs.embedded, head.with_void(lesson.lists), head.logit_scale)
        losses["loss_syn"] = _class_loss(
            plan.diversified, own, matched, lesson.labels, dropped, unclear, plan
        )
    if lesson.teacher is not None and (plan.distillation or plan.structure):
        losses |= _distilled(outputs, matched, lesson, gamma, plan, generator)
    if plan.own_masks and lesson.dense is not None:
        losses["loss_own_masks"] = own_mask_distillation(outputs, lesson.dense, plan)
    if plan.grounding and lesson.captions is not None:
        losses["loss_grounding"] = _grounded(outputs, matched, lesson.captions, head.logit_scale, plan)
    return losses


def _mask_losses(
    masks: Tensor, matched: Matched, targets: Sequence[Target], plan: GkcLossPlan, points: Points
) -> dict[str, Mean]:
    number = masks.new_tensor(float(sum(len(target.masks) for target in targets)))
    matched_masks = torch.cat([mask[queries] for mask, (queries, _) in zip(masks, matched, strict=True)])
    truth = torch.cat([target.masks[true] for target, (_, true) in zip(targets, matched, strict=True)]).to(
        matched_masks
    )
    if not len(matched_masks):
        nothing = Mean(masks.sum() * 0, number)
        return {"loss_mask": nothing, "loss_dice": nothing}
    places = unsure_points(matched_masks, points.seen, points.others)
    entropy, dice = mask_losses(
        sample_points(matched_masks, places), sample_points(truth, places), max(1, int(number))
    )
    return {
        "loss_mask": Mean(plan.masks * entropy, number),
        "loss_dice": Mean(plan.masks * dice, number),
    }


def _dropped(count: int, chance: float, generator: torch.Generator | None) -> Tensor:
    """Which of `count` matched queries do not say their class, (count,) bool; draws nothing at chance 0."""
    if not chance:
        return torch.zeros(count, dtype=torch.bool)
    return torch.rand(count, generator=generator) < chance


def _class_loss(
    weight: float,
    logits: Tensor,
    matched: Matched,
    labels: Sequence[Tensor],
    dropped: Sequence[Tensor],
    unclear: Sequence[Tensor],
    plan: GkcLossPlan,
) -> Mean:
    """Weighted cross-entropy; `labels` are columns of `logits` of each picture's true masks, or UNLISTED."""
    assigned = []
    for (queries, true), own, left in zip(matched, labels, dropped, strict=True):
        wanted = own[true].clone()
        wanted[left.to(wanted.device)] = UNLISTED
        assigned.append((queries, wanted))
    entropy = weight * class_loss(logits, assigned, plan.no_object, unclear)
    return Mean(entropy, class_weight(logits, assigned, plan.no_object, unclear))


def _distilled(
    outputs: QueryOutputs,
    matched: Matched,
    lesson: Lesson,
    gamma: Tensor,
    plan: GkcLossPlan,
    generator: torch.Generator | None,
) -> dict[str, Mean]:
    """Both terms of distillation for the matched queries, at most 200 of them."""
    student, teacher, text = [], [], []
    for own, (queries, true), target, seen, words in zip(
        outputs.distilled, matched, lesson.targets, lesson.teacher or (), lesson.words, strict=True
    ):
        known = target.classes[true] != UNLISTED  # the others have no word
        student.append(own[queries[known]])
        teacher.append(seen[true[known]])
        text.append(words[true[known]])
    counts = [len(rows) for rows in student]
    kept = some_regions(counts, generator)
    photo = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))[kept]
    counts = torch.bincount(photo, minlength=len(counts)).tolist()
    places = kept.to(outputs.masks.device)
    rows = (F.normalize(torch.cat(part)[places], dim=1) for part in (student, teacher, text))
    seen_by_student, seen_by_teacher, said_in_text = rows
    regions = Distilled(seen_by_student, seen_by_teacher, said_in_text, counts)
    terms = distillation(regions, gamma, plan.structure_form)
    pairs = sum(count * count for count in counts) if plan.structure_form == "code" else sum(counts)
    return {
        "loss_kd": Mean(plan.distillation * terms.plain, gamma.new_tensor(float(sum(counts)))),
        "loss_text_kd": Mean(plan.structure * terms.structure, gamma.new_tensor(float(pairs))),
    }


def own_mask_distillation(outputs: QueryOutputs, dense: Tensor, plan: GkcLossPlan) -> Mean:
    """Mean over masks that are somewhere of |v - c|^2, c what the teacher sees inside the mask."""
    size = (dense.shape[2], dense.shape[3])
    inside = resize_masks(outputs.masks.detach(), size).sigmoid()  # (B, N, h, w)
    inside = torch.where(inside < 0.5, 0.0, inside).flatten(2)
    seen = F.normalize(inside @ dense.flatten(2).transpose(1, 2), dim=2)  # (B, N, D)
    somewhere = inside.sum(dim=2) > 0
    distance = (F.normalize(outputs.embedded, dim=2) - seen).square().sum(dim=2)[somewhere]
    number = distance.new_tensor(float(len(distance)))
    return Mean(plan.own_masks * distance.sum() / number.clamp(min=1), number)


def _grounded(
    outputs: QueryOutputs, matched: Matched, captions: Sequence[Tensor], log_scale: Tensor, plan: GkcLossPlan
) -> Mean:
    """Grounding over the pictures that are here; official code can gather those of all GPUs."""
    own = [rows[queries] for rows, (queries, _) in zip(outputs.embedded, matched, strict=True)]
    regions, has_region = padded_rows(own, GROUNDED_REGIONS)
    words, has_word = padded_rows(captions, max(1, *(len(rows) for rows in captions)))
    loss = grounding_loss(Grounded(words, has_word, regions, has_region), log_scale)
    return Mean(plan.grounding * loss, log_scale.new_tensor(float(len(own))))
