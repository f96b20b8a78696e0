"""Tiny random towers and made-up photos."""

from hashlib import sha256

import numpy as np
from tiny_clip import make_model

from ovs_core.checkpoints import WeightStore
from ovs_core.encoders.loading import CLIP_MEAN, CLIP_STD, LoadedModel
from ovs_core.encoders.towers import EncoderSpec
from ovs_core.image import Photo


def tiny_spec(name: str, seed: int = 0) -> EncoderSpec:
    """A pair of tiny random towers as an engine may be given them."""

    def load(store: WeightStore) -> LoadedModel:
        weights = {f"tiny-{seed}.safetensors": sha256(f"tiny {seed}".encode()).hexdigest()}
        return LoadedModel(make_model(seed), CLIP_MEAN, CLIP_STD, weights)

    title = f"Tiny random towers {seed}"
    return EncoderSpec(name, title, "", None, "embedded", "mini", 16, load, guards_lone_word=True)


def random_photo(height: int, width: int, seed: int = 0) -> Photo:
    """Blocks of random colours, so that neighbouring patches differ and areas exist."""
    generator = np.random.default_rng(seed)
    blocks = generator.integers(0, 256, (-(-height // 8), -(-width // 8), 3), np.uint8)
    return Photo(np.ascontiguousarray(blocks.repeat(8, axis=0).repeat(8, axis=1)[:height, :width]))
