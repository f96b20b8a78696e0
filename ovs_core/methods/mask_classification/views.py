"""What is worth showing of a mask method's answer: numbers and names, and render-ready `View`s of them.

Maps of places are cut to the photo: padding is not shown. Masks come best first; with a point, those that
hold it come first. A class with synonyms is shown by its best name, as in the answer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType

import torch
import torch.nn.functional as F
from torch import Tensor

from ovs_core.decoders.text_transfer import ToJointSpace
from ovs_core.evidence.base import class_counts
from ovs_core.methods.mask_classification.head import Classified, best_names
from ovs_core.types import Pyramid, View, ViewKind, Vocabulary

TOP = 3  # classes in each ranking of a mask


@dataclass(frozen=True)
class Ranked:
    """One class of a ranking.

    Attributes:
        label: from 1; 0 = other.
        probability: soft-max over classes, in [0, 1].
    """

    label: int
    probability: float


@dataclass(frozen=True)
class MaskReport:
    """What one query says.

    Attributes:
        label: its best class, from 1; 0 = other.
        probability: of that class after "no object" took its part, in [0, 1].
        void: probability of "no object", in [0, 1].
        name: the name that won within the class, as the tower's own features see it.
        in_vocabulary, out_vocabulary: best classes of the trained head and of the tower's features, best
            first.
    """

    label: int
    probability: float
    void: float
    name: str
    in_vocabulary: tuple[Ranked, ...]
    out_vocabulary: tuple[Ranked, ...]


def report_masks(classified: Classified, vocabulary: Vocabulary, *, top: int = 3) -> tuple[MaskReport, ...]:
    """Describe every query of a photo, (N,), in the order of its masks.

    Args:
        classified: from a method's `classify`.
        vocabulary: what was asked.
        top: classes in each ranking.
    """
    labels = (*range(1, len(vocabulary.classes) + 1), *([0] if vocabulary.other else []))
    groups = [*vocabulary.classes, *([vocabulary.other] if vocabulary.other else [])]
    probabilities = classified.log_probabilities.softmax(dim=1)
    best, column = probabilities[:, :-1].max(dim=1)
    known, seen = (
        _rankings(logits[:, :-1], labels, top)
        for logits in (classified.proposed.in_vocabulary, classified.out_vocabulary)
    )
    starts = [sum(map(len, groups[:place])) for place in range(len(groups))]
    reports: list[MaskReport] = []
    for query, place in enumerate(column.tolist()):
        names = groups[place]
        own = classified.name_logits[query, starts[place] : starts[place] + len(names)]
        void = float(probabilities[query, -1])
        name = names[int(own.argmax())]
        reports.append(MaskReport(labels[place], float(best[query]), void, name, known[query], seen[query]))
    return tuple(reports)


def text_shift(classified: Classified) -> Tensor:
    """Cosine of every name with what it became in this photo, (S,), "no object" left out; 1 = unchanged."""
    return F.cosine_similarity(classified.proposed.names, classified.rows, dim=1)[:-1]


@dataclass(frozen=True, eq=False)
class MaskTrace:
    """One answer from inside.

    Attributes:
        classified: from a method's `classify`.
        pyramid: what was looked at.
        vocabulary: what was asked.
        to_joint_space: the tower's head, vectors (n, C) of the dense map to (n, D).
        spatial_transfer: whether tokens of content-dependent transfer are places (official ones are not).
        frozen: dense map (C, h, w) of the tower before tuning; None where it is not at hand.
        point: (row, column), each in [0, 1] of the photo, or None.
    """

    classified: Classified
    pyramid: Pyramid
    vocabulary: Vocabulary
    to_joint_space: ToJointSpace
    spatial_transfer: bool = False
    frozen: Tensor | None = None
    point: tuple[float, float] | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """Shown name of each class, (K,)."""
        return self.vocabulary.names

    @cached_property
    def chances(self) -> Tensor:
        """Probability of each mask, cut to the photo, (N, h, w)."""
        return self.cut(self.classified.proposed.decoded.predictions[-1].masks[0]).sigmoid()

    @cached_property
    def probabilities(self) -> Tensor:
        """Probability of each class, `other` behind them if it has names, and last of "no object"."""
        return self.classified.log_probabilities.softmax(dim=1)

    @cached_property
    def order(self) -> Tensor:
        """Masks in the order they are shown, (N,)."""
        worth = self.probabilities[:, :-1].amax(dim=1)
        if self.point is not None:
            row, column = (
                min(int(part * side), side - 1)
                for part, side in zip(self.point, self.chances.shape[1:], strict=True)
            )
            worth = worth * self.chances[:, row, column]
        return worth.argsort(descending=True, stable=True)

    @cached_property
    def reports(self) -> tuple[MaskReport, ...]:
        """What each mask says, in the order they are shown."""
        reports = report_masks(self.classified, self.vocabulary, top=TOP)
        return tuple(reports[query] for query in self.order.tolist())

    def title(self, label: int) -> str:
        """Shown name of a class."""
        return self.names[label - 1] if label else "other"

    def cut(self, maps: Tensor) -> Tensor:
        """Maps (..., h, w) of the padded frame without cells that hold padding alone."""
        sides = zip(maps.shape[-2:], self.pyramid.frame, self.pyramid.padded, strict=True)
        height, width = (-(-cells * inside // whole) for cells, inside, whole in sides)
        return maps[..., :height, :width]

    def class_cosines(self, dense: Tensor) -> Tensor:
        """Cosine of each cell of a dense map (C, h, w) with each class's best name, (K, h, w)."""
        dense = self.cut(dense)
        vectors = self.to_joint_space(dense.flatten(1).T).float()  # (h*w, D)
        rows = F.normalize(self.classified.rows, dim=1)
        best = best_names(F.normalize(vectors, dim=1) @ rows.T, class_counts(self.vocabulary))
        return best[:, : len(self.names)].T.reshape(-1, *dense.shape[1:])


def mask_method_views(trace: MaskTrace, kinds: AbstractSet[ViewKind]) -> tuple[View, ...]:
    """The views that were asked for, those that do not exist for this method left out."""
    views = (make(trace) for kind, make in _MAKERS.items() if kind in kinds)
    return tuple(view for view in views if view is not None)


def _similarity(trace: MaskTrace) -> View:
    maps = trace.class_cosines(trace.pyramid.dense)
    return View("similarity", "Cosine of what CLIP sees at a place to each class", maps, trace.names)


def _mask_proposals(trace: MaskTrace) -> View:
    labels = tuple(
        f"{place}: {trace.title(report.label)} {report.probability:.0%}, no object {report.void:.0%}"
        for place, report in enumerate(trace.reports, start=1)
    )
    title = "Masks with their class and its probability, surest first"
    return View("mask_proposals", title, trace.chances[trace.order], labels, (0.0, 1.0))


def _query_attention(trace: MaskTrace) -> View:
    queries = trace.probabilities[:, : len(trace.names)].argmax(dim=0)  # (K,)
    attention = trace.classified.proposed.decoded.cross_attention
    return attention_view(attention, queries, trace.names, trace.cut)


def attention_view(
    attention: Sequence[Tensor], queries: Tensor, names: Sequence[str], cut: Callable[[Tensor], Tensor]
) -> View:
    """Layer by layer how much queries take from each place, on the grid of the middle level; 1: an even look.

    Layers look at grids of different sizes, and what a query takes sums to 1 over each: in units of an even
    look all can be seen on one scale.

    Args:
        attention: of each layer, (1, N, h, w) over the padded frame.
        queries: one per name, (K,).
        names: shown names, (K,).
        cut: leaves cells out that hold padding alone.
    """
    layers = [cut(layer[0, queries] * layer[0, 0].numel()) for layer in attention]  # (K, h, w) each
    grid = layers[min(1, len(layers) - 1)].shape[1:]
    # On the CPU, where views go in any case: Apple's GPUs may lack means over parts of cells.
    maps = [F.interpolate(layer[None].cpu(), size=grid, mode="area")[0] for layer in layers]
    labels = tuple(f"{name}, layer {layer}" for name in names for layer in range(1, len(layers) + 1))
    title = "Where the query of each class's best mask looks, layer by layer; 1 is an even look"
    return View("query_attention", title, torch.stack(maps, dim=1).flatten(0, 1), labels)


def _void_shares(trace: MaskTrace) -> View:
    bars = trace.probabilities[trace.order, -1][:, None, None]  # (N, 1, 1)
    labels = tuple(
        f"{place}: {trace.title(report.label)}" for place, report in enumerate(trace.reports, start=1)
    )
    return View("void_shares", 'Probability of "no object" in each mask', bars, labels, (0.0, 1.0))


def _mask_words(trace: MaskTrace) -> View:
    """For each mask its class, the name that won within it, and the best classes of both opinions."""
    words, probabilities = [], []
    for report in trace.reports:
        rankings = (*report.in_vocabulary, *report.out_vocabulary)
        words.append(
            (trace.title(report.label), report.name, *(trace.title(rank.label) for rank in rankings))
        )
        probabilities.append(
            [report.probability, report.probability, *(rank.probability for rank in rankings)]
        )
    top = len(trace.reports[0].in_vocabulary)
    opinions = (f"{who} {place}" for who in ("trained head", "CLIP") for place in range(1, top + 1))
    return View(
        "mask_words",
        "What each mask is called, by the answer, the trained head and CLIP, with probabilities",
        torch.tensor(probabilities)[:, None],  # (N, 1, 2 + 2 * top)
        tuple(str(place) for place in range(1, len(words) + 1)),
        (0.0, 1.0),
        tuple(words),
        ("class", "winning name", *opinions),
    )


def _winning_names(trace: MaskTrace) -> View:
    """For each name the part of its class that it won, over masks weighed by their probability of it."""
    counts = class_counts(trace.vocabulary)[: len(trace.names)]
    groups = torch.split(trace.classified.name_logits[:, : sum(counts)], list(counts), dim=1)
    bars = []
    for column, logits in enumerate(groups):
        weight = trace.probabilities[:, column]
        won = F.one_hot(logits.argmax(dim=1), logits.shape[1]).to(weight)  # (N, names)
        bars.append((weight[:, None] * won).sum(dim=0) / weight.sum())
    labels = tuple(f"{names[0]}: {name}" for names in trace.vocabulary.classes for name in names)
    title = "Which synonym wins its class: part of the class's masks"
    return View("winning_names", title, torch.cat(bars)[:, None, None], labels, (0.0, 1.0))


def _text_shift(trace: MaskTrace) -> View | None:
    if trace.classified.transfer_attention is None:
        return None
    names = sum(len(group) for group in trace.vocabulary.classes)
    bars = text_shift(trace.classified)[:names, None, None]
    title = "Cosine of each name with what it became in this photo (1: unchanged)"
    return View("text_shift", title, bars, trace.vocabulary.rows[:names], (-1.0, 1.0))


def _transfer_attention(trace: MaskTrace) -> View | None:
    """What the shown name of each class takes from each token."""
    attention = trace.classified.transfer_attention
    if attention is None:
        return None
    counts = [len(group) for group in trace.vocabulary.classes]
    rows = [sum(counts[:place]) for place in range(len(counts))]
    maps = attention[rows].reshape(len(rows), *trace.pyramid.dense.shape[1:])
    if trace.spatial_transfer:
        title = "Where each name looks in the photo to adapt itself"
        return View("transfer_attention", title, trace.cut(maps), trace.names)
    title = "Which tokens each name adapts to. NOT A PICTURE: official tokens mix channels and places"
    columns = tuple(f"token {place}" for place in range(1, maps.shape[2] + 1))
    return View("transfer_attention", title, maps, trace.names, columns=columns)


def _frozen_and_tuned(trace: MaskTrace) -> View | None:
    if trace.frozen is None:
        return None
    both = [trace.class_cosines(dense) for dense in (trace.frozen, trace.pyramid.dense)]
    maps = torch.stack(both, dim=1).flatten(0, 1)  # (2 K, h, w)
    labels = tuple(f"{name}, {state}" for name in trace.names for state in ("before", "after"))
    limits = (float(maps.min()), float(maps.max()))
    return View("frozen_and_tuned", "Cosine to each class before and after tuning", maps, labels, limits)


def _feature_change(trace: MaskTrace) -> View | None:
    if trace.frozen is None:
        return None
    before, after = (trace.cut(dense).float() for dense in (trace.frozen, trace.pyramid.dense))
    change = 1 - F.cosine_similarity(before, after, dim=0)[None]  # (1, h, w)
    title = "How far tuning turned the features of each place (1 - cosine)"
    return View("feature_change", title, change, ("change",))


def _rankings(logits: Tensor, labels: tuple[int, ...], top: int) -> list[tuple[Ranked, ...]]:
    """Best classes of each query from logits (N, K)."""
    probabilities, columns = logits.softmax(dim=1).topk(min(top, logits.shape[1]), dim=1)
    return [
        tuple(Ranked(labels[place], probability) for place, probability in zip(places, values, strict=True))
        for places, values in zip(columns.tolist(), probabilities.tolist(), strict=True)
    ]


_MAKERS: Mapping[ViewKind, Callable[[MaskTrace], View | None]] = MappingProxyType(
    {
        "similarity": _similarity,
        "mask_proposals": _mask_proposals,
        "query_attention": _query_attention,
        "void_shares": _void_shares,
        "mask_words": _mask_words,
        "winning_names": _winning_names,
        "text_shift": _text_shift,
        "transfer_attention": _transfer_attention,
        "frozen_and_tuned": _frozen_and_tuned,
        "feature_change": _feature_change,
    }
)
