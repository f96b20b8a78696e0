"""What our way through a mask method saves over the plain one, with the same (random) weights.

    python -m benchmarks.mask_methods                        # convnext_base_w_320, 640 x 640, 20 classes
    python -m benchmarks.mask_methods --architecture convnext_large_d_320 --threads 2

The plain path does what the official code does: prompts of 77 tokens, encoded at every request, and masks of
all queries at full size before they are weighed. Both share the tower and the decoders, so the ratio shows
those three things only. Every path runs in a process of its own, whose peak memory is printed.

Target: a whole request at least 2 times faster, with a lower peak; 847 classes without K x H x W.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.setting import photo
from ovs_core.decoders.mask_decoder import MaskDecoderConfig
from ovs_core.decoders.pixel_decoder import PixelDecoderConfig
from ovs_core.encoders.clip_conv import STAGE_CHANNELS, ConvEncoder, conv_to_joint_space
from ovs_core.encoders.loading import build_open_clip
from ovs_core.encoders.prompts import clip_tokenizer, fill
from ovs_core.encoders.text import TextEncoder
from ovs_core.evidence.decide import decide
from ovs_core.evidence.proposals import MaskProposals
from ovs_core.methods.mask_classification.frame import propose_masks
from ovs_core.methods.mask_classification.head import MaskHead, MaskHeadConfig
from ovs_core.methods.mask_classification.maft_plus import MaftPlus
from ovs_core.options import Preset
from ovs_core.types import TextBank, Vocabulary
from ovs_core.vocabulary import TEMPLATES, read_vocabulary

SIDE = 640
PRESET = Preset(1.0, 0.0, SIDE, None, 0, "vild14")
CPU = torch.device("cpu")
Labels = NDArray[np.uint8] | NDArray[np.uint16]


def main() -> None:
    """Print seconds, peaks and their ratios."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--architecture", default="convnext_base_w_320", choices=STAGE_CHANNELS)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--path", choices=PATHS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.path:
        torch.set_num_threads(options.threads)
        print(json.dumps(PATHS[options.path](options.architecture)))
        return
    print(f"{options.architecture}, random weights, {SIDE} x {SIDE}, {options.threads} threads")
    costs = {path: _in_a_process(path, options.architecture, options.threads) for path in PATHS}
    print("20 classes, one name each")
    measured = ("first", "later", "peak", "extra")
    for path in ("ours", "plain"):
        first, later, peak, extra = (costs[path][key] for key in measured)
        print(f"  {path:6} first request {first:7.2f} s, later ones {later:7.2f} s, ", end="")
        print(f"peak {peak:6.0f} MB, {extra:6.0f} of it on top of the model")
    ratios = (costs["plain"][key] / costs["ours"][key] for key in measured)
    print(
        "  plain / ours: first {:.1f}, later {:.1f} (target 2.0), peak {:.2f}, on top {:.2f}".format(*ratios)
    )
    print("ADE-847, labels from masks (text rows random)")
    for path in ("ours-847", "plain-847"):
        seconds, extra = costs[path]["seconds"], costs[path]["extra"]
        print(f"  {path.removesuffix('-847'):6} {seconds:7.2f} s, {extra:6.0f} MB on top of the method")


def _in_a_process(path: str, architecture: str, threads: int) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.mask_methods", "--path", path]
    command += ["--architecture", architecture, "--threads", str(threads)]
    finished = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(finished.stdout)


def _parts(architecture: str) -> tuple[torch.nn.Module, ConvEncoder, MaftPlus]:
    """A model, its encoder and its method, with random weights."""
    torch.manual_seed(0)
    model = build_open_clip(architecture).eval().requires_grad_(False)
    joint = model.visual.head[-1].fc2 if hasattr(model.visual.head[-1], "fc2") else model.visual.head[-1]
    config = MaskHeadConfig(
        PixelDecoderConfig(STAGE_CHANNELS[architecture]), MaskDecoderConfig(joint.out_features), "semantic"
    )
    encoder = ConvEncoder("random", "random", model.visual, CPU, torch.float32)
    to_joint_space = partial(conv_to_joint_space, model.visual)
    return model, encoder, MaftPlus(MaskHead(config), to_joint_space, model.logit_scale)


def _twenty() -> Vocabulary:
    return Vocabulary(tuple(names[:1] for names in read_vocabulary("@voc20", "none").classes))


def _two_requests(answer: Callable[[NDArray[np.uint8]], Labels]) -> dict[str, float]:
    """Seconds of a first and a later photo with the same words, peak of this process and its rise in MB."""
    seconds, before = [], _peak()
    for seed in range(2):
        pixels = photo(SIDE, SIDE, seed).pixels
        started = time.perf_counter()
        answer(pixels)
        seconds.append(time.perf_counter() - started)
    return {"first": seconds[0], "later": seconds[1], "peak": _peak(), "extra": _peak() - before}


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def ours(architecture: str) -> dict[str, float]:
    """Cut prompts, remembered text, tiles."""
    model, encoder, method = _parts(architecture)
    text, vocabulary = TextEncoder(model, "random", CPU), _twenty()

    def answer(pixels: NDArray[np.uint8]) -> Labels:
        bank = text.embed(vocabulary, TEMPLATES["vild14"])
        return decide(
            propose_masks(method, encoder.encode(pixels, PRESET), bank), PRESET.scale, PRESET.threshold
        )[0]

    return _two_requests(answer)


def plain(architecture: str) -> dict[str, float]:
    """Prompts of 77 tokens at every request, full-size masks."""
    model, encoder, method = _parts(architecture)
    tokenize, vocabulary = clip_tokenizer(77), _twenty()

    @torch.no_grad()
    def answer(pixels: NDArray[np.uint8]) -> Labels:
        rows = []
        for name in vocabulary.rows:
            prompts = tokenize([fill(template, name) for template in TEMPLATES["vild14"]])
            rows.append(F.normalize(F.normalize(model.encode_text(prompts), dim=1).mean(dim=0), dim=0))
        bank = TextBank(vocabulary, torch.stack(rows))
        return plain_labels(propose_masks(method, encoder.encode(pixels, PRESET), bank))

    return _two_requests(answer)


def plain_labels(proposals: MaskProposals) -> Labels:
    """Official steps on whole maps: N x H x W, then K x H x W."""
    height, width = proposals.frame

    def resized(maps: Tensor, size: tuple[int, int]) -> Tensor:
        return F.interpolate(maps[None], size=size, mode="bilinear", align_corners=False)[0]

    masks = resized(proposals.masks, proposals.padded).sigmoid()
    scores = torch.einsum("nk,nyx->kyx", proposals.scores, masks)[:, :height, :width]
    return (resized(scores, proposals.image_size).argmax(dim=0) + 1).numpy().astype(np.uint16)


def _large_vocabulary(label: Callable[[MaskProposals], Labels], architecture: str) -> dict[str, float]:
    """Seconds that labels take with 847 classes, and how far they raise the peak of this process, in MB."""
    _, encoder, method = _parts(architecture)
    vocabulary = read_vocabulary("@ade847", "none")
    width = method.head.void_embedding.embedding_dim
    rows = F.normalize(torch.randn(len(vocabulary.rows), width), dim=1)
    pyramid = encoder.encode(photo(SIDE, SIDE).pixels, PRESET)
    proposals = propose_masks(method, pyramid, TextBank(vocabulary, rows))
    before, started = _peak(), time.perf_counter()
    label(proposals)
    return {"seconds": time.perf_counter() - started, "extra": _peak() - before}


PATHS: dict[str, Callable[[str], dict[str, float]]] = {
    "ours": ours,
    "plain": plain,
    "ours-847": partial(_large_vocabulary, lambda proposals: decide(proposals, 1.0, 0.0)[0]),
    "plain-847": partial(_large_vocabulary, plain_labels),
}


if __name__ == "__main__":
    main()
