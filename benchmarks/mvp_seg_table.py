"""Train MVP-SEG's ablations on seen classes and measure seen, unseen and harmonic mean IoU.

    python -m benchmarks.mvp_seg_table --coco DIR --out DIR

One prompt, then three, then with OCLoss, then with refining (GPR): each trained on the seen classes of
train2017, beside MaskCLIP with 85 templates on the same tower and the same value path, and MaskCLIP as the
app has it. Features of the training crops are made once for all rows. A stopped command goes on where it was;
finished rows are not trained again.

With `--student-steps N` an MVP-SEG+ student of the last row is trained for N steps and measured too, with
`--student TITLE=FILE` one that is there.

Measured on val2017 as the zero-shot papers do: all classes are typed, no background name, plain arg-max;
pixels of the background and of void do not count. The mean is over the classes that occur in the truth.
Intervals are 95 %, from 1,000 resamples of the photos. Settings must not be chosen on these photos: try them
with `--split train2017` and say so.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ovs_core.checkpoints import WeightStore, sha256_of
from ovs_core.devices import choose_compute
from ovs_core.encoders.loading import LoadedModel
from ovs_core.encoders.text import TextEncoder
from ovs_core.encoders.towers import ENCODERS, Tower, build_tower
from ovs_core.evidence.decide import decide
from ovs_core.labelled.datasets import FOLDER, open_dataset, read_example
from ovs_core.labelled.mask_values import known_pixels
from ovs_core.methods import METHODS
from ovs_core.methods.base import BoundMethod
from ovs_core.methods.head_format import HeadFile
from ovs_core.methods.mvp_seg.contexts import Contexts, load_contexts
from ovs_core.methods.mvp_seg.model import ContextText, MvpSeg, build_mvp_seg
from ovs_core.methods.mvp_seg.spec import bind_plus
from ovs_core.metrics.confusion import label_margins, seen_unseen
from ovs_core.metrics.resampling import interval
from ovs_core.options import Preset
from ovs_core.training.mvp_seg import MvpSegPlan, mvp_seg_plan, train_mvp_seg
from ovs_core.training.mvp_seg_plus import PlusPlan, lessons_of, train_mvp_seg_plus
from ovs_core.training.split_photos import Photos, open_photos
from ovs_core.types import Features, TextBank, Vocabulary
from ovs_core.vocabulary import TEMPLATES
from ovs_core.vocabulary.splits import SPLITS, spoken_name

Labels = NDArray[np.uint8] | NDArray[np.uint16]

SPLIT = "coco_mini"
TRAIN, VAL = "train2017", "val2017"
FRAME = Preset(1.0, 0.0, 512, None, 0, "maskclip85")
MASKCLIP_SCALE = 100.0
# What differs from the recipe's defaults, for a few hundred photos and a CPU. Words to start from: after five
# steps L_seg is 0.4 to 0.7 with them and 3.1 from noise. Weight of L_cls: it is a sum over the classes of a
# step; at 1 its gradient (norm 400) leaves the clipped step nothing of L_seg's.
SETTINGS: Mapping[str, object] = MappingProxyType(
    {"steps": 600, "classes_per_step": 32, "init": "words", "length": 8, "cls_weight": 0.05}
)
ABLATIONS: tuple[tuple[str, Mapping[str, object]], ...] = (
    ("1 prompt", {"k": 1, "oc_weight": 0.0, "refine": False}),
    ("3 prompts", {"oc_weight": 0.0, "refine": False}),
    ("3 prompts + OCLoss", {"refine": False}),
    ("3 prompts + OCLoss + GPR", {}),
)


@dataclass(frozen=True)
class Row:
    """Percentages of one line: value, low and high end of its interval.

    Attributes:
        seen, unseen: mean IoU over the classes of that group in the truth.
        harmonic: 2 s u / (s + u).
    """

    seen: tuple[float, float, float]
    unseen: tuple[float, float, float]
    harmonic: tuple[float, float, float]


def zero_shot_scores(total: NDArray[np.number], unseen: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Seen, unseen and harmonic mean IoU in [0, 1], (..., 3), from margins (..., 3, classes).

    Args:
        total: margins, background as class 0, which does not count.
        unseen: which classes are unseen, background included, (classes,).
    """
    ious = seen_unseen(total[..., 1:], np.flatnonzero(unseen[1:]).tolist())
    return np.moveaxis(ious, 0, -1)


def row_of(photos: NDArray[np.int64], unseen: NDArray[np.bool_]) -> Row:
    """Scores of all photos with their intervals, from margins (N, 3, classes)."""
    cells = []
    for which in range(3):
        cell = interval(photos, lambda total, which=which: zero_shot_scores(total, unseen)[..., which])
        cells.append((100 * cell.value, 100 * cell.low, 100 * cell.high))
    return Row(*cells)


@dataclass(frozen=True, eq=False)
class _OneView:
    """The mean of typed templates as the only view."""

    text: TextEncoder
    templates: tuple[str, ...]

    @property
    def identity(self) -> str:
        """As the tower's own."""
        return self.text.identity

    def embed(self, vocabulary: Vocabulary, templates: tuple[str, ...] = (), **more: Any) -> TextBank:
        """Unit embeddings (1, S, D)."""
        bank = self.text.embed(vocabulary, self.templates, **more)
        return TextBank(vocabulary, bank.embeddings[None])


def maskclip_with_templates(tower: Tower, templates: Sequence[str]) -> BoundMethod[Features]:
    """MaskCLIP on MVP-SEG's value path: one view, whose prompt is the mean of typed templates."""
    contexts = Contexts(torch.zeros(1, 1, 1), None, _sha256(tower), MASKCLIP_SCALE, 1.0, 1.0)
    method = MvpSeg(tower.vision.visual, contexts, tuple)
    return BoundMethod(method, tower.vision, _OneView(tower.text, tuple(templates)))


def measure(
    methods: Mapping[str, BoundMethod[Any]], root: Path, split: str, limit: int | None
) -> tuple[dict[str, Row], int]:
    """A row for each method, and the number of photos."""
    labelled = open_dataset(FOLDER, root, split=split, limit=limit)
    names = labelled.names
    unseen = np.array([False, *(name in SPLITS[SPLIT].unseen for name in names)])
    vocabulary = Vocabulary(tuple((spoken_name(name),) for name in names))
    banks = {
        name: bound.text.embed(vocabulary, TEMPLATES[FRAME.templates]) for name, bound in methods.items()
    }
    counted: dict[str, list[NDArray[np.int64]]] = {name: [] for name in methods}
    for photo, truth in (read_example(labelled, example) for example in labelled.examples):
        named = known_pixels(truth) & (truth.labels > 0)
        images = {bound.image.features_identity(FRAME): bound.image for bound in methods.values()}
        features = {identity: image.encode(photo.pixels, FRAME) for identity, image in images.items()}
        for name, bound in methods.items():
            own = features[bound.image.features_identity(FRAME)]
            labels = decide(bound.method.ask(own, banks[name], {}).evidence, MASKCLIP_SCALE, 0.0)[0]
            counted[name].append(label_margins(truth.labels, labels, len(names) + 1, named))
    rows = {name: row_of(np.stack(photos), unseen) for name, photos in counted.items()}
    return rows, len(next(iter(counted.values())))


def train_all(
    tower: Tower, loaded: LoadedModel, photos: Photos, plan: MvpSegPlan, out: Path
) -> dict[str, BoundMethod[Features]]:
    """Every ablation, trained or found in `out`."""
    methods = {}
    for number, (title, changes) in enumerate(ABLATIONS, start=1):
        print(f"{title}: training", file=sys.stderr, flush=True)
        path = train_mvp_seg(
            tower.vision,
            loaded.model,
            _sha256(tower),
            photos,
            replace(plan, **changes),
            out / f"row{number}",
            cache=out / "features",
        )
        contexts = load_contexts(path, _sha256(tower))
        method = build_mvp_seg(tower.vision.visual, tower.text, contexts)
        methods[title] = BoundMethod(method, tower.vision, ContextText(tower.text, contexts))
    return methods


def train_student(tower: Tower, text: ContextText, photos: Photos, steps: int, out: Path) -> BoundMethod[Any]:
    """An MVP-SEG+ student of COCO's photos alone, trained or found in `out`."""
    print("MVP-SEG+ student: training", file=sys.stderr, flush=True)
    teacher = build_mvp_seg(tower.vision.visual, tower.text, text.contexts)
    lessons, plan = lessons_of(photos), PlusPlan(steps=steps)
    path = train_mvp_seg_plus(tower.vision, teacher, text, lessons, plan, out / "student")
    return bind_plus(tower, HeadFile(path, sha256_of(path)))


def table(rows: Mapping[str, Row]) -> str:
    """Markdown, percentages with intervals."""
    lines = ["| method | seen | unseen | harmonic |", "|---|---|---|---|"]
    for name, row in rows.items():
        cells = (f"{v:.1f} [{low:.1f}, {high:.1f}]" for v, low, high in (row.seen, row.unseen, row.harmonic))
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Train, measure and print Markdown; 2 for what cannot be done."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr)
    try:
        spec = ENCODERS[options.encoder]
        loaded = spec.load(WeightStore(options.weights, offline=True))
        tower = build_tower(spec, loaded, choose_compute("cpu", "fp32"), None)
        photos = open_photos(options.coco, SPLITS[SPLIT], TRAIN)
        if options.train_photos is not None:
            photos = replace(photos, paths=photos.paths[: options.train_photos])
        plan = _plan(options, loaded)
        methods = {
            "MaskCLIP, 85 templates": maskclip_with_templates(tower, TEMPLATES["maskclip85"]),
            "MaskCLIP as in the app, 85 templates": METHODS["maskclip"].bind(tower, None),
        }
        trained = train_all(tower, loaded, photos, plan, options.out)
        students: dict[str, BoundMethod[Any]] = {}
        if options.student_steps:
            teacher: Any = trained[ABLATIONS[-1][0]].text
            student = train_student(tower, teacher, photos, options.student_steps, options.out)
            students["MVP-SEG+ student"] = student
        for title, _, path in (head.partition("=") for head in options.student):
            students[title] = bind_plus(tower, HeadFile(Path(path), sha256_of(Path(path))))
        rows, number = measure({**methods, **trained, **students}, options.coco, options.split, options.limit)
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    print(f"{spec.title} ({_sha256(tower)[:12]}), {number} photos of {options.split}, mIoU %, 95 % interval")
    print(f"{plan.steps} steps on {len(photos.paths)} photos, seen classes only\n")
    print(table(rows))
    for name, method in trained.items():
        contexts = method.method.contexts
        print(f"- {name}: tau1 {contexts.tau1:.2f}, tau2 {contexts.tau2:.4f}")
    if options.json is not None:
        content = {"plan": asdict(plan), "rows": {name: asdict(row) for name, row in rows.items()}}
        options.json.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return 0


def _plan(options: argparse.Namespace, loaded: LoadedModel) -> MvpSegPlan:
    """The recipe of the last row; tau1 starts at the tower's own scale unless a recipe says otherwise."""
    values = {**SETTINGS, "encoder": options.encoder}
    values["tau1_scale"] = round(float(loaded.model.logit_scale.detach().exp()), 4)
    if options.config is not None:
        values |= json.loads(options.config.read_text(encoding="utf-8"))
    if options.steps is not None:
        values["steps"] = options.steps
    return mvp_seg_plan(values)


def _sha256(tower: Tower) -> str:
    return next(iter(tower.weights.values()))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--coco", type=Path, required=True, help="folder with classes.txt, images and masks")
    add("--out", type=Path, required=True, help="working folder: features, runs, contexts")
    add("--encoder", choices=ENCODERS, default="mini")
    add("--weights", type=Path, help="folder with weight files, looked at first")
    add("--config", type=Path, help="JSON with settings of ovs_core.training.mvp_seg.MvpSegPlan")
    add("--steps", type=int, help=f"optimiser steps of each row, default {SETTINGS['steps']}")
    add("--student-steps", type=int, default=0, help="also train an MVP-SEG+ student, this long")
    add("--student", action="append", default=[], metavar="TITLE=FILE", help="measure this student, too")
    add("--train-photos", type=int, help="only the first so many training photos, to try the command")
    add("--split", default=VAL, help="measured photos; default: %(default)s")
    add("--limit", type=int, help="measure at most so many photos, evenly spaced")
    add("--json", type=Path, help="write all numbers here")
    return parser


if __name__ == "__main__":
    sys.exit(main())
