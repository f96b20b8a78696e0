"""Recipe of MVP-SEG's first stage (arXiv 2304.06957): contexts learn from seen classes on a frozen tower.

    L = l1 L_seg + l2 L_cls + l3 L_OC
    L_seg  mean over labelled pixels of -log m_c, c the true class (the paper sums; the mean is inferred)
    L_cls  binary cross-entropy of g_c against "class c is in this crop", summed over classes
    L_OC   sum over pairs of views of |cos| between their mean vectors; the global prompt is left out

Deviation: the paper's L_cls is -sum_c y_c log g_c. Nothing in it, nor in L_seg, ever lowers g of an absent
class, so taken literally g tends to 1 and refining does nothing; `cls_loss="positive_only"` gives it.
Deviation: the optimiser is the house's AdamW with a half cosine (`ovs_core.training.loop`); the paper's is
unknown, CoOp's is SGD.

Images pass the tower once (`cache_crops`); a step costs one pass of the text tower, forth and back. All
defaults of `MvpSegPlan` are inferred: the paper's text was not at hand beyond its formulas and k = 3.
"""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from ovs_core.encoders.clip_resnet import ResNetEncoder
from ovs_core.encoders.clip_vit import VisionEncoder
from ovs_core.encoders.prompts import ClassPosition, clip_tokenizer, context_prompts
from ovs_core.encoders.text_tower import TextTower, text_tower
from ovs_core.methods.mvp_seg.contexts import Contexts, save_contexts
from ovs_core.methods.mvp_seg.formulas import fused_scores, gate_logits, log_probabilities, orthogonality
from ovs_core.training.loop import Schedule, fit, seed_torch
from ovs_core.training.mvp_seg_data import CachedCrops, CropPlan, cache_crops, draw_classes
from ovs_core.training.plans import keep_recipe, plan_from_json
from ovs_core.training.split_photos import Photos
from ovs_core.types import IGNORE
from ovs_core.vocabulary.splits import spoken_name

log = logging.getLogger(__name__)

ClsLoss = Literal["bce", "positive_only"]
Init = Literal["noise", "words"]
Wording = Literal["plain", "dataset"]

INIT_WORDS = ("a photo of a", "a photo of a", "a close-up photo of a part of a", "a cropped photo of a")
"""Of the global prompt, then of the views in turn."""


@dataclass(frozen=True)
class MvpSegPlan:
    """The recipe in numbers. Everything but k is inferred, not from the paper.

    Attributes:
        encoder: registry name of the tower.
        k: views; 1 with `oc_weight` 0 and `refine` False is one learned prompt.
        length: vectors per context, M (CoOp: 16).
        position: where the class name stands (CoOp: end).
        init: "noise" around 0, or the words of `INIT_WORDS` plus that noise; views that start equal stay so.
        init_std: of the noise (CoOp: 0.02).
        refine: train a global prompt and Global Prompt Refining.
        seg_weight, cls_weight, oc_weight: l1, l2, l3; 0 leaves a loss out.
        cls_loss: with or without the negative term.
        tau1_scale: tau1 starts at tau1_scale / k, 100 being CLIP's own scale; use a tower's own where it
            differs.
        tau2: start of the gate's temperature.
        gamma: sharpness of the soft-max pooling, fixed.
        steps, warmup: optimiser steps.
        batch: crops a step.
        rate: peak learning rate.
        classes_per_step: classes whose prompts a step embeds: those present, filled up at random.
        wording: names for people, as MaskCLIP words them, or raw.
        crops: which crops are cached.
        seed: of everything that is drawn.
    """

    encoder: str = "mini"
    k: int = 3
    length: int = 16
    position: ClassPosition = "end"
    init: Init = "noise"
    init_std: float = 0.02
    refine: bool = True
    seg_weight: float = 1.0
    cls_weight: float = 1.0
    oc_weight: float = 1.0
    cls_loss: ClsLoss = "bce"
    tau1_scale: float = 100.0
    tau2: float = 0.07
    gamma: float = 100.0
    steps: int = 2000
    warmup: int = 50
    batch: int = 16
    rate: float = 2e-3
    classes_per_step: int = 64
    wording: Wording = "plain"
    crops: CropPlan = field(default_factory=CropPlan)
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("k", "length", "steps", "batch", "classes_per_step"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")


def mvp_seg_plan(values: Mapping[str, Any]) -> MvpSegPlan:
    """Read a recipe from JSON; what is left out keeps its default, in `crops` too.

    Raises:
        ValueError: for a name that no recipe has, or a value it cannot have.
    """
    try:
        return plan_from_json(MvpSegPlan(), values)
    except TypeError as error:
        raise ValueError(f"The recipe cannot be read: {error}.") from error


class PromptLearner(nn.Module):
    """All that MVP-SEG learns: k + 1 contexts and two temperatures.

    Args:
        plan: the recipe.
        tower: text tower, for the width of its tokens and the words to start from.
    """

    def __init__(self, plan: MvpSegPlan, tower: TextTower) -> None:
        super().__init__()
        seed_torch(plan.seed, 0)
        start = _start(plan, tower)  # (k + 1, M, C)
        self.views = nn.Parameter(start[1:].clone())
        self.whole = nn.Parameter(start[0].clone()) if plan.refine else None
        self.log_tau1 = nn.Parameter(torch.tensor(math.log(plan.tau1_scale / plan.k)))
        self.log_tau2 = nn.Parameter(torch.tensor(math.log(plan.tau2))) if plan.refine else None
        self.position, self.gamma = plan.position, plan.gamma

    @property
    def stacked(self) -> Tensor:
        """All contexts, (V, M, C), the global one first, if there is one."""
        return self.views if self.whole is None else torch.cat([self.whole[None], self.views])

    def prompts(self, tower: TextTower, ids: Tensor) -> Tensor:
        """Unit embeddings (V, S, D) of names with ids (S, L), with gradients to the contexts."""
        contexts, names = self.stacked, len(ids)
        vectors = contexts.repeat_interleave(names, dim=0)  # (V*S, M, C)
        embeddings = tower.embed_context(ids.repeat(len(contexts), 1), vectors, self.position)
        return F.normalize(embeddings.float(), dim=-1).reshape(len(contexts), names, -1)

    def contexts(self, tower_sha256: str, training: Mapping[str, Any]) -> Contexts:
        """What was learnt so far, as the value that is shipped."""
        return Contexts(
            self.views.detach().clone(),
            None if self.whole is None else self.whole.detach().clone(),
            tower_sha256,
            float(self.log_tau1.detach().exp()),
            1.0 if self.log_tau2 is None else float(self.log_tau2.detach().exp()),
            self.gamma,
            self.position,
            training,
        )


def _start(plan: MvpSegPlan, tower: TextTower) -> Tensor:
    """First values of the k + 1 contexts, (k + 1, M, C)."""
    width = tower.positions.shape[1]
    start = plan.init_std * torch.randn(plan.k + 1, plan.length, width)
    if plan.init == "words":
        texts = [INIT_WORDS[0], *(INIT_WORDS[1 + i % (len(INIT_WORDS) - 1)] for i in range(plan.k))]
        ids = clip_tokenizer(tower.context_length)(texts)
        for row, prompt, end in zip(start, ids, tower.read_at(ids).tolist(), strict=True):
            words = prompt[1:end][-plan.length :]  # the end of the text stands next to the name
            row[plan.length - len(words) :] += tower.token_embedding(words).detach()
    return start


def seg_loss(logs: Tensor, labels: Tensor) -> Tensor:
    """L_seg, the mean over labelled pixels of -log m, a scalar; 0 where no pixel is labelled.

    Args:
        logs: log m, (B, S, H, W); from a log-soft-max, so that no clamp stops a gradient.
        labels: row of S or IGNORE, (B, H, W).
    """
    known = labels != IGNORE
    own = logs.gather(1, labels.clamp(min=0)[:, None])[:, 0]  # (B, H, W)
    return -own[known].sum() / known.sum().clamp(min=1)


def cls_loss(logits: Tensor, present: Tensor, kind: ClsLoss) -> Tensor:
    """L_cls, summed over classes and averaged over pictures, a scalar.

    Args:
        logits: of g, (B, S).
        present: 1 where the class is in the picture, (B, S).
        kind: cross-entropy with both terms, or the paper's positive term alone.
    """
    losses = F.binary_cross_entropy_with_logits(logits, present, reduction="none")
    if kind == "positive_only":
        losses = losses * present
    return losses.sum(dim=1).mean()


def batch_losses(
    learner: PromptLearner, prompts: Tensor, features: Tensor, labels: Tensor, plan: MvpSegPlan
) -> dict[str, Tensor]:
    """Weighted losses of a batch; those switched off are absent.

    Args:
        learner: contexts and temperatures.
        prompts: unit embeddings of the step's classes, (V, S, D).
        features: unit features, (B, D, h, w).
        labels: row of S or IGNORE, (B, H', W').
        plan: weights and switches.
    """
    fused = fused_scores(features, prompts[-plan.k :])
    fused = F.interpolate(fused, size=labels.shape[1:], mode="bilinear", align_corners=False)
    losses: dict[str, Tensor] = {}
    log_gates = None
    if learner.log_tau2 is not None:
        whole = torch.einsum("sd,bdhw->bshw", prompts[0], features)
        logits = gate_logits(whole, plan.gamma, learner.log_tau2.exp())
        log_gates = F.logsigmoid(logits)
        rows = torch.arange(prompts.shape[1])[:, None]
        present = (labels.flatten(1)[:, None] == rows).any(dim=2).float()  # (B, S)
        if plan.cls_weight:
            losses["cls"] = plan.cls_weight * cls_loss(logits, present, plan.cls_loss)
    logs = log_probabilities(fused, learner.log_tau1.exp(), log_gates)
    losses["seg"] = plan.seg_weight * seg_loss(logs, labels)
    if plan.oc_weight and plan.k > 1:
        losses["oc"] = plan.oc_weight * orthogonality(learner.views)
    return losses


def train_contexts(
    learner: PromptLearner,
    tower: TextTower,
    names: Sequence[str],
    crops: CachedCrops,
    plan: MvpSegPlan,
    out: Path,
) -> None:
    """Train `learner` in place; nothing else has a gradient.

    Args:
        learner: contexts to train.
        tower: frozen text tower.
        names: the seen classes, in the order of the crops' labels.
        crops: features and labels.
        plan: the recipe.
        out: folder of the run (`ovs_core.training.loop.fit`); a stopped run goes on from there.
    """
    ids = context_prompts(clip_tokenizer(tower.context_length), names, plan.length)

    def step_loss(_step: int, rng: np.random.Generator) -> dict[str, Tensor]:
        chosen = np.sort(rng.choice(len(crops), size=min(plan.batch, len(crops)), replace=False))
        labels = crops.labels[chosen]
        present = np.unique(labels[labels >= 0]).tolist()
        classes = draw_classes(present, len(names), plan.classes_per_step, rng)
        prompts = learner.prompts(tower, ids[torch.from_numpy(classes)])
        features = torch.from_numpy(np.asarray(crops.features[chosen], np.float32))
        return batch_losses(learner, prompts, features, _rows_of(labels, classes, len(names)), plan)

    schedule = Schedule(plan.steps, plan.warmup, weight_decay=0.0, seed=plan.seed, save_every=100)
    fit(learner, [(learner, plan.rate)], step_loss, schedule, out)


def _rows_of(labels: NDArray[np.int16], classes: NDArray[np.int64], names: int) -> Tensor:
    """Labels as rows of `classes`, IGNORE kept."""
    row = np.full(names - IGNORE, IGNORE, np.int64)  # negative labels index its end
    row[classes] = np.arange(len(classes))
    return torch.from_numpy(row[labels])


def train_mvp_seg(
    vision: VisionEncoder | ResNetEncoder,
    model: nn.Module,
    tower_sha256: str,
    photos: Photos,
    plan: MvpSegPlan,
    out: Path,
    *,
    cache: Path | None = None,
) -> Path:
    """Train contexts on the seen classes of `photos`; skipped where the result is there.

    Args:
        vision: image tower.
        model: open_clip model whose text tower belongs to it; frozen here.
        tower_sha256: of the file both came from; contexts are for this one alone.
        photos: with seen and unseen classes.
        plan: the recipe.
        out: working folder; `mvp_seg.safetensors` ends there.
        cache: folder of the frozen features, to share them between runs; `out` by default.

    Raises:
        FileExistsError: if `out` holds a run of another recipe, tower or list of classes.
    """
    training = dataclasses.asdict(plan) | {"seen": list(photos.seen), "photos": len(photos.paths)}
    keep_recipe(training | {"tower": tower_sha256}, out)
    path = out / "mvp_seg.safetensors"
    if path.exists():
        log.info("%s is there, training skipped", path.name)
        return path
    tower = text_tower(model.eval().requires_grad_(False))
    crops = cache_crops(vision, photos, plan.crops, cache or out)
    learner = PromptLearner(plan, tower)
    names = [spoken_name(name) if plan.wording == "plain" else name for name in photos.seen]
    train_contexts(learner, tower, names, crops, plan, out)
    return save_contexts(learner.contexts(tower_sha256, training), path)
