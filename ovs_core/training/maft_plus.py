"""Recipe of FC-CLIP and MAFT+: a mask head on a tower's pyramid, and for MAFT+ the tower tuned along.

Papers: FC-CLIP (arXiv 2308.02487), MAFT+ (2408.00744); numbers as in the configurations of
jiaosiyu1999/MAFT-Plus fd12806. The head sees the tower's maps without gradient. The tower and the transfer
learn from two losses of their own: class probabilities follow masks, and features stay near those of the
tower as it was.

Deviations: both towers are in evaluation mode (the official teacher's stochastic depth is never turned off,
which makes its features noisy); the tower runs once a step, not twice, which is the same without stochastic
depth.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from ovs_core.decoders.mask_pooling import mask_pooling
from ovs_core.decoders.text_transfer import ImageTokens, ToJointSpace, image_tokens
from ovs_core.methods.mask_classification.head import MaskHead, class_logits
from ovs_core.training.loop import Schedule
from ovs_core.training.losses import (
    BatchPart,
    Draw,
    Points,
    Target,
    class_loss,
    class_weight,
    compensation_loss,
    draw_points,
    mask_aware_loss,
    mask_losses,
    on_unclear_ground,
    sample_points,
    unsure_points,
)
from ovs_core.training.matcher import MatchWeights, match
from ovs_core.training.processes import SINGLE_PROCESS, Mean, Processes, parts_of

ToMaps = Callable[[Tensor], tuple[tuple[Tensor, ...], Tensor]]  # pixels to four maps and a dense one


@dataclass(frozen=True)
class MaftPlan:
    """Settings of the recipe; official values.

    Attributes:
        points: places a mask is compared at.
        weights: of class, mask and dice losses; in matching too.
        no_object: weight of queries without a true mask in the class loss.
        mask_aware: weight of the mask-aware loss; 0 leaves the tower as it is (FC-CLIP).
        compensation: weight of representation compensation.
        rate: learning rate of the head.
        tower_rate: learning rate of the tower.
        weight_decay: AdamW's, on everything but norms and embeddings.
        clip: limit of the gradient's norm.
        power: of the polynomial decay of both rates to 0.
        batch: pictures a step.
        short_side: shorter side of a training picture in pixels; the longer is at most 1333 / 800 of it.
    """

    points: int = 12544
    weights: MatchWeights = field(default_factory=MatchWeights)
    no_object: float = 0.1
    mask_aware: float = 1.0
    compensation: float = 0.1
    rate: float = 1e-4
    tower_rate: float = 1e-5
    weight_decay: float = 2e-5
    clip: float = 0.01
    power: float = 0.9
    batch: int = 8
    short_side: int = 800


OFFICIAL_STEPS_LARGE, OFFICIAL_STEPS_BASE = 55_000, 60_000
OFFICIAL_SEED = 123


@dataclass(frozen=True, eq=False)
class TrainingTower:
    """The tower that is tuned, and how to read it.

    Attributes:
        maps: normalised padded pixels (B, 3, Hp, Wp) to four maps, finest first, and the dense map.
        teacher: the same of the tower as it was, dense map only; None leaves compensation out.
        to_joint_space: the tower's head, vectors (n, C) of the dense map to (n, D); not trained.
        logit_scale: logarithm of CLIP's own scale; not trained.
        image_tokens: order of tokens for the transfer.
    """

    maps: ToMaps
    teacher: Callable[[Tensor], Tensor] | None
    to_joint_space: ToJointSpace
    logit_scale: Tensor
    image_tokens: ImageTokens = "per_pixel"


def training_losses(
    head: MaskHead,
    tower: TrainingTower,
    pixels: Tensor,
    text: Tensor,
    counts: Sequence[int],
    targets: Sequence[Target],
    plan: MaftPlan,
    draw: Draw,
    *,
    part: BatchPart | None = None,
    processes: Processes = SINGLE_PROCESS,
) -> dict[str, Tensor]:
    """Every weighted loss of a batch under its official name; their sum is minimised.

    Of several processes each gets its part of them.

    Args:
        head: trained; without transfer, names are compared as they are.
        tower: what reads the pictures.
        pixels: normalised and padded, (B, 3, Hp, Wp).
        text: unit name embeddings (S, D).
        counts: names per class.
        targets: one per picture; classes are places in `counts`.
        plan: the recipe.
        draw: where random points come from.
        part: of a batch that several processes share; None if these pictures are the whole batch.
        processes: those that share it.
    """
    maps, dense = tower.maps(pixels)
    frozen = [level.detach().float() for level in maps]
    losses = head_losses(head, frozen, text, counts, targets, plan, draw, part=part)
    masks = losses.masks
    named = dict(losses.losses)
    if plan.mask_aware:
        logits = tower_logits(head, tower, dense.float(), masks, text, counts)[..., :-1]
        named["ranking_loss"] = weighted_mask_aware(plan.mask_aware, logits, masks, targets)
        if tower.teacher is not None:
            with torch.no_grad():
                before = tower.teacher(pixels)
            named["rc_loss"] = weighted_compensation(plan.compensation, dense, before)
    return parts_of(named, processes)


def weighted_mask_aware(weight: float, logits: Tensor, masks: Tensor, targets: Sequence[Target]) -> Mean:
    """The mask-aware loss times `weight`, a mean over true masks; arguments as there."""
    return Mean(weight * mask_aware_loss(logits, masks, targets), _number_of_masks(targets, logits))


def weighted_compensation(weight: float, student: Tensor, teacher: Tensor) -> Mean:
    """Representation compensation times `weight`, a mean over pictures; arguments as there."""
    return Mean(weight * compensation_loss(student, teacher), student.new_tensor(len(student)))


@dataclass(frozen=True, eq=False)
class HeadLosses:
    """Losses of all predictions of a head, and its last masks (B, N, h, w) without gradient."""

    losses: dict[str, Mean]
    masks: Tensor


def head_losses(
    head: MaskHead,
    maps: Sequence[Tensor],
    text: Tensor,
    counts: Sequence[int],
    targets: Sequence[Target],
    plan: MaftPlan,
    draw: Draw,
    *,
    part: BatchPart | None = None,
) -> HeadLosses:
    """Class, mask and dice loss of the last prediction, then of those before it in order ("_0" to "_8").

    Args:
        head: trained.
        maps: four maps of the tower (B, C, h, w), without gradient.
        text: unit name embeddings (S, D).
        counts: names per class.
        targets: one per picture.
        plan: the recipe.
        draw: where random points come from; for each prediction `draw_points`.
        part: of a batch that several processes share; None if these pictures are the whole batch.
    """
    part = part or whole_batch(targets)
    pixels = head.pixel_decoder(maps)
    *earlier, last = head.mask_decoder(pixels, every_layer=True).predictions
    names = head.with_void(text)
    losses: dict[str, Mean] = {}
    for ending, prediction in [("", last), *((f"_{i}", prediction) for i, prediction in enumerate(earlier))]:
        logits = head.in_vocabulary(prediction, pixels, names, counts)
        points = draw_points(part, logits.shape[1], plan.points, draw)
        for name, loss in prediction_losses(logits, prediction.masks, targets, plan, points).items():
            losses[name + ending] = loss
    return HeadLosses(losses, last.masks.detach())


def whole_batch(targets: Sequence[Target]) -> BatchPart:
    """All of a batch that no other process shares."""
    return BatchPart([len(target.masks) for target in targets], range(len(targets)))


def prediction_losses(
    logits: Tensor, masks: Tensor, targets: Sequence[Target], plan: MaftPlan, points: Points
) -> dict[str, Mean]:
    """Match queries with truth, then the three weighted losses of one prediction.

    Args:
        logits: classes with "no object" last, (B, N, K + 1).
        masks: logits, (B, N, h, w).
        targets: one per picture.
        plan: the recipe.
        points: where masks are compared (`draw_points`).
    """
    weights = plan.weights
    matched = [
        match(logits[i], masks[i], target, points.matching[i], weights) for i, target in enumerate(targets)
    ]
    classes = [
        (queries, target.classes[true]) for (queries, true), target in zip(matched, targets, strict=True)
    ]
    unclear = [on_unclear_ground(mask, target) for mask, target in zip(masks, targets, strict=True)]
    entropy = weights.classes * class_loss(logits, classes, plan.no_object, unclear)
    losses = {"loss_ce": Mean(entropy, class_weight(logits, classes, plan.no_object, unclear))}
    number = _number_of_masks(targets, logits)
    predicted = torch.cat(
        [mask[queries] for mask, (queries, _) in zip(masks, matched, strict=True)]
    )  # (n, h, w)
    truth = torch.cat([target.masks[true] for target, (_, true) in zip(targets, matched, strict=True)]).to(
        predicted
    )
    if not len(predicted):
        nothing = Mean(masks.sum() * 0, number)
        return losses | {"loss_mask": nothing, "loss_dice": nothing}
    places = unsure_points(predicted, points.seen, points.others)
    entropy, dice = mask_losses(
        sample_points(predicted, places),
        sample_points(truth, places),
        max(1, sum(len(t.masks) for t in targets)),
    )
    return losses | {
        "loss_mask": Mean(weights.mask * entropy, number),
        "loss_dice": Mean(weights.dice * dice, number),
    }


def _number_of_masks(targets: Sequence[Target], like: Tensor) -> Tensor:
    """True masks of some pictures, a scalar."""
    return like.new_tensor(sum(len(target.masks) for target in targets))


def tower_logits(
    head: MaskHead,
    tower: TrainingTower,
    dense: Tensor,
    masks: Tensor,
    text: Tensor,
    counts: Sequence[int],
) -> Tensor:
    """Logits (B, N, K + 1) of the tower's own features pooled inside masks (B, N, h, w), with gradients."""
    pooled = mask_pooling(dense, masks)  # (B, N, C)
    embeddings = tower.to_joint_space(pooled.flatten(0, 1)).view(*pooled.shape[:2], -1)
    rows = head.with_void(text)
    if head.config.transfer is not None:
        rows = head.adapt(rows, image_tokens(dense, tower.to_joint_space, tower.image_tokens)).rows
    return class_logits(embeddings, rows, tower.logit_scale, counts)


def schedule(plan: MaftPlan, steps: int, *, seed: int = OFFICIAL_SEED, save_every: int = 200) -> Schedule:
    """The recipe's schedule for `ovs_core.training.loop.fit`: no warm-up, polynomial decay."""
    return Schedule(
        steps,
        warmup=0,
        weight_decay=plan.weight_decay,
        clip=plan.clip,
        seed=seed,
        save_every=save_every,
        power=plan.power,
    )


def optimiser_groups(head: nn.Module, tower: Iterable[nn.Module], plan: MaftPlan) -> list[dict[str, object]]:
    """AdamW groups: the head's rate and the tower's; no weight decay on norms and embeddings.

    Args:
        head: trained at `plan.rate`.
        tower: parts trained at `plan.tower_rate`; only tensors that ask for gradients.
        plan: the recipe.
    """
    groups: list[dict[str, object]] = []
    for modules, rate in (([head], plan.rate), (list(tower), plan.tower_rate)):
        plain: list[nn.Parameter] = []
        decayed: list[nn.Parameter] = []
        for module in (inner for outer in modules for inner in outer.modules()):
            free = isinstance(module, nn.Embedding | nn.LayerNorm | nn.GroupNorm | nn.BatchNorm2d)
            own = [p for p in module.parameters(recurse=False) if p.requires_grad]
            (plain if free else decayed).extend(own)
        for tensors, decay in ((decayed, plan.weight_decay), (plain, 0.0)):
            if tensors:
                groups.append({"params": tensors, "lr": rate, "weight_decay": decay})
    return groups
