"""Measure methods on labelled photos: `python -m ovs_core.cli.evaluate --dataset NAME --root DIR --out F`."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from tqdm import tqdm  # type: ignore[import-untyped]

from ovs_core.cli.arguments import EXIT_BAD_INPUT, EXIT_INTERRUPTED, OneLineParser
from ovs_core.cli.options import (
    EXIT_SOME_FAILED,
    add_machine_options,
    add_method_options,
    chosen_options,
    engine_for,
    say,
)
from ovs_core.cli.streams import lasting_output
from ovs_core.engine import Engine
from ovs_core.evaluation.page import page
from ovs_core.evaluation.predictions import prediction_subject
from ovs_core.evaluation.records import PhotoRecord
from ovs_core.evaluation.report import Report, gallery, make_report, write_json, write_text
from ovs_core.evaluation.run import Settings, Subject, engine_subject, evaluate
from ovs_core.labelled.class_lists import read_lines
from ovs_core.labelled.datasets import DATASETS, Dataset, open_dataset
from ovs_core.methods import DEFAULT_METHOD
from ovs_core.metrics.resampling import Interval
from ovs_core.options import Options

_CACHE_BYTES = 1 << 28  # no photo is seen twice: what methods share of one photo is enough


def main(argv: Sequence[str] | None = None, engine: Engine | None = None) -> int:
    """Measure every method on every photo; returns the exit code.

    0: all photos counted. 1: some photos or masks could not be used, the report names them. 2: bad input, one
    line on stderr. 130: stopped by Ctrl-C; the same command goes on where it stopped.

    Args:
        argv: arguments; None takes the command line's.
        engine: None makes one as the arguments say.
    """
    arguments = _parser(engine).parse_args(argv)
    try:
        _check(arguments)
        dataset = open_dataset(
            arguments.dataset,
            arguments.root,
            split=arguments.split,
            limit=arguments.limit,
            class_list=arguments.class_list,
        )
        unseen = _unseen(arguments.unseen, dataset)
        settings = _settings(arguments, chosen_options(arguments, engine, _methods(arguments)))
        subjects = _subjects(arguments, dataset, settings, engine)
        records = _measure(subjects, dataset, settings, arguments.out)
        report = make_report(subjects, records, dataset, settings, unseen)
        write_json(report, arguments.out)
        if arguments.html is not None:
            galleries = {
                subject.name: gallery(subject, report.summaries[subject.name], dataset, settings)
                for subject in subjects
            }
            write_text(arguments.html, page(report, galleries))
    except ValueError as error:
        say(str(error))
        return EXIT_BAD_INPUT
    except KeyboardInterrupt:
        say("Stopped. Run the same command again to continue where it ended.")
        return EXIT_INTERRUPTED
    print(_table(report))
    left_out = {
        photo: why for summary in report.summaries.values() for photo, why in summary.left_out.items()
    }
    if left_out:
        say(f"{len(left_out)} of {len(dataset.examples)} photos could not be used; the report names them.")
        return EXIT_SOME_FAILED
    return 0


def _parser(engine: Engine | None) -> argparse.ArgumentParser:
    parser = OneLineParser(prog="ovs-lens evaluate", description="Measure methods on labelled photos.")
    add = parser.add_argument
    add("--dataset", required=True, choices=DATASETS, metavar="NAME", help=", ".join(DATASETS))
    add("--root", required=True, type=Path, metavar="DIR", help="folder of the dataset")
    add("--out", required=True, type=Path, metavar="FILE", help="report to write, as JSON")
    add("--html", type=Path, metavar="FILE", help="the same for people, one page with pictures")
    add_method_options(parser, engine, "may be repeated, the first is compared with the others")
    add(
        "--predictions",
        action="append",
        type=_named_folder,
        metavar="NAME=DIR",
        help="label maps of another program, KEY.png for each photo; may be repeated",
    )
    add("--split", metavar="NAME", help="default: the one papers measure on")
    add("--limit", type=int, metavar="N", help="at most so many photos, evenly spaced")
    add("--class-list", type=Path, metavar="FILE", help="names of the classes: id:name,name in each line")
    add("--classes-in-image", action="store_true", help="type only the classes that are in the photo")
    add("--distractors", type=int, default=0, metavar="N", help="and N classes that are not")
    add("--sweep", action="store_true", help="mIoU at every threshold too, from the same evidence")
    add("--unseen", metavar="NAMES", help="classes that no training saw: a; b, or @FILE with one a line")
    add_machine_options(parser)
    return parser


def _named_folder(text: str) -> tuple[str, Path]:
    """NAME=DIR."""
    name, sign, folder = text.partition("=")
    if not sign or not folder or not re.fullmatch(r"[\w. +-]*\w[\w. +-]*", name):
        raise argparse.ArgumentTypeError(f"must be NAME=DIR, got {text!r}")
    return name, Path(folder)


def _methods(arguments: argparse.Namespace) -> tuple[str, ...]:
    """The methods that were named; without any, the default one, or none beside predictions."""
    return tuple(dict.fromkeys(arguments.method or (() if arguments.predictions else (DEFAULT_METHOD,))))


def _subjects(
    arguments: argparse.Namespace, dataset: Dataset, settings: Settings, engine: Engine | None
) -> list[Subject]:
    """Methods as they were named (the default one if nothing was), then folders of predictions.

    Raises:
        ValueError: if two have one name, or one of them cannot be measured.
    """
    folders: list[tuple[str, Path]] = arguments.predictions or []
    methods = _methods(arguments)
    names = [*methods, *(name for name, _ in folders)]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"--predictions: two things cannot both be called {name!r}.")
    predicted = [prediction_subject(name, folder, dataset) for name, folder in folders]
    if methods and engine is None:
        engine = engine_for(arguments, cache_bytes=_CACHE_BYTES)
    answered = [engine_subject(engine, method, dataset, settings) for method in methods if engine is not None]
    return [*answered, *predicted]


def _check(arguments: argparse.Namespace) -> None:
    """Refuse what would be lost at the end of a long run.

    Raises:
        ValueError: one sentence.
    """
    for name in ("out", "html"):
        path: Path | None = getattr(arguments, name)
        if path is not None and (path.is_dir() or not path.absolute().parent.is_dir()):
            raise ValueError(f"--{name} must name a file in a folder that exists, got {path}.")


def _settings(arguments: argparse.Namespace, options: Mapping[str, Options]) -> Settings:
    return Settings(
        classes_in_image=arguments.classes_in_image,
        distractors=arguments.distractors,
        encoder=arguments.encoder,
        refiner=arguments.refine,
        sweep=arguments.sweep,
        options={name: value for own in options.values() for name, value in own.items()},
    )


def _unseen(text: str | None, dataset: Dataset) -> tuple[int, ...]:
    """Classes by name.

    Raises:
        ValueError: for a name that the dataset does not have, or a list that cannot be read.
    """
    if text is None:
        return ()
    if text.startswith("@"):
        try:
            text = "\n".join(read_lines(Path(text[1:])))
        except ValueError as error:
            raise ValueError(f"--unseen: {error}") from error
    known = {
        name.casefold(): label for label, names in enumerate(dataset.classes, start=1) for name in names[:1]
    }
    labels = []
    for name in filter(None, (part.strip() for part in re.split("[;,\n]", text))):
        if name.casefold() not in known:
            raise ValueError(f"--unseen: {dataset.title} has no class {name!r}.")
        labels.append(known[name.casefold()])
    if not labels:
        raise ValueError("--unseen must name at least one class.")
    return tuple(labels)


def _measure(
    subjects: Sequence[Subject], dataset: Dataset, settings: Settings, out: Path
) -> Mapping[str, Sequence[PhotoRecord]]:
    """Records of every subject, kept beside the report as `<out>.<method>.jsonl`."""
    files = {subject.name: out.with_name(f"{out.stem}.{subject.name}.jsonl") for subject in subjects}
    records: dict[str, list[PhotoRecord]] = {subject.name: [] for subject in subjects}
    named: set[str] = set()
    with tqdm(total=len(subjects) * len(dataset.examples), unit="photo", disable=None) as bar:
        for step in evaluate(subjects, dataset, settings, files):
            bar.update(step.done - bar.n)
            records[step.subject].append(step.record)
            if step.record.problem and step.record.photo not in named:
                named.add(step.record.photo)
                say(f"Left out {step.record.photo}: {step.record.problem}")
    return records


def _table(report: Report) -> str:
    """Markdown: a line for each method."""
    heads = ("miou_truth", "miou_either", "pixel_accuracy", "boundary_miou", "pq", "false_area")
    more = ("absent_silent",) if report.settings.distractors else ()
    if report.unseen:
        more = (*more, "seen_miou", "unseen_miou", "harmonic_miou")
    lines = [["method", *heads, *more, "s/photo", "photos"]]
    lines.append(["---"] * len(lines[0]))
    for name, summary in report.summaries.items():
        cells = [_cell(summary.metrics.get(metric)) for metric in (*heads, *more)]
        lines.append([name, *cells, f"{summary.seconds['total']:.2f}", str(summary.counted)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(interval: Interval | None) -> str:
    if interval is None:
        return "-"
    return f"{100 * interval.value:.1f} [{100 * interval.low:.1f}, {100 * interval.high:.1f}]"


if __name__ == "__main__":
    with lasting_output():
        sys.exit(main())
