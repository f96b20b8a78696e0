"""How seconds grow with the number of words: a photo never seen, words never seen, then known words.

    python -m benchmarks.words                      # prints Markdown
    python -m benchmarks.words --chart docs/words.png

Words are the first 1, 5, 20, 80 and all 847 of ADE20K-Full's names. "new words" embeds them first;
"known words" is the next photo with the same words; "same photo" asks other settings of kept evidence, as a
slider does. Every answer is whole: labels of each pixel.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure

from benchmarks.setting import make_engine, median_seconds, photo
from ovs_core.encoders.towers import DEFAULT_ENCODER, ENCODERS
from ovs_core.engine import Engine
from ovs_core.methods import DEFAULT_METHOD, METHODS
from ovs_core.vocabulary import read_vocabulary

COUNTS = (1, 5, 20, 80, 847)
SIZE = (640, 480)
WAYS = ("new words", "known words", "same photo")


@dataclass(frozen=True)
class Seconds:
    """Median seconds of one number of words, in the order of `WAYS`."""

    words: int
    ways: tuple[float, float, float]


def measure(encoder: str, method: str, counts: Sequence[int], repeats: int) -> tuple[list[Seconds], str]:
    """Time every number of words; returns the rows and a line that says which weights were used."""
    names = [names[0] for names in read_vocabulary("@ade847").classes]
    rows = []
    for count in counts:
        words = "; ".join(names[:count])
        new = []
        for seed in range(repeats):  # an engine of its own has no text embedding yet
            engine, weights = make_engine(encoder)
            engine.segment(photo(*SIZE, seed=900), "cat", method=method, encoder=encoder)  # weights are read
            new.append(_once(engine, words, seed, method, encoder))
        known = sorted(_once(engine, words, 100 + seed, method, encoder) for seed in range(repeats))
        result = engine.segment(photo(*SIZE, seed=100), words, method=method, encoder=encoder)
        again = median_seconds(lambda: engine.relabel(result, {"threshold": 0.3}), repeats)  # noqa: B023
        rows.append(Seconds(count, (sorted(new)[repeats // 2], known[repeats // 2], again)))
    return rows, weights


def _once(engine: Engine, words: str, seed: int, method: str, encoder: str) -> float:
    seen = photo(*SIZE, seed=seed)
    return median_seconds(lambda: engine.segment(seen, words, method=method, encoder=encoder), 1)


def table(rows: Sequence[Seconds]) -> str:
    """Markdown."""
    lines = ["| words | " + " | ".join(WAYS) + " |", "|---" * (len(WAYS) + 1) + "|"]
    lines += [
        f"| {row.words} | " + " | ".join(f"{seconds:.2f} s" for seconds in row.ways) + " |" for row in rows
    ]
    return "\n".join(lines)


def chart(rows: Sequence[Seconds], title: str, path: Path) -> None:
    """Draw seconds over words, words on a logarithmic axis."""
    figure = Figure(figsize=(6, 3.6), layout="constrained")
    axes = figure.subplots()
    counts = [row.words for row in rows]
    for way, name in enumerate(WAYS):
        axes.plot(counts, [row.ways[way] for row in rows], marker="o", label=name)
    axes.set_xscale("log")
    axes.set_xticks(counts, [str(count) for count in counts])
    axes.minorticks_off()
    axes.set(xlabel="words", ylabel="seconds", title=title, ylim=(0, None))
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=120)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table, and draw it if asked to."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--encoder", default=DEFAULT_ENCODER, choices=ENCODERS)
    parser.add_argument("--method", default=DEFAULT_METHOD, choices=METHODS)
    parser.add_argument("--counts", type=int, nargs="+", default=COUNTS, metavar="N")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--chart", type=Path, metavar="FILE.png")
    options = parser.parse_args(arguments)
    rows, weights = measure(options.encoder, options.method, options.counts, options.repeats)
    print(f"{weights}, {options.method}, {SIZE[0]} x {SIZE[1]}, median of {options.repeats}\n")
    print(table(rows))
    if options.chart is not None:
        chart(rows, f"{METHODS[options.method].title}, one photo of {SIZE[0]} x {SIZE[1]}", options.chart)


if __name__ == "__main__":
    main()
