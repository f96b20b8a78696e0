"""`python -m ovs_core.cli.train mini --data NAME=DIR ... --out DIR`: make the weights that this project ships."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from ovs_core.training.mini import MiniPlan, Sources, plan_from_json, train_mini

ROOT = Path(__file__).resolve().parents[2]
DATA = ("pretrained", "wordnet", "coco", "camvid", "pets", "caltech", "imagenet")
NEEDED = ("pretrained", "wordnet", "coco")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code (2 for bad input)."""
    parser = argparse.ArgumentParser(prog="python -m ovs_core.cli.train", description=__doc__)
    parser.add_argument("method", choices=("mini",), help="what to train; mini is the embedded dual encoder")
    parser.add_argument(
        "--config", type=Path, help="recipe as JSON; default: the one the shipped weights were made with"
    )
    parser.add_argument(
        "--data", action="append", default=[], metavar="NAME=DIR", help=f"NAME is one of {', '.join(DATA)}"
    )
    parser.add_argument(
        "--out", type=Path, required=True, help="working folder; a stopped run goes on where it was"
    )
    arguments = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr)
    try:
        sources = _sources(arguments.data)
        plan = (
            plan_from_json(json.loads(arguments.config.read_text(encoding="utf-8")))
            if arguments.config
            else MiniPlan()
        )
    except (ValueError, OSError) as error:
        print(f"train: {error}", file=sys.stderr)
        return 2
    shipped = train_mini(ROOT / "checkpoints" / "mini" / "mini.json", sources, plan, arguments.out)
    print(shipped)
    return 0


def _sources(pairs: Sequence[str]) -> Sources:
    """Read NAME=DIR pairs; raises ValueError with one sentence."""
    folders: dict[str, Path] = {}
    for pair in pairs:
        name, separator, folder = pair.partition("=")
        if not separator or name not in DATA:
            raise ValueError(f"--data {pair!r} is not NAME=DIR with NAME one of {', '.join(DATA)}.")
        folders[name] = Path(folder).expanduser()
        if not folders[name].is_dir():
            raise ValueError(f"--data {name}: {folder} is not a folder.")
    missing = [name for name in NEEDED if name not in folders]
    if missing:
        raise ValueError(f"--data is needed for {', '.join(missing)}.")
    return Sources(vocabularies=ROOT / "assets" / "vocabularies", **folders)


if __name__ == "__main__":
    sys.exit(main())
