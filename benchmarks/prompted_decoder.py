"""What LDVC and ZegCLIP cost beside their tower, and what route attention saves. Weights are random.

    python -m benchmarks.prompted_decoder                # ViT-B/16, 512 x 512, 20 names
    python -m benchmarks.prompted_decoder --repeats 9 --threads 2

Targets: decoder and descriptor at most 25 % of the tower's time; route attention cheaper than full attention
from 1,024 tokens on; names encoded once for each head and vocabulary.

Whatever is compared runs in turns and is told in seconds of CPU time, the least of all turns: another
program's load moves neither.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from open_clip.model import CLIP
from open_clip.transformer import QuickGELU, VisionTransformer

from ovs_core.decoders.route_attention import RouteAttention, RouteConfig
from ovs_core.decoders.semantic_decoder import SemanticDecoder, SemanticDecoderConfig
from ovs_core.encoders.clip_vit import tokens_and_taps
from ovs_core.encoders.deep_prompts import LanguagePrompts, VisualPrompts
from ovs_core.encoders.text import TextEncoder
from ovs_core.types import Vocabulary

WIDTH, JOINT, BLOCKS, PATCH = 768, 512, 12, 16
PROMPTS = 10
GRIDS = ((32, 32), (32, 45), (45, 45), (64, 64))
MOST_OF_THE_TOWER = 0.25


def main() -> None:
    """Measure as asked; one line each, with its target."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--side", type=int, default=512, help="of the square frame, in pixels")
    parser.add_argument("--names", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    print(f"{arguments.side} x {arguments.side}, {arguments.names} names, {arguments.threads} threads")
    with torch.inference_mode():
        _decoders(arguments.side, arguments.names, arguments.repeats)
        _routes(arguments.repeats)
        _text(arguments.names)


def least_seconds(works: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Least CPU seconds of each work over turns; a first turn is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for turn in range(repeats + 1):
        for name, work in works.items():
            started = time.process_time()
            work()
            if turn:
                seconds[name].append(time.process_time() - started)
    return {name: min(values) for name, values in seconds.items()}


def _decoders(side: int, names: int, repeats: int) -> None:
    visual = VisionTransformer(
        224, PATCH, WIDTH, BLOCKS, 12, 4.0, output_dim=JOINT, act_layer=QuickGELU
    ).eval()
    prompts = VisualPrompts(tuple(torch.randn(PROMPTS, WIDTH) for _ in range(BLOCKS)))
    pixels, grid = torch.randn(1, 3, side, side), side // PATCH
    dense, whole, text = (
        F.normalize(torch.randn(shape), dim=1)
        for shape in ((1, JOINT, grid, grid), (1, JOINT), (names, JOINT))
    )
    ldvc = SemanticDecoder(SemanticDecoderConfig(JOINT)).eval()
    unrouted = SemanticDecoder(SemanticDecoderConfig(JOINT, route=None)).eval()
    zegclip = SemanticDecoder(SemanticDecoderConfig(JOINT, "class", route=None)).eval()
    works: dict[str, Callable[[], object]] = {
        "tower": lambda: tokens_and_taps(visual, visual.conv1(pixels), taps=[BLOCKS - 1]),
        "tower with prompts": lambda: tokens_and_taps(
            visual, visual.conv1(pixels), prompts=prompts, taps=[BLOCKS - 1]
        ),
        "ZegCLIP's decoder": lambda: zegclip(dense, whole, text),
        "LDVC's decoder": lambda: ldvc(dense, whole, text),
        "... over all windows": lambda: ldvc(dense, whole, text, routing="everywhere"),
        "... without routing": lambda: unrouted(dense, whole, text),
    }
    least = least_seconds(works, repeats)
    for name, seconds in least.items():
        part = seconds / least["tower"]
        target = f" (target {MOST_OF_THE_TOWER:.0%} at most)" if name.endswith("decoder") else ""
        print(f"  {name:22} {seconds:7.3f} s  {part:6.1%} of the tower{target}")
    parameters = sum(parameter.numel() for parameter in ldvc.parameters())
    print(f"  LDVC's decoder has {parameters / 1e6:.2f} M parameters")


def _routes(repeats: int) -> None:
    module = RouteAttention(JOINT, 8, RouteConfig()).eval()
    for height, width in GRIDS:
        x = torch.randn(1, height, width, JOINT)
        works: dict[str, Callable[[], object]] = {
            "routed": partial(module, x),
            "full": partial(module, x, everywhere=True),
        }
        least = least_seconds(works, repeats)
        routed, full = 1000 * least["routed"], 1000 * least["full"]
        part = f"{routed / full:.0%} (target below 100 %)"
        print(f"  {height * width:5} tokens: routed {routed:7.1f} ms, full {full:7.1f} ms, {part}")


def _text(names: int) -> None:
    model = CLIP(
        JOINT,
        {"image_size": 32, "patch_size": 32, "width": 64, "layers": 1},
        {"width": 512, "heads": 8, "layers": BLOCKS},
    ).eval()
    encoder = TextEncoder(model, "benchmark", torch.device("cpu"))
    prompts: LanguagePrompts = encoder.template_states("a photo of a {}")
    words = Vocabulary(tuple((f"thing {number}",) for number in range(names)))
    seconds = []
    for _ in range(2):
        started = time.process_time()
        encoder.embed_prompted(words, prompts)
        seconds.append(time.process_time() - started)
    print(f"  {names} names in language prompts: {seconds[0]:.2f} s, again {1000 * seconds[1]:.1f} ms")


if __name__ == "__main__":
    main()
