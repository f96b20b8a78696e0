"""How much of a plain name's IoU other words for the same thing keep.

A photo's own classes are typed (question a of `recipes.mini.exam`), first by their plain names, then all of
them by a synonym, by a rarer word of the kind, in the plural, or with an adjective in front. Compared are the
classes that have such a word: mean IoU of each wording over that of the plain names of the same classes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from ovs_core.evaluation.records import PhotoRecord
from ovs_core.labelled.datasets import Dataset
from ovs_core.metrics.confusion import class_iou, margins, mean_without_nan
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


def with_words(dataset: Dataset, words: Sequence[str | None]) -> Dataset:
    """The same photos, with classes called by other words where there are such."""
    pairs = zip(dataset.classes, words, strict=True)
    return dataclasses.replace(dataset, classes=tuple((word,) if word else names for names, word in pairs))


def margins_of(records: Sequence[PhotoRecord], classes: int) -> NDArray[np.int64]:
    """Margins of every photo that was answered, (N, 3, classes), background included."""
    return np.stack([margins(record.confusion(classes)) for record in records if record.cells])


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
        part = np.divide(after, before)
        parts = mean(totals(other, drawn)) / mean(totals(plain, drawn))
    classes = int((~np.isnan(np.where(which, class_iou(plain.sum(axis=0)), np.nan))).sum())
    return Kept(float(before), float(after), percentiles(float(part), parts), classes)
