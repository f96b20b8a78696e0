"""How much of a plain name's IoU other words for the same thing keep.

    python -m benchmarks.wording --coco DIR

A photo's own classes are typed (rule a of `benchmarks.labelled_photos`), first by their plain names, then all
of them by a synonym, by a rarer word of the kind, in the plural, or with an adjective in front. Compared are
the classes that have such a word: mean IoU of each wording over that of the plain names of the same classes.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from benchmarks.labelled_photos import COCO_RULES, open_photos, questions_about
from ovs_core.engine import Engine
from ovs_core.methods import DEFAULT_METHOD, METHODS
from ovs_core.metrics.confusion import class_iou, label_margins, mean_without_nan
from ovs_core.metrics.resampling import Interval, draws, percentiles, totals

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
# Chosen after the dictionary of near words was made, and without a look into it.
RARER_WORDS: Mapping[str, str] = MappingProxyType(
    {
        "bicycle": "pushbike", "car": "sedan", "motorcycle": "motor scooter", "airplane": "jet plane",
        "bus": "omnibus", "train": "locomotive", "truck": "pickup truck", "boat": "dinghy",
        "traffic light": "traffic signal", "fire hydrant": "fireplug", "bird": "songbird", "cat": "tomcat",
        "dog": "hound", "horse": "stallion", "sheep": "ewe", "cow": "heifer", "bear": "grizzly",
        "backpack": "rucksack", "umbrella": "parasol", "handbag": "pocketbook", "suitcase": "valise",
        "bottle": "carafe", "cup": "teacup", "bowl": "basin", "knife": "butter knife", "sandwich": "burger",
        "cake": "torte", "chair": "armchair", "couch": "loveseat", "potted plant": "pot plant", "bed": "cot",
        "dining table": "dinner table", "toilet": "commode", "tv": "telly", "laptop": "portable computer",
        "cell phone": "smartphone", "oven": "stove", "sink": "washbasin", "refrigerator": "icebox",
        "book": "paperback", "clock": "alarm clock", "vase": "urn", "teddy bear": "teddy",
        "skateboard": "longboard",
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


@dataclass(frozen=True)
class Kept:
    """One wording against the plain names, over the classes that have such a word and are in the truth.

    Attributes:
        plain, other: mean IoU in [0, 1] with the plain names and with the wording.
        kept: the second over the first.
        classes: how many they are.
    """

    plain: float
    other: float
    kept: Interval
    classes: int


def wordings(names: Sequence[str]) -> dict[str, list[str | None]]:
    """Each way of saying each name; None where there is no such word of its own."""
    plural = [PLURALS.get(name, f"{name}s") for name in names]
    return {
        PLAIN: list(names),
        "synonym": [SYNONYMS.get(name) for name in names],
        "rarer word": [RARER_WORDS.get(name) for name in names],
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
    parser.add_argument("--json", type=Path, help="write the numbers here, shares in [0, 1]")
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
            answer, known = question.answer(labels), question.truth.known
            counted[way].append(label_margins(question.truth.labels, answer, len(said[PLAIN]) + 1, known))
    if not counted[PLAIN]:
        print("No photo could be measured: none was readable and had a class.", file=sys.stderr)
        return 2
    stacks = {way: np.stack(rows) for way, rows in counted.items()}
    asked = f"{len(stacks[PLAIN])} photos of {options.split}"
    print(f"{options.method}, {asked}; mean IoU over the classes with such a word\n")
    found = {
        way: kept([word is not None for word in words], stacks[PLAIN], stacks[way])
        for way, words in said.items()
        if way != PLAIN
    }
    for way, one in found.items():
        print(_line(way, one))
    if options.json is not None:
        content = {
            "method": options.method,
            "photos": len(stacks[PLAIN]),
            "wordings": {way: asdict(one) for way, one in found.items()},
        }
        options.json.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return 0


def kept(having: Sequence[bool], plain: NDArray[np.int64], other: NDArray[np.int64]) -> Kept:
    """Compare a wording with the plain names, paired by photo.

    Args:
        having: whether each class has such a word, (K,).
        plain: margins of each photo with the plain names, (N, 3, K + 1).
        other: the same with the wording.
    """
    which = np.array([False, *having])
    drawn = draws(len(plain))

    def mean(total: NDArray[np.number]) -> NDArray[np.float64]:
        return mean_without_nan(np.where(which, class_iou(total), np.nan))

    before, after = (mean(stack.sum(axis=0)) for stack in (plain, other))
    with np.errstate(divide="ignore", invalid="ignore"):  # nothing found by the plain name: nothing to keep
        share = np.divide(after, before)
        shares = mean(totals(other, drawn)) / mean(totals(plain, drawn))
    classes = int((~np.isnan(np.where(which, class_iou(plain.sum(axis=0)), np.nan))).sum())
    return Kept(float(before), float(after), percentiles(float(share), shares), classes)


def _line(way: str, one: Kept) -> str:
    """Mean IoU both ways, and the share that is kept with its 95 % interval over photos."""
    value, low, high = (100 * number for number in (one.kept.value, one.kept.low, one.kept.high))
    return (
        f"- {way}: {100 * one.other:.1f} for {100 * one.plain:.1f}, {value:.0f} % kept "
        f"[{low:.0f}, {high:.0f}], {one.classes} classes"
    )


if __name__ == "__main__":
    sys.exit(main())
