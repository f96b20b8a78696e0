"""Seen, unseen and harmonic mIoU of LDVC and ZegCLIP heads, and how many pieces objects fall into.

    python -m benchmarks.prompted_table --data voc=DIR --head ldvc=FILE --head zegclip=FILE --head plain=FILE

Photos are those that `ovs_core.training.split_photos` holds out of training. Every name of the data
set enters, pixels without a class do not count, as in the papers. The first head is what the others are
compared with: paired differences with 95 % intervals over photos.

Beside IoU: connected parts of each class that is in a photo, answer over truth (1 is as whole as the truth);
1 - cos(T, T_new), mean over classes and photos; mean over places of the largest cosine with a class, before
the decoder and after each block.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ovs_core.checkpoints import WeightStore, sha256_of
from ovs_core.devices import DEVICES, choose_compute
from ovs_core.encoders.towers import ENCODERS, Tower, build_tower
from ovs_core.evidence.decide import decide
from ovs_core.methods.base import BoundMethod
from ovs_core.methods.head_format import HeadFile
from ovs_core.methods.ldvc.heads import load_prompted_head
from ovs_core.methods.ldvc.method import calibrate_seen
from ovs_core.methods.ldvc.model import GAMMA
from ovs_core.methods.ldvc.spec import PRESETS, bind_head
from ovs_core.methods.ldvc.views import CLASS_DRIFT, CONTRACTION
from ovs_core.metrics.confusion import label_margins, seen_unseen
from ovs_core.metrics.parts import connected_parts
from ovs_core.metrics.resampling import interval, paired_difference
from ovs_core.options import Preset
from ovs_core.training.data import read_mask, read_rgb
from ovs_core.training.split_photos import Photos, open_photos
from ovs_core.types import Vocabulary
from ovs_core.vocabulary.splits import SPLITS, spoken_name


@dataclass(frozen=True, eq=False)
class Measured:
    """A head on photos.

    Attributes:
        margins: of each photo, (N, 3, classes).
        parts: connected parts of the classes in each photo: answer, truth; (N, 2).
        drift: 1 - cos(T, T_new), mean over classes and photos.
        contraction: mean largest cosine before the decoder and after each block.
    """

    margins: NDArray[np.integer]
    parts: NDArray[np.integer]
    drift: float
    contraction: tuple[float, ...]


def main() -> None:
    """Print one row for each head, then the differences."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", required=True, metavar="NAME=DIR", help=f"one of {', '.join(SPLITS)}")
    parser.add_argument("--head", required=True, action="append", metavar="TITLE=FILE")
    parser.add_argument("--encoder", default="mini", choices=ENCODERS)
    parser.add_argument("--device", default="cpu", choices=DEVICES)
    parser.add_argument("--gamma", type=float, default=GAMMA)
    parser.add_argument("--limit", type=int, default=0, help="photos at most; 0 takes all")
    options = parser.parse_args()
    name, _, folder = options.data.partition("=")
    photos = open_photos(Path(folder), SPLITS[name], "val2017", held_out=True)
    spec = ENCODERS[options.encoder]
    loaded = spec.load(WeightStore(offline=True))
    tower = build_tower(spec, loaded, choose_compute(options.device, "fp32"), None)
    preset, count = PRESETS[spec.family], options.limit or len(photos.paths)
    print(f"{min(count, len(photos.paths))} photos of {name}, gamma {options.gamma}")
    rows: dict[str, Measured] = {}
    for title, _, path in (head.partition("=") for head in options.head):
        bound = bound_head(tower, Path(path))
        rows[title] = measure(bound, photos, preset, options.gamma, count)
        print(row_text(title, rows[title], len(photos.seen)), flush=True)
    first, *others = rows
    for title in others:
        for place, group in enumerate(("seen", "unseen", "harmonic")):
            statistic = partial(_mean, place=place, seen=len(photos.seen))
            difference = paired_difference(rows[first].margins, rows[title].margins, statistic)
            text = f"{difference.value:+.1%} ({difference.low:+.1%} to {difference.high:+.1%})"
            print(f"{first} - {title}, {group}: {text}")


def bound_head(tower: Tower, path: Path) -> BoundMethod[Any]:
    """A head's file on a tower, whichever method it is of."""
    return bind_head(tower, load_prompted_head(path, tower.sha256), HeadFile(path, sha256_of(path)))


def measure(bound: BoundMethod[Any], photos: Photos, preset: Preset, gamma: float, count: int) -> Measured:
    """A head on up to `count` photos; truth is labelled seen classes first."""
    names = (*photos.seen, *photos.unseen)
    words = Vocabulary(tuple((spoken_name(name), name) for name in names))
    text = bound.text.embed(words, ())
    margins, parts, drift, contraction = [], [], [], []
    for number in range(min(count, len(photos.paths))):
        truth, known = _all_classes(photos, number)
        features = bound.image.encode(read_rgb(photos.paths[number]), preset)
        answer = bound.method.ask(features, text, {}, views=frozenset({CLASS_DRIFT, CONTRACTION}))
        evidence = calibrate_seen(answer.evidence.to(torch.device("cpu")), {"gamma": gamma})
        labels = decide(evidence, 1.0, 0.0, truth.shape)[0].astype(np.int64) - 1
        margins.append(label_margins(truth, labels, len(names), known))
        parts.append(parts_of_present(truth, labels, known))
        moved, near = answer.views
        drift.append(float(moved.maps.mean()))
        contraction.append(near.maps.flatten().cpu().numpy())
    mean = np.mean(contraction, axis=0)
    return Measured(np.stack(margins), np.array(parts), float(np.mean(drift)), tuple(mean.tolist()))


def _all_classes(photos: Photos, number: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Class of each pixel of a photo, seen ones first, and where there is one, (H, W) each."""
    path = photos.paths[number]
    labels = photos.becomes[read_mask(photos.masks / f"{path.stem}.png")].astype(np.int64)
    return labels.clip(min=0), labels >= 0


def parts_of_present(
    truth: NDArray[np.int64], answer: NDArray[np.int64], known: NDArray[np.bool_]
) -> tuple[int, int]:
    """Connected parts of the classes in the truth, where it is known: of the answer, of the truth."""
    present = np.unique(truth[known])
    answered, true = (connected_parts(labels, known)[1] for labels in (answer, truth))
    return int(np.isin(answered, present).sum()), len(true)


def row_text(title: str, measured: Measured, seen: int) -> str:
    """One row of the table."""
    cells = []
    for place, group in enumerate(("seen", "unseen", "harmonic")):
        value = interval(measured.margins, partial(_mean, place=place, seen=seen))
        cells.append(f"{group} {value.value:.1%} ({value.low:.1%} to {value.high:.1%})")
    pieces = measured.parts.sum(axis=0)
    cells.append(f"parts {pieces[0] / max(1, pieces[1]):.2f} of the truth's")
    cells.append(f"drift {measured.drift:.3f}")
    cells.append("contraction " + " > ".join(f"{value:.3f}" for value in measured.contraction))
    return f"{title}: " + ", ".join(cells)


def _mean(total: NDArray[np.number], *, place: int, seen: int) -> NDArray[np.float64]:
    """Seen, unseen or harmonic mIoU from margins (..., 3, classes); unseen classes come last."""
    unseen: Sequence[int] = range(seen, total.shape[-1])
    return seen_unseen(total, unseen)[place]


if __name__ == "__main__":
    main()
