"""A tower that this recipe made, as the package's own encoder: to measure it, and to train heads on it."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import torch

from ovs_core.checkpoints import CHECKPOINTS, WeightStore, load_strict, read_state, sha256_of
from ovs_core.devices import Compute
from ovs_core.encoders.eight_bits import in_full
from ovs_core.encoders.loading import LoadedModel
from ovs_core.encoders.mini import build_mini, fitting
from ovs_core.encoders.towers import DEFAULT_ENCODER, ENCODERS, EncoderSpec, Tower, build_tower
from ovs_core.encoders.tuned_words import TUNED_WORDS, TunedWords, read_tuned_words


def spec_of_file(weights: Path) -> EncoderSpec:
    """The embedded model with the weights of another file of this recipe, whatever its stem holds.

    Tuned words are those that lie beside the file, if they are this tower's.
    """
    spec = ENCODERS[DEFAULT_ENCODER]

    def load(store: WeightStore) -> LoadedModel:
        state = in_full(read_state(weights))
        config = json.loads((CHECKPOINTS / DEFAULT_ENCODER / "mini.json").read_text(encoding="utf-8"))
        model = build_mini(fitting(config, state))
        load_strict(model, state, source=str(weights), ignore=("attn_mask",))
        sha256 = sha256_of(weights)
        tuned = tuned_words_beside(weights, sha256)
        return dataclasses.replace(
            spec.load(store), model=model, weights={weights.name: sha256}, tuned_words=tuned
        )

    return dataclasses.replace(spec, entry=None, load=load)


def tuned_words_beside(weights: Path, sha256: str) -> TunedWords | None:
    """Tuned words in the folder of a tower's file; None without any, or if they are another tower's."""
    path = weights.with_name(TUNED_WORDS)
    return read_tuned_words(path, sha256) if path.is_file() else None


def tower_of_file(weights: Path) -> tuple[Tower, LoadedModel]:
    """Both towers of a file on the CPU in float32, ready to train heads on."""
    spec = spec_of_file(weights)
    loaded = spec.load(WeightStore(None, offline=True))
    return build_tower(spec, loaded, Compute(torch.device("cpu"), torch.float32), None), loaded
