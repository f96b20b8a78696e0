"""Text diversification: training says a class in other words now and then, so that more words are learnt.

Paper: GKC (ICCV 2023, arXiv 2303.09181), section 3.2. A synonym suits one photo and not another ("puppy" for
every dog), so CLIP compares each region with the synonyms of its class first. Code (yongliu20/GKC 21313c8)
and paper draw differently from those probabilities; both rules are here. The code's synonym lists were not
published; ours is `assets/synonyms/coco.tsv`.

Deviations: the class's own name is always among its synonyms; where no synonym passes the code's threshold,
the likeliest is taken.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ovs_core.folders import shipped_folder

SYNONYM_FILE = shipped_folder("assets") / "synonyms" / "coco.tsv"
LEAST_PROBABILITY = 0.1  # of a synonym that the code draws
REGION_PROMPT = "a photo of {}"

Sampling = Literal["thresholded", "weighted", "plain"]
"""Code: evenly among those above `LEAST_PROBABILITY`; paper: by probability; no diversification."""
Pooling = Literal["max", "mean"]
"""The code's clusterMax and clusterAvg: all synonyms of all classes at once, pooled per class, none drawn."""


def clean_name(name: str) -> str:
    """What to say for a data set's name: "door stuff" for "door-stuff", "tree" for "tree-merged"."""
    for ending in ("-merged", "-other"):
        name = name.replace(ending, "")
    return name.replace("-", " ").replace("_", " ")


def read_synonyms(path: Path = SYNONYM_FILE) -> Mapping[str, tuple[str, ...]]:
    """Synonyms of each name, the name itself first, none twice.

    Raises:
        ValueError: if a line is not a name, a tab, names, a tab, names.
        OSError: if there is no such file.
    """
    table: dict[str, tuple[str, ...]] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if not line or line.startswith("#"):
            continue
        fields = line.split("\t")
        if len(fields) != 3 or not fields[0]:
            raise ValueError(
                f"{path}, line {number}: expected a name and two lists between tabs, got {line!r}."
            )
        listed = (word.strip() for field in fields[1:] for word in field.split(","))
        table[fields[0]] = tuple(dict.fromkeys((fields[0], *(word for word in listed if word))))
    return MappingProxyType(table)


def synonyms_of(name: str, table: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    """Words for a class, its cleaned name first; that alone where the table does not know it."""
    cleaned = clean_name(name)
    return table.get(cleaned, (cleaned,))


def synonym_probabilities(region: Tensor, rows: Tensor, log_scale: Tensor) -> Tensor:
    """How well each synonym suits a region, (s,), summing to 1: soft-max of scaled cosines.

    Args:
        region: embedding of the region by CLIP, (D,).
        rows: unit embeddings of the synonyms in `REGION_PROMPT`, (s, D).
        log_scale: logarithm of CLIP's scale.
    """
    return (log_scale.exp() * rows @ F.normalize(region, dim=0)).softmax(dim=0)


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
    if rule == "plain":
        return names[0]
    if rule == "weighted":
        weights = probabilities.astype(np.float64)
        return names[rng.choice(len(names), p=weights / weights.sum())]
    likely = np.flatnonzero(probabilities > LEAST_PROBABILITY)
    return names[rng.choice(likely) if len(likely) else int(probabilities.argmax())]


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
