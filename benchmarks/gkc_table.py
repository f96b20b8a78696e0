"""Measure heads of GKC beside FC-CLIP: seen, unseen and harmonic mean IoU, PQ of things, what synonyms keep.

    python -m benchmarks.gkc_table --coco DIR --head plain=FILE --head "+ TD=FILE" --head "+ TGKD=FILE"

Photos, classes and counting are those of `benchmarks.mask_table`: val2017, all 80 names typed, no background
name, plain arg-max; "unseen" is what the head never saw. Synonyms: the classes that `recipes.mini.wording`
has another word for are asked by it, all others by their names; mean IoU of those classes over what their
names reach. FC-CLIP names its masks by CLIP's features inside them. Intervals are 95 %, from 1,000 resamples
of the photos; differences from the first head are paired.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.mask_segments import true_classes, true_segments
from benchmarks.mask_table import VAL, Counted, every_photo, gains, scores, table
from ovs_core.checkpoints import WeightStore, sha256_of
from ovs_core.devices import choose_compute
from ovs_core.encoders.towers import ENCODERS, Tower, build_tower
from ovs_core.evidence.decide import decide
from ovs_core.evidence.proposals import MaskProposals
from ovs_core.evidence.segments import panoptic
from ovs_core.folders import shipped_folder
from ovs_core.methods import METHODS
from ovs_core.methods.base import BoundMethod
from ovs_core.methods.head_format import HeadFile
from ovs_core.metrics.confusion import label_margins
from ovs_core.metrics.panoptic import instance_counts
from ovs_core.options import Preset
from ovs_core.training.data import Sample
from ovs_core.training.mask_photos import CocoInstances
from ovs_core.training.mask_plans import HELD_OUT
from ovs_core.types import TextBank, Vocabulary
from ovs_core.vocabulary import TEMPLATES
from recipes.mini.wording import SYNONYMS, kept

FC_CLIP = "FC-CLIP"


@dataclass(frozen=True, eq=False)
class Row:
    """A mask method with a head.

    Attributes:
        bound: the method and its halves.
        preset: its settings.
        counted: by the classes' names.
        synonyms: margins of each photo, (3, classes + 1), by other words.
    """

    bound: BoundMethod[Any]
    preset: Preset
    counted: Counted = field(default_factory=Counted)
    synonyms: list[NDArray[np.int64]] = field(default_factory=list)


def row_of(tower: Tower, method: str, path: Path) -> Row:
    """A row from the file of a head.

    Raises:
        CheckpointError: if it is no head of the method on this tower.
    """
    spec = METHODS[method]
    bound = spec.bind(tower, HeadFile(path, sha256_of(path)))
    return Row(bound, spec.preset(ENCODERS["mini"], torch.device("cpu")))


def measure(tower: Tower, rows: Mapping[str, Row], coco: CocoInstances, limit: int | None) -> None:
    """Count pixels and segments of every photo, into the rows."""
    asked = [Vocabulary(tuple((name,) for name in coco.names)), in_other_words(coco.names)]
    for sample in every_photo(coco, limit):
        for row in rows.values():
            banks = [tower.text.embed(words, TEMPLATES[row.preset.templates]) for words in asked]
            count_photo(row, sample, coco.names, banks)


def in_other_words(names: Sequence[str]) -> Vocabulary:
    """The same classes, each by its synonym where it has one."""
    return Vocabulary(tuple((SYNONYMS.get(name, name),) for name in names))


def count_photo(row: Row, sample: Sample, names: Sequence[str], banks: Sequence[TextBank]) -> None:
    """Ask about one photo by names and by synonyms (`banks`, in this order)."""
    truth, numbers = true_classes(sample, names), true_segments(sample)
    features = row.bound.image.encode(sample.pixels, row.preset)
    plain, other = (row.bound.method.ask(features, bank, {}).evidence for bank in banks)
    for evidence, margins in ((plain, row.counted.margins), (other, row.synonyms)):
        labels, _ = decide(evidence, row.preset.scale, 0.0)
        margins.append(label_margins(truth.labels, labels, len(names) + 1, truth.known))
    if not isinstance(plain, MaskProposals):
        raise TypeError(f"heads must propose masks, got {type(plain).__name__}")
    answer = panoptic(plain, range(1, len(names) + 1))
    row.counted.segments.append(
        instance_counts(
            *(numbers.labels, [names.index(group[0]) for group in sample.groups]),
            *(answer.numbers, [segment.label - 1 for segment in answer.segments]),
            *(len(names), numbers.known),
        )
    )


def synonym_line(title: str, row: Row, names: Sequence[str]) -> str:
    """What synonyms keep, one line of Markdown."""
    having = [name in SYNONYMS for name in names]
    part = kept(having, np.stack(row.counted.margins), np.stack(row.synonyms))
    keeps = f"{part.kept.value:.0%} [{part.kept.low:.0%}, {part.kept.high:.0%}]"
    ious = f"{part.plain:.1%} by name, {part.other:.1%} by synonym"
    return f"- {title}: {ious}, kept {keeps} ({part.classes} classes)"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print Markdown; 2 for what cannot be done."""
    options = _parser().parse_args(arguments)
    try:
        loaded = ENCODERS["mini"].load(WeightStore(offline=True))
        tower = build_tower(ENCODERS["mini"], loaded, choose_compute("cpu", "fp32"), None)
        rows = {FC_CLIP: row_of(tower, "fc_clip", options.fc_clip)}
        for title, _, path in (given.rpartition("=") for given in options.head):
            rows[title] = row_of(tower, "gkc", Path(path))
        coco = CocoInstances(options.coco, options.part)
        measure(tower, rows, coco, options.limit)
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    unseen = np.array([False, *(name in HELD_OUT for name in coco.names)])
    _, first, *others = rows
    print(f"{len(rows[first].synonyms)} photos of {options.part}, %, 95 % interval\n")
    print(table({title: scores(row.counted, unseen) for title, row in rows.items()}))
    for title in others:
        print(f"\nAgainst {first}, paired\n")
        print(table({title: gains(rows[title].counted, rows[first].counted, unseen)}, signed=True))
    print("\nSynonyms\n")
    print("\n".join(synonym_line(title, row, coco.names) for title, row in rows.items()))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--coco", type=Path, required=True, help="folder with instances.json and images")
    add(
        "--head",
        required=True,
        action="append",
        metavar="TITLE=FILE",
        help="of GKC, on the embedded tower",
    )
    shipped = shipped_folder("checkpoints") / "mini" / "fc_clip.safetensors"
    add("--fc-clip", type=Path, default=shipped, help="FC-CLIP's head; default: the shipped one")
    add("--part", default=VAL, help="measured photos; default: %(default)s")
    add("--limit", type=int, help="measure at most so many photos, evenly spaced")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
