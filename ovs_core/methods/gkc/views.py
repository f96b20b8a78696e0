"""What is worth showing of GKC: its masks, what each query might be, how far it learnt its teacher's order.

Maps of places are cut to the photo. Masks come best first; with a point, those that hold it come first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType

import torch
import torch.nn.functional as F
from torch import Tensor

from ovs_core.decoders.mask_decoder import Decoded
from ovs_core.evidence.proposals import MaskProposals
from ovs_core.methods.mask_classification.views import attention_view
from ovs_core.types import View, ViewKind

TOP = 5  # classes in the ranking of a query


@dataclass(frozen=True, eq=False)
class GkcTrace:
    """One answer from inside.

    Attributes:
        proposals: the answer.
        names: logits per name, "no object" last, (N, S + 1).
        embeddings: of the queries in the joint space, (N, D).
        rows: embeddings of names, (S, D).
        decoded: from the mask decoder.
        point: (row, column), each in [0, 1] of the photo, or None.
    """

    proposals: MaskProposals
    names: Tensor
    embeddings: Tensor
    rows: Tensor
    decoded: Decoded
    point: tuple[float, float] | None = None

    @cached_property
    def chances(self) -> Tensor:
        """Probability of each mask, cut to the photo, (N, h, w)."""
        return self.cut(self.proposals.masks).sigmoid()

    @cached_property
    def order(self) -> Tensor:
        """Masks in the order they are shown, (N,)."""
        worth = self.proposals.scores.amax(dim=1) * self.at_point
        return worth.argsort(descending=True, stable=True)

    @cached_property
    def at_point(self) -> Tensor:
        """Probability of each mask at the point, (N,); 1 without a point."""
        if self.point is None:
            return torch.ones_like(self.proposals.void)
        row, column = (
            min(int(part * side), side - 1)
            for part, side in zip(self.point, self.chances.shape[1:], strict=True)
        )
        return self.chances[:, row, column]

    def cut(self, maps: Tensor) -> Tensor:
        """Maps (..., h, w) of the padded frame without cells that hold padding alone."""
        sides = zip(maps.shape[-2:], self.proposals.frame, self.proposals.padded, strict=True)
        height, width = (-(-cells * inside // whole) for cells, inside, whole in sides)
        return maps[..., :height, :width]

    def title(self, column: int) -> str:
        """Shown name of a column of scores."""
        label = self.proposals.labels[column]
        return self.proposals.vocabulary.names[label - 1] if label else "other"

    @cached_property
    def titles(self) -> tuple[str, ...]:
        """Best class of each mask in the order they are shown."""
        best = self.proposals.scores[self.order].argmax(dim=1).tolist()
        return tuple(self.title(column) for column in best)


def gkc_views(trace: GkcTrace, kinds: AbstractSet[ViewKind]) -> tuple[View, ...]:
    """The views that were asked for, those that do not exist for this method left out."""
    return tuple(make(trace) for kind, make in _MAKERS.items() if kind in kinds)


def _mask_proposals(trace: GkcTrace) -> View:
    scores, void = trace.proposals.scores.amax(dim=1), trace.proposals.void
    labels = tuple(
        f"{place}: {title} {float(scores[mask]):.0%}, no object {float(void[mask]):.0%}"
        for place, (mask, title) in enumerate(zip(trace.order.tolist(), trace.titles, strict=True), start=1)
    )
    title = "Masks with their class and its probability, surest first"
    return View("mask_proposals", title, trace.chances[trace.order], labels, (0.0, 1.0))


def _void_shares(trace: GkcTrace) -> View:
    bars = trace.proposals.void[trace.order][:, None, None]
    labels = tuple(f"{place}: {title}" for place, title in enumerate(trace.titles, start=1))
    return View("void_shares", 'Probability of "no object" in each mask', bars, labels, (0.0, 1.0))


def _mask_words(trace: GkcTrace) -> View:
    """For each query its best classes, "no object" among them."""
    probabilities = torch.cat([trace.proposals.scores, trace.proposals.void[:, None]], dim=1)[trace.order]
    values, columns = probabilities.topk(min(TOP, probabilities.shape[1]), dim=1)
    last = probabilities.shape[1] - 1
    words = tuple(
        tuple("no object" if column == last else trace.title(column) for column in row)
        for row in columns.tolist()
    )
    return View(
        "mask_words",
        "What each query might show, likeliest first, with probabilities",
        values[:, None],  # (N, 1, TOP)
        tuple(str(place) for place in range(1, len(words) + 1)),
        (0.0, 1.0),
        words,
        tuple(f"class {place}" for place in range(1, values.shape[1] + 1)),
    )


def _winning_names(trace: GkcTrace) -> View:
    """For each name the part of its class that it won, masks weighed by their probability of the class."""
    vocabulary = trace.proposals.vocabulary
    counts = [len(names) for names in vocabulary.classes]
    bars = []
    for column, logits in enumerate(torch.split(trace.names[:, : sum(counts)], counts, dim=1)):
        weight = trace.proposals.scores[:, column]
        won = F.one_hot(logits.argmax(dim=1), logits.shape[1]).to(weight)
        bars.append((weight[:, None] * won).sum(dim=0) / weight.sum())
    labels = tuple(f"{names[0]}: {name}" for names in vocabulary.classes for name in names)
    title = "Which synonym wins its class: part of the class's masks"
    return View("winning_names", title, torch.cat(bars)[:, None, None], labels, (0.0, 1.0))


def _query_attention(trace: GkcTrace) -> View:
    names = trace.proposals.vocabulary.names
    queries = trace.proposals.scores[:, : len(names)].argmax(dim=0)  # (K,)
    return attention_view(trace.decoded.cross_attention, queries, names, trace.cut)


_MAKERS: Mapping[ViewKind, Callable[[GkcTrace], View]] = MappingProxyType(
    {
        "mask_proposals": _mask_proposals,
        "query_attention": _query_attention,
        "void_shares": _void_shares,
        "mask_words": _mask_words,
        "winning_names": _winning_names,
    }
)
