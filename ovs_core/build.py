"""The one place where names become objects: methods, encoders, refiners and the settings that go with them.

Everything here is data and small functions that take loaded parts; nothing is read or built at import.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Literal, TypeVar

import numpy as np
import open_clip
import torch
from numpy.typing import NDArray
from open_clip.model import CLIP
from torch import nn

from ovs_core.checkpoints import CheckpointError, WeightFile, WeightStore, load_strict, read_state
from ovs_core.devices import Compute
from ovs_core.encoders.clip_vit import VisionEncoder, tower_identity
from ovs_core.encoders.mini import build_mini
from ovs_core.encoders.text import TextEncoder
from ovs_core.methods.attention_rules import RULES
from ovs_core.methods.base import Method
from ovs_core.methods.training_free import TrainingFree
from ovs_core.refine.pamr import refine_pamr
from ovs_core.types import Preset, ScoreMap

DEFAULT_METHOD = "naclip"
DEFAULT_ENCODER = "mini"
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)  # OpenAI's, kept by LAION
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
PROMPT_DENOISING_FLOOR = 0.5  # MaskCLIP's official settings
KEY_SMOOTHING_CEILING = 1.0

Steps = Callable[[int, int], None]
Family = Literal["mini", "openai", "laion"]
Value = TypeVar("Value")


@dataclass(frozen=True)
class MethodSpec:
    """What a menu needs to know of a method, and how to build it.

    Attributes:
        name: registry name, e.g. "naclip".
        title: name people know it by.
        paper: arXiv id.
        description: one sentence in plain words.
        rule: what it does in the last block, as a formula.
        build: from the image tower that made the features and the switches turned on, the method.
        switches: optional parts, name -> one sentence.
    """

    name: str
    title: str
    paper: str
    description: str
    rule: str
    build: Callable[[nn.Module, frozenset[str]], Method]
    switches: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """An open_clip model with its weights in it.

    Attributes:
        model: on the CPU, in float32.
        mean, std: what its image tower was trained with, per RGB channel of [0, 1].
        weights: file name -> SHA-256 of what was read; the first one stands for the model in cache keys.
    """

    model: nn.Module
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    weights: Mapping[str, str]


@dataclass(frozen=True)
class EncoderSpec:
    """What a menu needs to know of a pair of towers, and how to load it.

    Attributes:
        name: registry name, e.g. "vit_b16_openai".
        title: name people know it by.
        architecture: open_clip model name ("-quickgelu" where the weights were trained so), "" if it has
            none.
        entry: name of its weights in the catalogue; None if `load` needs no file.
        tier: "embedded" ships with the project, "full" is fetched on request.
        family: which column of `PRESETS` fits these weights.
        patch: frame pixels per token.
        load: from the store of weights, the model. Raises CheckpointError with the next step.
    """

    name: str
    title: str
    architecture: str
    entry: str | None
    tier: Literal["embedded", "full"]
    family: Family
    patch: int
    load: Callable[[WeightStore], LoadedModel]


@dataclass(frozen=True, eq=False)
class Tower:
    """Both towers of one model, ready on a device.

    Attributes:
        vision, text: the encoders, in one joint space.
        weights: file name -> SHA-256.
    """

    vision: VisionEncoder
    text: TextEncoder
    weights: Mapping[str, str]


@dataclass(frozen=True)
class RefinerSpec:
    """What a menu needs to know of a refiner, and how to run it.

    Attributes:
        name: registry name, e.g. "pamr".
        title: name people know it by.
        description: one sentence in plain words.
        run: from evidence, the photo's pixels, a callback (done, total) and an event that cancels, finer
            evidence; None where there is nothing to do.
    """

    name: str
    title: str
    description: str
    run: Callable[[ScoreMap, NDArray[np.uint8], Steps, threading.Event | None], ScoreMap] | None


def _build_training_free(name: str, visual: nn.Module, switches: frozenset[str]) -> Method:
    return TrainingFree(
        name,
        visual,
        RULES[name],
        denoise_floor=PROMPT_DENOISING_FLOOR if "prompt_denoising" in switches else None,
        smooth_ceiling=KEY_SMOOTHING_CEILING if "key_smoothing" in switches else None,
    )


def _method(
    name: str, title: str, paper: str, description: str, rule: str, switches: Mapping[str, str] | None = None
) -> MethodSpec:
    build = partial(_build_training_free, name)
    return MethodSpec(name, title, paper, description, rule, build, MappingProxyType(dict(switches or {})))


METHODS: Mapping[str, MethodSpec] = MappingProxyType(
    {
        spec.name: spec
        for spec in (
            _method(
                "clip",
                "CLIP as it is",
                "2103.00020",
                "Compares every patch of unchanged CLIP with the words: what all the others improve on.",
                "softmax(s q k^T) v, residual and MLP kept",
            ),
            _method(
                "maskclip",
                "MaskCLIP",
                "2112.01071",
                "Lets every patch speak only for itself: sharp places, noisy areas.",
                "v, no residual, no MLP",
                {
                    "prompt_denoising": "Take out classes that are nowhere convincing.",
                    "key_smoothing": "Unsure patches follow patches that look alike.",
                },
            ),
            _method(
                "sclip",
                "SCLIP",
                "2312.01597",
                "Patches that ask or answer alike share what they see; the rest of CLIP stays.",
                "(softmax(s q q^T) + softmax(s k k^T)) v, residual and MLP kept",
            ),
            _method(
                "clearclip",
                "ClearCLIP",
                "2407.12442",
                "Patches that ask alike share what they see, without the noisy residual path.",
                "softmax(s q q^T) v, no residual, no MLP",
            ),
            _method(
                "naclip",
                "NACLIP",
                "2404.08181",
                "Patches that look alike share what they see, near ones most: smooth areas.",
                "softmax(s k k^T + Gaussian of patch distance) v, no residual, no MLP",
            ),
        )
    }
)


def _load_mini(store: WeightStore) -> LoadedModel:
    path, sha256 = checked_file(store, "mini")
    config_path = path.with_suffix(".json")
    try:
        config = json.loads(config_path.read_text(encoding="utf-8"))
        mean, std = (tuple(config["preprocess_cfg"][key]) for key in ("mean", "std"))
        model = build_mini(config)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{config_path} cannot be read as the embedded model's settings: {error}."
        ) from error
    load_strict(model, read_state(path), source=str(path))
    return LoadedModel(model, mean, std, {path.name: sha256})


def _load_open_clip(architecture: str, entry: str, store: WeightStore) -> LoadedModel:
    path, sha256 = checked_file(store, entry)
    model = build_open_clip(architecture)
    load_strict(model, read_state(path), source=str(path))
    return LoadedModel(model, CLIP_MEAN, CLIP_STD, {path.name: sha256})


def build_open_clip(architecture: str) -> CLIP:
    """Build an open_clip model by its name, with random weights and the activation its name says.

    Raises:
        ValueError: if open_clip has no plain CLIP of that name.
    """
    config = open_clip.get_model_config(architecture)
    if config is None or not set(config) <= {"embed_dim", "quick_gelu", "vision_cfg", "text_cfg"}:
        raise ValueError(
            f"architecture must be a plain CLIP of open_clip, e.g. ViT-B-16; got {architecture!r}"
        )
    return CLIP(**config)


def _full(name: str, title: str, architecture: str, entry: str, family: Family, patch: int) -> EncoderSpec:
    load = partial(_load_open_clip, architecture, entry)
    return EncoderSpec(name, title, architecture, entry, "full", family, patch, load)


ENCODERS: Mapping[str, EncoderSpec] = MappingProxyType(
    {
        spec.name: spec
        for spec in (
            EncoderSpec("mini", "Embedded model", "", "mini", "embedded", "mini", 16, _load_mini),
            _full(
                "vit_b16_openai",
                "CLIP ViT-B/16, OpenAI",
                "ViT-B-16-quickgelu",
                "openai-vit-b-16",
                "openai",
                16,
            ),
            _full(
                "vit_b32_openai",
                "CLIP ViT-B/32, OpenAI",
                "ViT-B-32-quickgelu",
                "openai-vit-b-32",
                "openai",
                32,
            ),
            _full(
                "vit_l14_openai",
                "CLIP ViT-L/14, OpenAI",
                "ViT-L-14-quickgelu",
                "openai-vit-l-14",
                "openai",
                14,
            ),
            _full("vit_b16_laion2b", "CLIP ViT-B/16, LAION-2B", "ViT-B-16", "laion2b-vit-b-16", "laion", 16),
            _full("vit_b32_laion2b", "CLIP ViT-B/32, LAION-2B", "ViT-B-32", "laion2b-vit-b-32", "laion", 32),
            _full(
                "vit_b16_metaclip",
                "MetaCLIP ViT-B/16",
                "ViT-B-16-quickgelu",
                "metaclip-vit-b-16",
                "laion",
                16,
            ),
        )
    }
)


def _run_pamr(
    score_map: ScoreMap, pixels: NDArray[np.uint8], steps: Steps, cancel: threading.Event | None
) -> ScoreMap:
    return refine_pamr(score_map, pixels, progress=steps, cancel=cancel)


REFINERS: Mapping[str, RefinerSpec] = MappingProxyType(
    {
        "none": RefinerSpec("none", "No refinement", "Edges as fine as the model's own grid.", None),
        "pamr": RefinerSpec(
            "pamr",
            "PAMR",
            "Pulls edges to the photo's colours: neighbours that look alike share their scores (2005.08104).",
            _run_pamr,
        ),
    }
)

_MINI = Preset(scale=20, threshold=0.2, short_side=512, window=None, stride=0, templates="single1")
# Official configurations: frames of short side 336 in windows of 224, logits x 40, pixels under 0.1
# unlabelled.
_OPENAI = Preset(scale=40, threshold=0.1, short_side=336, window=224, stride=112, templates="imagenet80")
# Thresholds belong to the weights they were found on; other weights start without one.
_LAION = replace(_OPENAI, threshold=0.0)

PRESETS: Mapping[tuple[str, Family], Preset] = MappingProxyType(
    {
        # The embedded model: one whole frame, one prompt.
        ("clip", "mini"): _MINI,
        ("maskclip", "mini"): _MINI,
        ("sclip", "mini"): _MINI,
        ("clearclip", "mini"): _MINI,
        ("naclip", "mini"): _MINI,
        # OpenAI's weights: as published. ClearCLIP: 0.4 is its COCO-Object value, the nearest to everyday
        # photos.
        ("clip", "openai"): _OPENAI,
        ("maskclip", "openai"): _OPENAI,
        ("sclip", "openai"): _OPENAI,
        ("clearclip", "openai"): replace(_OPENAI, scale=50, threshold=0.4, window=448, stride=224),
        ("naclip", "openai"): _OPENAI,
        # Other full-size weights (LAION, MetaCLIP).
        ("clip", "laion"): _LAION,
        ("maskclip", "laion"): _LAION,
        ("sclip", "laion"): _LAION,
        ("clearclip", "laion"): replace(_LAION, scale=50, window=448, stride=224),
        ("naclip", "laion"): _LAION,
    }
)

CPU_TEMPLATES = "short7"
"""Stands in for the 80 published prompts on a CPU, where 80 cost seconds per class and gain little."""


def lookup(what: str, registry: Mapping[str, Value], name: str) -> Value:
    """Entry `name` of a registry.

    Raises:
        ValueError: if there is none; the sentence lists the known names.
    """
    if name not in registry:
        raise ValueError(f"{what} must be one of {', '.join(registry)}; got {name!r}")
    return registry[name]


def preset_for(method: str, encoder: EncoderSpec, device: torch.device) -> Preset:
    """Settings that suit a method on a tower: published ones where they exist, with fewer prompts on a CPU.

    Raises:
        ValueError: for an unknown method.
    """
    lookup("method", METHODS, method)
    preset = PRESETS[method, encoder.family]
    if device.type == "cpu" and preset.templates == "imagenet80":
        return replace(preset, templates=CPU_TEMPLATES)
    return preset


def build_method(name: str, visual: nn.Module, switches: frozenset[str] = frozenset()) -> Method:
    """Build a method on the image tower that makes its features.

    Raises:
        ValueError: for an unknown method or a switch it does not have.
    """
    spec = lookup("method", METHODS, name)
    for switch in sorted(switches - set(spec.switches)):
        raise ValueError(
            f"switch must be one of {', '.join(spec.switches) or 'none'} for {name}; got {switch!r}"
        )
    return spec.build(visual, switches)


def build_tower(spec: EncoderSpec, loaded: LoadedModel, compute: Compute, text_dir: Path | None) -> Tower:
    """Both encoders of a loaded model on a device; the model is taken over.

    The text tower stays in float32: it is small work, and its embeddings are kept on disk for every
        precision.

    Args:
        spec: whose model it is.
        loaded: the model and the names of its weights.
        compute: device, and precision of the image tower.
        text_dir: folder for text embeddings; None keeps them in memory.
    """
    sha256 = next(iter(loaded.weights.values()))
    model = loaded.model.eval().to(compute.device)
    vision = VisionEncoder(
        name=spec.name,
        identity=tower_identity(spec.name, sha256, compute.dtype),
        visual=model.visual.to(compute.dtype),
        mean=loaded.mean,
        std=loaded.std,
        patch=spec.patch,
        device=compute.device,
        dtype=compute.dtype,
    )
    identity = tower_identity(spec.name, sha256, torch.float32)
    return Tower(vision, TextEncoder(model, identity, compute.device, cache_dir=text_dir), loaded.weights)


def checked_file(store: WeightStore, entry: str) -> tuple[Path, str]:
    """Path and SHA-256 of weights that are on this machine and are what the catalogue promises.

    Raises:
        CheckpointError: if they are absent (the sentence says how to get them), damaged or another version.
    """
    if store.locate(entry) is None:
        raise CheckpointError(missing_sentence(store.entry(entry)))
    check = store.verify(entry)
    return check.path, check.sha256


def missing_sentence(weights: WeightFile) -> str:
    """Say that weights are not here and what to do about it, size and licence included."""
    if weights.url is None:
        return (
            f"{weights.title} is not here. It comes with the repository: "
            f"restore {' and '.join(weights.files)} in the checkpoints folder."
        )
    size = "size unknown" if weights.bytes is None else f"{weights.bytes / 1e6:.0f} MB"
    return (
        f"{weights.title} is not on this machine. Get it with "
        f"`python -m ovs_core.cli.weights get {weights.name}` ({size}, licence {weights.licence})."
    )
