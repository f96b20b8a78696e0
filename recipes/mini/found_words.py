"""How well the embedded model finds words, measured on labelled photos that did not teach it.

    python -m recipes.mini found --data coco=DIR --data nyu=DIR --data msrc=DIR --data camvid=DIR --out DIR

The names of a photo's own classes are typed, as a person does who sees it, with the hidden list of
everything else. Pixels of all photos with a word are counted together, whatever set they are of.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from ovs_core.encoders.found_words import FEWEST_PHOTOS, FOUND_WORDS, FoundWord, write_found_words
from ovs_core.engine import Engine
from ovs_core.evaluation.records import PhotoRecord
from ovs_core.evaluation.run import Settings, engine_subject
from ovs_core.labelled.datasets import Dataset
from ovs_core.methods import DEFAULT_METHOD
from ovs_core.metrics.confusion import margins
from ovs_core.training.data import SYNONYMS
from recipes.mini.exam import Exam, exams, run
from recipes.mini.labelled_sets import DECLARED

log = logging.getLogger(__name__)

# Set -> photos of it, evenly spaced: every kept one of COCO, whose words are seldom repeated.
MOST_PHOTOS: Mapping[str, int] = MappingProxyType({"coco": 100, "nyu": 100, "msrc": 50, "camvid": 30})


def measure_words(engine: Engine, weights: str, folders: Mapping[str, Path], out: Path) -> Path:
    """Ask about every photo and write `found_words.tsv`; returns the file.

    Args:
        engine: with the tower that the table is for.
        weights: what is asked, by `ovs_core.encoders.found_words.weights_asked`.
        folders: any of the sets in `MOST_PHOTOS`.
        out: folder to write to; a stopped run goes on there.

    Raises:
        ValueError: if a folder is laid out otherwise.
    """
    out.mkdir(parents=True, exist_ok=True)
    counted: list[tuple[Dataset, Sequence[PhotoRecord]]] = []
    for name, root in folders.items():
        exam = _as_typed(exams({name: root}, "kept", MOST_PHOTOS[name])[0])
        subject = engine_subject(engine, DEFAULT_METHOD, exam.dataset, exam.settings)
        log.info("%s, %d photos", name, len(exam.dataset.examples))
        counted.append((exam.dataset, run(exam, subject, out / f"{name}.jsonl")))
    path = out / FOUND_WORDS
    write_found_words(path, weights, found_words(counted))
    return path


def _as_typed(exam: Exam) -> Exam:
    """The same photos, of which their own classes are typed, against everything else."""
    dataset = replace(exam.dataset, background="default")
    return Exam(exam.name, dataset, Settings(classes_in_image=True))


def found_words(counted: Iterable[tuple[Dataset, Sequence[PhotoRecord]]]) -> list[FoundWord]:
    """Sum up each word over all sets; words in few photos are left out.

    Args:
        counted: sets, and what was counted of their photos.
    """
    pixels: dict[str, NDArray[np.int64]] = {}  # photos, right, right or wrong
    for dataset, records in counted:
        for record in records:
            right, truth, answer = margins(record.confusion(len(dataset.names) + 1))
            for label in record.typed:
                union = truth[label] + answer[label] - right[label]
                added = np.array([truth[label] > 0, right[label], union], np.int64)
                name = dataset.names[label - 1]
                pixels[name] = pixels.get(name, 0) + added
    synonyms = _synonyms()
    return [
        FoundWord(word, float(right / union), int(photos), synonyms.get(word, ()))
        for word, (photos, right, union) in sorted(pixels.items())
        if photos >= FEWEST_PHOTOS
    ]


def _synonyms() -> dict[str, tuple[str, ...]]:
    """Other names that the lists give to what a word names; none that another word has for its own."""
    groups = [*SYNONYMS.values(), *(words for names in DECLARED.values() for words in names.words.values())]
    own = {words[0] for words in groups}
    others: dict[str, dict[str, None]] = {}
    for words in groups:
        others.setdefault(words[0], {}).update(dict.fromkeys(words[1:]))
    return {word: tuple(name for name in names if name not in own) for word, names in others.items()}
