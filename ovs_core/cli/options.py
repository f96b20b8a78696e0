"""What the commands that ask an engine share: options, and lines above a progress bar."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TextIO

from tqdm import tqdm  # type: ignore[import-untyped]

from ovs_core.build import DEFAULT_ENCODER, DEFAULT_METHOD, ENCODERS, METHODS, REFINERS
from ovs_core.devices import DEVICES

EXIT_SOME_FAILED = 1


def add_method_options(parser: argparse.ArgumentParser, repeated: str = "may be repeated") -> None:
    """Add what is asked and with which settings: method, encoder, refiner, scale, threshold.

    Args:
        parser: takes them.
        repeated: what it means to name several methods.
    """
    add = parser.add_argument
    methods = tuple(METHODS)
    add("--method", action="append", choices=methods, help=f"{repeated}; default: {DEFAULT_METHOD}")
    add("--encoder", choices=tuple(ENCODERS), default=DEFAULT_ENCODER, help="default: %(default)s")
    add("--refine", choices=tuple(REFINERS), default="none", help="default: %(default)s")
    add("--scale", type=float, metavar="X", help="default: the method's own")
    add(
        "--several-frames", action="store_true", help="look at the photo in three sizes; not for mask methods"
    )
    add("--threshold", type=float, metavar="Y", help="share under which a pixel is other, 0 to 1")


def add_machine_options(parser: argparse.ArgumentParser) -> None:
    """Add where the models run and their weights are."""
    add = parser.add_argument
    add("--device", choices=DEVICES, default="auto", help="default: %(default)s")
    add("--weights-dir", type=Path, metavar="DIR", help="folder to look for weights in first")
    add("--offline", action="store_true", help="never touch the network")


def say(*sentences: str) -> None:
    """Write sentences on stderr."""
    for sentence in sentences:
        write_line(sentence, sys.stderr)


def write_line(sentence: str, stream: TextIO) -> None:
    """Write one line above a progress bar, without letters that a terminal cannot show or must not obey."""
    line = "".join(letter if letter.isprintable() else "?" for letter in " ".join(sentence.split()))
    encoding = stream.encoding or "utf-8"
    tqdm.write(line.encode(encoding, "replace").decode(encoding), file=stream)
