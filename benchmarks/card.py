"""Every number of the embedded model's card and of the README's quality lines, from one command.

    python -m benchmarks.card --coco DIR --camvid DIR --pretrained DIR --out DIR
    python -m benchmarks.card ... --card checkpoints/mini/MODEL_CARD.md   # and puts them into the card
    python -m benchmarks.card ... --photos 4                              # a trial: 4 photos of each folder

Runs `embedded_model` with the five rules and with frames of three sizes, `closed_set`, `wording`, question a
without and with 20 absent names typed; with `--held-out FILE` (weights trained without the 15 names) also
seen and unseen names.
Measured are the weights in `checkpoints/mini`. Writes `card.json` (every number), `results.md` (the text
between the marks of the card) and `readme.md`. Each part is kept below `--out`, in a folder that stands for
weights, settings and photos: a run that was stopped goes on, and numbers of other weights are never mixed in.
Speed is not measured here (`latency`, `compare_methods`).
"""

import argparse
import hashlib
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from ovs_core.UNKNOWN import preset_for

from benchmarks import closed_set, embedded_model, wording
from benchmarks.embedded_model import spec_of_file
from benchmarks.labelled_photos import CAMVID_RULES, COCO_RULES
from ovs_core.checkpoints import CHECKPOINTS, WeightStore, sha256_of
from ovs_core.encoders.towers import DEFAULT_ENCODER, ENCODERS
from ovs_core.engine import Engine
from ovs_core.evaluation.records import PhotoRecord
from ovs_core.evaluation.report import write_text
from ovs_core.evaluation.run import Settings, engine_subject, evaluate
from ovs_core.evaluation.summary import differences, summarise
from ovs_core.labelled.datasets import FOLDER, Dataset, open_dataset
from ovs_core.methods import DEFAULT_METHOD
from ovs_core.metrics.resampling import Interval
from ovs_core.training.mask_plans import HELD_OUT

RULES = ("clip", "maskclip", "sclip", "clearclip", "naclip")
DISTRACTORS = 20
VAL = "val2017"
KNOWN_FROM, NOTHING_BELOW = 65.0, 0.5  # IoU in per cent
FALLS = 5
BEGIN, END = "<!-- begin {name}: from benchmarks.card -->", "<!-- end {name} -->"

Numbers = dict[str, Any]


@dataclass(frozen=True)
class Job:
    """What is measured and where its parts are kept."""

    coco: Path
    camvid: Path
    pretrained: Path
    held_out: Path | None
    photos: int | None
    work: Path

    def part(self, name: str, measure: Callable[[Path], None]) -> Numbers:
        """Numbers of one part: kept ones, or those that `measure` writes to the file it is given."""
        path = self.work / f"{name}.json"
        if not path.is_file():
            print(f"\n# {name}\n", flush=True)
            unfinished = self.work / f"{name}.part"
            measure(unfinished)
            unfinished.replace(path)
        numbers: Numbers = json.loads(path.read_text(encoding="utf-8"))
        return numbers


def rules(job: Job, path: Path) -> None:
    """The five last-block rules on all questions."""
    folders = ["--coco", job.coco, "--camvid", job.camvid]
    settings = ["--methods", *RULES, "--device", "cpu", *_limit(job)]
    _run(embedded_model.main, [*folders, *settings, "--json", path])


def several_frames(job: Job, path: Path) -> None:
    """The default method looking three times."""
    folders = ["--coco", job.coco, "--camvid", job.camvid, "--several-frames"]
    settings = ["--methods", DEFAULT_METHOD, "--device", "cpu", *_limit(job)]
    _run(embedded_model.main, [*folders, *settings, "--json", path])


def against_closed_set(job: Job, path: Path) -> None:
    """The 20 VOC names against DeepLab."""
    folders = ["--coco", job.coco, "--pretrained", job.pretrained]
    _run(closed_set.main, [*folders, *_limit(job), "--json", path])


def wordings(job: Job, path: Path) -> None:
    """Synonyms, plurals, adjectives."""
    _run(wording.main, ["--coco", job.coco, *_limit(job), "--json", path])


def distractors(job: Job, path: Path) -> None:
    """Question a without and with absent names."""
    dataset, engine = _open(job), _engine(None)
    kept = path.with_suffix("")
    alone = _records(engine, dataset, Settings(classes_in_image=True), kept)
    settings = Settings(classes_in_image=True, distractors=DISTRACTORS)
    beside = _records(engine, dataset, settings, kept)
    write_text(
        path,
        json.dumps(
            {
                "alone": _metrics(summarise(alone, dataset).metrics),
                "beside": _metrics(summarise(beside, dataset).metrics),
                "difference": _metrics(differences(beside, alone, dataset)),
            }
        ),
    )


def held_out(job: Job, path: Path) -> None:
    """Question a on weights that never saw the names of `HELD_OUT`, and on the shipped ones."""
    dataset = _open(job)
    unseen = [dataset.names.index(name) + 1 for name in HELD_OUT if name in dataset.names]
    found = {}
    for name, weights in (("without the 15 names", job.held_out), ("as shipped", None)):
        kept = path.with_name(f"{path.stem}.{name.replace(' ', '_')}")
        records = _records(_engine(weights), dataset, Settings(classes_in_image=True), kept)
        found[name] = _metrics(summarise(records, dataset, unseen).metrics)
    write_text(path, json.dumps(found))


def results(numbers: Mapping[str, Numbers]) -> str:
    """The card's results, Markdown without its marks."""
    methods, size = numbers["rules"]["methods"], numbers["size"]
    coco, camvid = (
        {name: _scores(one, folder) for name, one in methods.items()} for folder in ("coco", "camvid")
    )
    titles = [rule.title for rule in (*COCO_RULES.values(), *CAMVID_RULES.values())]
    lines = [["last-block rule", *titles], ["---"] * (len(titles) + 1)]
    for name in methods:
        scores = {**coco[name], **camvid[name]}
        lines.append([name, *(_score(scores.get(metric)) for metric in (*COCO_RULES, *CAMVID_RULES))])
    thrice = numbers["several_frames"]["methods"][DEFAULT_METHOD]
    scores = {**_scores(thrice, "coco"), **_scores(thrice, "camvid")}
    cells = [_score(scores.get(metric)) for metric in (*COCO_RULES, *CAMVID_RULES)]
    lines.append([f"{DEFAULT_METHOD}, three frames", *cells])
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    best, streets = coco[DEFAULT_METHOD], camvid[DEFAULT_METHOD]["camvid"]
    weights = f"{size['parameters'] / 1e6:.1f} M parameters, {size['bytes'] / 1e6:.1f} MB"
    head = (
        f"mIoU %, [95 % interval], {best['b']['photos']} COCO val2017 photos and {streets['photos']} CamVid "
        f"frames; SHA-256 `{size['sha256'][:12]}`, {weights}."
    )
    facts = [
        _closed_set_line(numbers["closed_set"]),
        _wording_line(numbers["wording"]),
        _distractor_line(numbers["distractors"]),
        *_class_lines(best["a"]["iou"], best["b"]["iou"], streets["iou"]),
    ]
    return "\n\n".join([head, table, "\n".join(f"- {fact}" for fact in facts)])


def held_out_table(numbers: Numbers) -> str:
    """Seen, unseen and harmonic, Markdown."""
    metrics = ("miou_truth", "seen_miou", "unseen_miou", "harmonic_miou")
    heads = ["weights", "all", "seen", f"unseen {len(HELD_OUT)}", "harmonic"]
    lines = [heads, ["---"] * len(heads)]
    lines += [[name, *(_share(one.get(metric)) for metric in metrics)] for name, one in numbers.items()]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def readme_line(numbers: Numbers) -> str:
    """The README's sentence about quality."""
    one = numbers["methods"][DEFAULT_METHOD]
    coco, camvid = _scores(one, "coco"), _scores(one, "camvid")["camvid"]
    return (
        f"NACLIP, mIoU % [95 % interval]: {_score(coco['a'])} with a photo's own COCO classes typed + other, "
        f"{_score(coco['b'])} with all 80 typed + other ({coco['b']['photos']} COCO val2017 photos), "
        f"{_score(camvid)} on CamVid ({camvid['photos']} frames)."
    )


def replaced(card: str, name: str, text: str) -> str:
    """The card with `text` between the marks called `name`.

    Raises:
        ValueError: if the marks are not there once each, in order.
    """
    begin, end = BEGIN.format(name=name), END.format(name=name)
    before, found, rest = card.partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed or begin in rest or end in after:
        raise ValueError(f"The card must hold {begin!r} and then {end!r}, once each.")
    return f"{before}{begin}\n\n{text}\n\n{end}{after}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what is missing, write and print; 2 for what cannot be measured, 130 if stopped."""
    options = _parser().parse_args(arguments)
    try:
        if options.photos is not None and options.photos < 1:
            raise ValueError(f"--photos must be at least 1, got {options.photos}.")
        if options.card is not None and not options.card.is_file():
            raise ValueError(f"There is no card {options.card}.")
        job, size = _job(options)
        numbers = {"size": size}
        for name, measure in (
            ("rules", rules),
            ("several_frames", several_frames),
            ("closed_set", against_closed_set),
            ("wording", wordings),
            ("distractors", distractors),
        ):
            numbers[name] = job.part(name, partial(measure, job))
        texts = {"results": results(numbers)}
        if job.held_out:
            digest = sha256_of(job.held_out)
            if digest == size["sha256"]:
                raise ValueError("--held-out must name other weights than the shipped ones.")
            numbers["held_out"] = job.part(f"held_out_{digest[:12]}", partial(held_out, job))
            texts["held out"] = held_out_table(numbers["held_out"])
        readme = readme_line(numbers["rules"])
        write_text(options.out / "card.json", json.dumps(numbers, indent=1) + "\n")
        write_text(options.out / "results.md", "\n\n".join(texts.values()) + "\n")
        write_text(options.out / "readme.md", readme + "\n")
        if options.card is not None:
            card = options.card.read_text(encoding="utf-8")
            for name, text in texts.items():
                card = replaced(card, name, text)
            write_text(options.card, card)
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("Stopped. Run the same command again to go on.", file=sys.stderr)
        return 130
    print("\n\n".join(["", *texts.values(), readme]))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    add = parser.add_argument
    add("--coco", type=Path, required=True, help="folder with classes.txt, images/val2017, masks/val2017")
    add("--camvid", type=Path, required=True, help="the same for CamVid, split val")
    add("--pretrained", type=Path, required=True, help="folder of the teachers' files, for DeepLab")
    add("--out", type=Path, required=True, help="folder to write to, made if absent")
    add("--held-out", type=Path, metavar="FILE", help="mini.safetensors trained without the 15 names")
    add("--photos", type=int, metavar="N", help="at most so many of each folder, evenly spaced")
    add("--card", type=Path, metavar="FILE", help="model card to put the results into")
    return parser


def _job(options: argparse.Namespace) -> tuple[Job, Numbers]:
    """What to measure, and what the weights are; makes the folder of its parts."""
    spec = ENCODERS[DEFAULT_ENCODER]
    loaded = spec.load(WeightStore(offline=True))
    size = {
        "parameters": sum(parameter.numel() for parameter in loaded.model.parameters()),
        "bytes": (CHECKPOINTS / DEFAULT_ENCODER / "mini.safetensors").stat().st_size,
        "sha256": next(iter(loaded.weights.values())),
    }
    folders = {name: getattr(options, name) for name in ("coco", "camvid", "pretrained")}
    asked = {
        "weights": dict(loaded.weights),
        "presets": {name: asdict(preset_for(name, spec, torch.device("cpu"))) for name in RULES},
        "photos": options.photos,
        "folders": {name: str(folder.resolve()) for name, folder in folders.items()},
    }
    text = json.dumps(asked, indent=1, sort_keys=True)
    work = options.out / hashlib.sha256(text.encode()).hexdigest()[:12]
    work.mkdir(parents=True, exist_ok=True)
    write_text(work / "asked.json", text + "\n")
    return Job(**folders, held_out=options.held_out, photos=options.photos, work=work), size


def _engine(weights: Path | None) -> Engine:
    """An engine with the shipped embedded model, or with one of another file, with or without a detector."""
    if weights is None:
        return Engine("cpu", offline=True)
    return Engine("cpu", offline=True, encoders={**ENCODERS, DEFAULT_ENCODER: spec_of_file(weights)})


def _limit(job: Job) -> list[object]:
    return [] if job.photos is None else ["--limit", job.photos]


def _run(main_of: Callable[[Sequence[str]], int], arguments: Sequence[object]) -> None:
    """Call another script; what it says about bad input is on the error stream already."""
    if main_of([str(one) for one in arguments]) != 0:
        raise ValueError("That part could not be measured; the parts before it are kept.")


def _open(job: Job) -> Dataset:
    return open_dataset(FOLDER, job.coco, split=VAL, limit=job.photos)


def _records(engine: Engine, dataset: Dataset, settings: Settings, kept: Path) -> list[PhotoRecord]:
    """What was counted of each photo, kept photo by photo in a file of its own."""
    subject = engine_subject(engine, DEFAULT_METHOD, dataset, settings)
    path = kept.with_name(f"{kept.name}.{settings.distractors}.jsonl")
    found = []
    for step in evaluate([subject], dataset, settings, {subject.name: path}):
        found.append(step.record)
        if step.done % 20 == 0:
            print(f"{step.done} of {step.total} photos", file=sys.stderr, flush=True)
    return found


def _metrics(metrics: Mapping[str, Interval]) -> dict[str, dict[str, float]]:
    return {name: asdict(one) for name, one in metrics.items()}


def _scores(method: Mapping[str, Numbers], folder: str) -> Numbers:
    scores: Numbers = method[folder]["scores"]
    return scores


def _score(score: Mapping[str, float] | None) -> str:
    """A score in per cent."""
    return "-" if score is None else f"{score['miou']:.1f} [{score['low']:.1f}, {score['high']:.1f}]"


def _share(one: Mapping[str, float] | None, digits: int = 1) -> str:
    """An interval of shares in [0, 1], in per cent."""
    if one is None:
        return "-"
    value, low, high = (f"{100 * one[key]:.{digits}f}" for key in ("value", "low", "high"))
    return f"{value} [{low}, {high}]"


def _closed_set_line(numbers: Numbers) -> str:
    miou, behind = numbers["miou"], numbers["ours_minus"][closed_set.PUBLISHED]
    return (
        f"**Closed set**: on the 20 VOC names + background, same photos, DeepLabV3-MobileNetV2 has "
        f"{_share(miou[closed_set.PUBLISHED])}, ours {_share(miou[closed_set.OURS])}; ours minus DeepLab, "
        f"paired by photo, {_share(behind)}."
    )


def _wording_line(numbers: Numbers) -> str:
    said = ", ".join(
        f"{way} {_share(one['kept'], 0)} ({one['classes']} classes)"
        for way, one in numbers["wordings"].items()
    )
    return f"**Other words for the same thing**, per cent of the plain name's IoU that is kept (a): {said}."


def _distractor_line(numbers: Numbers) -> str:
    alone, beside, paired = numbers["alone"], numbers["beside"], numbers["difference"]
    area, silent = _share(beside["false_area"]), _share(beside.get("absent_silent"), 0)
    before, after, gap = (_share(one.get("miou_truth")) for one in (alone, beside, paired))
    return (
        f"**{DISTRACTORS} absent COCO names** typed beside the photo's own (a): they take {area} % of the "
        f"area; {silent} % of them take no pixel. mIoU {before} becomes {after}, paired difference {gap}."
    )


def _class_lines(
    own: Mapping[str, float], everything: Mapping[str, float], streets: Mapping[str, float]
) -> list[str]:
    """Best and worst classes of a, those that lose most when all names are typed, and CamVid's; IoU in %."""
    things = {name: iou for name, iou in own.items() if name != "background"}
    known = [name for name in sorted(things, key=lambda name: -things[name]) if things[name] >= KNOWN_FROM]
    nothing = sorted(name for name, iou in things.items() if iou < NOTHING_BELOW)
    lost = {name: iou - everything[name] for name, iou in things.items() if name in everything}
    falls = sorted(lost, key=lambda name: -lost[name])[:FALLS]
    fallen = ", ".join(f"{name} {things[name]:.0f} to {everything[name]:.0f}" for name in falls)
    frames = ", ".join(f"{name} {iou:.0f}" for name, iou in sorted(streets.items(), key=lambda one: -one[1]))
    return [
        f"**Knows best** (a, {DEFAULT_METHOD}, IoU of {KNOWN_FROM:.0f} and more): {', '.join(known) or '-'}.",
        f"**Finds nothing of** (a, IoU below {NOTHING_BELOW}): {', '.join(nothing) or '-'}.",
        f"**Lose most to near names** (IoU from a to b): {fallen or '-'}.",
        f"**CamVid**, IoU: {frames}.",
    ]


if __name__ == "__main__":
    sys.exit(main())
