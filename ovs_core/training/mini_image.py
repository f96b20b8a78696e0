"""Recipe of the embedded image tower: dense labels in the text tower's space, for every last-block rule at once.

Training starts at the teachers: a token is the text embedding of what the stem's two heads believe, the first blocks
add nothing yet, the last one passes values on. Each step shows a batch to two of the training-free methods' last-block
rules in turn, so that every method that the app compares finds values it can use. For each picture a vocabulary is
typed as a user would (its classes, some distractors, the hidden "everything else" names) and the soft-max over names is
trained on what is known of each pixel.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from open_clip.model import CLIP
from torch import Tensor, nn

from ovs_core.encoders.clip_vit import tokens_before_last_block
from ovs_core.encoders.mini import STRIDE, ConvStem
from ovs_core.methods.attention_rules import RULES, leave_last_block
from ovs_core.training.data import IGNORE, OTHER, Sample, crop_sample
from ovs_core.training.loop import Schedule, fit
from ovs_core.training.teachers import start_stem
from ovs_core.vocabulary import parse_vocabulary

log = logging.getLogger(__name__)

RULE_CHANCES = {"clip": 0.15, "maskclip": 0.2, "sclip": 0.15, "clearclip": 0.2, "naclip": 0.3}
RULES_PER_STEP = 2
START_SCALE = 20.0
VOC_TRUST = 1.5  # weight of the VOC head's word against ImageNet's: it knows 20 names, but knows them per pixel
FREE_STD = 0.002  # of the channels that carry features and no words yet
LABEL_STRIDE = 4  # pixels per label that the loss sees
TOP, BOTTOM = 0.35, 0.12  # share of a tile that is surely its thing, surely not
HINT_TOP, HINT_WEIGHT = 0.12, 0.2

WordTable = Callable[[tuple[str, ...]], Tensor]


@dataclass(frozen=True)
class ImagePlan:
    """Settings of the image recipe.

    Attributes:
        side: training crop, pixels.
        short_side: range of the photo's shorter side before cropping, pixels.
        batch: pictures a step.
        shares: how often each source is drawn.
        rate, trunk_rate: peak learning rates of the transformer and of the stem's trunks and heads (0 keeps them).
    """

    side: int = 384
    short_side: tuple[int, int] = (320, 720)
    batch: int = 8
    shares: tuple[tuple[str, float], ...] = (("coco", 0.5), ("mosaic", 0.3), ("camvid", 0.1), ("pets", 0.1))
    rate: float = 4e-4
    trunk_rate: float = 0.0


def start_image_tower(model: CLIP, pretrained: Path, imagenet_words: Tensor, voc_words: Tensor) -> None:
    """Set the image tower of `model` so that it answers with its teachers' words before any step.

    Args:
        model: from `build_mini`, with a trained text side.
        pretrained: folder of the teachers' weights.
        imagenet_words, voc_words: text embedding of each head's class names, (1001, D) and (21, D); zero rows for
            "background", which means nothing here.
    """
    visual, stem = model.visual, model.visual.conv1
    start_stem(stem, pretrained)
    with torch.no_grad():
        stem.imagenet_words.weight.copy_(imagenet_words.T[..., None, None])
        stem.voc_words.weight.copy_(voc_words.T[..., None, None])
        width, text = stem.mix.out_channels, imagenet_words.shape[1]
        stem.mix.bias.zero_()
        mix = stem.mix.weight[..., 0, 0]
        mix.zero_()
        mix[:text, :text], mix[:text, text : 2 * text] = torch.eye(text), VOC_TRUST * torch.eye(text)
        mix[text:, 2 * text :].normal_(std=FREE_STD)
        visual.class_embedding.normal_(std=0.02)
        visual.positional_embedding.normal_(std=0.005)
        visual.proj.zero_()
        visual.proj[:text] = torch.eye(text)
        for block in visual.transformer.resblocks:
            block.attn.out_proj.weight.zero_()
            block.mlp.c_proj.weight.zero_()
        attention = visual.transformer.resblocks[-1].attn
        attention.in_proj_weight.copy_(torch.eye(width).repeat(3, 1))
        attention.out_proj.weight.copy_(torch.eye(width))
        model.logit_scale.fill_(float(np.log(START_SCALE)))


def dense_embeddings(model: CLIP, entering: Tensor, grid: tuple[int, int], rule: str) -> Tensor:
    """Unit embeddings (B, 1 + h*w, D) of all tokens under one last-block rule, with gradients."""
    visual = model.visual
    leaving = leave_last_block(RULES[rule], visual.transformer.resblocks[-1], entering, grid)
    return F.normalize((visual.ln_post(leaving) @ visual.proj).float(), dim=-1)


def typed_rows(sample: Sample, rng: np.random.Generator) -> tuple[tuple[str, ...], tuple[int, ...], int]:
    """Type a vocabulary for `sample` as a user might.

    Returns:
        Rows, label of each row (from 1; 0 = everything else), and how many hints stand right behind the groups.
    """
    hints = sample.hints if rng.random() < 0.5 else ()
    said = {name for names in sample.groups for name in names}
    hints = tuple(h for h in hints if h not in said)
    count = 0 if rng.random() < 0.4 else int(rng.integers(1, len(sample.absent) + 1)) if sample.absent else 0
    distractors = rng.permutation(sample.absent)[:count].tolist() if count else []
    classes = ["|".join(names) for names in sample.groups] + list(hints) + distractors
    vocabulary = parse_vocabulary(";".join(classes) or "nothing")
    return vocabulary.rows, vocabulary.row_label, len(hints)


def sample_loss(logits: Tensor, row_label: Tensor, hints: int, sample: Sample) -> Tensor:
    """Loss of one picture: logits (S, h, w) on the label grid, labels from `sample` at that stride."""
    labels = torch.from_numpy(
        sample.labels[LABEL_STRIDE // 2 :: LABEL_STRIDE, LABEL_STRIDE // 2 :: LABEL_STRIDE]
    ).long()
    groups = len(sample.groups)
    logp = logits.flatten(1).log_softmax(dim=0)  # (S, h*w)
    flat = labels.flatten()
    other = row_label == 0
    if not sample.placed:
        return _tile_loss(logp, row_label, other, flat, groups)
    hinted = (row_label > groups) & (row_label <= groups + hints)
    parts, weights = [], []
    for label in range(OTHER, groups):
        where = flat == label
        if where.any():
            rows = (other | hinted) if label == OTHER else row_label == label + 1
            nll = -logp[rows][:, where].logsumexp(dim=0)
            parts.append(nll.mean())
            weights.append(float(where.float().mean()))
    if not parts:
        return logp.sum() * 0
    weight = torch.tensor(weights)
    # Half of the loss counts pixels, half counts classes: mIoU asks for small ones too.
    weight = 0.5 * weight + 0.5 * (weight > 0).float() / len(parts) * (flat > IGNORE).float().mean()
    loss = (torch.stack(parts) * weight).sum()
    return loss + HINT_WEIGHT * _hint_loss(logp, row_label, groups, hints, flat == OTHER)


def _tile_loss(logp: Tensor, row_label: Tensor, other: Tensor, flat: Tensor, groups: int) -> Tensor:
    """The pixels of a tile that look most like its name are it; those that look least like it are something else."""
    parts = []
    rest = logp[other].logsumexp(dim=0)
    for label in range(groups):
        where = flat == label
        own = logp[row_label == label + 1].logsumexp(dim=0)[where]
        order = (own - rest[where]).detach().argsort()
        low, high = order[: int(BOTTOM * len(order))], order[-int(TOP * len(order)) :]
        parts += [-own[high].mean(), -0.5 * rest[where][low].mean()]
    return torch.stack(parts).mean()


def _hint_loss(logp: Tensor, row_label: Tensor, groups: int, hints: int, where: Tensor) -> Tensor:
    """Each name from a caption is right for the unclaimed pixels that look most like it."""
    total = logp.new_zeros(())
    free = int(where.sum())
    if not hints or free < 20:
        return total
    for label in range(groups + 1, groups + hints + 1):
        own = logp[row_label == label].logsumexp(dim=0)[where]
        total = total - own.topk(max(1, int(HINT_TOP * free))).values.mean()
    return total / hints


class Batches:
    """Batches by step number, the next one prepared while the current one is learnt."""

    def __init__(
        self, sources: Mapping[str, Callable[[np.random.Generator], Sample]], plan: ImagePlan, seed: int
    ) -> None:
        self.sources, self.plan, self.seed = sources, plan, seed
        self.worker = ThreadPoolExecutor(1)
        self.next: tuple[int, Future[list[Sample]]] | None = None

    def __call__(self, step: int) -> list[Sample]:
        ready = self.next[1] if self.next and self.next[0] == step else self.worker.submit(self._make, step)
        self.next = (step + 1, self.worker.submit(self._make, step + 1))
        return ready.result()

    def _make(self, step: int) -> list[Sample]:
        rng = np.random.default_rng((self.seed, step, 1))
        names = [name for name, _ in self.plan.shares]
        chances = np.array([share for _, share in self.plan.shares])
        chosen = rng.choice(len(names), size=self.plan.batch, p=chances / chances.sum())
        return [
            crop_sample(self.sources[names[c]](rng), self.plan.side, self.plan.short_side, rng)
            for c in chosen
        ]


def train_image(
    model: CLIP,
    words: WordTable,
    sources: Mapping[str, Callable[[np.random.Generator], Sample]],
    plan: ImagePlan,
    schedule: Schedule,
    out: Path,
) -> None:
    """Train the image side of `model` in place; the text side is frozen."""
    visual, stem = model.visual, model.visual.conv1
    trunk = _teacher_parts(stem)
    transformer = nn.ModuleList(
        [stem.mix, stem.imagenet_words, stem.voc_words, visual.transformer, visual.ln_pre, visual.ln_post]
    )
    transformer.loose = nn.ParameterList(
        [visual.class_embedding, visual.positional_embedding, visual.proj, model.logit_scale]
    )
    model.requires_grad_(False)
    transformer.requires_grad_(True)
    trunk.requires_grad_(plan.trunk_rate > 0)
    batches = Batches(sources, plan, schedule.seed)
    names, chances = list(RULE_CHANCES), np.array(list(RULE_CHANCES.values()))
    grid = (plan.side // STRIDE, plan.side // STRIDE)

    def step_loss(step: int, rng: np.random.Generator) -> dict[str, Tensor]:
        samples = batches(step)
        pixels = (
            torch.from_numpy(np.stack([s.pixels for s in samples])).permute(0, 3, 1, 2).float() / 127.5 - 1
        )
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=plan.trunk_rate == 0):
            entering = tokens_before_last_block(visual, pixels)
        typed = [typed_rows(sample, rng) for sample in samples]
        losses: list[Tensor] = []
        for rule in rng.choice(len(names), size=RULES_PER_STEP, replace=False, p=chances):
            with torch.autocast("cpu", dtype=torch.bfloat16):
                embeddings = dense_embeddings(model, entering, grid, names[rule])
            for sample, found, (rows, row_label, hints) in zip(samples, embeddings, typed, strict=True):
                evidence = words(rows) @ found[1:].T  # (S, h*w)
                shape = (plan.side // LABEL_STRIDE,) * 2
                fine = F.interpolate(evidence.reshape(1, -1, *grid), size=shape, mode="bilinear")[0]
                label = torch.tensor(row_label)
                losses.append(
                    sample_loss(model.logit_scale.exp().clamp(max=100) * fine, label, hints, sample)
                )
                if names[rule] == "clip" and not sample.placed and len(sample.groups) == 1:
                    whole = model.logit_scale.exp() * (words(rows) @ found[0])[label > 0]
                    losses.append(0.5 * F.cross_entropy(whole[None], torch.zeros(1, dtype=torch.long)))
        return {"dense": torch.stack(losses).sum() / (RULES_PER_STEP * len(samples))}

    parts: list[tuple[nn.Module, float]] = [(transformer, plan.rate)]
    if plan.trunk_rate > 0:
        parts.append((trunk, plan.trunk_rate))
    fit(model, parts, step_loss, schedule, out)


def _teacher_parts(stem: ConvStem) -> nn.ModuleList:
    """The layers of the stem that start from teachers."""
    return nn.ModuleList(
        [
            stem.imagenet,
            stem.voc,
            stem.imagenet_top,
            stem.imagenet_classifier,
            stem.voc_aspp,
            stem.voc_pooling,
        ]
        + [stem.voc_projection, stem.voc_classifier]
    )
