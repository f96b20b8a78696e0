"""What one pass saves: FC-CLIP, GKC and the two-stage baseline on equally many masks, operations and seconds.

    python -m benchmarks.two_stage                 # embedded model, 640 x 480, 5 classes

Goal: at least 5 times fewer operations than the baseline, as GKC's paper counts 151 GFLOPs against 1165;
GKC in at most 1.3 times MaskCLIP's time on the same tower. FC-CLIP and the baseline have the same masks: how
many of their labels agree is printed.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.setting import median_seconds, photo
from ovs_core.checkpoints import WeightStore
from ovs_core.devices import Compute
from ovs_core.encoders.towers import DEFAULT_ENCODER, ENCODERS, Tower, build_tower
from ovs_core.evidence.decide import decide
from ovs_core.methods import METHODS
from ovs_core.methods.base import BoundMethod
from ovs_core.methods.heads import verified_head
from ovs_core.options import Preset
from ovs_core.types import TextBank
from ovs_core.vocabulary import TEMPLATES, parse_vocabulary

CLASSES = "cat; eye; nose; ear; wall"
GOAL, GKC_GOAL = 5.0, 1.3


@dataclass(frozen=True)
class Cost:
    """What a photo costs once words are known, both halves; GFLOPs are multiply-adds, as papers count."""

    gflops: float
    seconds: float


def main() -> None:
    """Print a table of costs, ratios and how far labels agree."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--width", type=int, default=640)
    parser.add_argument("--height", type=int, default=480)
    options = parser.parse_args()
    torch.backends.mha.set_fastpath_enabled(False)  # the counter does not see that kernel
    store = WeightStore(offline=True)
    spec = ENCODERS[DEFAULT_ENCODER]
    tower = build_tower(spec, spec.load(store), Compute(torch.device("cpu"), torch.float32), None)
    pixels = photo(options.width, options.height).pixels
    bound = {name: _bound(name, tower, store) for name in ("maskclip", "gkc", "fc_clip", "two_stage")}
    presets = {name: METHODS[name].preset(spec, tower.device) for name in bound}
    costs = {name: _cost(bound[name], presets[name], pixels, options.repeats) for name in bound}
    print(f"embedded model, {options.width} x {options.height}, {torch.get_num_threads()} threads")
    print(f"{'method':<22}{'GFLOPs':>9}{'seconds':>9}")
    for name, cost in costs.items():
        print(f"{METHODS[name].title:<24}{cost.gflops:>7.1f}{cost.seconds:>9.3f}")
    for name in ("gkc", "fc_clip"):
        flops = costs["two_stage"].gflops / costs[name].gflops
        seconds = costs["two_stage"].seconds / costs[name].seconds
        print(
            f"two stages against {name}: {flops:.1f} x the operations, {seconds:.1f} x the time (goal {GOAL})"
        )
    same_frame = replace(presets["gkc"], short_side=presets["maskclip"].short_side)
    ratio = _cost(bound["gkc"], same_frame, pixels, options.repeats).seconds / costs["maskclip"].seconds
    print(f"gkc against maskclip at one frame: {ratio:.2f} x the time (goal at most {GKC_GOAL})")
    print(f"labels of fc_clip and two_stage agree on {_agreement(bound, presets, pixels):.0%} of pixels")


def _bound(name: str, tower: Tower, store: WeightStore) -> BoundMethod[Any]:
    spec, encoder = METHODS[name], ENCODERS[DEFAULT_ENCODER]
    return spec.bind(tower, verified_head(store, spec, encoder, METHODS, tower=tower.sha256))


def _text(bound: BoundMethod[Any], preset: Preset) -> TextBank:
    return bound.text.embed(parse_vocabulary(CLASSES, "default"), TEMPLATES[preset.templates])


def _cost(bound: BoundMethod[Any], preset: Preset, pixels: NDArray[np.uint8], repeats: int) -> Cost:
    text = _text(bound, preset)

    def answer() -> None:
        bound.method.ask(bound.image.encode(pixels, preset), text, {})

    with FlopCounterMode(display=False) as counter:
        answer()
    return Cost(counter.get_total_flops() / 2e9, median_seconds(answer, repeats))


def _agreement(
    bound: Mapping[str, BoundMethod[Any]], presets: Mapping[str, Preset], pixels: NDArray[np.uint8]
) -> float:
    labels = []
    for name in ("fc_clip", "two_stage"):
        own, preset = bound[name], presets[name]
        evidence = own.method.ask(own.image.encode(pixels, preset), _text(own, preset), {}).evidence
        labels.append(decide(evidence, preset.scale, preset.threshold, pixels.shape[:2])[0])
    return float((labels[0] == labels[1]).mean())


if __name__ == "__main__":
    main()
