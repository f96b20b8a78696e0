"""Measure the tools that act on an answer: `python -m recipes.hands STUDY --data NAME=DIR --out DIR`."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from ovs_core.cli.arguments import EXIT_BAD_INPUT, EXIT_INTERRUPTED, OneLineParser
from ovs_core.labelled.datasets import FOLDER, open_dataset
from ovs_core.training.mask_plans import HELD_OUT
from recipes.hands.boxes import exemplars
from recipes.hands.lines import Line
from recipes.hands.lone_word import lone_words
from recipes.hands.points import viewer_of
from recipes.hands.studies import refiners, suggestions
from recipes.mini.exam import engine_of, exams

STUDIES = ("refiners", "exemplars", "suggestions", "lone-word")
SETS = ("coco", "nyu")
HEAD = "| study | photos of | asked | metric | % [95 %] | paired difference | photos |\n" + "|---" * 7 + "|"
logger = logging.getLogger(__name__)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code: 0, 2 with one line on stderr, or 130 after Ctrl-C."""
    arguments = _parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr)
    try:
        print(HEAD)
        lines = []
        for line in _lines(arguments):
            print(_row(line), flush=True)
            lines.append(asdict(line))
        text = json.dumps(lines, indent=1) + "\n"
        (arguments.out / f"{arguments.study}.json").write_text(text, encoding="utf-8")
    except (ValueError, OSError) as error:
        print(f"hands: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    except KeyboardInterrupt:
        print("\nStopped. Run the same command again to continue.", file=sys.stderr)
        return EXIT_INTERRUPTED
    return 0


def _lines(arguments: argparse.Namespace) -> Iterator[Line]:
    folders: dict[str, Path] = {}
    for pair in arguments.data:
        name, _, folder = pair.partition("=")
        if name not in SETS or not Path(folder).is_dir():
            raise ValueError(f"--data {pair!r} is not NAME=DIR with NAME one of {', '.join(SETS)}.")
        folders[name] = Path(folder)
    if arguments.limit is not None and arguments.limit < 1:
        raise ValueError(f"--limit must be at least 1, got {arguments.limit}.")
    arguments.out.mkdir(parents=True, exist_ok=True)
    engine = engine_of(arguments.weights)
    if arguments.study == "refiners":
        asked = [exam for exam in exams(folders, "kept", arguments.limit) if exam.name in ("coco a", "nyu")]
        if not asked:
            raise ValueError("--data names no set with photos to ask about.")
        yield from refiners(engine, asked, arguments.out, logger.info)
        return
    if "coco" not in folders:
        raise ValueError("--data coco=DIR is needed.")
    dataset = open_dataset(FOLDER, folders["coco"], split="val2017", limit=arguments.limit)
    if arguments.study == "exemplars":
        yield from exemplars(viewer_of(engine), folders["coco"], dataset, HELD_OUT, logger.info)
    elif arguments.study == "suggestions":
        yield from suggestions(engine, dataset, arguments.out, logger.info)
    else:
        yield from lone_words(viewer_of(engine), dataset, logger.info)


def _row(line: Line) -> str:
    """A row of the table, in per cent."""
    value, change = line.value, line.difference
    number = f"{100 * value.value:.2f} [{100 * value.low:.2f}, {100 * value.high:.2f}]"
    paired = ""
    if change is not None:
        paired = f"{100 * change.value:+.2f} [{100 * change.low:+.2f}, {100 * change.high:+.2f}]"
    cells = (line.study, line.question, line.what, line.metric, number, paired, str(line.photos))
    return f"| {' | '.join(cells)} |"


def _parser() -> argparse.ArgumentParser:
    parser = OneLineParser(prog="python -m recipes.hands", description="What the tools on an answer buy.")
    parser.add_argument("study", choices=STUDIES)
    parser.add_argument(
        "--data", action="append", default=[], metavar="NAME=DIR", help="coco, and for refiners nyu too"
    )
    text = "folder of records and numbers; refiners and suggestions go on where they were stopped"
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help=text)
    text = "a tower; default: the shipped one. Without the 15 held-out names learnt, unseen means unseen"
    parser.add_argument("--weights", type=Path, metavar="FILE", help=text)
    parser.add_argument("--limit", type=int, metavar="N", help="photos of a set; default: all")
    return parser


if __name__ == "__main__":
    sys.exit(main())
