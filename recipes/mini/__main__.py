"""Make the embedded model: `python -m recipes.mini --data NAME=DIR ... --out DIR`."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ovs_core.cli.arguments import EXIT_BAD_INPUT, EXIT_INTERRUPTED, OneLineParser
from recipes.mini.chain import train_mini
from recipes.mini.plan import plan_from_json
from recipes.mini.sources import NEEDED, OPTIONAL, sources_of

ROOT = Path(__file__).resolve().parents[2]  # of the clone: architecture and class lists lie there


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code: 0, 2 with one line on stderr, or 130 after Ctrl-C."""
    arguments = _parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr)
    try:
        plan = plan_from_json(_values(arguments.config))
        sources = sources_of(_folders(arguments.data), ROOT / "assets" / "vocabularies")
        config = ROOT / "checkpoints" / "mini" / "mini.json"
        print(train_mini(config, sources, plan, arguments.out, arguments.start))
    except (ValueError, OSError, ModuleNotFoundError) as error:
        print(f"mini: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    except KeyboardInterrupt:
        print("\nStopped. Run the same command again to continue.", file=sys.stderr)
        return EXIT_INTERRUPTED
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = OneLineParser(prog="python -m recipes.mini", description="Make the embedded dual encoder.")
    parser.add_argument(
        "--config", type=Path, metavar="FILE", help="recipe as JSON; default: the shipped one"
    )
    parser.add_argument(
        "--data",
        action="append",
        default=[],
        metavar="NAME=DIR",
        help=f"once per folder; needed: {', '.join(NEEDED)}; others: {', '.join(OPTIONAL)}",
    )
    help_of_out = "working folder; a stopped run goes on where it was"
    help_of_start = "weights of this recipe to go on from, instead of all stages but the last one"
    parser.add_argument("--start", type=Path, metavar="FILE", help=help_of_start)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help=help_of_out)
    return parser


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


def _folders(pairs: Sequence[str]) -> dict[str, Path]:
    """Read NAME=DIR pairs; raises ValueError with one sentence."""
    folders: dict[str, Path] = {}
    known = (*NEEDED, *OPTIONAL)
    for pair in pairs:
        name, separator, folder = pair.partition("=")
        if not separator or name not in known:
            raise ValueError(f"--data {pair!r} is not NAME=DIR with NAME one of {', '.join(known)}.")
        folders[name] = Path(folder).expanduser()
        if not folders[name].is_dir():
            raise ValueError(f"--data {name}: {folder} is not a folder.")
    missing = [name for name in NEEDED if name not in folders]
    if missing:
        raise ValueError(f"--data is needed for {', '.join(missing)}.")
    return folders


if __name__ == "__main__":
    sys.exit(main())
