"""Memory of the driver while a Ray cluster of this machine makes rows, with a stub in the place of the model.

    python -m benchmarks.rows_on_ray                        # 100,000 rows of one sample photo
    python -m benchmarks.rows_on_ray --rows 1000000

Target: after the first tenth of the rows the driver does not grow. Needs Ray.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from PIL import Image

from ovs_core.batch.cluster import Cluster, label_on_ray
from ovs_core.batch.plan import Answerer, BatchPlan
from ovs_core.batch.rows import SCHEMA, ClassArea, Row
from ovs_core.batch.sources import Source
from ovs_core.batch.tables import row_files
from ovs_core.image import Photo
from ovs_core.version import VERSION
from ovs_core.vocabulary import parse_vocabulary

SIDE = 32  # pixels of the photo: reading it must not be what is measured
ROWS_PER_FILE = 1000
LABELS = b"\0" * 4000  # as long as the PNG of a label map of 640 x 480 often is


def main() -> None:
    """Print memory of the driver and rows per second as rows are made."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=100_000)
    options = parser.parse_args()
    plan = BatchPlan(parse_vocabulary("cat"))
    with TemporaryDirectory() as folder:
        photo = str(Path(folder) / "photo.png")
        Image.new("RGB", (SIDE, SIDE)).save(photo)
        sources = [Source(f"{number:08}.png", photo) for number in range(options.rows)]
        out = str(Path(folder) / "rows")
        done, told, started = 0, 0, time.perf_counter()
        print(f"{options.rows} rows, {ROWS_PER_FILE} a file; the list of photos alone: {_megabytes():.0f} MB")
        for file in label_on_ray(sources, plan, out, Cluster(), ROWS_PER_FILE, make=constant_answers):
            done += file.rows
            if 10 * done // options.rows > told:
                told = 10 * done // options.rows
                rate = done / (time.perf_counter() - started)
                print(f"  {done:9} rows  driver {_megabytes():5.0f} MB  {rate:7.0f} rows/s", flush=True)
        print(f"{len(row_files(out))} files")


def constant_answers(plan: BatchPlan) -> Answerer:
    """Say the same of every photo."""
    areas = (ClassArea(1, "cat", SIDE * SIDE, 0.5),)
    answer = Row("", "", SIDE, SIDE, LABELS, areas, None, (), None, 0.0)

    def row(photo: Photo, photo_id: str, path: str) -> Row:
        return replace(answer, id=photo_id, path=path)

    header = {"schema": SCHEMA, "version": VERSION, "settings": plan.settings, "preset": {}, "weights": {}}
    return Answerer(header, row)


def _megabytes() -> float:
    """Memory of this process now."""
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1000
    raise SystemExit("this system does not tell the memory of a process")


if __name__ == "__main__":
    main()
