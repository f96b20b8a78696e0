"""Boxes on a command line: `--exemplar name=photo.jpg:left,top,right,bottom`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from ovs_core.image import read_photo
from ovs_core.vocabulary.exemplars import Exemplar, parse_exemplar


def add_exemplar_option(parser: argparse.ArgumentParser) -> None:
    """Let a command be asked by boxes, too."""
    parser.add_argument(
        "--exemplar",
        action="append",
        default=[],
        metavar="NAME=PHOTO:L,T,R,B",
        help="a box on a photo, in pixels, to be found too; name it after a class to help its word, or "
        '"other" for what is not meant; may be repeated',
    )


def read_exemplars(texts: Sequence[str]) -> tuple[Exemplar, ...]:
    """The boxes that arguments describe, their photos read.

    Raises:
        ValueError: for another form, a photo that cannot be read, or a box that holds nothing of it.
    """
    specs = map(parse_exemplar, texts)
    return tuple(Exemplar(read_photo(spec.photo), spec.box, spec.name) for spec in specs)
