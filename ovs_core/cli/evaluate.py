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
    say,
)
from ovs_core.engine import Engine
from ovs_core.evaluation.datasets import DATASETS, Dataset, open_dataset
from ovs_core.evaluation.metrics import Interval
from ovs_core.evaluation.page import page
from ovs_core.evaluation.records import PhotoRecord
from ovs_core.evaluation.report import Report, examples, make_report, write_json, write_text
from ovs_core.evaluation.run import Settings, Subject, engine_subject, evaluate
from ovs_core.methods import DEFAULT_METHOD
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
        methods = tuple(dict.fromkeys(arguments.method or (DEFAULT_METHOD,)))
        settings = _settings(arguments, chosen_options(arguments, engine, methods))
        if engine is None:
            engine = Engine(
                arguments.device,
                weights_dir=arguments.weights_dir,
                offline=arguments.offline,
                cache_bytes=_CACHE_BYTES,
            )
        subjects = [engine_subject(engine, method, dataset, settings) for method in methods]
        records = _measure(subjects, dataset, settings, arguments.out)
        report = make_report(subjects, records, dataset, settings, unseen)
        write_json(report, arguments.out)
        if arguments.html is not None:
            pictures = {
                subject.name: examples(subject, report.summaries[subject.name], dataset, settings)
                for subject in subjects
            }
            write_text(arguments.html, page(report, pictures))
    except ValueError as error:
        say(str(error))
        return EXIT_BAD_INPUT
    except KeyboardInterrupt:
        say("Stopped. Run the same command again to continue where it ended.")
        return EXIT_INTERRUPTED
    print(_table(report))
    left_out = {photo: why for one in report.summaries.values() for photo, why in one.left_out.items()}
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
    add("--split", metavar="NAME", help="default: the one papers measure on")
    add("--limit", type=int, metavar="N", help="at most so many photos, evenly spaced")
    add("--class-list", type=Path, metavar="FILE", help="names of the classes: id:name,name in each line")
    add("--classes-in-image", action="store_true", help="type only the classes that are in the photo")
    add("--distractors", type=int, default=0, metavar="N", help="and N classes that are not")
    add("--unseen", metavar="NAMES", help="classes that no training saw: a; b, or @FILE with one a line")
    add_machine_options(parser)
    return parser


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
            text = Path(text[1:]).read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(f"--unseen: {text[1:]} cannot be read.") from error
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


def _cell(one: Interval | None) -> str:
    if one is None:
        return "-"
    return f"{100 * one.value:.1f} [{100 * one.low:.1f}, {100 * one.high:.1f}]"


if __name__ == "__main__":
    sys.exit(main())
