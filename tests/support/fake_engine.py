"""The engine on methods without a model: every class is a disc at its own place, so that tests are quick."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from threading import Event
from types import MappingProxyType

import torch
import torch.nn.functional as F
from tiny_clip import make_model

from ovs_core.checkpoints import CHECKPOINTS, CheckpointError, WeightStore
from ovs_core.devices import advance
from ovs_core.encoders.loading import CLIP_MEAN, CLIP_STD, LoadedModel
from ovs_core.encoders.towers import ENCODERS
from ovs_core.engine import EncoderInfo, Engine, Request, Result
from ovs_core.evidence.proposals import MaskProposals
from ovs_core.evidence.score_map import ScoreMap
from ovs_core.methods import METHODS
from ovs_core.methods.base import Answer, BoundMethod
from ovs_core.methods.mvp_seg.contexts import Contexts
from ovs_core.methods.mvp_seg.views import MvpSegTrace, mvp_seg_views
from ovs_core.options import Preset
from ovs_core.types import TextBank, View, Vocabulary

GRID_SIDE = 24
WINDOWS = 6
PRESET = Preset(scale=40, threshold=0, short_side=64, window=None, stride=0, templates="single1")
FULL = replace(PRESET, scale=55, threshold=0.1)


@dataclass(frozen=True)
class Size:
    """All that is looked at: (H, W) of the photo."""

    image_size: tuple[int, int]
    nbytes: int = 1


@dataclass(frozen=True)
class Eyes:
    """An image half that takes its time."""

    engine: FakeEngine
    identity: str = "eyes"

    def encode(self, pixels, preset, *, progress=None, cancel=None):
        self.engine.runs += 1
        for window in range(WINDOWS):
            if cancel is not None and cancel.is_set():
                self.engine.stopped.set()
            advance(window, WINDOWS, progress, cancel)
            time.sleep(self.engine.delay)
        advance(WINDOWS, WINDOWS, progress, cancel)
        return Size(pixels.shape[:2])

    def features_identity(self, preset):
        return f"{self.identity}|{preset.short_side}"


@dataclass(frozen=True)
class Ears:
    """A text half that knows nothing."""

    identity: str = "ears"

    def embed(self, vocabulary, templates, *, progress=None, cancel=None):
        advance(0, 1, progress, cancel)
        return TextBank(vocabulary, torch.zeros(len(vocabulary.rows), 4))


@dataclass(frozen=True)
class Discs:
    """A method that sees discs, or, as the mask method, three masks."""

    engine: FakeEngine
    name: str

    def ask(self, features, text, options, *, views=frozenset(), point=None):
        request = Asked(text.vocabulary, self.name, views, point)
        evidence = discs(request, list(METHODS).index(self.name))
        size = features.image_size
        if self.name == self.engine.mask_method:
            found = three_masks(text.vocabulary, size)
        else:
            found = ScoreMap(evidence, text.vocabulary, size)
        return Answer(found, views_of(request, evidence))


@dataclass(frozen=True)
class Asked:
    vocabulary: Vocabulary
    method: str
    views: frozenset[str]
    point: tuple[float, float] | None


class FakeEngine(Engine):
    """The real engine on methods that see discs.

    Attributes:
        delay: seconds each of the six windows of a photo takes.
        runs: how many requests reached the model.
        missing: behave as if no weights were there.
        notes: of every answer.
        mask_method: proposes two masks of the first class and one of the second, side by side.
        stopped: set when work was cancelled.
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
        encoders = {
            name: replace(
                spec,
                load=partial(load, spec.entry, missing),
                pyramid=None if spec.pyramid is None else no_pyramid,
            )
            for name, spec in ENCODERS.items()
        }
        methods = {
            name: replace(
                spec,
                bind=partial(self.bind, name),
                presets=MappingProxyType({f: PRESET if f == "mini" else FULL for f in spec.presets}),
                masks=spec.masks or name == mask_method,
                head=None if name in heads else spec.head,
            )
            for name, spec in METHODS.items()
        }
        super().__init__("cpu", cache_bytes=0, text_dir=folder, encoders=encoders, methods=methods)
        self.delay = delay
        self.missing = missing
        self.mask_method = mask_method
        self.notes: tuple[str, ...] = ()
        self.heads = (*heads, mask_method)
        self.models = models
        self.runs = 0
        self.stopped = Event()
        self.store = WeightStore(folder, offline=True, root=empty_root(folder) if missing else CHECKPOINTS)

    def bind(self, name, tower, head):
        return BoundMethod(Discs(self, name), Eyes(self), Ears())

    def encoders(self):
        here = () if self.missing else ("mini", *self.models)
        return tuple(encoder_info(name, name in here) for name in ENCODERS)

    def _why_not(self, method, encoder):
        if not method.runs_on(encoder):
            return super()._why_not(method, encoder)
        headless = METHODS[method.name].head is None
        if headless or (method.name in self.heads and encoder.name == "mini"):
            return ""
        return f"{method.title} needs a trained head, which <is not> here."

    def _answer(self, request: Request, settings, job) -> Result:
        result = super()._answer(request, settings, job)
        seconds = MappingProxyType({"encode": 0.25, "text": 0.05})
        weights = MappingProxyType({"fake.safetensors": "0" * 64})
        return replace(result, notes=self.notes, seconds=seconds, weights=weights)


def load(entry, missing, store):
    if missing:
        raise CheckpointError("OVS Lens mini is not here. It comes with the repository: restore it.")
    path = store.locate(entry)
    weights = {"fake.safetensors": "0" * 64 if path is None else store.sha256_of(path)}
    return LoadedModel(make_model(), CLIP_MEAN, CLIP_STD, weights)


def encoder_info(name, available):
    title = ENCODERS[name].title
    reason = "" if available else f"{title} is not on this machine."
    about = reason or f"{title}, a stand-in for tests."
    return EncoderInfo(name, title, ENCODERS[name].tier, available, reason, about)


def no_pyramid(name, identity, loaded, compute):
    """Masks are seen without one."""


def empty_root(folder: Path) -> Path:
    """A checkpoints folder with a catalogue and nothing else."""
    root = folder / "root"
    root.mkdir()
    shutil.copyfile(CHECKPOINTS / "catalogue.json", root / "catalogue.json")
    return root


def discs(request: Asked, shift: int) -> torch.Tensor:
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


def views_of(request: Asked, evidence: torch.Tensor) -> tuple[View, ...]:
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
    if "affinity" in request.views:
        places = GRID_SIDE**2
        maps = torch.eye(places).reshape(places, GRID_SIDE, GRID_SIDE)
        views.append(
            View("affinity", "Where the last block looks from each place", maps, ("place",) * places)
        )
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


def looked(vocabulary: Vocabulary, evidence: torch.Tensor) -> MvpSegTrace:
    """What a global prompt and three views see: the discs, moved a little by each."""
    generator = torch.Generator().manual_seed(0)
    shifts = ((0, 0), (-4, 0), (3, -3), (3, 3))
    maps = torch.stack([evidence.roll(shift, dims=(1, 2)) for shift in shifts])  # (4, S, h, w)
    prompts = F.normalize(torch.randn(4, len(evidence), 16, generator=generator), dim=2)
    vectors = torch.randn(4, 5, 16, generator=generator)
    gates = torch.linspace(0, -0.6, len(evidence))[:, None, None]  # later names are less likely there
    maps[0] = maps[0] + gates
    contexts = Contexts(vectors[1:], vectors[0], "ab" * 32, 40.0, 0.2, 100.0)
    return MvpSegTrace(maps, prompts, vocabulary, contexts)


def spelled() -> tuple[tuple[tuple[str, ...], ...], torch.Tensor]:
    words = ("photo", "close", "part", "<b>bold</b>", "scene")
    return (words,) * 4, torch.linspace(0.2, 0.9, 20).reshape(4, 5)
