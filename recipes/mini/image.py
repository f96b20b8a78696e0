"""Recipe of the embedded image tower: dense labels in the text tower's space, for every last-block rule.

Training starts at the teachers: a token is the text embedding of what the stem's two heads believe, the
first blocks add no more than a constant, the last one passes values on, and finer positions interpolate. Each
step shows a batch to two of the training-free methods' last-block rules, so that every method that the app
compares finds values it can use. For each picture a vocabulary is typed as a user would (its classes, some
distractors, the hidden "everything else" names) and the soft-max over names is trained on what is known of
each pixel.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import MappingProxyType

import numpy as np
import torch
import torch.nn.functional as F
from open_clip.model import CLIP
from torch import Tensor, nn

from ovs_core.checkpoints import load_strict
from ovs_core.encoders.clip_vit import to_joint_space, tokens_of_patches
from ovs_core.encoders.mini import DETECTOR_PARTS, EIGHTH_BLOCKS, MATERIAL_PARTS, STRIDE, ConvStem
from ovs_core.encoders.mosaic import EIGHTH_BLOCK
from ovs_core.encoders.upsampling import FINER, sharpen
from ovs_core.methods.training_free.attention_rules import RULES, leave_last_block
from ovs_core.training.data import Sample, Sampler, crop_sample
from ovs_core.training.loop import Schedule, fit
from recipes.mini.ade import start_mosaic
from recipes.mini.losses import SampledVocabulary, WordTable, belief_loss, sample_loss, typed_rows
from recipes.mini.plan import ImagePlan
from recipes.mini.teachers import VocTeacher, start_detector, start_stem

RULE_CHANCES: Mapping[str, float] = MappingProxyType(
    {"clip": 0.15, "maskclip": 0.2, "sclip": 0.15, "clearclip": 0.2, "naclip": 0.3}
)
RULES_PER_STEP = 2
START_SCALE, LARGEST_SCALE = 20.0, 100.0
VOC_TRUST = 1.5  # of the VOC head against ImageNet's: it knows 20 names, but knows them per pixel
MATERIAL_TRUST = 3.0  # of the segmenter of materials, times a gate that starts at 1
DETECTOR_TRUST = 4.0  # of the detector: a name's probability is seldom above a half
FREE_STD = 0.002  # of the channels that carry features and no words yet
MIX, FINE = "visual.conv1.mix.weight", "visual.conv1.shares.quarter.weight"  # in a model's state
WHOLE_WEIGHT = 0.5  # of the class token on a photo of one thing


def start_image_tower(model: CLIP, pretrained: Path, imagenet_words: Tensor, voc_words: Tensor) -> None:
    """Set the image tower of `model` so that it answers with its teachers' words before any step.

    Args:
        model: from `build_mini`, with a trained text side.
        pretrained: folder of the teachers' weights.
        imagenet_words: text embedding of each class name of the ImageNet head, (1001, D); zeros for
            "background", which means nothing here.
        voc_words: the same for the VOC head, (21, D).
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
        if stem.shares is not None:
            stem.shares.query.weight.zero_()
            stem.shares.query.bias.zero_()
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


def join_detector(model: CLIP, state: Mapping[str, Tensor], folder: Path, names: Tensor, source: str) -> None:
    """Fill `model`, whose stem has a detector, with a model trained without one and the detector's own start.

    Until the first step the detector adds the words that it believes in to the tokens, and no features.

    Args:
        model: from `build_mini` with a detector.
        state: of a model without one.
        folder: of the detector's files.
        names: text embedding of each of its names, (K, D).
        source: where `state` comes from, for messages.

    Raises:
        CheckpointError: if either does not fit.
        ValueError: if the model has no detector.
    """
    stem: ConvStem = model.visual.conv1
    if stem.detector is None:
        raise ValueError("the model's stem must have a detector to join, got one without")
    start_detector(stem.detector, folder)
    with torch.no_grad():
        stem.detector_words.weight.copy_(names.T[..., None, None])
    _join(model, state, DETECTOR_PARTS, DETECTOR_TRUST, source)


def join_materials(
    model: CLIP, state: Mapping[str, Tensor], folder: Path, words: Tensor, source: str
) -> None:
    """Fill `model`, whose stem has a segmenter of materials, with a model trained without one and its start.

    Until the first step it adds the words that it believes in to the tokens, everywhere, and no features.

    Args:
        model: from `build_mini` with a segmenter of materials.
        state: of a model without one.
        folder: of MOSAIC's file.
        words: text embedding of each of its names, (K, D); zeros for "none of them".
        source: where `state` comes from, for messages.

    Raises:
        CheckpointError: if either does not fit.
        ValueError: if the model has none.
    """
    stem: ConvStem = model.visual.conv1
    if stem.materials is None:
        raise ValueError("the model's stem must have a segmenter of materials to join, got one without")
    start_mosaic(stem.materials, folder)
    with torch.no_grad():
        stem.material_words.weight.copy_(words.T[..., None, None])
        for value in stem.material_gate.parameters():
            value.zero_()
    _join(model, state, MATERIAL_PARTS, MATERIAL_TRUST, source)


def _join(model: CLIP, state: Mapping[str, Tensor], parts: str, trust: float, source: str) -> None:
    """Load `state` of a model without `parts`, which are the last inputs of the mix: words, then features."""
    own = model.state_dict()
    text, old = own[f"{parts}_words.weight"].shape[0], state[MIX].shape[1]
    wide = {MIX: _widened(state[MIX], own[MIX])}
    wide[MIX][:text, old : old + text, 0, 0] = trust * torch.eye(text)
    if FINE in state and own[FINE].shape != state[FINE].shape:
        wide[FINE] = _widened(state[FINE], own[FINE])
    new = {name: value for name, value in own.items() if name.startswith(parts)}
    load_strict(model, {**new, **state, **wide}, source=source)


def _widened(narrow: Tensor, wide: Tensor) -> Tensor:
    """Weights (O, I, 1, 1) with zeros for the inputs that only `wide` has."""
    padded = torch.zeros_like(wide)
    padded[:, : narrow.shape[1]] = narrow
    return padded


def dense_embeddings(model: CLIP, entering: Tensor, grid: tuple[int, int], rule: str) -> Tensor:
    """Unit embeddings (B, 1 + h*w, D) of all tokens under one last-block rule, with gradients."""
    last = model.visual.transformer.resblocks[-1]
    leaving = leave_last_block(RULES[rule], last, entering, grid)
    return F.normalize(to_joint_space(model.visual, leaving).float(), dim=-1)


class Batches:
    """Batches by step number, the next one prepared while the current one is learnt; close it after use."""

    def __init__(self, sources: Mapping[str, Sampler], plan: ImagePlan, seed: int) -> None:
        self._sources, self._plan, self._seed = sources, plan, seed
        self._worker = ThreadPoolExecutor(1)
        self._next: tuple[int, Future[list[Sample]]] | None = None

    def __enter__(self) -> Batches:
        return self

    def __exit__(self, *_: object) -> None:
        self._worker.shutdown(cancel_futures=True)

    def __call__(self, step: int) -> list[Sample]:
        """The pictures of step `step`, the same whatever was asked before."""
        waiting = self._next is not None and self._next[0] == step
        ready = self._next[1] if self._next and waiting else self._worker.submit(self._make, step)
        self._next = (step + 1, self._worker.submit(self._make, step + 1))
        return ready.result()

    def _make(self, step: int) -> list[Sample]:
        plan, rng = self._plan, np.random.default_rng((self._seed, step, 1))
        names, weights = zip(*plan.source_weights, strict=True)
        chances = np.array(weights)
        chosen = rng.choice(len(names), size=plan.batch, p=chances / chances.sum())
        samples = (self._sources[names[c]](rng) for c in chosen)  # one at a time: draws stay in order
        return [crop_sample(sample, plan.side, plan.short_side, rng) for sample in samples]


def train_image(
    model: CLIP,
    words: WordTable,
    sources: Mapping[str, Sampler],
    plan: ImagePlan,
    schedule: Schedule,
    out: Path,
    teacher: VocTeacher | None = None,
) -> None:
    """Train the image side of `model` in place; the text side is frozen.

    Args:
        model: from `build_mini`, started or trained before.
        words: the text tower's word table.
        sources: where pictures come from; every name in `plan.source_weights` is there.
        plan: the recipe.
        schedule: how long.
        out: folder of the run (`loop.fit`).
        teacher: whose belief to learn too, with `plan.belief_weight`.
    """
    transformer, trunk, first_blocks = _image_parts(model)
    model.requires_grad_(False)
    transformer.requires_grad_(True)
    trunk.requires_grad_(plan.trunk_rate > 0)
    model.visual.conv1.to(memory_format=torch.channels_last)  # half the time of a forward pass in bfloat16
    parts: list[tuple[nn.Module, float]] = [(transformer, plan.rate)]
    if plan.trunk_rate > 0:
        parts.append((trunk, plan.trunk_rate))
    half = plan.half_trunks or plan.trunk_rate == 0
    with Batches(sources, plan, schedule.seed) as batches:

        def step_loss(step: int, rng: np.random.Generator) -> dict[str, Tensor]:
            first_blocks.requires_grad_(plan.trunk_rate > 0 and step % plan.whole_every == 0)
            losses = _batch_losses(model, words, batches(step), rng, bf16_trunk=half, teacher=teacher)
            if teacher is not None:
                losses["belief"] = plan.belief_weight * losses["belief"]
            return losses

        fit(model, parts, step_loss, schedule, out)


def _batch_losses(
    model: CLIP,
    words: WordTable,
    samples: list[Sample],
    rng: np.random.Generator,
    *,
    bf16_trunk: bool,
    teacher: VocTeacher | None,
) -> dict[str, Tensor]:
    """Mean losses of square pictures of one size under a few rules, each picture with its own vocabulary."""
    pixels = torch.from_numpy(np.stack([sample.pixels for sample in samples]))  # (B, H, W, 3)
    pixels = pixels.permute(0, 3, 1, 2).float() / 127.5 - 1  # (B, 3, H, W)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16_trunk):
        patches, weights = model.visual.conv1.with_upsampling(pixels)
        entering = tokens_of_patches(model.visual, patches)
    grid = (pixels.shape[2] // STRIDE, pixels.shape[3] // STRIDE)
    typed = [typed_rows(sample, rng) for sample in samples]
    names, chances = list(RULE_CHANCES), np.array(list(RULE_CHANCES.values()))
    losses: list[Tensor] = []
    beliefs: list[Tensor] = []
    believed = None if teacher is None else teacher(pixels)
    for chosen in rng.choice(len(names), size=RULES_PER_STEP, replace=False, p=chances):
        rule = names[chosen]
        with torch.autocast("cpu", dtype=torch.bfloat16):
            embeddings = dense_embeddings(model, entering, grid, rule)
        if teacher is not None and believed is not None:
            scale = model.logit_scale.exp().clamp(max=LARGEST_SCALE)
            beliefs.append(belief_loss(scale * embeddings[:, 1:], words, teacher.names, believed, samples))
        for index, (sample, tokens, vocabulary) in enumerate(zip(samples, embeddings, typed, strict=True)):
            evidence = (words(vocabulary.rows) @ tokens[1:].T).reshape(-1, *grid)  # (S, h, w)
            dense = _finer(evidence, None if weights is None else weights[index])
            losses.append(_dense_loss(model, sample, dense, vocabulary))
            if rule == "clip" and not sample.placed and len(sample.groups) == 1:
                losses.append(WHOLE_WEIGHT * _whole_loss(model, words, tokens[0], vocabulary))
    total = {"dense": torch.stack(losses).sum() / (RULES_PER_STEP * len(samples))}
    return {**total, "belief": torch.stack(beliefs).mean()} if beliefs else total


def _finer(evidence: Tensor, weights: Tensor | None) -> Tensor:
    """Evidence (S, h, w) at a quarter of the frame, (S, H/4, W/4), as an answer would have it."""
    if weights is not None:
        return sharpen(evidence, weights)
    return F.interpolate(evidence[None], scale_factor=FINER, mode="bilinear", align_corners=False)[0]


def _dense_loss(model: CLIP, sample: Sample, evidence: Tensor, typed: SampledVocabulary) -> Tensor:
    """Loss of a picture's evidence (S, H/4, W/4)."""
    scale = model.logit_scale.exp().clamp(max=LARGEST_SCALE)
    return sample_loss(scale * evidence, torch.tensor(typed.row_label), typed.hints, sample, typed.maybe)


def _whole_loss(model: CLIP, words: WordTable, class_token: Tensor, typed: SampledVocabulary) -> Tensor:
    """Loss of the class token (D,) of a photo of one thing, whose name comes first."""
    logits = model.logit_scale.exp() * (words(typed.rows) @ class_token)[torch.tensor(typed.row_label) > 0]
    return F.cross_entropy(logits[None], torch.zeros(1, dtype=torch.long))


def _image_parts(model: CLIP) -> tuple[nn.ModuleList, nn.ModuleList, nn.ModuleList]:
    """What is always trained, what starts from teachers, the first part of that; tensors are shared."""
    visual = model.visual
    stem: ConvStem = visual.conv1
    transformer = nn.ModuleList(
        [stem.mix, stem.imagenet_words, stem.voc_words, visual.transformer, visual.ln_pre, visual.ln_post]
    )
    if stem.shares is not None:
        transformer.append(stem.shares)
    transformer.loose = nn.ParameterList(
        [visual.class_embedding, visual.positional_embedding, visual.proj, model.logit_scale]
    )
    if stem.detector is not None:
        transformer.append(stem.detector_words)
    trunk = nn.ModuleList([stem.imagenet, stem.voc, stem.imagenet_top, stem.imagenet_classifier])
    trunk.extend([stem.voc_aspp, stem.voc_pooling, stem.voc_projection, stem.voc_classifier])
    first_blocks = nn.ModuleList()
    for part in (stem.imagenet, stem.voc):
        first_blocks.extend([part.stem, *part.blocks[:EIGHTH_BLOCKS]])
    if stem.detector is not None:
        trunk.append(stem.detector)
        first_blocks.extend([stem.detector.stem, *stem.detector.stages[:2]])
    if stem.materials is not None:
        transformer.extend([stem.material_words, stem.material_gate])
        trunk.append(stem.materials)
        first_blocks.extend([stem.materials.stem, *stem.materials.blocks[: EIGHTH_BLOCK + 1]])
    return transformer, trunk, first_blocks
