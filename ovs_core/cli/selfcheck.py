"""Every method on a device beside the CPU, as a table for an issue: `ovs-lens selfcheck --device cuda`."""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
import torch

from ovs_core.cli.arguments import EXIT_BAD_INPUT, EXIT_INTERRUPTED, OneLineParser
from ovs_core.cli.options import EXIT_SOME_FAILED, add_machine_options, known_specs, say
from ovs_core.encoders.towers import DEFAULT_ENCODER
from ovs_core.engine import Engine, MethodInfo
from ovs_core.folders import shipped_folder
from ovs_core.image import Photo, read_photo
from ovs_core.version import VERSION

LEAST_AGREEMENT = 0.98
"""Part of the pixels that half precision must label as float32 on the CPU does; what misses it is marked."""


@dataclass(frozen=True)
class Check:
    """One method on the device.

    Attributes:
        method: registry name.
        agreement: part of the photo's pixels labelled as on the CPU, in [0, 1]; None where it was not asked.
        confidence: mean difference of the labels' confidence.
        seconds: median of a whole answer, words known, nothing else remembered.
        megabytes: peak memory, of the GPU where there is one, else of the process so far.
        problem: why there is no number, or "".
    """

    method: str
    agreement: float | None = None
    confidence: float = 0.0
    seconds: float = 0.0
    megabytes: float = 0.0
    problem: str = ""

    @property
    def failed(self) -> bool:
        """It was asked and did not answer as the CPU does."""
        return self.agreement is not None and self.agreement < LEAST_AGREEMENT


def main(argv: Sequence[str] | None = None, make: Callable[..., Engine] = Engine) -> int:
    """Print the table; returns 0, 1 where a method fails or answers otherwise than the CPU, 2 for bad input.

    Args:
        argv: arguments; None takes the command line's.
        make: makes an engine.
    """
    arguments = _parser().parse_args(argv)
    shared = {"weights_dir": arguments.weights_dir, "offline": arguments.offline, "cache_bytes": 0}
    try:
        tested = make(device=arguments.device, precision=arguments.precision, **shared)
        reference = make(device="cpu", precision="fp32", **shared)
        photo, classes = _question(arguments)
        asked = [info for info in tested.methods(arguments.encoder) if _wanted(info, arguments.method)]
        print("\n".join(header(tested, arguments.encoder, photo)))
        failed = False
        for info in asked:
            check = _check(info, tested, reference, arguments, photo, classes)
            failed |= check.failed or (info.available and bool(check.problem))
            print(line(check), flush=True)
    except ValueError as error:
        say(str(error))
        return EXIT_BAD_INPUT
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    return EXIT_SOME_FAILED if failed else 0


def header(engine: Engine, encoder: str, photo: Photo) -> Iterator[str]:
    """What the table is about, and its head."""
    device = engine.compute.device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or "CPU"
    precision = str(engine.compute.dtype).removeprefix("torch.")
    yield f"OVS Lens {VERSION}, torch {torch.__version__}, Python {platform.python_version()}, {sys.platform}"
    yield f"{device.type} ({name}), {precision}; encoder {encoder}; photo {photo.size[1]} x {photo.size[0]}"
    yield ""
    yield "| method | pixels as on the CPU | confidence off by | seconds | peak MB |"
    yield "|---|---|---|---|---|"


def line(check: Check) -> str:
    """A method's line of the table."""
    if check.agreement is None:
        return f"| {check.method} | {check.problem} | | | |"
    mark = " (!)" if check.failed else ""
    return (
        f"| {check.method} | {check.agreement:.2%}{mark} | {check.confidence:.4f} "
        f"| {check.seconds:.3f} | {check.megabytes:.0f} |"
    )


def _parser() -> argparse.ArgumentParser:
    parser = OneLineParser(
        prog="ovs-lens selfcheck", description="Every method on a device beside the CPU, as a table."
    )
    add = parser.add_argument
    methods, encoders, _ = known_specs(None)
    add("--method", action="append", choices=tuple(methods), help="may be repeated; default: all")
    add("--encoder", choices=tuple(encoders), default=DEFAULT_ENCODER, help="default: %(default)s")
    add("--photo", type=Path, metavar="FILE", help="default: a sample photo")
    add("--classes", metavar="TEXT", help="default: those of the sample photo")
    add("--repeats", type=int, default=3, metavar="N", help="answers that are timed; default: %(default)s")
    add_machine_options(parser)
    return parser


def _question(arguments: argparse.Namespace) -> tuple[Photo, str]:
    """Photo and words."""
    folder = shipped_folder("assets") / "photos"
    sample = json.loads((folder / "examples.json").read_text(encoding="utf-8"))[0]
    if arguments.photo is not None and arguments.classes is None:
        raise ValueError("Say what to look for in that photo with --classes.")
    if arguments.repeats < 1:
        raise ValueError(f"--repeats must be at least 1, got {arguments.repeats}.")
    return read_photo(arguments.photo or folder / sample["file"]), arguments.classes or sample["classes"]


def _wanted(info: MethodInfo, names: Sequence[str] | None) -> bool:
    return names is None or info.name in names


def _check(
    info: MethodInfo,
    tested: Engine,
    reference: Engine,
    arguments: argparse.Namespace,
    photo: Photo,
    classes: str,
) -> Check:
    """Ask one method on both."""
    if not info.available:
        return Check(info.name, problem=info.reason)
    question = {"method": info.name, "encoder": arguments.encoder}
    try:
        expected = reference.segment(photo, classes, **question)
        got = tested.segment(photo, classes, **question)  # loads, and learns the words
        _forget_peak(tested)
        times = []
        for _ in range(arguments.repeats):
            started = time.perf_counter()
            got = tested.segment(photo, classes, **question)
            times.append(time.perf_counter() - started)
    except (RuntimeError, ValueError) as error:  # a kernel that a device lacks is what this command looks for
        return Check(info.name, problem=f"{type(error).__name__}: {' '.join(str(error).split())[:160]}")
    off = np.abs(got.confidence.astype(np.float32) - expected.confidence.astype(np.float32))
    return Check(
        info.name,
        agreement=float((got.labels == expected.labels).mean()),
        confidence=float(off.mean()),
        seconds=median(times),
        megabytes=_peak_megabytes(tested),
    )


def _forget_peak(engine: Engine) -> None:
    if engine.compute.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(engine.compute.device)


def _peak_megabytes(engine: Engine) -> float:
    """Peak memory of the GPU, or of the process so far."""
    if engine.compute.device.type == "cuda":
        return torch.cuda.max_memory_allocated(engine.compute.device) / 1e6
    if sys.platform == "win32":
        return float("nan")
    import resource  # Windows has none

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak / 1e3


if __name__ == "__main__":
    sys.exit(main())
