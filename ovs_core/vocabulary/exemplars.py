"""Find this, too: a box on a photo becomes one more vector next to the words.

A box is the mean of the unit tokens inside it, in the space of text, less the mean token of its whole photo:
what all tokens share says nothing about the thing. Boxes of one name are averaged. Under the name of a typed
class a box leans the class's words towards it, under another name it is a class of its own, and under "other"
it joins "everything else": that is what is *not* meant.

Measured with the embedded model on 99 photos of COCO val, their own classes asked, one box of each class on a
train photo (`python -m recipes.hands exemplars`): the word alone 42.3 mean IoU, the box alone 31.2, both 42.3
(paired -0.0 [-0.5, +0.3]). A box is for what no known word says.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from ovs_core.image import Photo
from ovs_core.types import TextBank, Vocabulary
from ovs_core.vocabulary import parse_vocabulary, read_vocabulary
from ovs_core.vocabulary.boxes import Box, box_coverage, check_box

OTHER_NAME = "other"
"""The name of boxes that join "everything else"."""
MAX_EXEMPLARS = 100
_BOX = " (box)"
_SPEC = re.compile(r"(?P<name>[^=]*)=(?P<photo>.+):(?P<box>[^:]*)")
_NUMBERS = 4  # of a box
LEAN = 0.05  # weight of a box beside a word; of five up to 0.3 it hurts least: a known word gains by none
CONTRAST = 0.75  # times the mean token of a box's photo that is taken off it


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
    """What a box holds and its photo does not, (D,): mean unit token inside less the photo's, 2 at most long.

    Args:
        tokens: (D, h, w) in the space of text, any length.
        box: in pixels of the photo; cells at its edge count by what is covered.
        image_size: (H, W) of the photo.

    Raises:
        ValueError: for a box of no area or outside the photo.
    """
    inside = pooled_vector(tokens, box_coverage(box, image_size, (tokens.shape[1], tokens.shape[2])))
    return inside - CONTRAST * F.normalize(tokens.float(), dim=0).mean((1, 2))


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


def asked_vocabulary(
    classes: str | Vocabulary,
    names: Sequence[str],
    background: str,
    read: Callable[[str, str], Vocabulary] = read_vocabulary,
) -> Vocabulary:
    """What words and boxes ask for between them.

    Args:
        classes: as typed, or read already; blank text asks by the boxes alone.
        names: of the boxes, in the order they were drawn.
        background: hidden names; see `ovs_core.vocabulary.parse_vocabulary`. Unused if `classes` is read.
        read: makes a vocabulary of text; `parse_vocabulary` for text from the web.

    Raises:
        ValueError: for text that `read` refuses, or as `exemplar_vocabulary`.
    """
    typed = classes if isinstance(classes, Vocabulary) else None
    if isinstance(classes, str) and (classes.strip() or not names):
        typed = read(classes, background)
    if typed is not None and not names:
        return typed
    return exemplar_vocabulary(typed, names, background)


def exemplar_vocabulary(vocabulary: Vocabulary | None, names: Sequence[str], background: str) -> Vocabulary:
    """What is asked once boxes of these names are added.

    A name that was typed or added before adds nothing; "other" adds a hidden name, every other one a class.
    Their rows are called after the name with "(box)" behind it, so that no word is mistaken for them.

    Args:
        vocabulary: what was typed; None where nothing was.
        names: of the boxes, in the order they were drawn.
        background: hidden names where nothing was typed; see `ovs_core.vocabulary.parse_vocabulary`.

    Raises:
        ValueError: for too many boxes, or where neither a word nor a box says what to look for.
    """
    if len(names) > MAX_EXEMPLARS:
        raise ValueError(f"Up to {MAX_EXEMPLARS} boxes can be asked at once; these are {len(names)}.")
    drawn = tuple(dict.fromkeys(_written_names(names)))
    typed = () if vocabulary is None else vocabulary.classes
    asked = () if vocabulary is None else vocabulary.asked
    known = {name.casefold() for group in (*typed, *asked) for name in group}
    there = {*known, *(name.casefold() for name in (() if vocabulary is None else vocabulary.other))}
    drawn = tuple(name for name in drawn if _row_name(name).casefold() not in there)  # added before
    new = [name for name in drawn if name.casefold() not in {*known, OTHER_NAME}]
    classes = (*typed, *((_row_name(name),) for name in new))
    if not classes:
        raise ValueError("Type a class name, or draw a box around what to look for.")
    if vocabulary is None:
        vocabulary = parse_vocabulary([names[0] for names in classes], background)
    not_meant = [name for name in drawn if name.casefold() == OTHER_NAME and OTHER_NAME not in known]
    other = (*vocabulary.other, *map(_row_name, not_meant))
    queries = (*asked, *((_row_name(name),) for name in new))
    ids = tuple(range(max(vocabulary.ids) + 1, max(vocabulary.ids) + 1 + len(new))) if vocabulary.ids else ()
    return replace(
        vocabulary,
        classes=classes,
        other=other,
        queries=() if queries == classes else queries,
        ids=(*vocabulary.ids, *ids) if typed else (),
    )


def with_exemplars(bank: TextBank, exemplars: Sequence[tuple[str, Tensor]], lean: float = LEAN) -> TextBank:
    """The bank of an `exemplar_vocabulary` with what boxes hold in it.

    Args:
        bank: every row embedded as a word, rows of boxes too.
        exemplars: name and vector (D,) of each box, in the order of `exemplar_vocabulary`.
        lean: weight of a box beside a word, in [0, 1].

    Raises:
        ValueError: for vectors of another width.
    """
    width = bank.embeddings.shape[-1]
    if any(vector.shape != (width,) for _, vector in exemplars):
        raise ValueError(f"exemplars must be of width {width}; they were made by another tower")
    names = _written_names([name for name, _ in exemplars])
    groups: dict[str, list[Tensor]] = {}
    for name, (_, vector) in zip(names, exemplars, strict=True):
        groups.setdefault(name.casefold(), []).append(vector.to(bank.embeddings))
    means = {name: torch.stack(vectors).mean(0) for name, vectors in groups.items()}
    rows = bank.embeddings.clone()
    for place, row in enumerate(bank.vocabulary.rows):
        if (own := means.get(row.casefold().removesuffix(_BOX))) is not None and row.endswith(_BOX):
            rows[..., place, :] = own
    for group, asked in zip(bank.vocabulary.classes, bank.vocabulary.asked, strict=True):
        called = {name.casefold(): None for name in (*group, *asked)}
        for mean in [means[name] for name in called if name in means]:
            for name in asked:
                place = bank.vocabulary.rows.index(name)
                word = F.normalize(rows[..., place, :], dim=-1)
                rows[..., place, :] = F.normalize((1 - lean) * word + lean * F.normalize(mean, dim=0), dim=-1)
    return TextBank(bank.vocabulary, rows)


def _written_names(names: Sequence[str]) -> list[str]:
    """Names with white space collapsed, written as at first; boxes without one are called by their number."""
    shown: dict[str, str] = {}
    written = [" ".join(name.split()) or f"box {number}" for number, name in enumerate(names, start=1)]
    return [shown.setdefault(name.casefold(), name) for name in written]


def _row_name(name: str) -> str:
    return f"{name}{_BOX}"
