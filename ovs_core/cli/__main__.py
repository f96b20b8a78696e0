"""The one command: `ovs-lens app | segment | video | batch | evaluate | train | selfcheck | weights`.

A subcommand NAME is the module `ovs_core.cli.NAME`, which also runs alone: `python -m ovs_core.cli.NAME`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from types import MappingProxyType

from ovs_core.cli.arguments import EXIT_BAD_INPUT
from ovs_core.cli.loading import no_garbage_collected, yield_soon
from ovs_core.cli.streams import lasting_output
from ovs_core.version import VERSION

COMMANDS: Mapping[str, str] = MappingProxyType(
    {
        "app": "open the app in the browser",
        "segment": "label photos and folders of photos",
        "video": "label clips and folders of frames",
        "batch": "label very many photos into Parquet files, on this machine or on Ray",
        "evaluate": "measure methods on labelled photos",
        "train": "train heads and the embedded model",
        "selfcheck": "every method on a device beside the CPU, as a table",
        "weights": "list, fetch, add and check weights",
    }
)
"""Name -> what it does."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand; returns its exit code, or 2 with one line on stderr where there is none such.

    Args:
        argv: arguments; None takes the command line's.
    """
    with lasting_output():
        return _run((sys.argv[1:] if argv is None else argv) or ["--help"])


def _run(argv: Sequence[str]) -> int:
    """As `main`, with output that may be closed."""
    name, *rest = argv
    if name in ("-h", "--help"):
        print(_help())
        return 0
    if name == "--version":
        print(f"ovs-lens {VERSION}")
        return 0
    if name not in COMMANDS:
        print(f"There is no command {name!r}; choose {', '.join(COMMANDS)}.", file=sys.stderr)
        return EXIT_BAD_INPUT
    yield_soon()
    with no_garbage_collected():
        command: Callable[[Sequence[str]], int] = import_module(f"ovs_core.cli.{name}").main
    return command(rest)


def _help() -> str:
    lines = [f"  {name:<11}{what}" for name, what in COMMANDS.items()]
    return "\n".join(
        ["usage: ovs-lens COMMAND ...", "", *lines, "", "ovs-lens COMMAND --help says more; --version."]
    )


if __name__ == "__main__":
    sys.exit(main())
