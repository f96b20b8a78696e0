"""What MVP-SEG costs: beside MaskCLIP on shared features, and a training step on cached ones.

    python -m benchmarks.mvp_seg                             # embedded model
    python -m benchmarks.mvp_seg --encoder vit_b16_openai    # random weights if the file is not here

Targets: an answer from features and known words takes at most 1.10 x MaskCLIP's (the same value path, one
prompt, no refining); a training step for VOC's 15 seen classes, 16 crops of 512 pixels, at most 3 s on two
cores. Contexts are random: time does not depend on their values. Seconds are medians.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from benchmarks.setting import photo
from ovs_core.checkpoints import CheckpointError, WeightStore
from ovs_core.devices import choose_compute
from ovs_core.encoders.loading import CLIP_MEAN, CLIP_STD, LoadedModel, build_open_clip
from ovs_core.encoders.prompts import clip_tokenizer, context_prompts
from ovs_core.encoders.text_tower import text_tower
from ovs_core.encoders.towers import DEFAULT_ENCODER, ENCODERS, EncoderSpec, Tower, build_tower
from ovs_core.methods.mvp_seg.contexts import Contexts
from ovs_core.methods.mvp_seg.model import ContextText, build_mvp_seg
from ovs_core.options import Preset
from ovs_core.training.mvp_seg import MvpSegPlan, PromptLearner, batch_losses
from ovs_core.types import Vocabulary
from ovs_core.vocabulary import parse_vocabulary

CLASSES = "cat; eye; nose; ear; wall"
VOC_SEEN = (
    "airplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "dining table",
    "dog", "horse", "motorbike", "person",
)  # fmt: skip
ALL = "+ refining"
FRAME = Preset(scale=100, threshold=0, short_side=512, window=None, stride=0, templates="single1")
CROP = 512  # pixels
LABEL_STRIDE = 8  # pixels per label


def main() -> None:
    """Print seconds, the ratio and the targets."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--encoder", default=DEFAULT_ENCODER, choices=ENCODERS)
    parser.add_argument("--repeats", type=int, default=25)
    parser.add_argument("--steps", type=int, default=3, help="training steps to time")
    options = parser.parse_args()
    spec = ENCODERS[options.encoder]
    loaded, weights = _load(spec)
    tower = build_tower(spec, loaded, choose_compute("cpu", "fp32"), None)
    print(f"{spec.title}, {weights} weights; {torch.get_num_threads()} threads")
    _answers(tower, loaded.model, parse_vocabulary(CLASSES), options.repeats)
    _training(loaded.model, spec.patch, options.steps)


def _load(spec: EncoderSpec) -> tuple[LoadedModel, str]:
    try:
        return spec.load(WeightStore(offline=True)), "trained"
    except CheckpointError:
        torch.manual_seed(0)
        model = build_open_clip(spec.architecture)
        return LoadedModel(model, CLIP_MEAN, CLIP_STD, {"random": "0" * 64}), "random"


def _random_contexts(model: nn.Module, k: int, refine: bool) -> Contexts:
    learner = PromptLearner(MvpSegPlan(k=k, refine=refine), text_tower(model))
    return learner.contexts("0" * 64, {})


def _answers(tower: Tower, model: nn.Module, vocabulary: Vocabulary, repeats: int) -> None:
    """Time answers from shared features with the words known, the methods in turn."""
    features = tower.vision.encode(photo(640, 480).pixels, FRAME)
    work: dict[str, Callable[[], object]] = {}
    for name, k, refine in (("MaskCLIP", 1, False), ("MVP-SEG", 3, False), (ALL, 3, True)):
        contexts = _random_contexts(model, k, refine)
        method = build_mvp_seg(tower.vision.visual, tower.text, contexts)
        text = ContextText(tower.text, contexts)
        work[name] = lambda method=method, text=text: method.ask(features, text.embed(vocabulary), {})  # type: ignore[misc]
        work[name]()  # learns the words
    seconds = _in_turn(work, repeats)
    names = len(vocabulary.rows)
    print(f"  {names} names on shared features of {features.grid[0]} x {features.grid[1]} tokens")
    for name, median in seconds.items():
        ratio = median / seconds["MaskCLIP"]
        print(f"  {name:10} {1000 * median:8.2f} ms, {ratio:.3f} x MaskCLIP (target 1.10)")


def _in_turn(work: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Median seconds of each, one after the other in every round: what disturbs one disturbs all."""
    seconds: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(repeats):
        for name, answer in work.items():
            started = time.perf_counter()
            answer()
            seconds[name].append(time.perf_counter() - started)
    return {name: statistics.median(runs) for name, runs in seconds.items()}


def _training(model: nn.Module, patch: int, steps: int) -> None:
    """Time a step on made-up features: prompts forth and back, all three losses, the update."""
    plan, tower = MvpSegPlan(), text_tower(model.eval().requires_grad_(False))
    learner = PromptLearner(plan, tower)
    optimizer = torch.optim.AdamW(learner.parameters(), lr=plan.rate)
    ids = context_prompts(clip_tokenizer(tower.context_length), VOC_SEEN, plan.length)
    with torch.no_grad():
        width = learner.prompts(tower, ids[:1]).shape[-1]
    generator = torch.Generator().manual_seed(0)
    side = CROP // patch
    features = torch.randn(plan.batch, width, side, side, generator=generator)
    features = nn.functional.normalize(features, dim=1)
    size = (plan.batch, CROP // LABEL_STRIDE, CROP // LABEL_STRIDE)
    labels = torch.from_numpy(np.random.default_rng(0).integers(0, len(VOC_SEEN), size))

    def step() -> None:
        losses = batch_losses(learner, learner.prompts(tower, ids), features, labels, plan)
        optimizer.zero_grad(set_to_none=True)
        torch.stack(list(losses.values())).sum().backward()
        optimizer.step()

    step()
    seconds = _in_turn({"step": step}, steps)["step"]
    print(f"  training step, {len(VOC_SEEN)} classes, {plan.batch} crops {seconds:8.2f} s (target 3.0)")


if __name__ == "__main__":
    main()
