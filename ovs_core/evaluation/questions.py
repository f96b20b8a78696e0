"""What is typed about a photo, and what the right answer would be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ovs_core.labelled.datasets import Dataset
from ovs_core.labelled.mask_values import known_pixels
from ovs_core.types import LabelMap, Vocabulary
from ovs_core.vocabulary import parse_vocabulary


@dataclass(frozen=True, eq=False)
class Question:
    """Some of a dataset's classes, typed about one photo.

    Attributes:
        vocabulary: what is typed, k classes.
        classes: class of the dataset that each label of an answer means, (k + 1,); label 0 is background.
        truth: of the photo, in classes of the dataset, as far as it can be answered.
    """

    vocabulary: Vocabulary
    classes: NDArray[np.uint16]
    truth: LabelMap

    @property
    def typed(self) -> tuple[int, ...]:
        """The classes that are typed, numbered from 1."""
        return tuple(int(label) for label in self.classes[1:])

    def answer(self, labels: NDArray[np.integer]) -> NDArray[np.uint16]:
        """Labels of an answer, (H, W), as classes of the dataset.

        Raises:
            ValueError: if the answer has another size or more classes than were typed.
        """
        if labels.shape != self.truth.shape or labels.max(initial=0) >= len(self.classes):
            expected = f"{self.truth.shape} of 0..{len(self.classes) - 1}"
            raise ValueError(f"labels must be {expected}, got {labels.shape} up to {labels.max(initial=0)}")
        return self.classes[labels]


def present(truth: LabelMap) -> list[int]:
    """The classes in a photo, in the dataset's order."""
    return [int(label) for label in np.unique(truth.labels[known_pixels(truth)]) if label > 0]


def make_question(dataset: Dataset, truth: LabelMap, typed: Sequence[int], other: bool) -> Question:
    """Type some classes about a photo.

    Args:
        dataset: whose classes they are.
        truth: of the photo.
        typed: classes, numbered from 1.
        other: with the hidden background names, truth that was not typed being background; else plain argmax
            over the typed names, measured on their pixels only.

    Raises:
        ValueError: if a name of the dataset cannot be typed.
    """
    classes = tuple(dataset.classes[label - 1] for label in typed)
    hidden = hidden_names(classes, (dataset.background or "default") if other else "none")
    labels, known = np.zeros(len(dataset.classes) + 1, np.uint16), np.full(len(dataset.classes) + 1, other)
    labels[list(typed)], known[list(typed)] = typed, True
    seen = LabelMap(labels[truth.labels], truth.classes, known_pixels(truth) & known[truth.labels])
    return Question(Vocabulary(classes, hidden), np.array([0, *typed], np.uint16), seen)


def hidden_names(classes: Sequence[tuple[str, ...]], background: str) -> tuple[str, ...]:
    """Hidden names for "none of these classes"; `background` as for `parse_vocabulary`.

    Raises:
        ValueError: if a name holds a sign that separates names.
    """
    parsed = parse_vocabulary(";".join("|".join(names) for names in classes), background)
    given = {name for names in classes for name in names}
    if not {name for names in parsed.classes for name in names} <= given:
        raise ValueError("The class list must hold names without the signs ; , and |.")
    return parsed.other
