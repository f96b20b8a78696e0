"""Make the weights that are shipped: `python -m ovs_core.cli.train mini --data NAME=DIR ... --out DIR`."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from ovs_core.checkpoints import CheckpointError
from ovs_core.cli.arguments import EXIT_BAD_INPUT, EXIT_INTERRUPTED, OneLineParser
from ovs_core.training.mini import MiniPlan, Sources, plan_from_json, train_mini

_ROOT = Path(__file__).resolve().parents[2]
_DATA = ("pretrained", "wordnet", "coco", "camvid", "pets", "caltech", "imagenet")
_NEEDED = ("pretrained", "wordnet", "coco")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code: 0, 2 with one line on stderr, or 130 after Ctrl-C."""
    arguments = _parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr)
    try:
        sources, plan = _sources(arguments.data), _plan(arguments.config)
    except (ValueError, OSError) as error:
        print(f"train: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    try:
        print(train_mini(_ROOT / "checkpoints" / "mini" / "mini.json", sources, plan, arguments.out))
    except (CheckpointError, FileNotFoundError, FileExistsError, ModuleNotFoundError) as error:
        print(f"train: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    except KeyboardInterrupt:
        print("\nStopped. Run the same command again to continue.", file=sys.stderr)
        return EXIT_INTERRUPTED
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = OneLineParser(
        prog="python -m ovs_core.cli.train", description="Make the weights that are shipped."
    )
    add = parser.add_argument
    add("method", choices=("mini",), help="what to train; mini is the embedded dual encoder")
    add("--config", type=Path, metavar="FILE", help="recipe as JSON; default: the one of the shipped weights")
    add(
        "--data",
        action="append",
        default=[],
        metavar="NAME=DIR",
        help=f"once per folder; NAME is one of {', '.join(_DATA)}; {', '.join(_NEEDED)} are needed",
    )
    add(
        "--out",
        type=Path,
        required=True,
        metavar="DIR",
        help="working folder; a stopped run goes on where it was",
    )
    return parser


def _plan(config: Path | None) -> MiniPlan:
    """Read the recipe; raises ValueError or OSError with one sentence."""
    if config is None:
        return MiniPlan()
    try:
        values = json.loads(config.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"--config {config} is not JSON: {error}.") from error
    if not isinstance(values, dict):
        raise ValueError(f"--config {config} must hold a JSON object.")  # noqa: TRY004 (it is the user's file)
    return plan_from_json(values)


def _sources(pairs: Sequence[str]) -> Sources:
    """Read NAME=DIR pairs; raises ValueError with one sentence."""
    folders: dict[str, Path] = {}
    for pair in pairs:
        name, separator, folder = pair.partition("=")
        if not separator or name not in _DATA:
            raise ValueError(f"--data {pair!r} is not NAME=DIR with NAME one of {', '.join(_DATA)}.")
        folders[name] = Path(folder).expanduser()
        if not folders[name].is_dir():
            raise ValueError(f"--data {name}: {folder} is not a folder.")
    missing = [name for name in _NEEDED if name not in folders]
    if missing:
        raise ValueError(f"--data is needed for {', '.join(missing)}.")
    return Sources(vocabularies=_ROOT / "assets" / "vocabularies", **folders)


if __name__ == "__main__":
    sys.exit(main())
