"""Mean IoU of the embedded model (or any other encoder) on COCO and CamVid, per method.

    python -m benchmarks.embedded_model --coco DIR --camvid DIR --methods clip naclip --json numbers.json
    python -m benchmarks.embedded_model --coco DIR --methods naclip --sweep   # settings, on training photos

Folders hold `images/SPLIT`, `masks/SPLIT` and `classes.txt`, as `ovs_core.labelled.datasets` reads them;
what is asked about a photo stands in `benchmarks.labelled_photos`.
Labels are compared at the size of the photo, in one confusion matrix over all photos. The mean is over the
classes that occur in the truth, background included where it counts; intervals are 95 %, from 1,000 resamples
of the photos. A photo goes through the image tower once per frame size and window plan, and through each
method once, with the names of all questions together: that is what `ovs_core.cli.evaluate` cannot do.
"""

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from ovs_core.SCORES import mean_evidence, on_cpu
from ovs_core.UNKNOWN import Ready, build_method, checked_head, preset_for

from benchmarks.labelled_photos import CAMVID_RULES, COCO_RULES, Photos, Rule, open_photos, questions_about
from ovs_core.checkpoints import CHECKPOINTS, WeightStore, load_strict, read_state, sha256_of
from ovs_core.devices import DEVICES, PRECISIONS, Compute, choose_compute
from ovs_core.encoders.eight_bits import in_full
from ovs_core.encoders.mini import build_mini, fitting
from ovs_core.encoders.text import TextEncoder
from ovs_core.encoders.towers import DEFAULT_ENCODER, ENCODERS, EncoderSpec, LoadedModel, Tower, build_tower
from ovs_core.evaluation.questions import Question
from ovs_core.evidence.base import Evidence
from ovs_core.evidence.decide import decide
from ovs_core.evidence.score_map import ScoreMap
from ovs_core.image import Photo
from ovs_core.methods import DEFAULT_METHOD, METHODS
from ovs_core.methods.base import Method, expect_rows
from ovs_core.methods.heads import HeadFile
from ovs_core.methods.training_free.model import TrainingFree
from ovs_core.metrics.confusion import class_iou, label_margins, mean_iou
from ovs_core.metrics.resampling import interval
from ovs_core.options import Preset
from ovs_core.types import Features, Pyramid, Vocabulary
from ovs_core.vocabulary import TEMPLATES

SWEEP_METRICS = ("a", "b")
SWEEP_THRESHOLDS = (0.0, 0.05, 0.1, 0.2, 0.3, 0.4)
SWEEP_SCALES = (10.0, 15.0, 20.0, 30.0, 40.0)
TRAIN, VAL = "train2017", "val2017"

Settings = tuple[float, float]  # threshold, scale


@dataclass(frozen=True)
class Score:
    """One metric of one method; percentages.

    Attributes:
        miou: mean over the classes in the truth.
        low, high: 95 % interval of it over photos.
        photos: how many were asked about.
        classes: how many occur in the truth, background included where it counts.
        iou: of each of them.
    """

    miou: float
    low: float
    high: float
    photos: int
    classes: int
    iou: Mapping[str, float]


@dataclass(frozen=True)
class Report:
    """One method on one folder.

    Attributes:
        scores: metric -> score; a metric whose truth is empty is absent.
        seconds: median of a photo without the first one; None below two photos.
    """

    scores: Mapping[str, Score]
    seconds: float | None


@dataclass(frozen=True, eq=False)
class Tally:
    """What is counted for one method while photos go by.

    Attributes:
        photos: metric -> margins (3, classes) of each photo.
        seconds: of each photo: image tower, method, labels of the first question.
    """

    photos: dict[str, list[NDArray[np.int64]]] = field(default_factory=dict)
    seconds: list[float] = field(default_factory=list)

    def add(self, metric: str, question: Question, labels: NDArray[np.integer], classes: int) -> None:
        """Count an answer (H, W) of labels; `classes` are the folder's, background included."""
        truth = question.truth
        counts = label_margins(truth.labels, question.answer(labels), classes, truth.known)
        self.photos.setdefault(metric, []).append(counts)

    def report(self, names: Sequence[str]) -> Report:
        """Numbers of all photos so far; `names` of the folder's classes."""
        scores = {}
        for metric, counted in self.photos.items():
            photos = np.stack(counted)  # (N, 3, classes)
            if photos[:, 1].any():
                scores[metric] = _score(photos, ("background", *names))
        warm = self.seconds[1:]
        return Report(scores, float(np.median(warm)) if warm else None)


@dataclass(frozen=True, eq=False)
class Bench:
    """What answers the questions: both towers, the device they work on and the heads of trained methods."""

    tower: Tower
    compute: Compute
    heads: Mapping[str, HeadFile] = field(default_factory=dict)

    def ready(self, name: str) -> Ready:
        """A method on the tower."""
        return build_method(name, self.tower, head=self.heads.get(name))

    def encode(self, ready: Ready, photo: Photo, preset: Preset) -> tuple[Features | Pyramid, float]:
        """What a method reads of a photo, and the seconds it took."""
        started = time.perf_counter()
        features = ready.encoder.encode(photo.pixels, preset)
        self.compute.wait()
        return features, time.perf_counter() - started

    def measure(
        self, photos: Photos, rules: Mapping[str, Rule], presets: Mapping[str, Preset]
    ) -> dict[str, Tally]:
        """Ask every method (with its preset) every question about every photo."""
        methods = {name: self.ready(name) for name in presets}
        tallies = {name: Tally() for name in presets}
        for photo, truth in photos.read():
            questions = questions_about(photos.dataset, rules, truth)
            if not questions:
                continue
            encoded: dict[str, tuple[Features | Pyramid, float]] = {}
            for name, preset in presets.items():
                frames = [methods[name].encoder.features_identity(one) for one in preset.alone]
                for frame, one in zip(frames, preset.alone, strict=True):
                    if frame not in encoded:
                        encoded[frame] = self.encode(methods[name], photo, one)
                seconds = sum(encoded[frame][1] for frame in frames)
                started = time.perf_counter()
                maps = _mean_maps(
                    [
                        score_maps(
                            methods[name].method,
                            encoded[frame][0],
                            self.tower.text,
                            preset.templates,
                            questions,
                        )
                        for frame in frames
                    ]
                )
                for metric, question in questions.items():
                    threshold = preset.threshold if rules[metric].other else 0.0
                    labels, _ = decide(maps[metric], (preset.scale, threshold))
                    if metric == next(iter(questions)):
                        tallies[name].seconds.append(seconds + time.perf_counter() - started)
                    tallies[name].add(metric, question, labels, len(photos.dataset.names) + 1)
        return tallies

    def sweep(self, photos: Photos, name: str, preset: Preset) -> dict[str, dict[Settings, float]]:
        """Mean IoU in [0, 1] by metric and settings, on every second row and column of the photos."""
        ready = self.ready(name)
        rules = {metric: COCO_RULES[metric] for metric in SWEEP_METRICS}
        tallies = {(threshold, scale): Tally() for threshold in SWEEP_THRESHOLDS for scale in SWEEP_SCALES}
        for photo, whole in photos.read():
            known = None if whole.known is None else whole.known[::2, ::2]
            truth = replace(whole, labels=whole.labels[::2, ::2], known=known)
            questions = questions_about(photos.dataset, rules, truth)
            features, _ = self.encode(ready, photo, preset)
            maps = score_maps(ready.method, features, self.tower.text, preset.templates, questions)
            for metric, question in questions.items():
                for scale in SWEEP_SCALES:
                    labels, share = decide(maps[metric], (scale, 0.0), truth.shape)
                    for threshold in SWEEP_THRESHOLDS:
                        kept = labels * (share >= np.float32(threshold))
                        tallies[threshold, scale].add(metric, question, kept, len(photos.dataset.names) + 1)
        return {
            metric: {
                place: float(mean_iou(np.sum(tally.photos[metric], axis=0)))
                for place, tally in tallies.items()
            }
            for metric in SWEEP_METRICS
            if all(metric in tally.photos for tally in tallies.values())
        }


def spec_of_file(weights: Path) -> EncoderSpec:
    """The embedded model with the weights of another file of `recipes.mini`, with or without a detector."""
    spec = ENCODERS[DEFAULT_ENCODER]

    def load(store: WeightStore) -> LoadedModel:
        state = in_full(read_state(weights))
        config = json.loads((CHECKPOINTS / DEFAULT_ENCODER / "mini.json").read_text(encoding="utf-8"))
        model = build_mini(fitting(config, state))
        load_strict(model, state, source=str(weights))
        return replace(spec.load(store), model=model, weights={weights.name: sha256_of(weights)})

    return replace(spec, entry=None, load=load, heads={})


def score_maps(
    method: Method,
    features: Features | Pyramid,
    text: TextEncoder,
    templates: str,
    questions: Mapping[str, Question],
) -> dict[str, Evidence]:
    """Evidence for each question, in one pass where a name's evidence does not depend on the other names."""
    asked = {metric: question.vocabulary for metric, question in questions.items()}
    prompts = TEMPLATES[templates]
    if not _answers_names_alone(method):
        found = {
            key: method.segment(features, text.embed(one, prompts)).score_map for key, one in asked.items()
        }
        return {key: on_cpu(one) for key, one in found.items()}
    names = tuple(dict.fromkeys(name for one in asked.values() for name in one.rows))
    bank = text.embed(Vocabulary(tuple((name,) for name in names)), prompts)
    evidence = method.segment(features, bank).evidence.rows.float().cpu()  # (S, h, w)
    row = {name: index for index, name in enumerate(names)}
    return {
        key: ScoreMap(evidence[[row[name] for name in one.rows]], one, features.image_size)
        for key, one in asked.items()
    }


def table(reports: Mapping[str, Mapping[str, Report]], rules: Mapping[str, Rule]) -> str:
    """Markdown: a line for each method, a column for each metric; `reports` is method -> folder -> report."""
    lines = [["method", *(rule.title for rule in rules.values()), "s/photo", "photos"]]
    lines.append(["---"] * len(lines[0]))
    for method, folders in reports.items():
        scores = {metric: score for one in folders.values() for metric, score in one.scores.items()}
        cells = [_cell(scores.get(metric)) for metric in rules]
        seconds = ["-" if one.seconds is None else f"{one.seconds:.2f}" for one in folders.values()]
        photos = [
            str(max((score.photos for score in one.scores.values()), default=0)) for one in folders.values()
        ]
        lines.append([method, *cells, " / ".join(seconds), " / ".join(photos)])
    return _markdown(lines)


def sweep_table(metric: str, values: Mapping[Settings, float]) -> str:
    """Markdown: thresholds down, scales across, mean IoU in per cent."""
    lines = [[f"{metric}: threshold, scale", *(f"{scale:g}" for scale in SWEEP_SCALES)]]
    lines.append(["---"] * len(lines[0]))
    for threshold in SWEEP_THRESHOLDS:
        cells = [f"{100 * values[threshold, scale]:.1f}" for scale in SWEEP_SCALES]
        lines.append([f"{threshold:g}", *cells])
    return _markdown(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure as asked and print Markdown; 2 for what cannot be measured."""
    options = _parser().parse_args(arguments)
    try:
        _check(options)
        spec = ENCODERS[options.encoder] if options.file is None else spec_of_file(options.file)
        compute = choose_compute(options.device, options.precision)
        store = WeightStore(options.weights, offline=True)
        tower = build_tower(spec, spec.load(store), compute, None)
        heads = {
            name: checked_head(store, spec.heads[name]) for name in options.methods if name in spec.heads
        }
        presets = {name: _preset(options, name, compute) for name in dict.fromkeys(options.methods)}
        run = _run_sweep if options.sweep else _run_measurement
        run(options, Bench(tower, compute, heads), presets)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def _mean_maps(looks: Sequence[Mapping[str, Evidence]]) -> Mapping[str, Evidence]:
    """Evidence for each question from all frames of a photo."""
    if len(looks) == 1:
        return looks[0]
    return {key: mean_evidence([expect_rows(look[key]) for look in looks]) for key in looks[0]}


def _answers_names_alone(method: Method) -> bool:
    """Whether a name's evidence is the same whatever else is asked: plain cosines are, refined ones not."""
    return isinstance(method, TrainingFree) and method.denoise_floor is None and method.smooth_ceiling is None


def _score(photos: NDArray[np.int64], names: Sequence[str]) -> Score:
    """Sum up margins (N, 3, classes)."""
    total = photos.sum(axis=0)
    found = interval(photos)
    iou = {
        name: round(100 * float(one), 2)
        for name, one in zip(names, class_iou(total), strict=True)
        if not np.isnan(one)
    }
    miou, low, high = (round(100 * value, 2) for value in (found.value, found.low, found.high))
    return Score(miou, low, high, len(photos), len(iou), iou)


def _cell(score: Score | None) -> str:
    return "-" if score is None else f"{score.miou:.1f} [{score.low:.1f}, {score.high:.1f}]"


def _markdown(lines: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _preset(options: argparse.Namespace, method: str, compute: Compute) -> Preset:
    preset = preset_for(method, ENCODERS[options.encoder], compute.device)
    asked = {key: getattr(options, key) for key in ("short_side", "threshold", "scale")}
    preset = replace(preset, **{key: value for key, value in asked.items() if value is not None})
    return preset.changed(several_frames=options.several_frames and not METHODS[method].masks)


def _run_measurement(options: argparse.Namespace, bench: Bench, presets: Mapping[str, Preset]) -> None:
    split = options.split or VAL
    folders = [("coco", open_photos(options.coco, split, options.limit), COCO_RULES)]
    if options.camvid is not None:
        folders.append(("camvid", open_photos(options.camvid, "val", options.limit), CAMVID_RULES))
    rules = {metric: rule for _, _, some in folders for metric, rule in some.items()}
    reports: dict[str, dict[str, Report]] = {name: {} for name in presets}
    for title, photos, some in folders:
        for name, tally in bench.measure(photos, some, presets).items():
            reports[name][title] = tally.report(photos.dataset.names)
    left_out = [sentence for _, photos, _ in folders for sentence in photos.skipped]
    weights = ", ".join(f"{name} {digest[:12]}" for name, digest in bench.tower.weights.items())
    print(f"{options.encoder} ({weights}) on {split}, mIoU % [95 % interval over photos]\n")
    print(table(reports, rules), end="\n\n")
    for rule in rules.values():
        print(f"- {rule.title}: {rule.description}")
    print("- mean over the classes in the truth, from one confusion matrix over all photos at their own size")
    print("- s/photo: image tower, method (names of all questions) and labels of the first question;")
    print(f"  median without the first photo; {bench.compute.device}, {torch.get_num_threads()} threads")
    print(f"- photos left out because they or their masks cannot be read: {len(left_out)}")
    for name, preset in presets.items():
        print(f"- {name}: {_settings(preset)}")
    if options.json is None:
        return
    content = {
        "encoder": options.encoder,
        "weights": dict(bench.tower.weights),
        "split": split,
        "presets": {name: asdict(preset) for name, preset in presets.items()},
        "methods": {
            name: {title: asdict(one) for title, one in some.items()} for name, some in reports.items()
        },
        "left_out": left_out,
    }
    options.json.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _run_sweep(options: argparse.Namespace, bench: Bench, presets: Mapping[str, Preset]) -> None:
    photos = open_photos(options.coco, options.split or TRAIN, options.limit)
    for name, preset in presets.items():
        values = bench.sweep(photos, name, preset)
        if set(values) != set(SWEEP_METRICS):
            raise ValueError("No photo could be measured: none was readable and had a class of classes.txt.")
        used = len(photos.dataset.examples) - len(photos.skipped)
        print(f"{name} on {options.encoder}, {used} training photos, every second row and column, mIoU %\n")
        for metric in SWEEP_METRICS:
            print(sweep_table(metric, values[metric]), end="\n\n")
        threshold, scale = max(values["a"], key=lambda place: values["a"][place] + values["b"][place])
        print(f"Best mean of a and b: threshold {threshold:g}, scale {scale:g} ({_settings(preset)} before)")


def _settings(preset: Preset) -> str:
    return ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in asdict(preset).items())


def _check(options: argparse.Namespace) -> None:
    """Refuse options that would be ignored or would flatter.

    Raises:
        ValueError: one sentence.
    """
    if options.limit is not None and options.limit < 1:
        raise ValueError(f"--limit must be at least 1, got {options.limit}.")
    if options.json is not None and not options.json.absolute().parent.is_dir():
        raise ValueError(f"--json must name a file in a folder that exists, got {options.json}.")
    if options.file is not None and (options.encoder != DEFAULT_ENCODER or not options.file.is_file()):
        raise ValueError(f"--file must name weights of the embedded model, got {options.file}.")
    if not options.sweep:
        return
    if len(options.methods) != 1:
        raise ValueError("--sweep takes one method; name it with --methods.")
    if (options.split or TRAIN).startswith("val"):
        raise ValueError("--sweep is for training photos: settings chosen on measuring photos flatter.")
    for name in ("scale", "threshold", "json", "camvid"):
        if getattr(options, name) is not None:
            raise ValueError(f"--sweep does not use --{name}; leave it out.")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Mean IoU of an encoder's methods on labelled photos.")
    parser.add_argument("--coco", type=Path, required=True, help="folder with classes.txt, images and masks")
    parser.add_argument("--camvid", type=Path, help="the same for CamVid, split val")
    parser.add_argument("--encoder", choices=ENCODERS, default="mini")
    parser.add_argument("--methods", choices=METHODS, nargs="+", default=[DEFAULT_METHOD])
    parser.add_argument("--split", help=f"of the COCO folder; {VAL}, with --sweep {TRAIN}")
    parser.add_argument("--limit", type=int, help="at most so many photos of each folder, evenly spaced")
    parser.add_argument("--short-side", type=int, help="of the frame in pixels, instead of the preset's")
    parser.add_argument("--several-frames", action="store_true", help="look at photos in three sizes")
    parser.add_argument("--scale", type=float, help="instead of the preset's")
    parser.add_argument("--threshold", type=float, help="instead of the preset's, where there is an other")
    parser.add_argument("--sweep", action="store_true", help="a and b for a grid of thresholds and scales")
    parser.add_argument("--file", type=Path, help="measure these weights of `recipes.mini` instead")
    parser.add_argument("--weights", type=Path, help="folder with weight files, looked at first")
    parser.add_argument("--device", choices=DEVICES, default="auto")
    parser.add_argument("--precision", choices=PRECISIONS, default="auto")
    parser.add_argument("--json", type=Path, help="write all numbers here, IoU of each class included")
    return parser


if __name__ == "__main__":
    sys.exit(main())
