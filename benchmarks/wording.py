"""How much of a plain name's IoU other words for the same thing keep.

    python -m benchmarks.wording --coco DIR

A photo's own classes are typed (rule a of `benchmarks.labelled_photos`), first by their plain names, then all
of them by a synonym, in the plural, or with an adjective in front. Compared are the classes that have such a
word: mean IoU of each wording over that of the plain names of the same classes.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from benchmarks.labelled_photos import COCO_RULES, open_photos, questions_about
from ovs_core.build import DEFAULT_METHOD, METHODS
from ovs_core.engine import Engine
from ovs_core.evaluation.metrics import class_iou, confusion, draws, margins, totals

SYNONYMS: Mapping[str, str] = MappingProxyType(
    {
        "person": "human", "bicycle": "bike", "car": "automobile", "motorcycle": "motorbike",
        "airplane": "aeroplane", "bus": "coach", "train": "railway train", "truck": "lorry", "boat": "ship",
        "traffic light": "stoplight", "fire hydrant": "hydrant", "bench": "park bench", "bird": "fowl",
        "cat": "kitten", "dog": "puppy", "horse": "pony", "sheep": "lamb", "cow": "cattle",
        "handbag": "purse",
        "tie": "necktie", "suitcase": "luggage", "sports ball": "ball", "cup": "mug", "bottle": "flask",
        "couch": "settee", "potted plant": "houseplant", "dining table": "table", "tv": "television",
        "laptop": "notebook computer", "cell phone": "mobile phone", "refrigerator": "fridge",
        "donut": "doughnut", "clock": "timepiece", "teddy bear": "stuffed bear", "skateboard": "board",
    }
)  # fmt: skip
PLURALS: Mapping[str, str] = MappingProxyType(
    {
        "person": "people", "bus": "buses", "bench": "benches", "sheep": "sheep", "skis": "skis",
        "knife": "knives", "couch": "couches", "toothbrush": "toothbrushes", "sandwich": "sandwiches",
        "wine glass": "wine glasses",
        "mouse": "mice", "scissors": "scissors",
    }
)  # fmt: skip
ADJECTIVES = ("big", "old", "small", "new")
PLAIN = "plain name"
VAL = "val2017"


def wordings(names: Sequence[str]) -> dict[str, list[str | None]]:
    """Each way of saying each name; None where there is no such word of its own."""
    plural = [PLURALS.get(name, f"{name}s") for name in names]
    return {
        PLAIN: list(names),
        "synonym": [SYNONYMS.get(name) for name in names],
        "plural": [word if word != name else None for word, name in zip(plural, names, strict=True)],
        "adjective": [f"{ADJECTIVES[i % len(ADJECTIVES)]} {name}" for i, name in enumerate(names)],
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; 2 for what cannot be measured."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--coco", type=Path, required=True, help="folder with images/ and masks/ of a split")
    parser.add_argument("--split", default=VAL)
    parser.add_argument("--method", choices=tuple(METHODS), default=DEFAULT_METHOD)
    parser.add_argument("--limit", type=int)
    options = parser.parse_args(arguments)
    try:
        photos = open_photos(options.coco, options.split, options.limit)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    engine = Engine("cpu", offline=True)
    said = wordings(photos.dataset.names)
    counted: dict[str, list[NDArray[np.int64]]] = {way: [] for way in said}
    for photo, truth in photos.read():
        question = questions_about(photos.dataset, {"a": COCO_RULES["a"]}, truth).get("a")
        if question is None:
            continue
        for way, words in said.items():
            classes = [words[label - 1] or photos.dataset.names[label - 1] for label in question.classes[1:]]
            vocabulary = replace(question.vocabulary, classes=tuple((word,) for word in classes))
            labels = engine.segment(photo, vocabulary, method=options.method).labels
            matrix = confusion(question.truth, question.answer(labels), len(said[PLAIN]) + 1)
            counted[way].append(margins(matrix))
    stacks = {way: np.stack(rows) for way, rows in counted.items()}
    asked = f"{len(stacks[PLAIN])} photos of {options.split}"
    print(f"{options.method}, {asked}; mean IoU over the classes with such a word\n")
    for way, words in said.items():
        if way != PLAIN:
            print(_line(way, [word is not None for word in words], stacks))
    return 0


def _line(way: str, having: Sequence[bool], stacks: Mapping[str, NDArray[np.int64]]) -> str:
    """Mean IoU both ways, and the share that is kept with its 95 % interval over photos (paired)."""
    which = np.array([False, *having])
    drawn = draws(len(stacks[PLAIN]))

    def mean(total: NDArray[np.number]) -> NDArray[np.float64]:
        return np.nanmean(np.where(which, class_iou(total), np.nan), axis=-1)

    plain, other = (mean(stacks[name].sum(axis=0)) for name in (PLAIN, way))
    kept = mean(totals(stacks[way], drawn)) / mean(totals(stacks[PLAIN], drawn))
    low, high = np.percentile(kept, (2.5, 97.5))
    there = int((~np.isnan(np.where(which, class_iou(stacks[PLAIN].sum(axis=0)), np.nan))).sum())
    return (
        f"- {way}: {100 * other:.1f} for {100 * plain:.1f}, {100 * other / plain:.0f} % kept "
        f"[{100 * low:.0f}, {100 * high:.0f}], {there} classes"
    )


if __name__ == "__main__":
    sys.exit(main())
