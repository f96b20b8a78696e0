"""Text diversification: training says a class in other words now and then, so that more words are learnt.

Paper: GKC (ICCV 2023, arXiv 2303.09181), section 3.2. Which words there are and how often each is drawn is in
`ovs_core.methods.gkc.synonyms`; here words are drawn and class lists made.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ovs_core.methods.gkc.synonyms import Sampling, draw_chances

Pooling = Literal["max", "mean"]
"""The code's clusterMax and clusterAvg: all synonyms of all classes at once, pooled per class, none drawn."""


def choose_synonym(
    names: Sequence[str], probabilities: NDArray[np.floating], rule: Sampling, rng: np.random.Generator
) -> str:
    """Draw a word for one region.

    Args:
        names: synonyms, the class's own name first.
        probabilities: one per name, summing to 1.
        rule: see `Sampling`.
        rng: draws.

    Raises:
        ValueError: if there is not one probability per name.
    """
    if probabilities.shape != (len(names),):
        raise ValueError(f"probabilities must be ({len(names)},), got {probabilities.shape}")
    return names[rng.choice(len(names), p=draw_chances(probabilities, rule))]


@dataclass(frozen=True)
class ClassList:
    """What one photo's queries choose from.

    Attributes:
        names: the plain names, some replaced by a synonym, then further synonyms.
        labels: place in `names` of each segment.
    """

    names: tuple[str, ...]
    labels: tuple[int, ...]


def class_list(plain: Sequence[str], segments: Sequence[tuple[int, str]]) -> ClassList:
    """The class list of one photo.

    The first segment of a class puts its word in the place of the class's name; a later one of another word
    adds an entry at the end, or uses the one that is there.

    Args:
        plain: names of all classes.
        segments: class and chosen word of each segment, in order.
    """
    names = list(plain)
    places: dict[tuple[int, str], int] = {}
    taken: set[int] = set()
    labels: list[int] = []
    for label, word in segments:
        if label not in taken:
            taken.add(label)
            names[label] = word
            places[label, word] = label
        elif (label, word) not in places:
            places[label, word] = len(names)
            names.append(word)
        labels.append(places[label, word])
    return ClassList(tuple(names), tuple(labels))


def stacked_lists(rows: Sequence[Tensor], padding: Tensor) -> Tensor:
    """Lists (M_i, D) of a batch as one (B, M, D), the shorter ones filled up with `padding` (D,).

    The code's padding is the embedding of a prompt of zero tokens: one more negative, the same for all.
    """
    longest = max(len(names) for names in rows)
    return torch.stack(
        [torch.cat([names, padding.to(names).expand(longest - len(names), -1)]) for names in rows]
    )


def pooled_logits(logits: Tensor, counts: Sequence[int], how: Pooling) -> Tensor:
    """Names to classes, "no object" kept: (.., S + 1) to (.., K + 1), by the likeliest name or their mean."""
    groups = torch.split(logits, [*counts, 1], dim=-1)
    pooled = [group.amax(dim=-1) if how == "max" else group.mean(dim=-1) for group in groups]
    return torch.stack(pooled, dim=-1)
