"""Label maps that another program has written, measured like a method.

A folder holds one map for each photo, named by the photo's key: `KEY.png` (or .tif, .tiff, .bmp), or our own
`KEY.labels.png` and `KEY.METHOD.labels.png`. What its values mean is said, in this order, by

    KEY.METHOD.json beside one of our own maps: its classes by name;
    classes.txt in the folder, with lines like "1 dog": its classes by name;
    the dataset's own masks: a map has the values that a mask would have.

A class that the dataset does not have, or that was not typed, is other (0).
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ovs_core.evaluation.questions import Question
from ovs_core.evaluation.run import Answer, AnswerError, Subject
from ovs_core.image import Photo
from ovs_core.labelled.class_lists import read_classes
from ovs_core.labelled.datasets import CLASS_LIST, Dataset
from ovs_core.labelled.files import MASK_ENDS, Example, keyed_files
from ovs_core.labelled.mask_values import MaskValues, mask_values, read_mask

_OURS = ".labels"


@dataclass(frozen=True, eq=False)
class _Folder:
    """Label maps of a folder.

    Attributes:
        name: of the subject, which may be the method in the names of our own maps.
        path: of the folder.
        maps: key -> files.
        values: class of the dataset that a value means, where no map says so itself.
    """

    name: str
    path: Path
    maps: Mapping[str, tuple[Path, ...]]
    values: MaskValues

    def map_of(self, example: Example) -> Path | None:
        """The label map of a photo, by its whole key or by its file name alone; None if there is none."""
        for key in dict.fromkeys((example.key, example.key.rpartition("/")[2], example.photo.stem)):
            for spelling in (key, f"{key}{_OURS}", f"{key}.{self.name}{_OURS}"):
                if spelling in self.maps:
                    return self.maps[spelling][0]
            ours = [name for name in self.maps if name.startswith(f"{key}.") and name.endswith(_OURS)]
            if len(ours) == 1:
                return self.maps[ours[0]][0]
        return None


def prediction_subject(name: str, folder: Path, dataset: Dataset) -> Subject:
    """A folder of label maps as something that is measured.

    Raises:
        ValueError: if the folder is not there, holds no map of any photo, or its class list cannot be used.
    """
    if not folder.is_dir():
        raise ValueError(f'--predictions: there is no folder "{folder}".')
    class_list = folder / CLASS_LIST
    values, meaning = dataset.values, "as in the masks of the dataset"
    if class_list.is_file():
        listed = read_classes(class_list)
        names = {value: listed.classes[label - 1] for value, label in listed.values.pairs() if label}
        values, meaning = _by_name(names.items(), dataset), CLASS_LIST
    maps = _Folder(name, folder, keyed_files(folder, MASK_ENDS), values)
    if not any(maps.map_of(example) for example in dataset.examples):
        example = dataset.examples[0].key
        raise ValueError(f'--predictions: "{folder}" holds no label map of any photo, like {example}.png.')

    def files(example: Example) -> tuple[Path, ...]:
        path = maps.map_of(example)
        beside = () if path is None else (path, _report_of(path), class_list)
        return tuple(each for each in beside if each.is_file())

    def answer(example: Example, photo: Photo, question: Question) -> Answer:
        started = time.perf_counter()
        path = maps.map_of(example)
        if path is None:
            raise AnswerError(f"{folder.name} holds no label map of {example.key}.")
        try:
            mask = read_mask(path, photo.size)
            own = _own_values(path, dataset) or maps.values
        except ValueError as error:
            raise AnswerError(str(error)) from error
        return Answer(_typed_only(own.labels[mask], question), {"read": time.perf_counter() - started})

    about = {"predictions": folder.resolve().name, "values": meaning}
    return Subject(name, about, answer, files=files)


def _report_of(path: Path) -> Path:
    """The JSON report that stands beside one of our own label maps."""
    return path.with_name(f"{path.name.removesuffix(path.suffix).removesuffix(_OURS)}.json")


def _own_values(path: Path, dataset: Dataset) -> MaskValues | None:
    """What the values of one of our own label maps mean, from its report; None if it has none.

    Raises:
        ValueError: if the report cannot be read.
    """
    report = _report_of(path)
    if not path.stem.endswith(_OURS) or not report.is_file():
        return None
    try:
        classes = json.loads(report.read_text(encoding="utf-8"))["classes"]
        names = [(int(entry["id"]), tuple(map(str, entry["names"]))) for entry in classes if entry["id"]]
        return _by_name(names, dataset)
    except (OSError, ValueError, TypeError, KeyError, IndexError) as error:
        raise ValueError(f"{report.name} is not the report of {path.name}.") from error


def _by_name(names: Iterable[tuple[int, tuple[str, ...]]], dataset: Dataset) -> MaskValues:
    """Values by the names of their classes: the dataset's class that shares any of them, else other."""
    label_of = {
        name.casefold(): label
        for label, group in reversed(list(enumerate(dataset.classes, start=1)))
        for name in reversed(group)
    }
    return mask_values(
        (value, next((label_of[name.casefold()] for name in group if name.casefold() in label_of), 0))
        for value, group in names
    )


def _typed_only(classes: NDArray[np.uint16], question: Question) -> NDArray[np.uint16]:
    """Classes (H, W) that were typed; the others become other."""
    return np.where(np.isin(classes, question.classes), classes, 0).astype(np.uint16)
