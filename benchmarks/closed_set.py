"""The embedded model against the closed-set network it started from, on the 20 VOC names.

    python -m benchmarks.closed_set --coco DIR --pretrained DIR

DeepLabV3-MobileNetV2 knows PASCAL VOC's 20 classes and the background and nothing else. It is asked about
the same photos, once with the longer side at 513 pixels, as it was published, and once in our own frames;
ours is typed the 20 names and measured by rule c of `benchmarks.labelled_photos`. Differences are paired:
each of 1,000 resamples draws the same photos for both.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from benchmarks.labelled_photos import COCO_RULES, open_photos, questions_about
from ovs_core.encoders.mini import STRIDE, ConvStem, build_mini
from ovs_core.encoders.towers import DEFAULT_ENCODER
from ovs_core.engine import Engine
from ovs_core.image import frame_size, to_frame
from ovs_core.methods import DEFAULT_METHOD, METHODS
from ovs_core.metrics.confusion import label_margins, mean_iou
from ovs_core.metrics.resampling import Interval, interval, paired_difference
from recipes.mini.teachers import start_stem

CONFIG = Path(__file__).resolve().parents[1] / "checkpoints" / "mini" / "mini.json"
PUBLISHED_LONG_SIDE = 513
VAL = "val2017"
OURS = "ours"
PUBLISHED = "DeepLab, longer side 513"


def closed_set_network(pretrained: Path) -> ConvStem:
    """Both teachers as one stem, of which only the DeepLab half is used."""
    stem: ConvStem = build_mini(json.loads(CONFIG.read_text(encoding="utf-8"))).visual.conv1
    start_stem(stem, pretrained)
    return stem.eval().requires_grad_(False)


def closed_set_labels(stem: ConvStem, pixels: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.int64]:
    """Label 0..20 of each pixel of a photo (H, W, 3), asked in a frame of `size` (Hf, Wf)."""
    frame = to_frame(pixels, size)[None] * 2 - 1
    logits = stem.voc_head(stem.voc(frame))[1]
    shape = (pixels.shape[0], pixels.shape[1])
    return F.interpolate(logits, size=shape, mode="bilinear", align_corners=False)[0].argmax(dim=0).numpy()


def published_size(shape: tuple[int, ...]) -> tuple[int, int]:
    """(Hf, Wf) of a frame whose longer side is 513 pixels."""
    factor = PUBLISHED_LONG_SIDE / max(shape[:2])
    return max(1, round(shape[0] * factor)), max(1, round(shape[1] * factor))


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; 2 for what cannot be measured."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--coco", type=Path, required=True, help="folder with images/ and masks/ of a split")
    parser.add_argument("--pretrained", type=Path, required=True, help="folder of the teachers' files")
    parser.add_argument("--split", default=VAL)
    parser.add_argument("--method", choices=tuple(METHODS), default=DEFAULT_METHOD)
    parser.add_argument("--limit", type=int)
    parser.add_argument("--json", type=Path, help="write the numbers here, shares in [0, 1]")
    options = parser.parse_args(arguments)
    try:
        photos = open_photos(options.coco, options.split, options.limit)
        stem = closed_set_network(options.pretrained)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    engine = Engine("cpu", offline=True)
    short_side = engine.preset(options.method, DEFAULT_ENCODER).short_side
    counted: dict[str, list[NDArray[np.int64]]] = {}
    for photo, truth in photos.read():
        question = questions_about(photos.dataset, {"c": COCO_RULES["c"]}, truth)["c"]
        shape = photo.size
        answers = {
            OURS: engine.segment(photo, question.vocabulary, method=options.method).labels,
            PUBLISHED: closed_set_labels(stem, photo.pixels, published_size(shape)),
            "DeepLab, our frames": closed_set_labels(
                stem, photo.pixels, frame_size(shape, short_side, STRIDE)
            ),
        }
        for name, labels in answers.items():
            answer, known = question.answer(labels), question.truth.known
            counts = label_margins(question.truth.labels, answer, len(photos.dataset.classes) + 1, known)
            counted.setdefault(name, []).append(counts)
    if not counted:
        print("No photo could be measured: none was readable.", file=sys.stderr)
        return 2
    stacks = {name: np.stack(rows) for name, rows in counted.items()}
    found = {name: interval(stack, mean_iou) for name, stack in stacks.items()}
    behind = {
        name: paired_difference(stacks[OURS], stack, mean_iou)
        for name, stack in stacks.items()
        if name != OURS
    }
    asked = f"{len(stacks[OURS])} photos of {options.split}"
    print(f"{options.method}, 20 VOC names + background, {asked}, mIoU %\n")
    for name, one in found.items():
        print(f"- {name}: {_text(one)}")
    for name, one in behind.items():
        print(f"- ours - {name}, paired: {_text(one)}")
    if options.json is not None:
        content = {
            "method": options.method,
            "photos": len(stacks[OURS]),
            "miou": {name: asdict(one) for name, one in found.items()},
            "ours_minus": {name: asdict(one) for name, one in behind.items()},
        }
        options.json.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return 0


def _text(found: Interval) -> str:
    return f"{100 * found.value:.1f} [{100 * found.low:.1f}, {100 * found.high:.1f}]"


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    sys.exit(main())
