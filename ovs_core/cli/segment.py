"""Segment photos: `python -m ovs_core.cli.segment PATH... --classes "dog; grass; sky | clouds" --out DIR`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm  # type: ignore[import-untyped]

from ovs_core.batch.plan import CACHE_BYTES
from ovs_core.batch.sources import shard_of
from ovs_core.cli.arguments import EXIT_BAD_INPUT, EXIT_INTERRUPTED, OneLineParser
from ovs_core.cli.exemplars import add_exemplar_option, read_exemplars
from ovs_core.cli.folder import AT_ONCE, Outcome, Task, answer_all, report
from ovs_core.cli.journal import file_digest, is_whole, read_journal, write_failures
from ovs_core.cli.options import (
    EXIT_SOME_FAILED,
    add_machine_options,
    add_method_options,
    chosen_options,
    engine_for,
    say,
)
from ovs_core.cli.photos import Source, collect_photos
from ovs_core.cli.streams import lasting_output
from ovs_core.engine import Engine
from ovs_core.engine.saved import SavedRequest, read_saved
from ovs_core.export.files import FORMATS, MASK_FORMATS
from ovs_core.export.outlines import TOLERANCE, check_tolerance
from ovs_core.methods import DEFAULT_METHOD
from ovs_core.options import Options, lookup
from ovs_core.types import Vocabulary
from ovs_core.version import VERSION
from ovs_core.vocabulary.exemplars import Exemplar, asked_vocabulary

_SQUARE = 32  # side in pixels


def main(argv: Sequence[str] | None = None, engine: Engine | None = None) -> int:
    """Segment every photo; returns the exit code.

    0: all done. 1: some photos could not be read or did not fit into memory, the others are done. 2: bad
    input, one line on stderr. 130: stopped by Ctrl-C.

    Args:
        argv: arguments; None takes the command line's.
        engine: None makes one as the arguments say.
    """
    arguments = _parser(engine).parse_args(argv)
    done: list[Source] = []
    failed: list[tuple[str, str]] = []
    sources: tuple[Source, ...] = ()
    try:
        collected = collect_photos(arguments.paths, arguments.recursive)
        sources = shard_of(collected.sources, arguments.shard) if arguments.shard else collected.sources
        exemplars = read_exemplars(arguments.exemplar)
        saved = None if arguments.settings is None else _saved(arguments, exemplars)
        names = [exemplar.name for exemplar in exemplars]
        vocabulary = (
            asked_vocabulary(arguments.classes, names, arguments.background)
            if saved is None
            else saved.vocabulary
        )
        check_tolerance(arguments.tolerance)
        if engine is None:
            engine = engine_for(arguments, cache_bytes=CACHE_BYTES, at_once=AT_ONCE)
        task = _task(arguments, vocabulary, exemplars, saved, engine)
        say(*collected.notes, *vocabulary.notes)
        told = set(vocabulary.notes)
        left = _left(sources, task)
        done += [source for source in sources if source not in left]
        if done:
            say(f"{len(done)} of {len(sources)} photos are done already.")
        with tqdm(total=len(left), unit="photo", disable=None) as bar:

            def finish(outcome: Outcome) -> None:
                report(outcome, task, told)
                if outcome.reason:
                    failed.append((str(outcome.source.path), outcome.reason))
                else:
                    done.append(outcome.source)
                bar.update()

            answer_all(left, task, engine, finish)
        listed = write_failures(task.out, _failures_name(arguments.shard), failed)
    except ValueError as error:
        say(str(error))
        return EXIT_BAD_INPUT
    except KeyboardInterrupt:
        say(f"Stopped; {len(done)} of {len(sources)} photos are done. --resume goes on from there.")
        return EXIT_INTERRUPTED
    if failed:
        say(f"{len(failed)} of {len(sources)} photos could not be done; they are listed in {listed}.")
        return EXIT_SOME_FAILED
    return 0


def _parser(engine: Engine | None) -> argparse.ArgumentParser:
    parser = OneLineParser(prog="ovs-lens segment", description="Segment photos by typed classes.")
    add = parser.add_argument
    add("paths", nargs="+", type=Path, metavar="PATH", help="photo, or folder of photos")
    add("--classes", default="", help='"dog; grass; sky | clouds", @FILE, or a list such as @voc20')
    add(
        "--settings",
        type=Path,
        metavar="FILE",
        help="settings.json of a ZIP, or a <stem>.<method>.json, of an earlier answer: its question, "
        "refinement and edits by hand are done again; flags of single options go before it",
    )
    add_exemplar_option(parser)
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
    add(
        "--tolerance",
        type=float,
        default=TOLERANCE,
        metavar="PIXELS",
        help="of polygons in --export coco-polygons and yolo; 0 is exact; default: %(default)s",
    )
    add("--recursive", action="store_true", help="folders within folders too")
    add(
        "--resume",
        action="store_true",
        help="what an earlier run of this question wrote stays",
    )
    add("--shard", metavar="I/N", help="only every N-th photo, from the I-th on: one part for each machine")
    add_machine_options(parser)
    return parser


def _saved(arguments: argparse.Namespace, exemplars: Sequence[Exemplar]) -> SavedRequest:
    """What a settings file asks; the arguments then name its encoder and refiner.

    Raises:
        ValueError: for a file that is none, or arguments that ask something else.
    """
    saved = read_saved(arguments.settings)
    if arguments.classes.strip() or arguments.method:
        raise ValueError("--settings says which classes and method; leave out --classes and --method.")
    if tuple(exemplar.name for exemplar in exemplars) != saved.exemplars:
        names = ", ".join(f'"{name}"' for name in saved.exemplars) or "none"
        raise ValueError(f"These settings go with boxes called: {names}. Name them in order with --exemplar.")
    arguments.method, arguments.encoder, arguments.refine = [saved.method], saved.encoder, saved.refiner
    return saved


def _task(
    arguments: argparse.Namespace,
    vocabulary: Vocabulary,
    exemplars: tuple[Exemplar, ...],
    saved: SavedRequest | None,
    engine: Engine,
) -> Task:
    """What the arguments ask for."""
    methods = tuple(dict.fromkeys(arguments.method or (DEFAULT_METHOD,)))
    for what, registry, name in (
        ("method", engine.method_specs, methods[0]),
        ("encoder", engine.encoder_specs, arguments.encoder),
        ("refiner", engine.refiner_specs, arguments.refine),
    ):
        lookup(what, registry, name)  # a settings file may name anything
    options = chosen_options(arguments, engine, methods)
    if saved is not None:
        options = {method: {**saved.options, **given} for method, given in options.items()}
    formats = tuple(arguments.export)
    _check_methods(formats, methods, arguments.encoder, engine)
    return Task(
        vocabulary,
        options,
        arguments.encoder,
        arguments.refine,
        formats,
        arguments.out,
        arguments.stuff,
        exemplars,
        arguments.tolerance,
        () if saved is None else saved.edits,
        () if saved is None else saved.excluded,
        _asked(arguments, vocabulary, exemplars, saved),
        read_journal(arguments.out) if arguments.resume else {},
        _weights(arguments, vocabulary, engine, options) if arguments.resume else {},
    )


def _asked(
    arguments: argparse.Namespace,
    vocabulary: Vocabulary,
    exemplars: Sequence[Exemplar],
    saved: SavedRequest | None,
) -> dict[str, Any]:
    """What every answer and its files depend on besides photo, method, its options and weights."""
    return {
        "version": VERSION,
        "vocabulary": {part.name: getattr(vocabulary, part.name) for part in fields(vocabulary)},
        "exemplars": repr([(exemplar.photo.key, exemplar.box, exemplar.name) for exemplar in exemplars]),
        "where": repr((arguments.encoder, arguments.refine)),
        "files": repr((sorted(arguments.export), arguments.stuff, arguments.tolerance)),
        "edits": repr(() if saved is None else (saved.excluded, saved.edits)),
    }


def _weights(
    arguments: argparse.Namespace, vocabulary: Vocabulary, engine: Engine, options: dict[str, Options]
) -> dict[str, Mapping[str, str]]:
    """SHA-256 of the weights that each method would use now, found by asking about a grey square."""
    square = np.full((_SQUARE, _SQUARE, 3), 128, np.uint8)
    return {
        method: engine.segment(
            square,
            vocabulary,
            method=method,
            encoder=arguments.encoder,
            refiner=arguments.refine,
            options=chosen,
        ).weights
        for method, chosen in options.items()
    }


def _left(sources: Sequence[Source], task: Task) -> list[Source]:
    """Photos whose answers are not all there."""
    if not task.done:
        return list(sources)
    asked = {method: task.question(method, task.weights[method]) for method in task.options}

    def is_done(source: Source) -> bool:
        photo = file_digest(source.path)
        return all(
            is_whole(task.done, task.out, source.stem, method, photo, question)
            for method, question in asked.items()
        )

    return [source for source in sources if not is_done(source)]


def _failures_name(shard: str | None) -> str:
    return "failed.txt" if shard is None else f"failed-{shard.replace('/', '-of-')}.txt"


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


if __name__ == "__main__":
    with lasting_output():
        sys.exit(main())
