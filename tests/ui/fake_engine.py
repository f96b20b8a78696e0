"""An engine without a model: every class is a disc at its own place, so that tests of the page are quick."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from threading import Event
from types import MappingProxyType

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from ovs_core.checkpoints import CheckpointError, WeightStore
from ovs_core.devices import stop_if_cancelled
from ovs_core.encoders.towers import ENCODERS
from ovs_core.engine import EncoderInfo, MethodInfo, Progress, Request, Result
from ovs_core.evidence.decide import decide, summarise
from ovs_core.evidence.proposals import MaskProposals
from ovs_core.evidence.score_map import ScoreMap
from ovs_core.image import Photo
from ovs_core.methods import METHODS
from ovs_core.methods.base import Segmentation
from ovs_core.methods.mvp_seg.contexts import Contexts
from ovs_core.methods.mvp_seg.views import Looked, mvp_seg_views
from ovs_core.options import Preset
from ovs_core.render.palette import colors_for
from ovs_core.types import View, Vocabulary

GRID_SIDE = 24
WINDOWS = 6
PRESET = Preset(scale=40, threshold=0, short_side=64, window=None, stride=0, templates="single1")


class FakeEngine:
    """Follows the contract of `ovs_core.engine.Engine`.

    Attributes:
        delay: seconds each of the six windows of a photo takes.
        runs: how many requests reached the model.
        missing: behave as if no weights were there.
        notes: of every answer.
        mask_method: proposes two masks of the first class and one of the second, side by side.
        heads: methods whose trained head is there on the embedded model.
        models: encoders that are there beside the embedded one.
    """

    def __init__(
        self,
        folder: Path,
        *,
        delay: float = 0.0,
        missing: bool = False,
        mask_method: str = "",
        heads: Sequence[str] = (),
        models: Sequence[str] = (),
    ) -> None:
        self.store = WeightStore(weights_dir=folder, offline=True)
        self.delay = delay
        self.missing = missing
        self.mask_method = mask_method
        self.notes: tuple[str, ...] = ()
        self.heads = heads
        self.models = models
        self.runs = 0

    def methods(self, encoder: str = "mini") -> tuple[MethodInfo, ...]:
        here = (*self.heads, self.mask_method)
        return tuple(method_info(name, encoder, here, name == self.mask_method) for name in METHODS)

    def encoders(self) -> tuple[EncoderInfo, ...]:
        here = () if self.missing else ("mini", *self.models)
        return tuple(encoder_info(name, name in here) for name in ENCODERS)

    def preset(self, method: str = "naclip", encoder: str = "mini") -> Preset:
        if encoder == "mini":
            return PRESET
        if METHODS[method].build is None:
            raise ValueError(f"{method} does not run on {encoder}")
        return replace(PRESET, scale=55, threshold=0.1)

    def run(self, request: Request, cancel: Event | None = None) -> Iterator[Progress | Result]:
        if self.missing:
            raise CheckpointError("OVS Lens mini is not here. It comes with the repository: restore it.")
        self.runs += 1
        for window in range(WINDOWS):
            stop_if_cancelled(cancel)
            yield Progress("encode", window, WINDOWS)
            time.sleep(self.delay)
        stop_if_cancelled(cancel)
        yield Progress("text", 0, 1)
        size = request.photo.pixels.shape[:2]
        evidence = discs(request, list(METHODS).index(request.method))
        result = Result(
            image=request.photo.pixels,
            labels=np.zeros(size, np.uint8),
            vocabulary=request.vocabulary,
            classes=(),
            method=request.method,
            encoder=request.encoder,
            weights=MappingProxyType({"fake.safetensors": "0" * 64}),
            preset=request.preset or self.preset(request.method, request.encoder),
            refine=request.refine,
            seconds=MappingProxyType({"encode": 0.25, "text": 0.05}),
            segmentation=Segmentation(
                three_masks(request.vocabulary, size)
                if request.method == self.mask_method
                else ScoreMap(evidence, request.vocabulary, size),
                views_of(request, evidence),
            ),
            switches=tuple(sorted(request.switches)),
            notes=self.notes,
        )
        yield self.relabel(result)

    def compare(
        self,
        image: Photo,
        classes: Vocabulary,
        methods: Sequence[str] | None = None,
        *,
        encoder: str,
        refine: str,
        several_frames: bool = False,
        cancel: Event | None = None,
    ) -> Iterator[Progress | Result]:
        available = [info.name for info in self.methods(encoder) if info.available]
        for method in available if methods is None else methods:
            own = self.preset(method, encoder)
            preset = own.changed(several_frames=several_frames)
            yield from self.run(Request(image, classes, method, encoder, refine, preset), cancel)

    def relabel(
        self,
        result: Result,
        *,
        scale: float | None = None,
        threshold: float | None = None,
        size: tuple[int, int] | None = None,
    ) -> Result:
        preset = result.preset.changed(scale=scale, threshold=threshold)
        image = result.image
        if size is not None:
            image = np.array(Image.fromarray(image).resize((size[1], size[0])))
        labels, share = decide(result.evidence, preset, image.shape[:2])
        classes = summarise(labels, share, result.vocabulary, colors_for(result.vocabulary))
        return replace(result, image=image, labels=labels, classes=classes, preset=preset)


def discs(request: Request, shift: int) -> torch.Tensor:
    """Evidence (S, h, w): class k is strong in a disc, others weak everywhere; methods differ a little."""
    vocabulary = request.vocabulary
    h = w = GRID_SIDE
    rows, columns = torch.meshgrid(torch.linspace(0, 1, h), torch.linspace(0, 1, w), indexing="ij")
    evidence = torch.full((len(vocabulary.rows), h, w), 0.10)
    count = len(vocabulary.classes)
    for row, label in enumerate(vocabulary.row_label):
        if label:
            centre = (label - 0.5) / count
            distance = ((rows - 0.5) ** 2 + (columns - centre) ** 2).sqrt()
            evidence[row] = 0.30 - 0.5 * distance - 0.01 * shift * rows
    return evidence


def three_masks(vocabulary: Vocabulary, size: tuple[int, int]) -> MaskProposals:
    """The left half is two things of class 1, the right half is class 2 (or "other")."""
    masks = torch.full((3, 4, 4), -200.0)  # sharp edges
    masks[0, :, 0] = masks[1, :, 1] = masks[2, :, 2:] = 200.0
    columns = len(vocabulary.classes) + bool(vocabulary.other)
    scores = torch.zeros(3, columns)
    scores[:2, 0], scores[2, min(1, columns - 1)] = torch.tensor([0.9, 0.8]), 0.7
    return MaskProposals(masks, scores, 1 - scores.sum(dim=1), vocabulary, size, (16, 16), (16, 16))


def views_of(request: Request, evidence: torch.Tensor) -> tuple[View, ...]:
    names = request.vocabulary.names
    first = [request.vocabulary.row_label.index(k) for k in range(1, len(names) + 1)]
    views = []
    if "similarity" in request.views:
        views.append(View("similarity", "Cosine to each class", evidence[first], names))
    if "attention" in request.views:
        row, column = request.point or (0.5, 0.5)
        attention = torch.zeros(1, GRID_SIDE, GRID_SIDE)
        attention[0, int(row * (GRID_SIDE - 1)), int(column * (GRID_SIDE - 1))] = 1.0
        views.append(View("attention", "Where the last block looks from this patch", attention, ("patch",)))
    if request.method == "mvp_seg":
        views += mvp_seg_views(looked(request.vocabulary, evidence), request.views, spelled)
    if METHODS[request.method].masks:
        views += [view for view in mask_views(names, evidence[first]) if view.kind in request.views]
    return tuple(views)


def mask_views(names: tuple[str, ...], maps: torch.Tensor) -> tuple[View, ...]:
    """Every kind that FC-CLIP and MAFT+ have, made of the discs: 20 masks, two layers."""
    count = 20
    masks = maps[torch.arange(count) % len(names)].sub(0.15).mul(60).sigmoid()
    numbers = tuple(str(place) for place in range(1, count + 1))
    owners = [names[place % len(names)] for place in range(count)]
    shares = torch.linspace(0.95, 0.05, count)
    proposals = tuple(
        f"{n}: {o} {s:.0%}, no object 4%" for n, o, s in zip(numbers, owners, shares, strict=True)
    )
    pairs = maps.repeat_interleave(2, dim=0) * torch.tensor([1.0, 0.8]).repeat(len(names))[:, None, None]
    places = [(name, part) for name in names for part in (1, 2)]
    words = tuple((owner, owner, *names[:1], *names[-1:]) for owner in owners)
    return (
        View("mask_proposals", "Masks", masks, proposals, (0.0, 1.0)),
        View("query_attention", "Layers", pairs.clamp(min=0), tuple(f"{n}, layer {p}" for n, p in places)),
        View("void_shares", "Void", 1 - shares[:, None, None], proposals, (0.0, 1.0)),
        View(
            "mask_words",
            "Words",
            shares[:, None, None].expand(-1, 1, 4),
            numbers,
            (0.0, 1.0),
            words,
            ("class", "winning name", "trained head 1", "CLIP 1"),
        ),
        View("winning_names", "Names", torch.ones(len(names), 1, 1), names, (0.0, 1.0)),
        View("text_shift", "Shift", torch.full((len(names), 1, 1), 0.7), names, (-1.0, 1.0)),
        View("transfer_attention", "Where each name looks", maps.clamp(min=0), names),
        View(
            "frozen_and_tuned",
            "Before, after",
            pairs,
            tuple(f"{n}, {('before', 'after')[p - 1]}" for n, p in places),
            (float(pairs.min()), float(pairs.max())),
        ),
        View("feature_change", "Change", maps[:1].abs(), ("change",)),
    )


def looked(vocabulary: Vocabulary, evidence: torch.Tensor) -> Looked:
    """What a global prompt and three views see: the discs, moved a little by each."""
    generator = torch.Generator().manual_seed(0)
    shifts = ((0, 0), (-4, 0), (3, -3), (3, 3))
    maps = torch.stack([evidence.roll(shift, dims=(1, 2)) for shift in shifts])  # (4, S, h, w)
    prompts = F.normalize(torch.randn(4, len(evidence), 16, generator=generator), dim=2)
    vectors = torch.randn(4, 5, 16, generator=generator)
    gates = torch.linspace(0, -0.6, len(evidence))[:, None, None]  # later names are less likely there
    maps[0] = maps[0] + gates
    contexts = Contexts(vectors[1:], vectors[0], "ab" * 32, 40.0, 0.2, 100.0)
    return Looked(maps, prompts, vocabulary, contexts)


def spelled() -> tuple[tuple[tuple[str, ...], ...], torch.Tensor]:
    words = ("photo", "close", "part", "<b>bold</b>", "scene")
    return (words,) * 4, torch.linspace(0.2, 0.9, 20).reshape(4, 5)


def method_info(
    name: str, encoder: str = "mini", heads: Sequence[str] = (), masks: bool = False
) -> MethodInfo:
    spec = METHODS[name]
    here = spec.build is not None or (name in heads and encoder == "mini")
    reason = "" if here else f"{spec.title} needs a trained head, which <is not> here."
    return MethodInfo(
        name,
        spec.title,
        spec.paper,
        spec.description,
        spec.rule,
        spec.switches,
        available=here,
        reason=reason,
        masks=masks or spec.masks,
        views=spec.views,
    )


def encoder_info(name: str, available: bool) -> EncoderInfo:
    spec = ENCODERS[name]
    reason = "" if available else f"{spec.title} is not on this machine."
    return EncoderInfo(
        name, spec.title, spec.tier, available, reason, reason or f"{spec.title}, a stand-in for tests."
    )
