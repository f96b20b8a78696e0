"""What the speed and memory benchmarks share: engines on trained or random towers, a photo, a stopwatch."""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from ovs_core.checkpoints import CHECKPOINTS, WeightStore
from ovs_core.encoders.loading import CLIP_MEAN, CLIP_STD, LoadedModel, build_open_clip
from ovs_core.encoders.mini import build_mini
from ovs_core.encoders.towers import ENCODERS, EncoderSpec
from ovs_core.engine import Engine
from ovs_core.image import Photo, read_photo
from ovs_core.options import lookup

PHOTO = Path(__file__).resolve().parents[1] / "assets" / "photos" / "cat.jpg"


def make_engine(encoder: str, cache_bytes: int = 1 << 30) -> tuple[Engine, str]:
    """Build a CPU engine whose towers have trained weights where they are on this machine, else random ones.

    Speed and memory do not depend on the values of weights. Text embeddings are kept in a new empty folder.

    Returns:
        The engine, and one line that says which weights it has.
    """
    folder = Path(tempfile.mkdtemp(prefix="ovs-lens-benchmark-"))
    engine = Engine("cpu", offline=True, cache_bytes=cache_bytes, text_dir=folder)
    spec = lookup("encoder", ENCODERS, encoder)
    if not any(info.name == encoder and info.available for info in engine.encoders()):
        engine = Engine(
            "cpu", offline=True, cache_bytes=cache_bytes, text_dir=folder, encoders=_with_random_weights(spec)
        )
        return engine, f"{spec.title}, random weights"
    return engine, f"{spec.title}, trained weights"


def photo(width: int, height: int, seed: int = 0) -> Photo:
    """A sample photo at a size, one pixel changed per seed: another photo to every cache."""
    pixels = np.array(Image.fromarray(read_photo(PHOTO).pixels).resize((width, height)))
    pixels[0, 0] = np.random.default_rng(seed).integers(0, 256, 3)
    return Photo(pixels, name=f"cat-{seed}")


def median_seconds(
    work: Callable[[], object], repeats: int, before: Callable[[], object] = lambda: None
) -> float:
    """Median wall time of `work`, `before` called untimed each time."""
    seconds = []
    for _ in range(repeats):
        before()
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


def _with_random_weights(spec: EncoderSpec) -> Mapping[str, EncoderSpec]:
    return {spec.name: replace(spec, entry=None, load=partial(_load_random, spec))}


def _load_random(spec: EncoderSpec, store: WeightStore) -> LoadedModel:
    torch.manual_seed(0)
    if spec.architecture:
        model = build_open_clip(spec.architecture)
    else:
        model = build_mini(json.loads((CHECKPOINTS / "mini" / "mini.json").read_text(encoding="utf-8")))
    return LoadedModel(
        model, CLIP_MEAN, CLIP_STD, {f"random {spec.name}": sha256(spec.name.encode()).hexdigest()}
    )
