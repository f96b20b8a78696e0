"""Measure FC-CLIP and MAFT+ on the embedded tower: seen, unseen and harmonic mean IoU, and PQ of things.

    python -m benchmarks.mask_table --coco DIR --out DIR            # measure the files in --out
    python -m benchmarks.mask_table --coco DIR --out DIR --train    # tune the rows that are missing first

`--out` holds `fc_clip.safetensors` of `python -m ovs_core.cli.train fc-clip`. The rows of MAFT+ start from
that head and take equally many steps: mask-aware tuning, then with representation compensation, then with
content-dependent transfer (`mask-aware/`, `compensation/`, `transfer/`, each with `maft_plus.safetensors`).
Masks are the same in all of these rows; they differ in how masks are named. NACLIP on the same tower stands
beside them; its segments are the connected parts of its labels with the hidden "everything else" names typed.

mIoU on val2017 as the zero-shot papers count: all 80 classes typed, no background name, plain arg-max; pixels
of no class do not count; the mean is over classes in the truth. PQ: all 80 classes typed, thing instances,
crowds excused, everything else is background, thresholds of the official panoptic configurations. "Unseen" is
what the head and the tuning never saw; the tower itself was trained on photos of all classes. Intervals are
95 %, from 1,000 resamples of the photos. Settings must not be chosen on these photos: try them with
`--part train2017` and say so.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import MappingProxyType

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.mask_segments import LEAST_PART, true_classes, true_segments
from benchmarks.mvp_seg_table import zero_shot_scores
from ovs_core.checkpoints import WeightStore
from ovs_core.decoders.mask_pooling import mask_pooling
from ovs_core.devices import choose_compute
from ovs_core.encoders.mini_pyramid import MiniPyramid, dense_map
from ovs_core.encoders.towers import ENCODERS, Tower, build_tower
from ovs_core.evidence.decide import decide
from ovs_core.evidence.segments import panoptic
from ovs_core.methods import METHODS
from ovs_core.methods.mask_classification.fc_clip import FcClip
from ovs_core.methods.mask_classification.head import Proposed, propose, to_proposals
from ovs_core.methods.mask_classification.head_file import (
    TrainedHead,
    build_mask_method,
    load_mask_head,
    tuned_tower,
)
from ovs_core.methods.mask_classification.maft_plus import MaftPlus
from ovs_core.metrics.confusion import label_margins
from ovs_core.metrics.panoptic import SegmentCounts, instance_counts, panoptic_quality
from ovs_core.metrics.parts import connected_parts
from ovs_core.metrics.resampling import Interval, interval, paired_difference
from ovs_core.options import Preset
from ovs_core.training.data import Sample
from ovs_core.training.fc_clip import MaskSources, MaskTower
from ovs_core.training.mask_photos import CocoInstances
from ovs_core.training.mask_plans import HELD_OUT, TuningPlan
from ovs_core.training.mask_tuning import TunedTower, train_maft_plus
from ovs_core.training.plans import plan_from_json
from ovs_core.types import Pyramid, TextBank, Vocabulary
from ovs_core.vocabulary import TEMPLATES, parse_vocabulary

TRAIN, VAL = "train2017", "val2017"
FRAME = Preset(scale=1.0, threshold=0.0, short_side=448, window=None, stride=0, templates="single1")
ROWS: tuple[tuple[str, str, Mapping[str, object]], ...] = (
    ("+ mask-aware tuning", "mask-aware", {"compensation": 0.0, "transfer": False}),
    ("+ representation compensation", "compensation", {"transfer": False}),
    ("+ content-dependent transfer", "transfer", {}),
)
FROZEN, FC_CLIP, NACLIP = "MAFT+'s naming, nothing tuned", "FC-CLIP, frozen tower", "NACLIP, same tower"
COLUMNS = ("seen", "unseen", "harmonic", "PQ", "SQ", "RQ")


@dataclass(frozen=True, eq=False)
class Subject:
    """One row of the table.

    Attributes:
        method: names masks.
        dense: dense map (C, h, w) of the stem's patches (1, C, h, w) by the row's own tower.
    """

    method: FcClip | MaftPlus
    dense: Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True, eq=False)
class Counted:
    """What one row counted, photo by photo: margins (3, classes + 1) and segments (4, classes)."""

    margins: list[NDArray[np.int64]] = field(default_factory=list)
    segments: list[SegmentCounts] = field(default_factory=list)


def measure(
    tower: Tower, subjects: Mapping[str, Subject], coco: CocoInstances, preset: Preset, limit: int | None
) -> dict[str, Counted]:
    """Count pixels and segments of every photo for every row, NACLIP's first."""
    names = coco.names
    vocabulary = Vocabulary(tuple((name,) for name in names))
    bank = tower.text.embed(vocabulary, TEMPLATES[preset.templates])
    with_other = parse_vocabulary(";".join(names))
    wide_bank = tower.text.embed(with_other, TEMPLATES[preset.templates])
    naclip, naclip_preset = (
        METHODS["naclip"].bind(tower, None).method,
        METHODS["naclip"].preset(ENCODERS["mini"], torch.device("cpu")),
    )
    encoder = MiniPyramid(
        "mini",
        tower.vision.identity,
        tower.vision.visual,
        tower.vision.mean,
        tower.vision.std,
        tower.vision.device,
        tower.vision.dtype,
    )
    counted = {name: Counted() for name in (NACLIP, *subjects)}
    for sample in every_photo(coco, limit):
        truth, numbers = true_classes(sample, names), true_segments(sample)
        of_segment = [names.index(group[0]) for group in sample.groups]

        def add(
            row: str, labels: NDArray[np.integer], segments: NDArray[np.integer], labelled: Sequence[int]
        ) -> None:
            counted[row].margins.append(
                label_margins(truth.labels, labels, len(names) + 1, truth.known)  # noqa: B023
            )
            counted[row].segments.append(
                instance_counts(
                    *(numbers.labels, of_segment, segments, labelled),  # noqa: B023
                    *(len(names), numbers.known),  # noqa: B023
                )
            )

        features = tower.vision.encode(sample.pixels, naclip_preset)
        plain, _ = decide(naclip.ask(features, bank, {}).evidence, naclip_preset.scale, 0.0)
        wide, _ = decide(
            naclip.ask(features, wide_bank, {}).evidence, naclip_preset.scale, naclip_preset.threshold
        )
        parts, part_labels = connected_parts(wide, wide > 0, LEAST_PART)
        add(NACLIP, plain, parts, (part_labels - 1).tolist())
        pyramid = encoder.encode(sample.pixels, preset)
        first = next(iter(subjects.values())).method
        proposed = propose(first.head, first.to_joint_space, pyramid, bank)  # equal masks in all rows
        for name, subject in subjects.items():
            add(name, *_answer(subject, proposed, pyramid, bank, preset))
    return counted


@torch.no_grad()
def _answer(
    subject: Subject, proposed: Proposed, pyramid: Pyramid, bank: TextBank, preset: Preset
) -> tuple[NDArray[np.integer], NDArray[np.int32], list[int]]:
    """Labels, segments and the classes of segments, of masks named by the row's own tower."""
    method, vocabulary = subject.method, bank.vocabulary
    dense = subject.dense(pyramid.maps[2][None, : pyramid.dense.shape[0]])
    pooled = mask_pooling(dense[None], proposed.decoded.predictions[-1].masks)[0]
    own = proposed._replace(pooled=pooled, embeddings=method.to_joint_space(pooled))
    classified = method.name_masks(own, dense, vocabulary)
    proposals = to_proposals(classified, pyramid, vocabulary, resize_masks=method.resize_masks)
    labels, _ = decide(proposals, preset.scale, preset.threshold)
    answer = panoptic(proposals, range(1, len(vocabulary.classes) + 1))
    return labels, answer.numbers, [segment.label - 1 for segment in answer.segments]


def every_photo(coco: CocoInstances, limit: int | None) -> Iterator[Sample]:
    """Photos of a folder, evenly spaced if there are more than `limit`."""
    count = len(coco.photos)
    kept = range(count) if limit is None or limit >= count else [i * count // limit for i in range(limit)]
    for done, index in enumerate(kept, start=1):
        yield coco.read(index)
        if done % 20 == 0:
            print(f"{done} of {len(kept)} photos", file=sys.stderr, flush=True)


def subject_of(trained: TrainedHead, tower: MaskTower, source: str) -> Subject:
    """A row from its file."""
    visual = tuned_tower(tower.visual, trained, source=source).eval()

    @torch.no_grad()
    def dense(patches: torch.Tensor) -> torch.Tensor:
        return dense_map(visual, patches)[0]

    return Subject(build_mask_method(trained, visual, tower.log_scale), dense)


def untuned(trained: TrainedHead, tower: MaskTower) -> TrainedHead:
    """MAFT+ with an FC-CLIP head on the tower as it is: what the rows of tuning start from."""
    learner = TunedTower(tower, trained.head, TuningPlan(transfer=False))
    return TrainedHead("maft_plus", learner.head.eval(), tower.sha256, trained.seen)


def open_rows(
    options: argparse.Namespace, tower: MaskTower, plan: TuningPlan
) -> tuple[dict[str, Subject], list[str]]:
    """Rows whose files are there, or are made, and sentences about the others."""
    start = options.out / "fc_clip.safetensors"
    first = load_mask_head(start, tower.sha256, method="fc_clip")
    subjects = {
        FC_CLIP: subject_of(first, tower, str(start)),
        FROZEN: subject_of(untuned(first, tower), tower, str(start)),
    }
    missing = []
    sources = MaskSources(options.coco, options.pets, options.camvid)
    for title, folder, changes in ROWS:
        path = options.out / folder / "maft_plus.safetensors"
        if options.train and not path.is_file():
            print(f"{title}: training", file=sys.stderr, flush=True)
            path = train_maft_plus(
                tower,
                sources,
                start,
                plan_from_json(plan, changes),
                path.parent,
                cache=options.out / "crops",
            )
        if path.is_file():
            trained = load_mask_head(path, tower.sha256, method="maft_plus")
            subjects[title] = subject_of(trained, tower, str(path))
        else:
            missing.append(f"{title}: {path} is not there; --train makes it.")
    return subjects, missing


def scores(counted: Counted, unseen: NDArray[np.bool_]) -> dict[str, Interval]:
    """Every column of a row, in [0, 1]."""
    pixels, segments = np.stack(counted.margins), np.stack(counted.segments)
    return {
        name: interval(pixels if index < len(MIOU) else segments, statistic)
        for index, (name, statistic) in enumerate(_statistics(unseen).items())
    }


def gains(counted: Counted, base: Counted, unseen: NDArray[np.bool_]) -> dict[str, Interval]:
    """Every column of a row minus that of another, on the same resamples of photos."""
    differences = {}
    for index, (name, statistic) in enumerate(_statistics(unseen).items()):
        ours, theirs = (
            np.stack(side.margins if index < len(MIOU) else side.segments) for side in (counted, base)
        )
        differences[name] = paired_difference(ours, theirs, statistic)
    return differences


MIOU = COLUMNS[:3]


def _statistics(
    unseen: NDArray[np.bool_],
) -> Mapping[str, Callable[[NDArray[np.number]], NDArray[np.float64]]]:
    """Column -> from summed counts to a number."""

    def iou(index: int) -> Callable[[NDArray[np.number]], NDArray[np.float64]]:
        return lambda total: zero_shot_scores(total, unseen)[..., index]

    def quality(index: int) -> Callable[[NDArray[np.number]], NDArray[np.float64]]:
        return lambda total: panoptic_quality(total)[index]

    statistics = [iou(0), iou(1), iou(2), quality(0), quality(1), quality(2)]
    return MappingProxyType(dict(zip(COLUMNS, statistics, strict=True)))


def table(rows: Mapping[str, Mapping[str, Interval]], *, signed: bool = False) -> str:
    """Markdown, percentages with intervals."""
    lines = [f"| | {' | '.join(COLUMNS)} |", "|---" * (len(COLUMNS) + 1) + "|"]
    sign = "+" if signed else ""
    for name, row in rows.items():
        cells = (
            f"{100 * cell.value:{sign}.1f} [{100 * cell.low:{sign}.1f}, {100 * cell.high:{sign}.1f}]"
            for cell in row.values()
        )
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print Markdown; 2 for what cannot be done."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr)
    try:
        loaded = ENCODERS["mini"].load(WeightStore(options.weights, offline=True))
        tower = build_tower(ENCODERS["mini"], loaded, choose_compute("cpu", "fp32"), None)
        sha256 = next(iter(tower.weights.values()))
        mask_tower = MaskTower(tower.vision.visual, tower.text, loaded.model.logit_scale.detach(), sha256)
        values = {} if options.config is None else json.loads(options.config.read_text(encoding="utf-8"))
        subjects, missing = open_rows(options, mask_tower, plan_from_json(TuningPlan(), values))
        coco = CocoInstances(options.coco, options.part)
        preset = replace(FRAME, short_side=options.short_side)
        counted = measure(tower, subjects, coco, preset, options.limit)
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    unseen = np.array([False, *(name in HELD_OUT for name in coco.names)])
    rows = {name: scores(measured, unseen) for name, measured in counted.items()}
    tuned = [title for title, _, _ in ROWS if title in counted]
    changes = {title: gains(counted[title], counted[FROZEN], unseen) for title in tuned}
    number = len(counted[NACLIP].margins)
    print(f"Embedded model ({sha256[:12]}), {number} photos of {options.part}, %, 95 % interval\n")
    print(table(rows))
    print(f"\nAgainst {FROZEN}, paired\n\n{table(changes, signed=True)}")
    for sentence in missing:
        print(sentence)
    if options.json is not None:
        content = {
            kind: {
                name: {column: asdict(interval) for column, interval in row.items()}
                for name, row in part.items()
            }
            for kind, part in (("rows", rows), ("gains", changes))
        }
        options.json.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--coco", type=Path, required=True, help="folder with instances.json and images")
    add("--pets", type=Path, help="folder of pets, for --train")
    add("--camvid", type=Path, help="folder of CamVid, for --train")
    add("--out", type=Path, required=True, help="working folder with fc_clip.safetensors")
    add("--train", action="store_true", help="tune the rows whose files are not there")
    add("--config", type=Path, help="JSON with settings of ovs_core.training.mask_plans.TuningPlan")
    add("--weights", type=Path, help="folder with weight files, looked at first")
    add("--part", default=VAL, help="measured photos; default: %(default)s")
    add("--limit", type=int, help="measure at most so many photos, evenly spaced")
    add("--short-side", type=int, default=FRAME.short_side, help="frame in pixels; default: %(default)s")
    add("--json", type=Path, help="write all numbers here")
    return parser


if __name__ == "__main__":
    sys.exit(main())
