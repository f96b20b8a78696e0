"""Segment photos: `python -m ovs_core.cli.segment PATH... --classes "dog; grass; sky | clouds" --out DIR`."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm  # type: ignore[import-untyped]

from ovs_core.cli.arguments import EXIT_BAD_INPUT, EXIT_INTERRUPTED, OneLineParser
from ovs_core.cli.options import (
    EXIT_SOME_FAILED,
    add_machine_options,
    add_method_options,
    chosen_options,
    say,
    write_line,
)
from ovs_core.engine import Engine, NotEnoughMemory, Result
from ovs_core.export.files import FORMATS, MASK_FORMATS, save_result
from ovs_core.export.names import safe_name
from ovs_core.image import ImageError, read_photo
from ovs_core.methods import DEFAULT_METHOD
from ovs_core.options import Options
from ovs_core.render.legend import percent
from ovs_core.types import Vocabulary
from ovs_core.vocabulary import read_vocabulary

_SUFFIXES = frozenset(
    {
        *(".apng", ".avif", ".bmp", ".dib", ".gif", ".ico", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg", ".mpo"),
        *(".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp"),
    }
)
_OWN_OUTPUT = re.compile(r"\.(labels|overlay|mask\.\d+-.*)\.png$")
_CLASSES_SHOWN = 5


@dataclass(frozen=True)
class _Source:
    """One photo to do: where it is, what its files begin with, what the report calls it."""

    path: Path
    stem: str
    title: str


@dataclass(frozen=True)
class _Task:
    """What to do with every photo."""

    vocabulary: Vocabulary
    options: dict[str, Options]  # by method: its own among those asked for
    encoder: str
    refiner: str
    formats: tuple[str, ...]
    out: Path
    stuff: str


def main(argv: Sequence[str] | None = None, engine: Engine | None = None) -> int:
    """Segment every photo; returns the exit code.

    0: all done. 1: some photos could not be read or did not fit into memory, the others are done. 2: bad
    input, one line on stderr. 130: stopped by Ctrl-C.

    Args:
        argv: arguments; None takes the command line's.
        engine: None makes one as the arguments say.
    """
    arguments = _parser(engine).parse_args(argv)
    done = 0
    sources: list[_Source] = []
    try:
        sources = list(_sources(arguments.paths, arguments.recursive))
        vocabulary = read_vocabulary(arguments.classes, arguments.background)
        if engine is None:
            engine = Engine(arguments.device, weights_dir=arguments.weights_dir, offline=arguments.offline)
        task = _task(arguments, vocabulary, engine)
        say(*vocabulary.notes)
        told = set(vocabulary.notes)
        for source in tqdm(sources, unit="photo", disable=None):
            done += _segment(source, task, engine, told)
    except ValueError as error:
        say(str(error))
        return EXIT_BAD_INPUT
    except KeyboardInterrupt:
        say(f"Stopped; {done} of {len(sources)} photos are done.")
        return EXIT_INTERRUPTED
    if done < len(sources):
        say(f"{len(sources) - done} of {len(sources)} photos could not be done.")
        return EXIT_SOME_FAILED
    return 0


def _parser(engine: Engine | None) -> argparse.ArgumentParser:
    parser = OneLineParser(prog="ovs-lens segment", description="Segment photos by typed classes.")
    add = parser.add_argument
    add("paths", nargs="+", type=Path, metavar="PATH", help="photo, or folder of photos")
    add("--classes", required=True, help='"dog; grass; sky | clouds", @FILE, or a list such as @voc20')
    add("--out", required=True, type=Path, metavar="DIR", help="folder to write into")
    add_method_options(parser, engine)
    add("--background", default="default", metavar="TEXT", help='names that mean "none of these", or none')
    add("--export", nargs="+", choices=FORMATS, default=(), help="more files")
    add(
        "--stuff",
        default="default",
        metavar="TEXT",
        help='classes that panoptic and instances do not count, as "sky; grass", or none',
    )
    add("--recursive", action="store_true", help="folders within folders too")
    add_machine_options(parser)
    return parser


def _sources(paths: Sequence[Path], recursive: bool) -> Iterator[_Source]:
    """Every photo once, with a stem of its own.

    A stem that is taken gets the folder's name in front, and a number where even that is taken.
    """
    seen: set[Path] = set()
    stems: set[str] = set()
    for path, title in _photo_paths(paths, recursive):
        if path.resolve() in seen:
            continue
        seen.add(path.resolve())
        plain, long = (
            safe_name(name, 110, dots=True) for name in (path.stem, f"{path.parent.name}-{path.stem}")
        )
        choices = (plain, long, *(f"{long}-{number}" for number in range(2, len(stems) + 3)))
        stem = next(choice for choice in choices if choice.casefold() not in stems)
        stems.add(stem.casefold())
        yield _Source(path, stem, title)


def _photo_paths(paths: Sequence[Path], recursive: bool) -> Iterator[tuple[Path, str]]:
    """Files as given, and the picture files of folders by name; with each its name for the report."""
    for path in paths:
        if path.is_dir():
            inside = sorted(path.rglob("*") if recursive else path.iterdir())
            photos = [file for file in inside if _is_photo(file)]
            if not photos:
                hint = "" if recursive else " (--recursive looks into its folders too)"
                raise ValueError(f'There is no photo in the folder "{path}"{hint}.')
            yield from ((file, file.relative_to(path).as_posix()) for file in photos)
        elif path.exists():
            yield path, path.name
        else:
            raise ValueError(f'There is no file or folder "{path}".')


def _is_photo(file: Path) -> bool:
    """A picture file by its ending, neither hidden nor written by this program."""
    known = file.suffix.lower() in _SUFFIXES and not file.name.startswith(".")
    return known and not _OWN_OUTPUT.search(file.name) and file.is_file()


def _task(arguments: argparse.Namespace, vocabulary: Vocabulary, engine: Engine) -> _Task:
    """What the arguments ask for."""
    methods = tuple(dict.fromkeys(arguments.method or (DEFAULT_METHOD,)))
    options = chosen_options(arguments, engine, methods)
    formats = tuple(arguments.export)
    _check_methods(formats, methods, arguments.encoder, engine)
    return _Task(
        vocabulary, options, arguments.encoder, arguments.refine, formats, arguments.out, arguments.stuff
    )


def _check_methods(formats: Sequence[str], methods: Sequence[str], encoder: str, engine: Engine) -> None:
    """Refuse, before any work, methods that cannot answer here and files of segments that one would not give.

    Raises:
        ValueError: one sentence.
    """
    asked = [name for name in formats if name in MASK_FORMATS]
    known = {info.name: info for info in engine.methods(encoder)}
    for method in methods:
        if not known[method].available:
            raise ValueError(known[method].reason)
    unable = [method for method in methods if not known[method].masks]
    if asked and unable:
        able = [name for name, info in known.items() if info.masks and info.available]
        nobody = f"none that is ready on {encoder} does"
        choose = f"choose {' or '.join(able)} with --method" if able else nobody
        raise ValueError(
            f"--export {asked[0]} needs a method that proposes masks, and {unable[0]} does not; {choose}."
        )


def _segment(source: _Source, task: _Task, engine: Engine, told: set[str]) -> bool:
    """Do one photo with every method; False, with a line on stderr, where the photo is the obstacle.

    Notes about the words are said once; `told` holds those that were.
    """
    try:
        photo = read_photo(source.path)
        say(*(f"{source.title}: {note}" for note in photo.notes))
        for method, options in task.options.items():
            result = engine.segment(
                photo,
                task.vocabulary,
                method=method,
                encoder=task.encoder,
                refiner=task.refiner,
                options=options,
            )
            new = [note for note in result.vocabulary.notes if note not in told]
            told.update(new)
            say(*new, *(f"{source.title}: {note}" for note in result.notes))
            save_result(result, task.out, source.stem, task.formats, source.title, task.stuff)
            write_line(_summary(source.stem, result), sys.stdout)
    except (ImageError, NotEnoughMemory) as error:
        say(f"Skipped {source.path}: {error}")
        return False
    return True


def _summary(stem: str, result: Result) -> str:
    """One line for stdout: the files' start and the largest classes."""
    largest = sorted(result.classes, key=lambda summary: -summary.area_share)[:_CLASSES_SHOWN]
    shares = (f"{summary.names[0]} {percent(summary.area_share)}" for summary in largest)
    return f"{stem}.{result.method}: {', '.join(shares)}"


if __name__ == "__main__":
    sys.exit(main())
