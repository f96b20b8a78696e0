"""What comparing methods that share a tower costs, beside the dearest one alone. Target: at most 1.6 times.

    python -m benchmarks.compare_methods                              # embedded model
    python -m benchmarks.compare_methods --encoder vit_b16_openai     # random weights if the file is not here
    python -m benchmarks.compare_methods --methods clip maskclip sclip clearclip naclip

Every measurement starts without features and evidence and with the words known; both ways use the same frame
and windows. Seconds are medians.
"""

from __future__ import annotations

import argparse

from benchmarks.setting import make_engine, median_seconds, photo
from ovs_core.encoders.towers import DEFAULT_ENCODER, ENCODERS
from ovs_core.engine import Engine
from ovs_core.methods import DEFAULT_METHOD

CLASSES = "cat; eye; nose; ear; wall"


def main() -> None:
    """Print a table of seconds and the ratio."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--encoder", default=DEFAULT_ENCODER, choices=ENCODERS)
    parser.add_argument("--methods", nargs="+", metavar="NAME", help="default: all that share the tower")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--size", type=int, nargs=2, default=(640, 480), metavar=("WIDTH", "HEIGHT"))
    options = parser.parse_args()
    engine, weights = make_engine(options.encoder)
    picture = photo(*options.size)
    preset = engine.preset(DEFAULT_METHOD, options.encoder)
    print(f"{weights}; {options.size[0]} x {options.size[1]}; {preset}")

    def forget() -> None:
        for kind in ("stems", "features", "scores"):
            engine.cache.drop(kind)

    def compare(methods: list[str]) -> None:
        for _ in engine.compare(picture, CLASSES, methods, encoder=options.encoder):
            pass

    # Mask methods read another map of the photo (MAFT+ even of another tower): they share nothing here.
    sharing = [info.name for info in engine.methods(options.encoder) if info.available and not info.masks]
    methods = [name for name in sharing if options.methods is None or name in options.methods]
    if not methods:
        parser.error(f"none of these share the tower: {', '.join(options.methods)}; {', '.join(sharing)} do")
    compare(methods)  # loads the towers and learns the words
    alone = {}
    for name in methods:
        alone[name] = median_seconds(lambda name=name: compare([name]), options.repeats, forget)
        print(f"  {name:10} {alone[name]:7.3f} s alone")
    together = median_seconds(lambda: compare(methods), options.repeats, forget)
    dearest = max(alone, key=alone.__getitem__)
    print(f"  together   {together:7.3f} s, {together / alone[dearest]:.2f} x {dearest} (target 1.60)")
    print(f"  sum alone  {sum(alone.values()):7.3f} s, {sum(alone.values()) / together:.2f} x as much")
    _print_cache(engine)


def _print_cache(engine: Engine) -> None:
    held = {kind: engine.cache.stats(kind).nbytes / 1e6 for kind in ("stems", "features", "text", "scores")}
    print("  remembered " + ", ".join(f"{kind} {megabytes:.2f} MB" for kind, megabytes in held.items()))


if __name__ == "__main__":
    main()
