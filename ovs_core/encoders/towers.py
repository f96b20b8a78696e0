"""ENCODERS: pairs of image and text towers, how to load them and what to say where they are absent."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Literal

import open_clip
import torch
from open_clip.model import CLIP

from ovs_core.checkpoints import (
    CheckpointError,
    WeightFile,
    WeightStore,
    load_strict,
    read_state,
    sha256_of,
)
from ovs_core.devices import Compute
from ovs_core.encoders.base import Channels, ImageEncoder
from ovs_core.encoders.clip_conv import PIXEL_MEAN, PIXEL_STD, SIZE_DIVISOR, ConvEncoder
from ovs_core.encoders.clip_resnet import STRIDE as RESNET_STRIDE
from ovs_core.encoders.clip_resnet import ResNetEncoder, ResNetPyramid
from ovs_core.encoders.clip_vit import VisionEncoder, tower_identity
from ovs_core.encoders.eight_bits import in_full
from ovs_core.encoders.mini import build_mini, fitting
from ovs_core.encoders.mini_pyramid import MiniPyramid
from ovs_core.encoders.near_words import NearWords, read_near_words
from ovs_core.encoders.official_clip import CLIP_PREFIX, load_clip, official_architecture
from ovs_core.encoders.text import TextEncoder
from ovs_core.options import Option
from ovs_core.types import Pyramid

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)  # OpenAI's, kept by LAION
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)

NEAR_WORDS = "near_words.tsv"  # beside the weights

Family = Literal["mini", "openai", "laion", "convnext", "resnet"]
Reads = Literal["tokens", "pyramid"]


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """An open_clip model with its weights in it.

    Attributes:
        model: on the CPU, in float32.
        mean, std: what its image tower was trained with, per RGB channel of [0, 1].
        weights: file name -> SHA-256 of what was read; the first one stands for the model in cache keys.
        near_words: what its text tower is asked by beside words that it hardly knows.
    """

    model: CLIP
    mean: Channels
    std: Channels
    weights: Mapping[str, str]
    near_words: NearWords = field(default_factory=dict)


PyramidEncoder = ImageEncoder[Pyramid]
"""The slow half of mask methods."""
MakePyramid = Callable[[str, str, LoadedModel, Compute], PyramidEncoder]
"""From a registry name, an identity, the model on its device and that device, the slow half."""


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
        family: which presets of a method fit these weights.
        patch: frame pixels per token.
        load: from the store of weights, the model. Raises CheckpointError with the next step.
        tokens: whether its image tower gives tokens, which most methods read.
        resnet: whether that tower is a ResNet, whose tokens are places of its last map; a ViT otherwise.
        pyramid: how to make what mask methods read; None where the tower has no such thing.
        heads: method -> name in the catalogue of a head that comes with these weights; heads that this
            project trains for a tower are named by their methods.
        own_heads: whether heads that the user trained on these weights can be used; not where tower and head
            are one official file.
        options: what can be set of the tower itself.
    """

    name: str
    title: str
    architecture: str
    entry: str | None
    tier: Literal["embedded", "full"]
    family: Family
    patch: int
    load: Callable[[WeightStore], LoadedModel]
    tokens: bool = True
    resnet: bool = False
    pyramid: MakePyramid | None = None
    heads: Mapping[str, str] = field(default_factory=dict)
    own_heads: bool = True
    options: tuple[Option, ...] = ()

    def gives(self, what: Reads) -> bool:
        """Whether methods that read this can run on it."""
        return self.tokens if what == "tokens" else self.pyramid is not None


@dataclass(frozen=True, eq=False)
class Tower:
    """Both towers of one model, ready on a device.

    Attributes:
        text: the text encoder.
        weights: file name -> SHA-256; the first one stands for the tower.
        model: the open_clip model whose towers these are.
        device: where it lives.
        family: which presets of a method fit its weights.
        vit, resnet, pyramid: what its image tower gives; None for what it does not.
        near_words: see `LoadedModel`.
    """

    text: TextEncoder
    weights: Mapping[str, str]
    model: CLIP
    device: torch.device
    family: Family
    vit: VisionEncoder | None
    pyramid: PyramidEncoder | None = None
    near_words: NearWords = field(default_factory=dict)
    resnet: ResNetEncoder | None = None

    @property
    def tokens(self) -> VisionEncoder | ResNetEncoder:
        """The encoder that gives tokens, of a ViT or of a ResNet."""
        return self.vision if self.resnet is None else self.resnet

    @property
    def vision(self) -> VisionEncoder:
        """The encoder that gives tokens.

        Raises:
            ValueError: if the image tower is no ViT.
        """
        if self.vit is None:
            raise ValueError("the image tower must be a ViT")
        return self.vit

    @property
    def sha256(self) -> str:
        """What a head's file must name."""
        return next(iter(self.weights.values()))


def _load_mini(store: WeightStore) -> LoadedModel:
    path, sha256 = checked_file(store, "mini")
    config_path, state = path.with_suffix(".json"), in_full(read_state(path))
    try:
        config = json.loads(config_path.read_text(encoding="utf-8"))
        mean, std = (tuple(config["preprocess_cfg"][key]) for key in ("mean", "std"))
        model = build_mini(fitting(config, state))
        words = path.with_name(NEAR_WORDS)
        near_words = read_near_words(words) if words.is_file() else {}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{config_path} cannot be read as the embedded model's settings: {error}."
        ) from error
    load_strict(model, state, source=str(path))
    model.visual.conv1.to(memory_format=torch.channels_last)  # its convolutions take a fifth less time so
    weights = {path.name: sha256, **({NEAR_WORDS: sha256_of(words)} if near_words else {})}
    return LoadedModel(model, mean, std, weights, near_words)


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


def _load_official(architecture: str, entry: str, store: WeightStore) -> LoadedModel:
    """The CLIP inside an official file of FC-CLIP or MAFT+."""
    path, sha256 = checked_file(store, entry)
    state = read_state(path)
    found = official_architecture(state, source=str(path))
    if found != architecture:
        raise CheckpointError(f"{path} holds {found or 'another tower'}, expected {architecture}.")
    if CLIP_PREFIX + "token_embedding.weight" not in state:
        raise CheckpointError(f"{path} has no text tower: words cannot be compared with it.")
    model = build_open_clip(architecture)
    load_clip(model, state, source=str(path))
    return LoadedModel(model, PIXEL_MEAN, PIXEL_STD, {path.name: sha256})


def conv_pyramid(name: str, identity: str, loaded: LoadedModel, compute: Compute) -> ConvEncoder:
    """The pyramid of a CLIP ConvNeXt."""
    visual = loaded.model.visual
    return ConvEncoder(name, identity, visual, compute.device, compute.dtype, loaded.mean, loaded.std)


def mini_pyramid(name: str, identity: str, loaded: LoadedModel, compute: Compute) -> MiniPyramid:
    """The pyramid of the embedded model."""
    visual = loaded.model.visual
    return MiniPyramid(name, identity, visual, loaded.mean, loaded.std, compute.device, compute.dtype)


def resnet_pyramid(name: str, identity: str, loaded: LoadedModel, compute: Compute) -> ResNetPyramid:
    """The pyramid of a CLIP ResNet."""
    visual = loaded.model.visual
    return ResNetPyramid(name, identity, visual, loaded.mean, loaded.std, compute.device, compute.dtype)


def _resnet(name: str, title: str, architecture: str, entry: str) -> EncoderSpec:
    load = partial(_load_open_clip, architecture, entry)
    return EncoderSpec(
        name,
        title,
        architecture,
        entry,
        "full",
        "resnet",
        RESNET_STRIDE,
        load,
        resnet=True,
        pyramid=resnet_pyramid,
    )


def _mask_tower(name: str, title: str, architecture: str, entry: str, method: str) -> EncoderSpec:
    """Tower and head of one official file."""
    return EncoderSpec(
        name,
        title,
        architecture,
        entry,
        "full",
        "convnext",
        SIZE_DIVISOR,
        partial(_load_official, architecture, entry),
        tokens=False,
        pyramid=conv_pyramid,
        heads=MappingProxyType({method: entry}),
        own_heads=False,
    )


def _full(name: str, title: str, architecture: str, entry: str, family: Family, patch: int) -> EncoderSpec:
    load = partial(_load_open_clip, architecture, entry)
    return EncoderSpec(name, title, architecture, entry, "full", family, patch, load)


DEFAULT_ENCODER = "mini"
ENCODERS: Mapping[str, EncoderSpec] = MappingProxyType(
    {
        spec.name: spec
        for spec in (
            EncoderSpec(
                "mini",
                "Embedded model",
                "",
                "mini",
                "embedded",
                "mini",
                16,
                _load_mini,
                pyramid=mini_pyramid,
            ),
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
            _resnet("rn50_openai", "CLIP RN50, OpenAI", "RN50-quickgelu", "openai-rn50"),
            _resnet("rn101_openai", "CLIP RN101, OpenAI", "RN101-quickgelu", "openai-rn101"),
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
            _mask_tower(
                "convnext_b_maftp", "MAFT+ ConvNeXt-B", "convnext_base_w_320", "maftp-b", "maft_plus"
            ),
            _mask_tower(
                "convnext_l_maftp", "MAFT+ ConvNeXt-L", "convnext_large_d_320", "maftp-l", "maft_plus"
            ),
            _mask_tower(
                "convnext_l_maftp_pano",
                "MAFT+ ConvNeXt-L, panoptic",
                "convnext_large_d_320",
                "maftp-l-pano",
                "maft_plus",
            ),
            _mask_tower(
                "convnext_l_fcclip", "FC-CLIP ConvNeXt-L", "convnext_large_d_320", "fcclip-l", "fc_clip"
            ),
        )
    }
)


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
    model.visual.to(compute.dtype)
    identity = tower_identity(spec.name, sha256, compute.dtype)
    vit: VisionEncoder | None = None
    resnet: ResNetEncoder | None = None
    if spec.tokens and spec.resnet:
        resnet = ResNetEncoder(
            spec.name, identity, model.visual, loaded.mean, loaded.std, compute.device, compute.dtype
        )
    elif spec.tokens:
        vit = VisionEncoder(
            name=spec.name,
            identity=identity,
            visual=model.visual,
            mean=loaded.mean,
            std=loaded.std,
            patch=spec.patch,
            device=compute.device,
            dtype=compute.dtype,
        )
    text = TextEncoder(
        model, tower_identity(spec.name, sha256, torch.float32), compute.device, cache_dir=text_dir
    )
    pyramid = None if spec.pyramid is None else spec.pyramid(spec.name, identity, loaded, compute)
    return Tower(
        text, loaded.weights, model, compute.device, spec.family, vit, pyramid, loaded.near_words, resnet
    )


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
    if weights.page:
        return (
            f"{weights.title} is not on this machine. Download {weights.files[0]} by hand from "
            f"{weights.page} (licence {weights.licence}) and put it into the folder given as --weights-dir."
        )
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
