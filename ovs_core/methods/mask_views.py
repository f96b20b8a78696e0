"""What is worth showing of a mask method's answer, beside its masks and attention maps: numbers and names."""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from ovs_core.methods.mask_head import Classified
from ovs_core.types import Vocabulary


@dataclass(frozen=True)
class Ranked:
    """One class of a ranking.

    Attributes:
        label: from 1; 0 = other.
        share: soft-max over classes, in [0, 1].
    """

    label: int
    share: float


@dataclass(frozen=True)
class MaskReport:
    """What one query says.

    Attributes:
        label: its best class, from 1; 0 = other.
        share: of that class after "no object" took its part, in [0, 1].
        void: share of "no object", in [0, 1].
        name: the name that won within the class, as the tower's own features see it.
        in_vocabulary, out_vocabulary: best classes of the trained head and of the tower's features, best
            first.
    """

    label: int
    share: float
    void: float
    name: str
    in_vocabulary: tuple[Ranked, ...]
    out_vocabulary: tuple[Ranked, ...]


def report_masks(found: Classified, vocabulary: Vocabulary, *, top: int = 3) -> tuple[MaskReport, ...]:
    """Describe every query of a photo, (N,), in the order of its masks.

    Args:
        found: from a method's `classify`.
        vocabulary: what was asked.
        top: classes in each ranking.
    """
    labels = (*range(1, len(vocabulary.classes) + 1), *([0] if vocabulary.other else []))
    groups = [*vocabulary.classes, *([vocabulary.other] if vocabulary.other else [])]
    shares = found.log_shares.softmax(dim=1)
    best, column = shares[:, :-1].max(dim=1)
    known, seen = (
        _rankings(logits[:, :-1], labels, top)
        for logits in (found.proposed.in_vocabulary, found.out_vocabulary)
    )
    starts = [sum(map(len, groups[:place])) for place in range(len(groups))]
    reports: list[MaskReport] = []
    for query, place in enumerate(column.tolist()):
        names = groups[place]
        own = found.name_logits[query, starts[place] : starts[place] + len(names)]
        void = float(shares[query, -1])
        name = names[int(own.argmax())]
        reports.append(MaskReport(labels[place], float(best[query]), void, name, known[query], seen[query]))
    return tuple(reports)


def text_shift(found: Classified) -> Tensor:
    """Cosine of every name with what it became in this photo, (S,), "no object" left out; 1 = unchanged."""
    return F.cosine_similarity(found.proposed.names, found.rows, dim=1)[:-1]


def _rankings(logits: Tensor, labels: tuple[int, ...], top: int) -> list[tuple[Ranked, ...]]:
    """Best classes of each query from logits (N, K)."""
    shares, columns = logits.softmax(dim=1).topk(min(top, logits.shape[1]), dim=1)
    return [
        tuple(Ranked(labels[place], share) for place, share in zip(places, values, strict=True))
        for places, values in zip(columns.tolist(), shares.tolist(), strict=True)
    ]
