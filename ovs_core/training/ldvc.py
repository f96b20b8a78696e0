"""Recipe of LDVC and ZegCLIP: prompts and a decoder learn seen classes on frozen towers.

Papers: ZegCLIP (arXiv 2212.03588), whose published configs give the numbers (AdamW, 2e-4 for prompts and
head, 0.01 decay, poly 0.9 down to 1e-6, 1,500 steps of warm-up, batch 4 a GPU, VOC 20k and COCO-Stuff 80k
steps); LDVC (2403.08426) adds language prompts, visual queries and route attention, its numbers are unknown.

Inductive: only seen names enter the model, pixels of unseen classes have no label. Self-training
("transductive"): the first half is the inductive run, in the second all names enter and pixels of unseen
classes are labelled with the best unseen class of the moment.

Deviations: the poly rate starts where warm-up ends; self-training goes on in the same run, so its rate goes
on falling where the official second config starts it anew; no stochastic depth, which the official blocks
never use either.
"""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from open_clip.transformer import VisionTransformer
from torch import Tensor, nn

from ovs_core.decoders.route_attention import RouteConfig
from ovs_core.decoders.semantic_decoder import Decoded, Readout, SemanticDecoderConfig, start_at_text
from ovs_core.encoders.clip_vit import VisionEncoder, joint_width, tokens_and_taps
from ovs_core.encoders.deep_prompts import LanguagePrompts, VisualPrompts
from ovs_core.encoders.prompts import Tokenizer, clip_tokenizer, fill
from ovs_core.encoders.text_tower import TextTower, text_tower
from ovs_core.methods.ldvc.heads import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    Frame,
    PromptedHead,
    save_prompted_head,
)
from ovs_core.methods.ldvc.model import HeadConfig, JointFeatures, MethodName, new_head, seen_names
from ovs_core.training.ldvc_data import Batch, CropPlan, Crops
from ovs_core.training.ldvc_losses import mask_losses, pseudo_labels, weighted
from ovs_core.training.loop import Schedule, fit
from ovs_core.training.plans import keep_recipe, plan_from_json
from ovs_core.training.processes import SINGLE_PROCESS, Processes
from ovs_core.training.split_photos import Photos
from ovs_core.types import UNLISTED
from ovs_core.vocabulary.splits import spoken_name

log = logging.getLogger(__name__)

Colours = Literal["tower", "imagenet"]
_LOWEST_RATE = 1e-6
_POWER = 0.9


@dataclass(frozen=True)
class PromptedPlan:
    """The recipe in numbers: those of ZegCLIP's VOC config, LDVC's own are inferred.

    Attributes:
        method: "ldvc" or "zegclip".
        encoder: registry name of the tower.
        layers: decoder blocks.
        heads: attention heads of the decoder.
        feedforward: hidden channels of a decoder block; 0 takes four times the joint width.
        routed: LDVC's route attention; False trains without, as the paper's ablation.
        windows: per side, for route attention.
        k_top: windows that each window reads.
        visual_prompts: tokens per block of the image tower.
        deep: a set of prompts for each block, and the extra norm behind them; False has one set that evolves.
        language_prompts: learn prompts in the text tower (LDVC); False embeds names in `template` once.
        template: what language prompts start from, and what names are put into without them.
        readout: what scores are.
        start_scale: scores start as this times (cosine of patch and class, less `start_cosine`), as CLIP's;
            0 starts the decoder at random, as ZegCLIP does. For towers whose patches agree with text.
        start_cosine: see `start_scale`.
        aux_block: block of the tower whose tokens are added to the dense features; None for none.
        double_class_token: as ZegCLIP's code has it.
        colours: what is subtracted from pixels and divided by: the tower's own, or ImageNet's as ZegCLIP has.
        self_training: go on with unseen names in the second half.
        steps: optimiser steps.
        warmup: of these.
        batch: crops a step.
        rate: highest learning rate.
        weight_decay: AdamW's.
        prompt_dropout: in training, of visual prompts.
        crops: how they are drawn.
        seed: of everything that is drawn.
    """

    method: MethodName = "ldvc"
    encoder: str = "mini"
    layers: int = 3
    heads: int = 8
    feedforward: int = 0
    routed: bool = True
    windows: int = 8
    k_top: int = 16
    visual_prompts: int = 10
    deep: bool = True
    language_prompts: bool = True
    template: str = "a photo of a {}"
    readout: Readout = "attn"
    start_scale: float = 0.0
    start_cosine: float = 0.3
    aux_block: int | None = None
    double_class_token: bool = True
    colours: Colours = "tower"
    self_training: bool = False
    steps: int = 20000
    warmup: int = 1500
    batch: int = 4
    rate: float = 2e-4
    weight_decay: float = 0.01
    prompt_dropout: float = 0.1
    crops: CropPlan = field(default_factory=CropPlan)
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "visual_prompts"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        fill(self.template, "")
        RouteConfig(self.windows, self.k_top)  # refuses what cannot be, before hours of work

    @property
    def route(self) -> RouteConfig | None:
        """Route attention of the decoder."""
        if self.method == "zegclip" or not self.routed:
            return None
        return RouteConfig(self.windows, self.k_top)

    @property
    def learns_language(self) -> bool:
        """Whether the text tower has prompts."""
        return self.method == "ldvc" and self.language_prompts


def prompted_plan(values: Mapping[str, Any], method: MethodName) -> PromptedPlan:
    """Read a recipe from JSON; what is left out keeps its default, in `crops` too.

    Raises:
        ValueError: for a name that no recipe has, a value it cannot have, or another method's recipe.
    """
    if values.get("method", method) != method:
        raise ValueError(f"The recipe is for {values['method']}, not for {method}.")
    try:
        return plan_from_json(PromptedPlan(method=method), values)
    except TypeError as error:
        raise ValueError(f"The recipe cannot be read: {error}.") from error


class Learner(nn.Module):
    """All that is learnt: prompts of both towers, the layers behind the tower, the decoder.

    Args:
        plan: the recipe.
        visual: image tower, for its sizes.
        text: text tower, for its sizes and the states to start from.
        tokenize: prompts to ids.
    """

    def __init__(
        self, plan: PromptedPlan, visual: VisionTransformer, text: TextTower, tokenize: Tokenizer
    ) -> None:
        super().__init__()
        self.plan, self._tokenize = plan, tokenize
        blocks, width = len(visual.transformer.resblocks), visual.class_embedding.shape[0]
        joint = joint_width(visual)
        queries: Literal["class", "visual"] = "class" if plan.method == "zegclip" else "visual"
        decoder = SemanticDecoderConfig(
            joint,
            queries,
            plan.layers,
            plan.heads,
            plan.feedforward or 4 * joint,
            route=plan.route,
            readout=plan.readout,
        )
        config = HeadConfig(decoder, width, plan.deep, plan.aux_block)
        self.taps = config.taps(blocks)
        self.head = new_head(config, plan.seed)
        if plan.start_scale:
            start_at_text(self.head.decoder, plan.start_scale, plan.start_cosine)
        generator = torch.Generator().manual_seed(plan.seed + 1)
        patch = visual.patch_size[0] if isinstance(visual.patch_size, tuple) else visual.patch_size
        bound = (6 / (3 * patch * patch + width)) ** 0.5  # VPT's start values
        shape = (blocks if plan.deep else 1, plan.visual_prompts, width)
        self.visual_prompts = nn.Parameter(bound * (2 * torch.rand(shape, generator=generator) - 1))
        self.prompt_proj = nn.Linear(width, width)
        nn.init.kaiming_normal_(self.prompt_proj.weight, a=0, mode="fan_out", generator=generator)
        nn.init.uniform_(self.prompt_proj.bias, -(width**-0.5), width**-0.5, generator=generator)
        self.language_prompts: nn.Parameter | None = None
        if plan.learns_language:
            ids = tokenize([fill(plan.template, "").strip()])
            words = ids[0, : int(text.read_at(ids))].to(text.positions.device)
            self.language_prompts = nn.Parameter(text.word_states(words).cpu().float().clone())

    def prompts(self, batch: int | None = None) -> VisualPrompts:
        """Visual prompts as they stand in the sequence; with dropout for each picture of a batch."""
        tokens = self.prompt_proj(self.visual_prompts)  # (blocks, n, C)
        if batch is not None:
            tokens = tokens[:, None].expand(-1, batch, -1, -1)
            tokens = F.dropout(tokens, self.plan.prompt_dropout, self.training)
        return VisualPrompts(tuple(tokens))

    def features(self, visual: VisionTransformer, patches: Tensor) -> JointFeatures:
        """Features of the stem's patches (B, C, h, w), with gradients to all that is learnt."""
        taps = tokens_and_taps(
            visual,
            patches,
            mode="bilinear",
            prompts=self.prompts(len(patches)),
            taps=self.taps,
            double_class_token=self.plan.double_class_token,
        ).taps
        return self.head.features(visual, taps, (patches.shape[2], patches.shape[3]))

    def text(self, tower: TextTower, ids: Tensor) -> Tensor:
        """Unit embeddings (S, D) of filled templates with ids (S, L)."""
        if self.language_prompts is None:
            with torch.no_grad():
                embeddings = tower.embed(ids)
        else:
            embeddings = tower.embed_deep(ids, self.language_prompts)
        return F.normalize(embeddings.float(), dim=-1)

    def trained(self, tower: str, seen: frozenset[str], training: Mapping[str, Any]) -> PromptedHead:
        """What was learnt so far, as the value that is used."""
        plan = self.plan
        language = None
        if self.language_prompts is not None:
            language = LanguagePrompts(self.language_prompts.detach().clone(), plan.template)
        tokens = tuple(prompt.detach().clone() for prompt in self.prompts().tokens)
        mean, std = (IMAGENET_MEAN, IMAGENET_STD) if plan.colours == "imagenet" else (None, None)
        frame = Frame(
            plan.crops.side, plan.crops.side, plan.crops.side * 5 // 6, mean, std, plan.double_class_token
        )
        return PromptedHead(
            plan.method,
            self.head,
            VisualPrompts(tokens),
            language,
            (plan.template,),
            frame,
            tower,
            seen,
            training,
        )


def step_losses(
    learner: Learner, decoded: Decoded, batch: Batch, unseen: int, processes: Processes = SINGLE_PROCESS
) -> dict[str, Tensor]:
    """Weighted losses of this process's part of a batch; over processes they add up to those of the batch.

    Args:
        learner: what is trained.
        decoded: of seen names, then in self-training of `unseen` further ones.
        batch: this process's crops.
        unseen: number of unseen names that entered.
        processes: those that share the batch.
    """
    size = batch.labels.shape[1:]
    logits = F.interpolate(decoded.scores, size=size, mode="bilinear", align_corners=False)
    labels = batch.labels
    if unseen:
        rows = torch.arange(logits.shape[1] - unseen, logits.shape[1])
        labels = pseudo_labels(logits, labels, rows, UNLISTED)
    losses = mask_losses(logits, labels)
    return weighted(losses, processes.add(losses.pairs.float()))


@dataclass(frozen=True, eq=False)
class Towers:
    """Frozen towers that prompts are learnt on.

    Attributes:
        vision: image tower.
        text: text tower of the same model.
        sha256: of the file both came from.
    """

    vision: VisionEncoder
    text: TextTower
    sha256: str


def train_prompted(
    towers: Towers, photos: Photos, plan: PromptedPlan, out: Path, *, processes: Processes = SINGLE_PROCESS
) -> Path:
    """Train a head on the seen classes of `photos`; skipped where the result is there.

    Args:
        towers: frozen.
        photos: with seen and unseen classes.
        plan: the recipe.
        out: working folder; `METHOD.safetensors` ends there. A stopped run goes on from there.
        processes: those that train together.

    Raises:
        FileExistsError: if `out` holds a run of another recipe, tower or list of classes.
    """
    training = dataclasses.asdict(plan) | {"seen": list(photos.seen), "photos": len(photos.paths)}
    path = out / f"{plan.method}.safetensors"
    with processes.main_process_first():
        keep_recipe(training | {"tower": towers.sha256}, out)
    if path.exists():
        log.info("%s is there, training skipped", path.name)
        return path
    tokenize = clip_tokenizer(towers.text.context_length)
    visual, device = towers.vision.visual, towers.vision.device
    learner = Learner(plan, visual, towers.text, tokenize).to(device).train()
    with processes.main_process_first():
        own = plan.colours == "tower"
        mean, std = (towers.vision.mean, towers.vision.std) if own else (IMAGENET_MEAN, IMAGENET_STD)
        crops = Crops(towers.vision, photos, plan.crops, mean, std, out)
    names = [*photos.seen, *(photos.unseen if plan.self_training else ())]
    ids = tokenize([fill(plan.template, spoken_name(name)) for name in names]).to(device)

    fixed = None if plan.learns_language else learner.text(towers.text, ids)

    def step_loss(step: int, rng: np.random.Generator) -> dict[str, Tensor]:
        batch = crops.batch(processes.shard(crops.choose(plan.batch, rng)))
        unseen = len(photos.unseen) if plan.self_training and step >= plan.steps // 2 else 0
        entering = len(photos.seen) + unseen
        text = learner.text(towers.text, ids[:entering]) if fixed is None else fixed[:entering]
        decoded = learner.head(learner.features(visual, batch.patches), text)
        return step_losses(learner, decoded, batch, unseen, processes)

    schedule = Schedule(
        plan.steps,
        plan.warmup,
        plan.weight_decay,
        clip=math.inf,  # the official recipe clips nothing
        seed=plan.seed,
        power=_POWER,
        floor=min(1.0, _LOWEST_RATE / plan.rate),
    )
    groups: list[dict[str, object]] = [
        {"params": list(learner.parameters()), "lr": plan.rate, "weight_decay": plan.weight_decay}
    ]
    fit(learner, [], step_loss, schedule, out, groups=groups, processes=processes)
    trained = learner.eval().trained(towers.sha256, seen_names(photos.seen), training)
    with processes.main_process_first():
        return save_prompted_head(trained, path) if processes.first else path


def towers_of(vision: VisionEncoder, model: nn.Module, sha256: str) -> Towers:
    """Frozen towers of an open_clip model."""
    return Towers(vision, text_tower(model.eval().requires_grad_(False)), sha256)
