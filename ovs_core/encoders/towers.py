"""ENCODERS: pairs of image and text towers, how to load them and what to say where they are absent."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

import torch

from ovs_core.checkpoints import (
    WeightStore,
)
from ovs_core.devices import Compute
from ovs_core.encoders.base import ImageEncoder
from ovs_core.encoders.clip_conv import ConvEncoder
from ovs_core.encoders.clip_resnet import STRIDE as RESNET_STRIDE
from ovs_core.encoders.clip_resnet import ResNetEncoder, ResNetPyramid
from ovs_core.encoders.clip_vit import VisionEncoder, tower_identity
from ovs_core.encoders.found_words import FoundWords, with_rarely_found_noted
from ovs_core.encoders.known_words import KnownWords, with_unknown_noted
from ovs_core.encoders.loading import (
    LoadedModel,
    load_mini,
    load_official,
    load_open_clip,
)
from ovs_core.encoders.mini_pyramid import MiniPyramid
from ovs_core.encoders.near_words import NearWords, with_near_words
from ovs_core.encoders.pyramids import SIZE_DIVISOR
from ovs_core.encoders.text import TextEncoder
from ovs_core.encoders.text_rows import RowMemory
from ovs_core.encoders.tuned_words import TUNED_WORDS, TunedText, TunedWords
from ovs_core.options import Option
from ovs_core.types import Pyramid, Vocabulary

if TYPE_CHECKING:  # types only: who builds the model loads its library, which takes seconds
    from open_clip.model import CLIP

Family = Literal["mini", "openai", "laion", "convnext", "resnet"]
Reads = Literal["tokens", "pyramid"]


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
        guards_lone_word: whether everyday things guard a class that is typed alone
            (`ovs_core.encoders.lone_word`); where the margin was measured on these weights.
        alike_from: cosine of two names from which they are told to be nearly the same; None where nobody
            looked at cosines of these weights, which differ from tower to tower.
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
    guards_lone_word: bool = False
    alike_from: float | None = None

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
        near_words, known_words, found_words, tuned_words: see `LoadedModel`.
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
    known_words: KnownWords = frozenset()
    found_words: FoundWords = field(default_factory=dict)
    tuned_words: TunedWords | None = None

    @property
    def tuned_text(self) -> TextEncoder | TunedText:
        """Words for methods without a trained head, which compare them with tokens as they are."""
        return self.text if self.tuned_words is None else TunedText(self.text, self.tuned_words)

    @property
    def tuned_files(self) -> Mapping[str, str]:
        """File name -> SHA-256 of what `tuned_text` reads beside the tower's own file."""
        return {} if self.tuned_words is None else {TUNED_WORDS: self.tuned_words.sha256}

    def asked(self, vocabulary: Vocabulary, *, trained: bool = False) -> Vocabulary:
        """What this tower is asked: near words of rare ones too, with notes on words that may not work.

        Args:
            vocabulary: what was typed.
            trained: by a method with a trained head, for which no word was measured.
        """
        noted = with_unknown_noted(vocabulary, self.known_words)
        if not trained:
            noted = with_rarely_found_noted(noted, self.found_words)
        return with_near_words(noted, self.near_words)

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
    load = partial(load_open_clip, architecture, entry)
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
        partial(load_official, architecture, entry),
        tokens=False,
        pyramid=conv_pyramid,
        heads=MappingProxyType({method: entry}),
        own_heads=False,
    )


def _full(name: str, title: str, architecture: str, entry: str, family: Family, patch: int) -> EncoderSpec:
    load = partial(load_open_clip, architecture, entry)
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
                load_mini,
                pyramid=mini_pyramid,
                guards_lone_word=True,
                alike_from=0.75,
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


def build_tower(
    spec: EncoderSpec,
    loaded: LoadedModel,
    compute: Compute,
    text_dir: Path | None,
    memory: RowMemory | None = None,
) -> Tower:
    """Both encoders of a loaded model on a device; the model is taken over.

    The text tower stays in float32: it is small work, and its embeddings are kept on disk for every
        precision.

    Args:
        spec: whose model it is.
        loaded: the model and the names of its weights.
        compute: device, and precision of the image tower.
        text_dir: folder for text embeddings; None keeps them in memory.
        memory: where; None keeps all of them.
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
        model,
        tower_identity(spec.name, sha256, torch.float32),
        compute.device,
        cache_dir=text_dir,
        memory=memory,
    )
    pyramid = None if spec.pyramid is None else spec.pyramid(spec.name, identity, loaded, compute)
    return Tower(
        text,
        loaded.weights,
        model,
        compute.device,
        spec.family,
        vit,
        pyramid,
        loaded.near_words,
        resnet,
        loaded.known_words,
        loaded.found_words,
        loaded.tuned_words,
    )
