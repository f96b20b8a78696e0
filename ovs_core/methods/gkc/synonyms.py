"""Words that mean the same, and how well each suits a region: what text diversification draws from.

Paper: GKC (ICCV 2023, arXiv 2303.09181), section 3.2. A synonym suits one photo and not another ("puppy" for
every dog), so CLIP compares each region with the synonyms of its class first. Code (yongliu20/GKC 21313c8)
and paper draw differently from those probabilities; both rules are here. The code's synonym lists were not
published; ours is `assets/synonyms/coco.tsv`. Training draws (`ovs_core.training.gkc_words`), a view shows.

Deviations: the class's own name is always among its synonyms; where no synonym passes the code's threshold,
the likeliest is taken.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Literal

import numpy as np
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ovs_core.folders import shipped_folder
from ovs_core.vocabulary import singulars

SYNONYM_FILE = shipped_folder("assets") / "synonyms" / "coco.tsv"
LEAST_PROBABILITY = 0.1  # of a synonym that the code draws
REGION_PROMPT = "a photo of {}"
_IRREGULAR = MappingProxyType({"people": "person", "men": "man", "women": "woman", "mice": "mouse"})

Sampling = Literal["thresholded", "weighted", "plain"]
"""Code: evenly among those above `LEAST_PROBABILITY`; paper: by probability; no diversification."""


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


def typed_synonyms(word: str, table: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    """What a typed word may also be called: the word as it is, then the other words of its row.

    Its row is the one that it names, else the first that lists it: "bike" is a bicycle, though motorcycles
    are called so too. A plural that stands nowhere is looked for in the singular. A word without a row stays
    alone. Training goes by names of rows (`synonyms_of`).
    """
    plain = clean_name(word).casefold()
    for form in (plain, _IRREGULAR.get(plain, plain), *sorted(singulars(plain))):
        if row := table.get(form) or next((row for row in table.values() if form in row), None):
            return (word, *(other for other in row if other != plain))
    return (word,)


def synonym_probabilities(region: Tensor, rows: Tensor, log_scale: Tensor) -> Tensor:
    """How well each synonym suits a region, (s,), summing to 1: soft-max of scaled cosines.

    Args:
        region: embedding of the region by CLIP, (D,).
        rows: unit embeddings of the synonyms in `REGION_PROMPT`, (s, D).
        log_scale: logarithm of CLIP's scale.
    """
    return (log_scale.exp() * rows @ F.normalize(region, dim=0)).softmax(dim=0)


def draw_chances(probabilities: NDArray[np.floating], rule: Sampling) -> NDArray[np.float64]:
    """How often a rule draws each synonym, (s,), summing to 1.

    Args:
        probabilities: how well each suits the region, (s,), the class's own name first.
        rule: see `Sampling`.
    """
    if rule == "weighted":
        weights = probabilities.astype(np.float64)
    elif rule == "thresholded":
        weights = (probabilities > LEAST_PROBABILITY).astype(np.float64)
        if not weights.any():
            weights[probabilities.argmax()] = 1
    else:
        weights = (np.arange(len(probabilities)) == 0).astype(np.float64)
    return weights / weights.sum()
