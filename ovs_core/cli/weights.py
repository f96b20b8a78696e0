"""List, fetch, add and check weights: `python -m ovs_core.cli.weights list|get|add|verify|where`."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from ovs_core.checkpoints import CheckpointError, WeightFile, WeightStore
from ovs_core.cli.arguments import EXIT_BAD_INPUT, EXIT_INTERRUPTED, OneLineParser
from ovs_core.cli.streams import lasting_output
from ovs_core.encoders.towers import ENCODERS
from ovs_core.methods import METHODS
from ovs_core.methods.heads import add_head, check_head, describe_head, own_heads
from ovs_core.methods.ldvc.heads import save_prompted_head
from ovs_core.methods.ldvc.official import ZEGCLIP_TOWER, holds_zegclip, load_zegclip

_BAR_WIDTH = 30
_SECONDS_BETWEEN_REDRAWS = 0.1


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand; returns the exit code: 0, 2 with one line on stderr, or 130 after Ctrl-C."""
    arguments = _parser().parse_args(argv)
    try:
        store = WeightStore(arguments.weights_dir, arguments.offline)
        if arguments.command == "list":
            _list(store)
        elif arguments.command == "get":
            _get(store, arguments.name, arguments.local_file)
        elif arguments.command == "add":
            _add(store, arguments.file)
        elif arguments.command == "verify":
            _verify(store, arguments.name)
        else:
            _where(store)
    except CheckpointError as error:
        print(error, file=sys.stderr)
        return EXIT_BAD_INPUT
    except KeyboardInterrupt:
        print("\nStopped. Run the same command again to continue where it ended.", file=sys.stderr)
        return EXIT_INTERRUPTED
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = OneLineParser(prog="ovs-lens weights", description="Weights of OVS Lens.")
    _add_common(parser, None, False)
    commands = parser.add_subparsers(dest="command", required=True, metavar="list|get|add|verify|where")
    for name, text in (
        ("list", "what there is: name, size, licence, present or not"),
        ("get", "download one file, or continue a download that stopped"),
        ("add", "take in a head that you trained, for the tower it was trained on"),
        ("verify", "compare files with their checksums"),
        ("where", "the folders weights are read from and written to"),
    ):
        command = commands.add_parser(name, help=text, description=text)
        _add_common(command, argparse.SUPPRESS, argparse.SUPPRESS)
        if name == "get":
            command.add_argument("name", metavar="NAME", help="name as shown by list")
            command.add_argument(
                "--from", dest="local_file", type=Path, metavar="FILE", help="use this file, no download"
            )
        if name == "add":
            command.add_argument("file", metavar="FILE", type=Path, help="mvp_seg.safetensors and the like")
        if name == "verify":
            command.add_argument("name", metavar="NAME", nargs="?", help="default: every file here")
    return parser


def _add_common(parser: argparse.ArgumentParser, no_folder: str | None, not_offline: str | bool) -> None:
    """Options that may stand before or after the subcommand."""
    parser.add_argument(
        "--weights-dir",
        type=Path,
        default=no_folder,
        metavar="DIR",
        help="folder to keep weights in",
    )
    parser.add_argument("--offline", action="store_true", default=not_offline, help="never touch the network")


def _list(store: WeightStore) -> None:
    rows = [("NAME", "SIZE", "LICENCE", "HERE", "TITLE")]
    for entry in store.catalogue.values():
        here = "yes" if store.locate(entry.name) else "no"
        rows.append((entry.name, _size(entry), entry.licence, here, entry.title))
    for path in own_heads(store):
        rows.append(
            (
                path.stem,
                _megabytes(path.stat().st_size),
                "your own",
                "yes",
                describe_head(store, path, METHODS, ENCODERS),
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _get(store: WeightStore, name: str, local_file: Path | None) -> None:
    entry = store.entry(name)
    if local_file is not None:
        store.use_local(name, local_file)
    else:
        if store.locate(name) is None and entry.url and not store.offline:
            print(f"{entry.title}, {_size(entry)}, licence {entry.licence}, {entry.source}", file=sys.stderr)
        store.fetch(name, _Bar(entry.title) if sys.stderr.isatty() else None)
    check = store.verify(name)
    print(f"{check.path} {check.sentence}")


def _add(store: WeightStore, file: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = add_head(store, _converted(store, file, Path(folder)), METHODS, ENCODERS)
    print(f"{path} {describe_head(store, path, METHODS, ENCODERS)}")


def _converted(store: WeightStore, file: Path, folder: Path) -> Path:
    """An official ZegCLIP checkpoint as a head's file in `folder`; any other file as it is."""
    if not holds_zegclip(file):
        return file
    loaded = ENCODERS[ZEGCLIP_TOWER].load(store)
    trained = load_zegclip(file, loaded.model.visual, next(iter(loaded.weights.values())))
    return save_prompted_head(trained, folder / "zegclip.safetensors", half=False)


def _verify(store: WeightStore, name: str | None) -> None:
    names = [name] if name else [known for known in store.catalogue if store.locate(known)]
    heads = [] if name else list(own_heads(store))
    if not names and not heads:
        print("There are no weights here yet.")
    problems = []
    for path in heads:
        try:
            check_head(path, METHODS)
        except CheckpointError as error:
            problems.append(str(error))
        else:
            print(f"{path.stem}: {path} can be read (SHA-256 {store.sha256_of(path)})")
    for each in names:
        try:
            check = store.verify(each)
        except CheckpointError as error:
            problems.append(str(error))
        else:
            print(f"{each}: {check.path} {check.sentence} (SHA-256 {check.sha256})")
    if problems:
        raise CheckpointError("\n".join(problems))


def _where(store: WeightStore) -> None:
    for folder in store.folders:
        print(f"read from   {folder}")
    print(f"written to  {store.folder}")


def _size(entry: WeightFile) -> str:
    return _megabytes(entry.bytes) if entry.bytes else "?"


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.0f} MB" if size >= 1e6 else "<1 MB"


class _Bar:
    """A progress bar on one line of stderr."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._drawn = 0.0

    def __call__(self, done: int, total: int | None) -> None:
        """Show `done` of `total` bytes; cheap enough to call for every chunk."""
        finished = done == total
        now = time.monotonic()
        if not finished and now - self._drawn < _SECONDS_BETWEEN_REDRAWS:
            return
        self._drawn = now
        line = f"{done / 1e6:.1f} MB"
        if total:
            filled = _BAR_WIDTH * done // total
            bar = "#" * filled + "." * (_BAR_WIDTH - filled)
            line = f"[{bar}] {done / 1e6:.1f} of {total / 1e6:.1f} MB"
        print(f"\r{self._title}  {line}", end="\n" if finished else "", file=sys.stderr, flush=True)


if __name__ == "__main__":
    with lasting_output():
        sys.exit(main())
