"""Find this, too: a box on a photo becomes one more vector next to the words.

A box is the mean of the unit tokens inside it, of the same tower and method that words are compared with; for
methods that pool masks it is the pooled mask. Boxes of one name are averaged. Under the name of a typed class
a box is one more synonym of it, under another name a class of its own, and under "other" it joins "everything
else": that is what is *not* meant.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from ovs_core.boxes import Box, box_coverage, check_box
from ovs_core.image import Photo
from ovs_core.types import TextBank, Vocabulary

OTHER_NAME = "other"
"""The name of boxes that join "everything else"."""
MAX_EXEMPLARS = 100
_SPEC = re.compile(r"(?P<name>[^=]*)=(?P<photo>.+):(?P<box>[^:]*)")
_NUMBERS = 4  # of a box


@dataclass(frozen=True, eq=False)
class Exemplar:
    """Something to be found elsewhere.

    Attributes:
        photo: where it can be seen; may be another photo than the one that is asked about.
        box: around it, in pixels of that photo.
        name: of the class it belongs to; "" makes one without a name, "other" one that is not meant.
    """

    photo: Photo
    box: Box
    name: str = ""

    def __post_init__(self) -> None:
        check_box(self.box, self.photo.size)

    @property
    def negative(self) -> bool:
        """Whether it shows what is not meant."""
        return self.name.strip().casefold() == OTHER_NAME


@dataclass(frozen=True)
class ExemplarSpec:
    """An exemplar as it is written on a command line: `name=photo.jpg:left,top,right,bottom`.

    Attributes:
        name: see `Exemplar`.
        photo: file to be read.
        box: in pixels of that photo.
    """

    name: str
    photo: Path
    box: Box


def parse_exemplar(text: str) -> ExemplarSpec:
    """Read `name=photo.jpg:left,top,right,bottom`; the name may be empty.

    Raises:
        ValueError: for anything else, in one sentence.
    """
    match = _SPEC.fullmatch(text.strip())
    numbers = [part.strip() for part in match["box"].split(",")] if match else []
    try:
        box = tuple(float(number) for number in numbers)
    except ValueError:
        box = ()
    if match is None or len(box) != _NUMBERS:
        raise ValueError(
            f'An exemplar is written name=photo.jpg:left,top,right,bottom in pixels, not "{text[:100]}".'
        )
    left, top, right, bottom = box
    return ExemplarSpec(match["name"].strip(), Path(match["photo"]), (left, top, right, bottom))


def box_vector(tokens: Tensor, box: Box, image_size: tuple[int, int]) -> Tensor:
    """Mean unit token inside a box, itself of unit length, (D,); cells at the edge count by what is covered.

    Args:
        tokens: (D, h, w) in the space of text, any length.
        box: in pixels of the photo.
        image_size: (H, W) of the photo.

    Raises:
        ValueError: for a box of no area or outside the photo.
    """
    return pooled_vector(tokens, box_coverage(box, image_size, (tokens.shape[1], tokens.shape[2])))


def pooled_vector(tokens: Tensor, weights: Tensor) -> Tensor:
    """Mean unit token under weights (h, w) of 0 or more, itself of unit length, (D,).

    Raises:
        ValueError: for weights on another grid or without any token.
    """
    if weights.shape != tokens.shape[1:]:
        raise ValueError(f"weights must be {tuple(tokens.shape[1:])}, got {tuple(weights.shape)}")
    if not float(weights.sum()) > 0:
        raise ValueError("The exemplar holds no part of the photo.")
    unit = F.normalize(tokens.float(), dim=0)
    return F.normalize((unit * weights.to(unit)).sum((1, 2)), dim=0)


def with_exemplars(bank: TextBank, found: Sequence[tuple[str, Tensor]]) -> TextBank:
    """The bank with boxes as further rows.

    Args:
        bank: of the typed words.
        found: name and unit vector (D,) of each box, in the order they were drawn.

    Raises:
        ValueError: for too many boxes, or vectors of another width.
    """
    if len(found) > MAX_EXEMPLARS:
        raise ValueError(f"Up to {MAX_EXEMPLARS} boxes can be asked at once; these are {len(found)}.")
    if not found:
        return bank
    vectors = averaged(found)
    width = bank.embeddings.shape[-1]
    if any(vector.shape != (width,) for vector in vectors.values()):
        raise ValueError(f"exemplars must be of width {width}; they were made by another tower")
    vocabulary = exemplar_vocabulary(bank.vocabulary, tuple(vectors))
    places = {name: place for place, name in enumerate(bank.vocabulary.rows)}
    rows = [
        bank.embeddings[..., places[name], :]
        if name in places
        else vectors[_drawn_name(name)].to(bank.embeddings).expand(*bank.embeddings.shape[:-2], width)
        for name in vocabulary.rows
    ]
    return TextBank(vocabulary, torch.stack(rows, dim=-2))


def averaged(found: Sequence[tuple[str, Tensor]]) -> dict[str, Tensor]:
    """Unit vector of each name, the mean of its boxes; boxes without a name are called by their number."""
    groups: dict[str, list[Tensor]] = {}
    shown: dict[str, str] = {}
    for number, (name, vector) in enumerate(found, start=1):
        written = " ".join(name.split()) or f"box {number}"
        groups.setdefault(shown.setdefault(written.casefold(), written), []).append(vector)
    return {name: F.normalize(torch.stack(vectors).mean(0), dim=0) for name, vectors in groups.items()}


def exemplar_vocabulary(vocabulary: Vocabulary, names: Sequence[str]) -> Vocabulary:
    """What is asked once boxes of these names are added: a synonym, a class or a hidden name for each.

    A box's own row is called after its name with "(box)" behind it, so that no word is mistaken for it.
    """
    classes = list(vocabulary.classes)
    places = {name.casefold(): place for place, group in enumerate(classes) for name in group}
    other = list(vocabulary.other)
    for name in names:
        place = places.get(name.casefold())
        if name.casefold() == OTHER_NAME and place is None:
            other.append(_row_name(name))
        elif place is None:
            classes.append((_row_name(name),))
        else:
            classes[place] = (*classes[place], _row_name(name))
    return replace(vocabulary, classes=tuple(classes), other=tuple(other))


def _row_name(name: str) -> str:
    return f"{name} (box)"


def _drawn_name(row_name: str) -> str:
    return row_name.removesuffix(" (box)")
