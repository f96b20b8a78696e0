"""What a click costs once SAM has looked at the photo: seconds of encoder and decoder, and their ratio.

    python -m benchmarks.sam_click --model vit_t --threads 2

Random weights: speed does not depend on their values. A click is prompt encoder, mask decoder and the mask at
the photo's own size; the decoder's part is told apart.
"""

import argparse
import sys
import time
from collections.abc import Callable, Sequence

import numpy as np
import torch

from ovs_core.refine.sam.click import clicked_mask
from ovs_core.refine.sam.embedding import look
from ovs_core.refine.sam.load import build_sam
from ovs_core.refine.sam.prompts import Click, ask

MODELS = ("vit_t", "vit_b", "vit_l", "vit_h")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure as asked and print one line of a Markdown table."""
    parser = argparse.ArgumentParser(description="Seconds of SAM's encoder and of a click.")
    parser.add_argument("--model", choices=MODELS, default=MODELS[0])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--width", type=int, default=640)
    parser.add_argument("--height", type=int, default=480)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    sam = build_sam(options.model).to(options.device)
    shape = (options.height, options.width, 3)
    pixels = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    embedding = look(sam, pixels)
    click = (Click(options.width / 3, options.height / 2),)
    parts = {
        "encoder": lambda: look(sam, pixels).embedding.cpu(),
        "decoder": lambda: ask(sam, embedding, click, several=True).logits.cpu(),
        "click": lambda: clicked_mask(sam, embedding, click),
    }
    seconds = {name: _median(work, options.repeats) for name, work in parts.items()}
    print("| model | threads | encoder | decoder | whole click | encoder / decoder | encoder / click |")
    print("|---|---|---|---|---|---|---|")
    print(
        f"| {options.model} | {options.threads} | {seconds['encoder']:.2f} s | "
        f"{1000 * seconds['decoder']:.0f} ms | {1000 * seconds['click']:.0f} ms | "
        f"{seconds['encoder'] / seconds['decoder']:.1f} | {seconds['encoder'] / seconds['click']:.1f} |"
    )
    return 0


def _median(work: Callable[[], object], repeats: int) -> float:
    """Median seconds of some runs, after one that is not counted."""
    work()
    taken = []
    for _ in range(repeats):
        started = time.perf_counter()
        work()
        taken.append(time.perf_counter() - started)
    return float(np.median(taken))


if __name__ == "__main__":
    sys.exit(main())
