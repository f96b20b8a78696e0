"""Photos per second of a folder: one after another with a file each, and as rows by several threads.

    python -m benchmarks.folders DIR                        # a folder of photos
    python -m benchmarks.folders DIR --photos 200 --rounds 3

Every way runs in a process of its own, in turns; the clock starts once the model is loaded and the words are
known. Needs pyarrow. Target: rows at least 1.6 times as fast as one after another, below 1.5 GB.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from ovs_core.batch.local import answerers, label_here
from ovs_core.batch.plan import BatchPlan, prepare
from ovs_core.batch.sources import Source
from ovs_core.cli.photos import collect_photos
from ovs_core.engine import Engine
from ovs_core.export.files import save_result
from ovs_core.image import read_photo
from ovs_core.vocabulary import parse_vocabulary

CLASSES = "person; dog; grass; sky | clouds; car"
Label = Callable[[tuple[Source, ...]], None]
WAYS = ("files", "rows 1", "rows 2")


def main() -> None:
    """Print photos per second and peak memory of each way."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--photos", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    photos = collect_photos([options.folder], recursive=True).sources[: options.photos]
    sources = tuple(Source(photo.title, str(photo.path)) for photo in photos)
    if options.way:
        print(json.dumps(_measured(options.way, sources)))
        return
    found: dict[str, list[dict[str, float]]] = defaultdict(list)
    for _ in range(options.rounds):
        for way in WAYS:
            command = [sys.executable, "-m", "benchmarks.folders", str(options.folder)]
            command += ["--photos", str(options.photos), "--way", way]
            printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            found[way].append(json.loads(printed.splitlines()[-1]))
            print(f"  {way:8} {found[way][-1]}", flush=True)
    print(f"{len(sources)} photos, median of {options.rounds} rounds in turns")
    for way, runs in found.items():
        rate, cpu = (median(run[name] for run in runs) for name in ("rate", "cpu"))
        ratio = median(run["rate"] / files["rate"] for run, files in zip(runs, found["files"], strict=True))
        peak = max(run["peak"] for run in runs)
        print(
            f"  {way:8} {rate:6.2f} photos/s  {ratio:5.2f} x  {cpu:6.3f} CPU s a photo  peak {peak:5.2f} GB"
        )


def _measured(way: str, sources: tuple[Source, ...]) -> dict[str, float]:
    """Photos per second, seconds of CPU for each, and peak memory in GB."""
    with TemporaryDirectory() as out:
        label = _one_after_another(out) if way == "files" else _as_rows(int(way.split()[1]), out)
        started, cpu = time.perf_counter(), time.process_time()
        label(sources)
        seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    return {"rate": len(sources) / seconds, "cpu": cpu / len(sources), "peak": peak}


def _one_after_another(out: str) -> Label:
    engine = Engine()
    vocabulary = parse_vocabulary(CLASSES)
    prepare(BatchPlan(vocabulary))  # the disk's cache of words
    engine.segment(read_photo(Path("assets/photos/cat.jpg")), vocabulary)

    def label(sources: tuple[Source, ...]) -> None:
        for number, source in enumerate(sources):
            result = engine.segment(read_photo(Path(source.path)), vocabulary)
            save_result(result, out, f"{number}", (), source.id)

    return label


def _as_rows(workers: int, out: str) -> Label:
    ready = answerers(BatchPlan(parse_vocabulary(CLASSES)), workers)

    def label(sources: tuple[Source, ...]) -> None:
        for row in label_here(sources, ready, out):
            if row.error is not None:
                raise SystemExit(row.error)

    return label


if __name__ == "__main__":
    main()
