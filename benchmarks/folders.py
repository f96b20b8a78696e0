"""Photos per second of a folder: one after another, as `ovs-lens segment` does it, and as rows in Parquet.

    python -m benchmarks.folders DIR                        # a folder of photos
    python -m benchmarks.folders DIR --photos 200 --rounds 3

Every way runs in a process of its own, in turns; the clock starts once the model is loaded and the words are
known. "files" is one photo after another; "segment N" is the command, with N photos looked at in one moment,
and says whether its label files are those of "files"; "rows N" are N threads of `ovs-lens batch`, which needs
pyarrow. Target: at least 1.6 times as fast as one after another, below 1.5 GB.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import resource
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from hashlib import sha256
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from ovs_core.batch.local import answerers, label_here
from ovs_core.batch.plan import CACHE_BYTES, BatchPlan
from ovs_core.batch.sources import Source
from ovs_core.cli.loading import yield_soon
from ovs_core.cli.photos import collect_photos
from ovs_core.cli.segment import main as segment
from ovs_core.engine import Engine
from ovs_core.export.files import save_result
from ovs_core.image import read_photo
from ovs_core.vocabulary import parse_vocabulary

CLASSES = "person; dog; grass; sky | clouds; car"
Label = Callable[[tuple[Source, ...]], None]
WAYS = ("files", "segment 1", "segment 2", "rows 1", "rows 2")


def main() -> None:
    """Print photos per second and peak memory of each way."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--photos", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--ways", nargs="+", choices=WAYS[1:], default=WAYS[1:], help="beside files")
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    yield_soon()  # for the processes below, as the command does for itself
    photos = collect_photos([options.folder], recursive=True).sources[: options.photos]
    sources = tuple(Source(photo.title, str(photo.path)) for photo in photos)
    if options.way:
        print(json.dumps(_measured(options.way, sources)))
        return
    ways = ("files", *options.ways)
    measured: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for _ in range(options.rounds):
        for way in ways:
            command = [sys.executable, "-m", "benchmarks.folders", str(options.folder)]
            command += ["--photos", str(options.photos), "--way", way]
            printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            measured[way].append(json.loads(printed.splitlines()[-1]))
            shown = {name: value for name, value in measured[way][-1].items() if name != "labels"}
            print(f"  {way:9} {shown}", flush=True)
    print(f"{len(sources)} photos, median of {options.rounds} rounds in turns")
    files = measured["files"]
    for way, runs in measured.items():
        rate, cpu = (median(run[name] for run in runs) for name in ("rate", "cpu"))
        ratio = median(run["rate"] / before["rate"] for run, before in zip(runs, files, strict=True))
        peak = max(run["peak"] for run in runs)
        line = f"  {way:9} {rate:6.2f} photos/s  {ratio:5.2f} x  {cpu:6.3f} CPU s a photo, {peak:5.2f} GB"
        if way.startswith("segment"):
            equal = all(run["labels"] == files[0]["labels"] for run in runs)
            line += f"  labels {'equal' if equal else 'DIFFER'}"
        print(line)


def _measured(way: str, sources: tuple[Source, ...]) -> dict[str, Any]:
    """Photos per second, seconds of CPU for each, peak memory in GB, and a digest of all label files."""
    with TemporaryDirectory() as out:
        kind, _, number = way.partition(" ")
        if kind == "files":
            label = _one_after_another(out)
        else:
            label = (_as_command if kind == "segment" else _as_rows)(int(number), out)
        started, cpu = time.perf_counter(), time.process_time()
        label(sources)
        seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
        labels = sorted(sha256(path.read_bytes()).hexdigest() for path in Path(out).glob("*.labels.png"))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    digest = sha256("".join(labels).encode()).hexdigest()
    return {"rate": len(sources) / seconds, "cpu": cpu / len(sources), "peak": peak, "labels": digest}


def _one_after_another(out: str) -> Label:
    engine = _ready(Engine())
    vocabulary = parse_vocabulary(CLASSES)

    def label(sources: tuple[Source, ...]) -> None:
        for number, source in enumerate(sources):
            result = engine.segment(read_photo(Path(source.path)), vocabulary)
            save_result(result, out, f"{number}", (), source.id)

    return label


def _as_command(at_once: int, out: str) -> Label:
    engine = _ready(Engine(cache_bytes=CACHE_BYTES, at_once=at_once))

    def label(sources: Sequence[Source]) -> None:
        paths = [source.path for source in sources]
        with contextlib.redirect_stdout(io.StringIO()):
            if segment([*paths, "--classes", CLASSES, "--out", out], engine):
                raise SystemExit("Some photos could not be done.")

    return label


def _ready(engine: Engine) -> Engine:
    """An engine whose model is loaded, and that knows the words."""
    engine.segment(read_photo(Path("assets/photos/cat.jpg")), parse_vocabulary(CLASSES))
    return engine


def _as_rows(workers: int, out: str) -> Label:
    ready = answerers(BatchPlan(parse_vocabulary(CLASSES)), workers)

    def label(sources: tuple[Source, ...]) -> None:
        for row in label_here(sources, ready, out):
            if row.error is not None:
                raise SystemExit(row.error)

    return label


if __name__ == "__main__":
    main()
