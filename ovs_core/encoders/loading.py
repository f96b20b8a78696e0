"""How models get into memory: the embedded one, open_clip's, and those inside official files."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from ovs_core.checkpoints import (
    CheckpointError,
    WeightFile,
    WeightStore,
    load_strict,
    read_state,
    sha256_of,
)
from ovs_core.encoders.base import Channels
from ovs_core.encoders.clip_conv import PIXEL_MEAN, PIXEL_STD
from ovs_core.encoders.eight_bits import in_full
from ovs_core.encoders.found_words import FOUND_WORDS, FoundWords, read_found_words, weights_asked
from ovs_core.encoders.known_words import KnownWords, read_known_words
from ovs_core.encoders.mini import build_mini, fitting
from ovs_core.encoders.near_words import NearWords, read_near_words
from ovs_core.encoders.official_clip import CLIP_PREFIX, load_clip, official_architecture
from ovs_core.encoders.tuned_words import TUNED_WORDS, TunedWords, read_tuned_words

if TYPE_CHECKING:  # types only: who builds the model loads its library, which takes seconds
    from open_clip.model import CLIP

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)  # OpenAI's, kept by LAION
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)

NEAR_WORDS, KNOWN_WORDS = "near_words.tsv", "known_words.txt"  # beside the weights


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """An open_clip model with its weights in it.

    Attributes:
        model: on the CPU, in float32.
        mean, std: what its image tower was trained with, per RGB channel of [0, 1].
        weights: file name -> SHA-256 of what was read; the first one stands for the model in cache keys.
        near_words: what its text tower is asked by beside words that it hardly knows.
        known_words: every word its text tower was taught; empty for towers that know whatever people write.
        found_words: how well these very weights find words, as far as that was measured.
        tuned_words: offsets of words for methods that compare them with tokens; None without any.
    """

    model: CLIP
    mean: Channels
    std: Channels
    weights: Mapping[str, str]
    near_words: NearWords = field(default_factory=dict)
    known_words: KnownWords = frozenset()
    found_words: FoundWords = field(default_factory=dict)
    tuned_words: TunedWords | None = None


class _Unfilled(TorchFunctionMode):
    """New modules get no random values, in the thread that is inside.

    A file fills every one of them afterwards (`load_strict`), and drawing takes longer than reading it.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if func in (Tensor.normal_, Tensor.uniform_):
            return args[0]
        return func(*args, **(kwargs or {}))


def load_mini(store: WeightStore) -> LoadedModel:
    """The embedded model, as it ships."""
    path, sha256 = checked_file(store, "mini")
    config_path, state = path.with_suffix(".json"), in_full(read_state(path))
    try:
        config = json.loads(config_path.read_text(encoding="utf-8"))
        mean, std = (tuple(config["preprocess_cfg"][key]) for key in ("mean", "std"))
        with _Unfilled():
            model = build_mini(fitting(config, state))
        words = path.with_name(NEAR_WORDS)
        near_words = read_near_words(words) if words.is_file() else {}
        known = path.with_name(KNOWN_WORDS)
        known_words = read_known_words(known) if known.is_file() else frozenset()
        found = path.with_name(FOUND_WORDS)
        tuned = path.with_name(TUNED_WORDS)
        tuned_words = read_tuned_words(tuned, sha256) if tuned.is_file() else None
        asked = weights_asked(sha256, None if tuned_words is None else tuned_words.sha256)
        found_words = read_found_words(found, asked) if found.is_file() else {}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{config_path} cannot be read as the embedded model's settings: {error}."
        ) from error
    load_strict(model, state, source=str(path))
    model.visual.conv1.to(memory_format=torch.channels_last)  # its convolutions take a fifth less time so
    weights = {path.name: sha256, **({NEAR_WORDS: sha256_of(words)} if near_words else {})}
    return LoadedModel(model, mean, std, weights, near_words, known_words, found_words, tuned_words)


def load_open_clip(architecture: str, entry: str, store: WeightStore) -> LoadedModel:
    """A plain CLIP of open_clip with the weights of a catalogue entry."""
    path, sha256 = checked_file(store, entry)
    with _Unfilled():
        model = build_open_clip(architecture)
    load_strict(model, read_state(path), source=str(path))
    return LoadedModel(model, CLIP_MEAN, CLIP_STD, {path.name: sha256})


def build_open_clip(architecture: str) -> CLIP:
    """Build an open_clip model by its name, with random weights and the activation its name says.

    Raises:
        ValueError: if open_clip has no plain CLIP of that name.
    """
    import open_clip  # the embedded model does without it, and it takes seconds to load
    from open_clip.model import CLIP

    config = open_clip.get_model_config(architecture)
    if config is None or not set(config) <= {"embed_dim", "quick_gelu", "vision_cfg", "text_cfg"}:
        raise ValueError(
            f"architecture must be a plain CLIP of open_clip, e.g. ViT-B-16; got {architecture!r}"
        )
    return CLIP(**config)


def load_official(architecture: str, entry: str, store: WeightStore) -> LoadedModel:
    """The CLIP inside an official file of FC-CLIP or MAFT+."""
    path, sha256 = checked_file(store, entry)
    state = read_state(path)
    held = official_architecture(state, source=str(path))
    if held != architecture:
        raise CheckpointError(f"{path} holds {held or 'another tower'}, expected {architecture}.")
    if CLIP_PREFIX + "token_embedding.weight" not in state:
        raise CheckpointError(f"{path} has no text tower: words cannot be compared with it.")
    model = build_open_clip(architecture)
    load_clip(model, state, source=str(path))
    return LoadedModel(model, PIXEL_MEAN, PIXEL_STD, {path.name: sha256})


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
