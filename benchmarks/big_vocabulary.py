"""Memory and time of 847 classes on a 12-megapixel photo. Target: under 4 GB at the peak.

    python -m benchmarks.big_vocabulary
    python -m benchmarks.big_vocabulary --refine pamr

The work runs in a process of its own, whose largest resident size is what the operating system reports.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import time

from benchmarks.setting import make_engine, photo
from ovs_core.encoders.towers import DEFAULT_ENCODER, ENCODERS
from ovs_core.methods import DEFAULT_METHOD, METHODS
from ovs_core.refine import REFINERS

RSS_UNIT = 1 if sys.platform == "darwin" else 1024  # bytes; getrusage counts in KiB but on macOS


def main() -> None:
    """Run the work in a child process, then print its peak."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--encoder", default=DEFAULT_ENCODER, choices=ENCODERS)
    parser.add_argument("--method", default=DEFAULT_METHOD, choices=METHODS)
    parser.add_argument("--refine", default="none", choices=REFINERS)
    parser.add_argument("--size", type=int, nargs=2, default=(4000, 3000), metavar=("WIDTH", "HEIGHT"))
    parser.add_argument("--here", action="store_true", help="do the work in this process and print no peak")
    options = parser.parse_args()
    if options.here:
        _work(options.encoder, options.method, options.refine, options.size)
        return
    started = time.perf_counter()
    subprocess.run([sys.executable, "-m", "benchmarks.big_vocabulary", "--here", *sys.argv[1:]], check=True)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * RSS_UNIT
    print(f"  peak {peak / 1e9:.2f} GB (target 4), {time.perf_counter() - started:.1f} s in all")


def _work(encoder: str, method: str, refine: str, size: tuple[int, int]) -> None:
    engine, weights = make_engine(encoder)
    result = engine.segment(photo(*size), "@ade847", method=method, encoder=encoder, refiner=refine)
    score_map = result.evidence
    parts = ", ".join(f"{stage} {seconds:.2f} s" for stage, seconds in result.seconds.items())
    print(f"{weights}, {method}, refine {refine}, {size[0]} x {size[1]}")
    print(f"  {len(result.vocabulary.classes)} classes, {len(result.vocabulary.rows)} names; {parts}")
    shape, megabytes = tuple(score_map.rows.shape), score_map.nbytes / 1e6
    print(f"  evidence {shape}, {megabytes:.1f} MB; labels {result.labels.dtype}")


if __name__ == "__main__":
    main()
