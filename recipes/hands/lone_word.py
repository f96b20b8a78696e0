"""One word alone: every name of a dataset asked about every photo, under several rules for the hidden list.

A photo is looked at once (`recipes.hands.points`); every name is embedded once; a rule is a choice among
rows that are scored already. What a rule answers at a point is what `decide` says of the same rows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ovs_core.encoders.lone_word import MARGIN
from ovs_core.image import Photo
from ovs_core.labelled.datasets import Dataset, read_example
from ovs_core.labelled.mask_values import known_pixels
from ovs_core.metrics.resampling import interval, paired_difference
from ovs_core.types import Vocabulary
from ovs_core.vocabulary import read_vocabulary
from recipes.hands.lines import Counts, Line, Told, ratio
from recipes.hands.points import Viewer, truth_at

Answers = Mapping[str, Tensor]


@dataclass(frozen=True)
class Rule:
    """Which everyday things stand against a lone word, and how strongly.

    Attributes:
        name: in the table.
        margin: cosine that is taken off each of them; None leaves them all out.
        near: those with at least this cosine to the typed word are left out; None keeps them.
    """

    name: str
    margin: float | None = None
    near: float | None = None


RULES = (
    Rule("no everyday things"),
    Rule("all of them", 0.0),
    Rule("without near ones", 0.0, 0.5),
    *(
        Rule(f"taken down by {margin:g}{', the rule' if margin == MARGIN else ''}", margin)
        for margin in (0.04, 0.06, 0.08, 0.1, 0.12, 0.15)
    ),
    Rule(f"without near ones, by {MARGIN / 2:g}", MARGIN / 2, 0.5),
)


@dataclass(frozen=True, eq=False)
class LoneWord:
    """Rows of a bank that compete where one class is typed.

    Attributes:
        typed, hidden, guards: of the class, of the hidden list, and the everyday things.
        nearness: cosine of each guard to the nearest typed name, (G,).
    """

    typed: Tensor
    hidden: Tensor
    guards: Tensor
    nearness: Tensor


def words_of(
    viewer: Viewer, classes: Sequence[Sequence[str]], background: str
) -> tuple[Tensor, list[LoneWord]]:
    """Every class typed alone: all their rows once, (S, D), and which of them each one is asked with."""
    asked = [viewer.asked(read_vocabulary("|".join(names), background)) for names in classes]
    rows = tuple(dict.fromkeys(row for vocabulary in asked for row in vocabulary.rows))
    bank = viewer.bank(Vocabulary(tuple((row,) for row in rows))).embeddings
    place = {row: number for number, row in enumerate(rows)}

    def word(vocabulary: Vocabulary) -> LoneWord:
        typed, *others = (
            torch.tensor([place[row] for row in names], dtype=torch.long)
            for names in (
                vocabulary.asked[0],
                [name for name in vocabulary.other if name not in vocabulary.guards],
                [name for name in vocabulary.other if name in vocabulary.guards],
            )
        )
        hidden, guards = others
        return LoneWord(typed, hidden, guards, (bank[guards] @ bank[typed].T).amax(1))

    return bank, [word(vocabulary) for vocabulary in asked]


@dataclass(frozen=True, eq=False)
class Scores:
    """All rows at points, ready for soft-maxes: (S, P) each.

    Attributes:
        scaled: cosines times the scale, less the largest of each point.
        powers: e to that.
    """

    scaled: Tensor
    powers: Tensor

    @classmethod
    def of(cls, cosines: Tensor, scale: float) -> Scores:
        """Of cosines (S, P)."""
        scaled = cosines * scale
        scaled -= scaled.amax(0)
        return cls(scaled, scaled.exp())

    def best(self, rows: Tensor) -> Tensor:
        """The largest of some rows, (P,); of none -inf."""
        if not len(rows):
            return self.scaled.new_full(self.scaled.shape[1:], -math.inf)
        return self.scaled[rows].amax(0)


def answers(scores: Scores, word: LoneWord, rules: Sequence[Rule], scale: float, threshold: float) -> Answers:
    """Where each rule gives the word a point, (P,) bool.

    As `ovs_core.evidence.decide`: the best row wins, the first of equals, if its part of the soft-max is not
    below the threshold.

    Args:
        scores: of all rows at points.
        word: which of them compete.
        rules: are answered side by side.
        scale: as for `decide`.
        threshold: as for `decide`.
    """
    best, rival = scores.best(word.typed), scores.best(word.hidden)
    own = best.exp()
    total = scores.powers[word.typed].sum(0) + scores.powers[word.hidden].sum(0)
    guarded: dict[float | None, tuple[Tensor, Tensor]] = {}
    found: dict[str, Tensor] = {}
    for rule in rules:
        if rule.margin is None:
            found[rule.name] = (best >= rival) & (own >= threshold * total)
            continue
        if rule.near not in guarded:
            rows = word.guards if rule.near is None else word.guards[word.nearness < rule.near]
            guarded[rule.near] = scores.best(rows), scores.powers[rows].sum(0)
        strongest, mass = guarded[rule.near]
        down = scale * rule.margin
        wins = best >= torch.maximum(rival, strongest - down)
        found[rule.name] = wins & (own >= threshold * (total + math.exp(-down) * mass))
    return found


def lone_words(
    viewer: Viewer, dataset: Dataset, told: Told, look: Callable[[Photo], Tensor] | None = None
) -> Iterator[Line]:
    """Every class asked alone about every photo, on all photos, the even ones and the odd ones.

    Args:
        viewer: is asked.
        dataset: photos and names.
        told: hears how far it is.
        look: points of a photo; None takes the viewer's.
    """
    bank, words = words_of(viewer, dataset.classes, dataset.background or "default")
    counts: dict[str, list[Counts]] = {rule.name: [] for rule in RULES}
    for number, example in enumerate(dataset.examples, start=1):
        photo, truth = read_example(dataset, example)
        points = (look or viewer.points)(photo)
        seen = truth_at(truth, (points.shape[1], points.shape[2]))
        known = known_pixels(seen)
        cosines = (bank @ points.flatten(1))[:, torch.from_numpy(known.ravel())]
        scores = Scores.of(cosines, viewer.preset.scale)
        for name, sums in _counted(viewer, scores, words, seen.labels[known]).items():
            counts[name].append(sums)
        told(f"lone word: {number} of {len(dataset.examples)}")
    arrays = {name: np.array(sums) for name, sums in counts.items()}
    for part, photos in (("all", slice(None)), ("even", slice(0, None, 2)), ("odd", slice(1, None, 2))):
        yield from _lines(f"coco val, {part}", {name: sums[photos] for name, sums in arrays.items()})


def _counted(
    viewer: Viewer, scores: Scores, words: Sequence[LoneWord], truth: NDArray[np.integer]
) -> dict[str, Counts]:
    """Sums of a photo by rule, (4,).

    False parts of the photo over the absent classes, how many those are, IoU over the present classes, how
    many those are.
    """
    sums = {rule.name: np.zeros(4) for rule in RULES}
    labels = torch.from_numpy(truth.astype(np.int64))
    for label, word in enumerate(words, start=1):
        there = labels == label
        present = int(there.sum())
        found = answers(scores, word, RULES, viewer.preset.scale, viewer.preset.threshold)
        for name, answered in found.items():
            area = int(answered.sum())
            if present:
                right = int((answered & there).sum())
                sums[name][2:] += right / (area + present - right), 1
            else:
                sums[name][:2] += area / max(1, len(labels)), 1
    return sums


def _lines(question: str, counts: Mapping[str, Counts]) -> Iterator[Line]:
    """Two numbers of each rule, and their differences to the first one."""
    first = counts[RULES[0].name]
    metrics: dict[str, Callable[[NDArray[np.number]], NDArray[np.float64]]] = {
        "false area where absent": lambda sums: ratio(sums[..., :2]),
        "IoU where present": lambda sums: ratio(sums[..., 2:]),
    }
    for metric, statistic in metrics.items():
        for rule in RULES:
            own = counts[rule.name]
            change = None if own is first else paired_difference(own, first, statistic)
            value = interval(own, statistic)
            yield Line("lone word", question, rule.name, metric, len(own), value, change)
