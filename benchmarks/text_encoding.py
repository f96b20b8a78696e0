"""How much faster class names are encoded than by full 77-token prompts, one class at a time.

Both ways run the same tower (random weights: time does not depend on them) on the first names of ADE20K-150
in the 80 ImageNet templates, in turns, name by name. Nothing is remembered between names. With `--classes`
below `--total`, seconds for the total are the measured mean times the total, and marked as such.

    python -m benchmarks.text_encoding                            # a few names, embedded model's text size
    python -m benchmarks.text_encoding --tower b16 --classes 150  # the full measurement
"""

import argparse
import time
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from open_clip.model import CLIP
from torch import Tensor

from ovs_core.encoders.prompts import Tokenizer, clip_tokenizer, fill
from ovs_core.encoders.text import TextEncoder
from ovs_core.engine.cache import ByteCache
from ovs_core.types import Vocabulary
from ovs_core.vocabulary import TEMPLATES, read_vocabulary

TOWERS = {
    "embedded": {"width": 256, "heads": 4, "layers": 4},
    "b16": {"width": 512, "heads": 8, "layers": 12},  # the text tower of CLIP ViT-B/16
}


def full_prompts(model: CLIP, tokenize: Tokenizer, name: str, templates: Sequence[str]) -> Tensor:
    """The usual recipe: one class, every prompt at full length."""
    prompts = model.encode_text(tokenize([fill(template, name) for template in templates]))
    return F.normalize(F.normalize(prompts, dim=-1).mean(dim=0), dim=0)


def clocks() -> Tensor:
    """Seconds now on the wall and of this process's CPU time, (2,)."""
    return torch.tensor([time.perf_counter(), time.process_time()], dtype=torch.float64)


def measure(model: CLIP, names: Sequence[str], templates: tuple[str, ...]) -> tuple[Tensor, Tensor, float]:
    """Seconds a name (wall, CPU) of full prompts and of ours, and how far apart their rows are at most."""
    encoder = TextEncoder(model, "benchmark", torch.device("cpu"), memory=ByteCache(0))
    tokenize = clip_tokenizer(77)
    full_seconds, our_seconds, gap = torch.zeros(2), torch.zeros(2), 0.0
    with torch.inference_mode():
        for name in ("warm up", *names):
            start = clocks()
            full = full_prompts(model, tokenize, name, templates)
            middle = clocks()
            ours = encoder.embed(Vocabulary(((name,),)), templates).embeddings[0]
            end = clocks()
            if name != "warm up":
                full_seconds, our_seconds = full_seconds + middle - start, our_seconds + end - middle
                gap = max(gap, float((full - ours).abs().max()))
    return full_seconds / len(names), our_seconds / len(names), gap


def main() -> None:
    """Measure as asked and print one ratio for each clock."""
    parser = argparse.ArgumentParser(description="Text encoding: prompts cut at their end against full ones.")
    parser.add_argument("--tower", choices=TOWERS, default="embedded", help="size of the text tower")
    parser.add_argument("--classes", type=int, default=5, help="names to measure on")
    parser.add_argument("--total", type=int, default=150, help="names to report seconds for")
    parser.add_argument("--templates", choices=TEMPLATES, default="imagenet80")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    vision = {"image_size": 32, "patch_size": 32, "width": 64, "layers": 1}
    model = CLIP(512, vision, TOWERS[arguments.tower]).eval()
    names = read_vocabulary("@ade150", background="none").names[: arguments.classes]
    templates = TEMPLATES[arguments.templates]
    full, ours, gap = measure(model, names, templates)
    how = "measured" if arguments.total == len(names) else f"extrapolated from {len(names)} names"
    print(f"tower {arguments.tower}, {len(templates)} templates, {arguments.threads} threads; seconds (CPU)")
    for title, (wall, cpu) in (("full prompts", full), ("cut prompts", ours)):
        total = f"{wall * arguments.total:.1f} ({cpu * arguments.total:.1f}) for {arguments.total}, {how}"
        print(f"{title:13} {wall:8.3f} ({cpu:.3f}) a name, {total}")
    wall, cpu = full / ours
    print(f"{'ratio':13} {wall:8.2f} ({cpu:.2f}; trust this one on a busy machine); rows {gap:.0e} apart")


if __name__ == "__main__":
    main()
