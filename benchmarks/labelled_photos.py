"""What the quality measurements ask about a labelled photo: the rules of the model card."""

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from ovs_core.evaluation.questions import Question, make_question, present
from ovs_core.image import Photo
from ovs_core.labelled.datasets import FOLDER, Dataset, open_dataset, read_example
from ovs_core.types import LabelMap

VOC_IN_COCO = (
    "airplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "dining table", "dog", "horse", "motorcycle", "person", "potted plant", "sheep", "couch", "train", "tv",
)  # fmt: skip
"""PASCAL VOC's classes in COCO's words."""


@dataclass(frozen=True)
class Rule:
    """What is typed about a photo, and which pixels count.

    Attributes:
        title: column of the table.
        description: one line for people.
        typed: the photo's own classes, all of the folder's, or VOC's twenty.
        other: see `ovs_core.evaluation.questions.make_question`.
    """

    title: str
    description: str
    typed: Literal["present", "all", "voc"]
    other: bool


COCO_RULES: Mapping[str, Rule] = MappingProxyType(
    {
        "a": Rule("a", "the photo's own classes typed, + other; background counts", "present", True),
        "a_fg": Rule(
            "a, foreground", "the photo's own classes, no other; their pixels only", "present", False
        ),
        "b": Rule("b", "all classes typed, + other; background counts", "all", True),
        "b_fg": Rule("b, foreground", "all classes typed, no other; labelled pixels only", "all", False),
        "c": Rule("c", "VOC's 20 classes typed, + other; everything else is background", "voc", True),
    }
)
CAMVID_RULES: Mapping[str, Rule] = MappingProxyType(
    {"camvid": Rule("CamVid", "its classes typed, no other; void left out", "all", False)}
)


@dataclass(frozen=True, eq=False)
class Photos:
    """Labelled photos, and sentences about those that could not be used, filled by `read`."""

    dataset: Dataset
    skipped: list[str] = field(default_factory=list)

    def read(self) -> Iterator[tuple[Photo, LabelMap]]:
        """Yield photo and truth; what cannot be read is named on the error stream and left out."""
        for number, example in enumerate(self.dataset.examples, start=1):
            try:
                photo, truth = read_example(self.dataset, example)
            except ValueError as error:
                self.skipped.append(f"{example.photo.name}: {error}")
                print(f"left out {self.skipped[-1]}", file=sys.stderr)
                continue
            yield photo, truth
            if number % 20 == 0:
                print(f"{number} of {len(self.dataset.examples)} photos", file=sys.stderr, flush=True)


def open_photos(root: Path, split: str, limit: int | None) -> Photos:
    """Find the labelled photos of a plain folder; arguments and errors as for `open_dataset`."""
    return Photos(open_dataset(FOLDER, root, split=split, limit=limit))


def questions_about(dataset: Dataset, rules: Mapping[str, Rule], truth: LabelMap) -> dict[str, Question]:
    """Apply every rule to a photo's truth; a rule is absent where there is nothing to type.

    Raises:
        ValueError: if the folder lacks one of VOC's classes, or its names cannot be typed.
    """
    asked = {metric: (_typed(dataset, rule, truth), rule.other) for metric, rule in rules.items()}
    return {
        metric: make_question(dataset, truth, typed, other)
        for metric, (typed, other) in asked.items()
        if typed
    }


def _typed(dataset: Dataset, rule: Rule, truth: LabelMap) -> list[int]:
    """Classes that a rule types about a photo."""
    if rule.typed == "present":
        return present(truth)
    if rule.typed == "all":
        return list(range(1, len(dataset.names) + 1))
    for name in VOC_IN_COCO:
        if name not in dataset.names:
            raise ValueError(f"classes.txt must list VOC's classes in COCO's words; {name!r} is not there.")
    return [dataset.names.index(name) + 1 for name in VOC_IN_COCO]
