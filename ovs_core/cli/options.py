"""What the commands that ask an engine share: options, and lines above a progress bar."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, TextIO

from tqdm import tqdm  # type: ignore[import-untyped]

from ovs_core.devices import DEVICES, PRECISIONS
from ovs_core.encoders.towers import DEFAULT_ENCODER, ENCODERS, EncoderSpec
from ovs_core.engine import Engine
from ovs_core.methods import DEFAULT_METHOD, METHODS
from ovs_core.methods.spec import MethodSpec
from ovs_core.options import Option, Options
from ovs_core.refine import NO_REFINER, REFINERS
from ovs_core.refine.spec import RefinerSpec

EXIT_SOME_FAILED = 1
_KINDS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "number": {"type": float, "metavar": "X"},
        "integer": {"type": int, "metavar": "N"},
        "switch": {"action": "store_const", "const": True},
        "choice": {},
        "words": {"nargs": "+", "metavar": "NAME"},
    }
)
_OLDER_NAMES: Mapping[str, str] = MappingProxyType({"multi_scale": "--several-frames"})


def add_method_options(
    parser: argparse.ArgumentParser, engine: Engine | None, repeated: str = "may be repeated"
) -> None:
    """Add what is asked and how: method, encoder, refiner, and a flag for every option that they declare.

    Args:
        parser: takes them.
        engine: whose methods, encoders and refiners; None takes all that are known.
        repeated: what it means to name several methods.
    """
    methods, encoders, refiners = known_specs(engine)
    add = parser.add_argument
    add("--method", action="append", choices=tuple(methods), help=f"{repeated}; default: {DEFAULT_METHOD}")
    add("--encoder", choices=tuple(encoders), default=DEFAULT_ENCODER, help="default: %(default)s")
    add("--refine", choices=tuple(refiners), default=NO_REFINER, help="default: %(default)s")
    add("--switch", action="append", default=[], metavar="NAME", help="turn a switch on by its name")
    for option in declared(engine):
        more: dict[str, Any] = {**_KINDS[option.kind]}
        if option.kind == "choice":
            more["choices"] = option.choices
        flags = [f"--{option.name.replace('_', '-')}"]
        if option.name in _OLDER_NAMES:
            flags.append(_OLDER_NAMES[option.name])
        add(*flags, dest=option.name, default=None, help=option.help.replace("%", "%%"), **more)


def known_specs(
    engine: Engine | None,
) -> tuple[Mapping[str, MethodSpec], Mapping[str, EncoderSpec], Mapping[str, RefinerSpec]]:
    """Methods, encoders and refiners of an engine; None gives all that are known."""
    if engine is None:
        return METHODS, ENCODERS, REFINERS
    return engine.method_specs, engine.encoder_specs, engine.refiner_specs


def declared(engine: Engine | None) -> tuple[Option, ...]:
    """Every option that any method, encoder or refiner declares, once."""
    options: dict[str, Option] = {}
    for specs in known_specs(engine):
        for spec in specs.values():
            for option in spec.options:
                options.setdefault(option.name, option)
    return tuple(options.values())


def chosen_options(
    arguments: argparse.Namespace, engine: Engine | None, methods: Sequence[str]
) -> dict[str, Options]:
    """Options asked for, by method: of those that it, its encoder or the refiner declares.

    Raises:
        ValueError: for an option that none of the methods has; the sentence says which ones do.
    """
    specs, encoders, refiners = known_specs(engine)
    asked = {
        option.name: getattr(arguments, option.name)
        for option in declared(engine)
        if getattr(arguments, option.name) is not None
    }
    asked |= dict.fromkeys(arguments.switch, True)
    shared = (*encoders[arguments.encoder].options, *refiners[arguments.refine].options)
    taken = {method: {option.name for option in (*specs[method].options, *shared)} for method in methods}
    for name in asked:
        if not any(name in names for names in taken.values()):
            owners = [spec.name for spec in specs.values() if spec.option(name) is not None]
            flag = f"--switch {name}" if name in arguments.switch else f"--{name.replace('_', '-')}"
            if not owners:
                raise ValueError(f"{flag} is no option of the chosen method, encoder or refiner.")
            raise ValueError(f"{flag} belongs to {', '.join(owners)}; choose it with --method.")
    return {
        method: {name: value for name, value in asked.items() if name in names}
        for method, names in taken.items()
    }


def add_machine_options(parser: argparse.ArgumentParser) -> None:
    """Add where the models run and their weights are."""
    add = parser.add_argument
    add("--device", choices=DEVICES, default="auto", help="default: %(default)s")
    add("--precision", choices=PRECISIONS, default="auto", help="of image towers; default: %(default)s")
    add("--weights-dir", type=Path, metavar="DIR", help="folder to look for weights in first")
    add("--offline", action="store_true", help="never touch the network")


def engine_for(arguments: argparse.Namespace, **kept: Any) -> Engine:
    """The engine that `add_machine_options` describe; `kept` are further arguments of `Engine`.

    Raises:
        ValueError: if this machine lacks the device or the precision.
    """
    return Engine(
        arguments.device,
        arguments.precision,
        weights_dir=arguments.weights_dir,
        offline=arguments.offline,
        **kept,
    )


def say(*sentences: str) -> None:
    """Write sentences on stderr."""
    for sentence in sentences:
        write_line(sentence, sys.stderr)


def write_line(sentence: str, stream: TextIO) -> None:
    """Write one line above a progress bar, without letters that a terminal cannot show or must not obey."""
    line = "".join(letter if letter.isprintable() else "?" for letter in " ".join(sentence.split()))
    encoding = stream.encoding or "utf-8"
    tqdm.write(line.encode(encoding, "replace").decode(encoding), file=stream)
