"""The weight of a box beside its word: the photo's own classes asked, one box of each on a train photo.

Photos and boxes are looked at once (`recipes.hands.points`); every weight is another mean of the same rows.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ovs_core.evaluation.questions import Question
from ovs_core.evaluation.records import PhotoRecord, count
from ovs_core.evaluation.run import Settings, question_for
from ovs_core.evaluation.summary import differences, summarise
from ovs_core.image import Photo, read_photo
from ovs_core.labelled.datasets import Dataset, read_example
from ovs_core.vocabulary.boxes import Box
from ovs_core.vocabulary.exemplars import Exemplar, exemplar_vocabulary, with_exemplars
from recipes.hands.lines import Line, Told
from recipes.hands.points import Viewer, truth_at
from recipes.mini.exam import MIOU, with_classes

WEIGHTS = (0.05, 0.1, 0.15, 0.2, 0.3)
WORD, BOX = "word", "box"
METRICS = (MIOU, "seen_miou", "unseen_miou")
LARGEST_BOX = 0.8  # part of its photo; a larger box says nothing about the thing alone


@dataclass(frozen=True)
class Ask:
    """How a photo's classes are asked: by words, by boxes, or by words that boxes lean towards themselves."""

    name: str
    words: bool = True
    weight: float | None = None


ASKS = (Ask(WORD), *(Ask(f"word and box, weight {w:g}", weight=w) for w in WEIGHTS), Ask(BOX, False, 0.0))


def exemplars(
    viewer: Viewer,
    root: Path,
    dataset: Dataset,
    unseen: Sequence[str],
    told: Told,
    look: Callable[[Photo], Tensor] | None = None,
    vectors: Mapping[str, Tensor] | None = None,
) -> Iterator[Line]:
    """Measure every weight on all photos, the even ones and the odd ones.

    Args:
        viewer: is asked.
        root: COCO in the layout of `instances.json`, `images/train2017`.
        dataset: val photos and all names.
        unseen: names that the weights did not learn; measured apart from the others.
        told: hears how far it is.
        look: points of a photo; None takes the viewer's.
        vectors: of the boxes, by name; None looks at their photos.
    """
    if vectors is None:
        vectors = {}
        for name, (path, box) in train_boxes(root, dataset.names).items():
            vectors[name] = viewer.box(Exemplar(read_photo(path), box, name))
            told(f"boxes: {len(vectors)} looked at")
    dataset = with_classes(dataset, [name for name in dataset.names if name in vectors])
    records: dict[str, list[PhotoRecord]] = {ask.name: [] for ask in ASKS}
    for number, example in enumerate(dataset.examples, start=1):
        photo, truth = read_example(dataset, example)
        points = (look or viewer.points)(photo)
        seen = truth_at(truth, (points.shape[1], points.shape[2]))
        question = question_for(dataset, example, seen, Settings(classes_in_image=True))
        if question is None:
            continue
        for ask in ASKS:
            answer = _answer(viewer, points, question, dataset, vectors, ask)
            records[ask.name].append(count(example.key, question, answer, len(dataset.classes) + 1))
        told(f"weights of boxes: {number} of {len(dataset.examples)}")
    labels = [dataset.names.index(name) + 1 for name in unseen if name in dataset.names]
    for part, photos in (("all", slice(None)), ("even", slice(0, None, 2)), ("odd", slice(1, None, 2))):
        some = {name: rows[photos] for name, rows in records.items()}
        yield from _lines(f"coco a, {part}", some, dataset, labels)


def _answer(
    viewer: Viewer,
    points: Tensor,
    question: Question,
    dataset: Dataset,
    vectors: Mapping[str, Tensor],
    ask: Ask,
) -> NDArray[np.integer]:
    """Classes of the dataset at points (D, h, w), (h, w)."""
    names = [dataset.names[label - 1] for label in question.typed]
    called = names if ask.words else [f"thing {number}" for number in range(1, len(names) + 1)]
    typed, hidden = question.vocabulary if ask.words else None, "; ".join(question.vocabulary.other)
    bank = viewer.bank(viewer.asked(exemplar_vocabulary(typed, called, hidden or "none")))
    if ask.weight is not None:
        boxes = [(name, vectors[own]) for name, own in zip(called, names, strict=True)]
        bank = with_exemplars(bank, boxes, ask.weight)
    return question.answer(viewer.labels(points, bank))


def _lines(
    question: str, records: Mapping[str, Sequence[PhotoRecord]], dataset: Dataset, unseen: Sequence[int]
) -> Iterator[Line]:
    """MIoU of each way to ask, and its difference to the word."""
    for name, own in records.items():
        summary: Any = summarise(own, dataset, unseen)
        change = {} if name == WORD else differences(own, records[WORD], dataset, unseen)
        for metric in METRICS:
            if metric in summary.metrics:
                value = summary.metrics[metric]
                yield Line("exemplars", question, name, metric, summary.counted, value, change.get(metric))


def train_boxes(root: Path, names: Sequence[str]) -> dict[str, tuple[Path, Box]]:
    """One box a class: its largest instance in the train photos that does not fill its photo.

    Raises:
        ValueError: if the annotations cannot be read.
    """
    path = root / "instances.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        photos = {photo["id"]: photo for photo in content["images"]}
        called = {category["id"]: category["name"] for category in content["categories"]}
        instances = sorted(content["annotations"], key=lambda instance: (-instance["area"], instance["id"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} holds no instances that can be read: {error!r}.") from error
    boxes: dict[str, tuple[Path, Box]] = {}
    for instance in instances:
        name, photo = called[instance["category_id"]], photos[instance["image_id"]]
        file = root / "images" / "train2017" / photo["file_name"]
        left, top, width, height = instance["bbox"]
        whole = width * height > LARGEST_BOX * photo["width"] * photo["height"]
        if name not in names or name in boxes or instance["iscrowd"] or whole or not file.is_file():
            continue
        right, bottom = min(left + width, photo["width"]), min(top + height, photo["height"])
        boxes[name] = (file, (left, top, right, bottom))
    return boxes
