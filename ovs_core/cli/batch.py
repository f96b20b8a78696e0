"""Label very many photos: `ovs-lens batch IN --classes "dog; grass" --out DIR [--ray ADDRESS]`.

What was written becomes files again by `ovs-lens batch DIR --unpack png coco --out FILES`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm  # type: ignore[import-untyped]

from ovs_core.batch.cluster import Cluster, label_on_ray
from ovs_core.batch.local import ROWS_PER_FILE, answerers, label_here
from ovs_core.batch.plan import BatchPlan
from ovs_core.batch.rows import check_same_run
from ovs_core.batch.sources import Source, listed_sources, shard_of, without
from ovs_core.batch.tables import done_ids, read_header, row_files
from ovs_core.batch.unpack import UNPACKED, unpack
from ovs_core.cli.arguments import EXIT_BAD_INPUT, EXIT_INTERRUPTED, OneLineParser
from ovs_core.cli.options import (
    EXIT_SOME_FAILED,
    add_machine_options,
    add_method_options,
    chosen_options,
    say,
)
from ovs_core.cli.photos import collect_photos
from ovs_core.methods import DEFAULT_METHOD
from ovs_core.vocabulary import read_vocabulary


def main(argv: Sequence[str] | None = None) -> int:
    """Label every photo; returns the exit code.

    0: all done. 1: some photos have an error in their row, the others are done. 2: bad input, one line on
    stderr. 130: stopped by Ctrl-C; --resume goes on.
    """
    arguments = _parser().parse_args(argv)
    try:
        if arguments.unpack:
            for path in unpack(arguments.photos, Path(arguments.out), arguments.unpack):
                print(path)
            return 0
        return _label(arguments)
    except ValueError as error:
        say(str(error))
        return EXIT_BAD_INPUT
    except KeyboardInterrupt:
        say("Stopped; what was done is written. The same command with --resume goes on from there.")
        return EXIT_INTERRUPTED


def _parser() -> argparse.ArgumentParser:
    parser = OneLineParser(prog="ovs-lens batch", description="Label very many photos into Parquet files.")
    add = parser.add_argument
    add("photos", metavar="IN", help="folder of photos, or .parquet table with a column path (and id)")
    add("--out", required=True, metavar="DIR", help="folder to write into, or a URI of one")
    add("--classes", help='"dog; grass; sky | clouds", @FILE, or a list such as @voc20')
    add("--background", default="default", metavar="TEXT", help='names that mean "none of these", or none')
    add_method_options(parser, None, "only one here")
    add("--stuff", default="default", metavar="TEXT", help="classes that instances do not count, or none")
    add("--recursive", action="store_true", help="folders within the folder too")
    add("--resume", action="store_true", help="go on where an earlier run with the same settings ended")
    add("--shard", metavar="I/N", help="only every N-th photo, from the I-th on: one part for each machine")
    add("--rows-per-file", type=int, default=ROWS_PER_FILE, metavar="N", help="default: %(default)s")
    add("--workers", type=int, metavar="N", help="threads; default: one for each core, 4 on a GPU")
    add(
        "--ray",
        nargs="?",
        const="local",
        metavar="ADDRESS",
        help="run on a Ray cluster; default: a local one",
    )
    add("--gpus", type=float, default=None, metavar="X", help="with --ray: GPUs of one actor, such as 0.5")
    add("--actors", type=int, metavar="N", help="with --ray: actors at most; default: as many as fit")
    add("--unpack", nargs="+", choices=UNPACKED, help="write what the rows in IN hold as files into --out")
    add_machine_options(parser)
    return parser


def _label(arguments: argparse.Namespace) -> int:
    if arguments.classes is None:
        raise ValueError("Say what to look for with --classes.")
    if min(arguments.rows_per_file, arguments.workers or 1, arguments.actors or 1) < 1:
        raise ValueError("--rows-per-file, --workers and --actors must be at least 1.")
    plan = _plan(arguments)
    sources = _sources(arguments.photos, arguments.recursive)
    if arguments.shard:
        sources = shard_of(sources, arguments.shard)
    left = _left(sources, arguments, plan)
    if len(left) < len(sources):
        say(f"{len(sources) - len(left)} of {len(sources)} photos are done already.")
    if not left:
        return 0
    failed = _on_ray(left, arguments, plan) if arguments.ray else _here(left, arguments, plan)
    if failed:
        say(f"{failed} of {len(left)} photos could not be done; their rows say why.")
        return EXIT_SOME_FAILED
    return 0


def _sources(place: str, recursive: bool) -> tuple[Source, ...]:
    """Photos of a folder, whose ids are their paths below it, or of a table."""
    if place.endswith(".parquet"):
        return listed_sources(place)
    collected = collect_photos([Path(place)], recursive)
    say(*collected.notes)
    return tuple(Source(source.title, str(source.path.absolute())) for source in collected.sources)


def _plan(arguments: argparse.Namespace) -> BatchPlan:
    methods = arguments.method or [DEFAULT_METHOD]
    if len(methods) > 1:
        raise ValueError("A run has one --method; start another run for another one.")
    vocabulary = read_vocabulary(arguments.classes, arguments.background)
    say(*vocabulary.notes)
    return BatchPlan(
        vocabulary,
        method=methods[0],
        encoder=arguments.encoder,
        refiner=arguments.refine,
        options=chosen_options(arguments, None, methods)[methods[0]],
        stuff=arguments.stuff,
        device=arguments.device,
        precision=arguments.precision,
        weights_dir=arguments.weights_dir,
        offline=arguments.offline,
    )


def _left(sources: tuple[Source, ...], arguments: argparse.Namespace, plan: BatchPlan) -> tuple[Source, ...]:
    """Photos without a row yet; refuses rows of another run, or any if this one does not resume."""
    names = row_files(arguments.out)
    if not names:
        return sources
    # Machines that share a folder each do a part of their own.
    if not (arguments.resume or arguments.shard):
        raise ValueError(
            f"There are rows in {arguments.out}: add --resume to go on, or choose another --out."
        )
    check_same_run(read_header(arguments.out, names[0]), {"settings": plan.settings})
    left = without(sources, done_ids(arguments.out))
    if len(left) < len(sources) and not arguments.resume:
        raise ValueError(f"Rows of this part are in {arguments.out}: add --resume to go on.")
    return left


def _here(left: Sequence[Source], arguments: argparse.Namespace, plan: BatchPlan) -> int:
    """Label on this machine; returns how many failed."""
    ready = answerers(plan, arguments.workers)
    for name in row_files(arguments.out)[:1]:
        check_same_run(read_header(arguments.out, name), ready[0].header)
    failed = 0
    rows = label_here(left, ready, arguments.out, arguments.rows_per_file)
    for row in tqdm(rows, total=len(left), unit="photo", disable=None):
        if row.error is not None:
            failed += 1
            say(f"{row.id}: {row.error}")
    return failed


def _on_ray(left: Sequence[Source], arguments: argparse.Namespace, plan: BatchPlan) -> int:
    """Label on a cluster; returns how many failed."""
    cluster = Cluster(arguments.ray, arguments.gpus, arguments.workers, arguments.actors)
    failed = 0
    with tqdm(total=len(left), unit="photo", disable=None) as bar:
        for file in label_on_ray(left, plan, arguments.out, cluster, arguments.rows_per_file):
            bar.update(file.rows)
            failed += len(file.errors)
            say(*(f"{photo}: {error}" for photo, error in file.errors))
    return failed


if __name__ == "__main__":
    sys.exit(main())
