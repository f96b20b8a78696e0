"""Make the embedded model: `python -m recipes.mini all --data NAME=DIR ... --out DIR`."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ovs_core.checkpoints import CHECKPOINTS, sha256_of
from ovs_core.cli.arguments import EXIT_BAD_INPUT, EXIT_INTERRUPTED, OneLineParser
from ovs_core.encoders.found_words import weights_asked
from ovs_core.encoders.towers import DEFAULT_ENCODER
from recipes.mini.card import ROOMS, write_card
from recipes.mini.card_pictures import PICTURES, write_pictures
from recipes.mini.chain import train_mini
from recipes.mini.exam import KEPT_ONLY, Grade, engine_of, exams, grades
from recipes.mini.found_words import MOST_PHOTOS, measure_words
from recipes.mini.heads import STAGES, HeadPlans, collect, train_heads
from recipes.mini.labelled_sets import SETS
from recipes.mini.plan import plan_from_json
from recipes.mini.sources import NEEDED, OPTIONAL, sources_of
from recipes.mini.tower_file import tuned_words_beside

ROOT = Path(__file__).resolve().parents[2]  # of the clone: architecture and class lists lie there
TOWER, WORDS = "mini.safetensors", ("near_words.tsv", "known_words.txt")
CARD_DATA = (*KEPT_ONLY, "pretrained")  # needed; `card.ROOMS` may be there


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code: 0, 2 with one line on stderr, or 130 after Ctrl-C."""
    arguments = _parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr)
    try:
        _COMMANDS[arguments.what](arguments)
    except (ValueError, OSError, ModuleNotFoundError) as error:
        print(f"mini: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    except KeyboardInterrupt:
        print("\nStopped. Run the same command again to continue.", file=sys.stderr)
        return EXIT_INTERRUPTED
    return 0


def _make(arguments: argparse.Namespace) -> None:
    """Make a tower, the heads of one, or both, and print the file or folder that came out."""
    sources = sources_of(
        _folders(arguments.data, NEEDED, (*NEEDED, *OPTIONAL)), ROOT / "assets" / "vocabularies"
    )
    out: Path = arguments.out
    if arguments.what != "heads":
        plan = plan_from_json(_values(arguments.config))
        config = ROOT / "checkpoints" / "mini" / "mini.json"
        tower = train_mini(config, sources, plan, out, arguments.start)
        if arguments.what == "tower":
            print(tower)
            return
    heads = train_heads(out / TOWER, sources, HeadPlans(), out, arguments.only)
    if arguments.only:
        print(heads[arguments.only])
        return
    print(collect(out / TOWER, [out / name for name in WORDS], heads, out / "ships"))


def _examine(arguments: argparse.Namespace) -> None:
    """Print a line for each question, and write all numbers if asked to."""
    folders = _folders(arguments.data, (), (*KEPT_ONLY, *SETS))
    asked = exams(folders, arguments.part, arguments.limit)
    if not asked:
        raise ValueError("--data names no set with photos to ask about.")
    against = engine_of(arguments.against) if arguments.weights else None
    graded = []
    for grade in grades(engine_of(arguments.weights), against, asked):
        print(_line(grade), flush=True)
        graded.append(asdict(grade))
    if arguments.json:
        arguments.json.write_text(json.dumps(graded, indent=2) + "\n", encoding="utf-8")


def _measure_words(arguments: argparse.Namespace) -> None:
    """Measure how well words are found, and print the file of the table."""
    folders = _folders(arguments.data, (), tuple(MOST_PHOTOS))
    if not folders:
        raise ValueError("--data names no set with photos to ask about.")
    weights = arguments.weights or CHECKPOINTS / DEFAULT_ENCODER / TOWER
    tower = sha256_of(weights)
    tuned = tuned_words_beside(weights, tower)
    asked = weights_asked(tower, None if tuned is None else tuned.sha256)
    print(measure_words(engine_of(arguments.weights), asked, folders, arguments.out))


def _write_card(arguments: argparse.Namespace) -> None:
    """Measure what the model card says, and write it."""
    folders = _folders(arguments.data, CARD_DATA, (*CARD_DATA, *ROOMS))
    if arguments.limit is not None and arguments.limit < 1:
        raise ValueError(f"--limit must be at least 1, got {arguments.limit}.")
    if arguments.card is not None and not arguments.card.is_file():
        raise ValueError(f"There is no card {arguments.card}.")
    held_out, limit = arguments.held_out, arguments.limit
    print(write_card(folders, arguments.out, held_out=held_out, limit=limit, card=arguments.card))


def _write_pictures(arguments: argparse.Namespace) -> None:
    """Write the model card's pictures."""
    for line in write_pictures(engine_of(None), arguments.out or PICTURES):
        print(line, flush=True)


def _line(grade: Grade) -> str:
    """A grade in per cent."""
    value, difference = grade.value, grade.difference
    line = f"{grade.exam}: {100 * value.value:.1f} [{100 * value.low:.1f}, {100 * value.high:.1f}]"
    if difference is not None:
        line += f", paired {100 * difference.value:+.1f}"
        line += f" [{100 * difference.low:+.1f}, {100 * difference.high:+.1f}]"
    return f"{line} ({grade.photos} photos, {len(grade.classes)} classes)"


def _parser() -> argparse.ArgumentParser:
    parser = OneLineParser(prog="python -m recipes.mini", description="Make the embedded dual encoder.")
    parts = parser.add_subparsers(dest="what", required=True, parser_class=OneLineParser)
    helps = {
        "tower": "make both towers; the file is printed",
        "heads": "train the heads of the tower in --out",
        "all": "tower, then heads, then everything that ships in one folder, which is printed",
    }
    for name, text in helps.items():
        part = parts.add_parser(name, help=text)
        _data(part, f"needed: {', '.join(NEEDED)}; others: {', '.join(OPTIONAL)}")
        _file(part, "--config", "the tower's recipe (JSON); default: the shipped one")
        _file(part, "--start", "a tower to go on from, instead of all stages but the last one")
        text = "working folder; a stopped run goes on where it was"
        part.add_argument("--out", type=Path, required=True, metavar="DIR", help=text)
        part.set_defaults(only=None)
        if name == "heads":
            part.add_argument("--only", choices=tuple(STAGES), help="this head alone")
    card = parts.add_parser("card", help="measure the shipped weights and write the model card's numbers")
    _data(card, f"all of {', '.join(CARD_DATA)}; others: {', '.join(ROOMS)}")
    text = "folder to write to; a stopped run goes on where it was"
    card.add_argument("--out", type=Path, required=True, metavar="DIR", help=text)
    _file(card, "--held-out", "weights trained without the 15 names")
    _file(card, "--card", "the model card to put the results into")
    card.add_argument("--limit", type=int, metavar="N", help="photos of a set, evenly spaced; default: all")
    _found(parts)
    pictures = parts.add_parser("pictures", help="write the model card's pictures")
    pictures.add_argument("--out", type=Path, metavar="DIR", help="default: checkpoints/mini/pictures")
    exam = parts.add_parser("exam", help="measure a tower on photos that did not teach it")
    _data(exam, f"any of {', '.join((*KEPT_ONLY, *SETS))}")
    _file(exam, "--weights", "the tower; default: the shipped one, alone")
    _file(exam, "--against", "the tower to compare it with, photo by photo; default: the shipped one")
    _file(exam, "--json", "write all numbers here")
    text = "photos to choose settings on, or those kept for measuring; default: %(default)s"
    exam.add_argument("--part", choices=("choose", "kept"), default="kept", help=text)
    exam.add_argument("--limit", type=int, metavar="N", help="photos of a set, evenly spaced; default: all")
    return parser


def _found(parts: Any) -> None:
    found = parts.add_parser("found", help="measure how well words are found, and write the table that ships")
    _data(found, f"any of {', '.join(MOST_PHOTOS)}")
    _file(found, "--weights", "the tower; default: the shipped one")
    text = "folder to write to; a stopped run goes on where it was"
    found.add_argument("--out", type=Path, required=True, metavar="DIR", help=text)


def _data(parser: argparse.ArgumentParser, text: str) -> None:
    parser.add_argument(
        "--data", action="append", default=[], metavar="NAME=DIR", help=f"once per folder; {text}"
    )


def _file(parser: argparse.ArgumentParser, name: str, text: str) -> None:
    parser.add_argument(name, type=Path, metavar="FILE", help=text)


def _values(config: Path | None) -> Mapping[str, Any]:
    """Read the recipe; raises ValueError or OSError with one sentence."""
    if config is None:
        return {}
    try:
        values = json.loads(config.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"--config {config} is not JSON: {error}.") from error
    if not isinstance(values, dict):
        raise ValueError(f"--config {config} must hold a JSON object.")  # noqa: TRY004 (it is the user's file)
    return values


def _folders(pairs: Sequence[str], needed: Sequence[str], known: Sequence[str]) -> dict[str, Path]:
    """Read NAME=DIR pairs; raises ValueError with one sentence."""
    folders: dict[str, Path] = {}
    for pair in pairs:
        name, separator, folder = pair.partition("=")
        if not separator or name not in known:
            raise ValueError(f"--data {pair!r} is not NAME=DIR with NAME one of {', '.join(known)}.")
        folders[name] = Path(folder).expanduser()
        if not folders[name].is_dir():
            raise ValueError(f"--data {name}: {folder} is not a folder.")
    missing = [name for name in needed if name not in folders]
    if missing:
        raise ValueError(f"--data is needed for {', '.join(missing)}.")
    return folders


_COMMANDS: Mapping[str, Callable[[argparse.Namespace], None]] = MappingProxyType(
    {
        **dict.fromkeys(("tower", "heads", "all"), _make),
        "exam": _examine,
        "found": _measure_words,
        "card": _write_card,
        "pictures": _write_pictures,
    }
)


if __name__ == "__main__":
    sys.exit(main())
