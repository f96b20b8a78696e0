"""The values that travel through the house: frozen, shape-checked, no behaviour.

Axis letters, used everywhere in this package:
    B batch, C channels, D joint image-text width, H W photo pixels, h w token grid, K classes as typed,
    S names (all synonyms of all classes, then the "everything else" names; S >= K), N mask proposals,
    T heads, L tokens (1 class token + h*w patch tokens, row-major).

Class numbering, used everywhere: label 0 is "other" (nothing the user typed), label k is the k-th class as
typed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

# All special labels. Label maps count classes from 1, and what nobody knows is a mask of its own (`known`).
# Training counts classes of pixels and masks from 0, as losses index them, and needs two more.
OTHER = 0  # label maps: none of the classes
UNLISTED = -1  # training: surely none of the classes listed (the sample's, the seen ones, those asked about)
IGNORE = -2  # training: nobody knows, no loss counts it

Color = tuple[int, int, int]
"""(R, G, B) in 0..255."""
OTHER_COLOR: Color = (128, 128, 128)
"""Label 0: neutral grey, never given to a class."""

ViewKind = str
"""Name of an intermediate quantity; every method declares its own (`ovs_core.views`)."""


@dataclass(frozen=True)
class Vocabulary:
    """What the user typed, in order, and the hidden names that mean "none of these".

    Attributes:
        classes: one tuple of synonyms per class; the first one is the name shown.
        other: hidden "everything else" names; empty means the paper's plain argmax over `classes`.
        notes: what parsing dropped or changed, one sentence each, to be shown to the user.
        literal: names meant to the letter: no better-known word is asked beside them.
        queries: what is compared and encoded for each name, in the same places as in `classes`
            (`ovs_core.vocabulary.spelling`); empty where all are asked as they stand there.
        ids: numbers that the class list gives its classes, for files; empty where it gives none.
        guards: those of `other` that win only by a clear margin (`ovs_core.encoders.lone_word`).
    """

    classes: tuple[tuple[str, ...], ...]
    other: tuple[str, ...] = ()
    notes: tuple[str, ...] = field(default=(), compare=False)
    literal: frozenset[str] = frozenset()
    queries: tuple[tuple[str, ...], ...] = ()
    ids: tuple[int, ...] = ()
    guards: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        if not self.classes or any(not names for names in self.classes):
            raise ValueError("Type at least one class name.")
        if self.queries and [*map(len, self.queries)] != [*map(len, self.classes)]:
            raise ValueError("queries must hold one text for each name of each class")
        if self.ids and len(set(self.ids)) != len(self.classes):
            raise ValueError(f"ids must be {len(self.classes)} different numbers, got {self.ids}")

    @property
    def names(self) -> tuple[str, ...]:
        """The name shown for each class, (K,)."""
        return tuple(names[0] for names in self.classes)

    @property
    def asked(self) -> tuple[tuple[str, ...], ...]:
        """What is encoded for each class, in the places of `classes`."""
        return self.queries or self.classes

    @property
    def numbers(self) -> tuple[int, ...]:
        """Number of each class in files, (K,): the class list's own, else 1 to K."""
        return self.ids or tuple(range(1, len(self.classes) + 1))

    @cached_property
    def rows(self) -> tuple[str, ...]:
        """Every name as it is encoded, in row order, (S,): class by class, then `other`."""
        return tuple(name for names in self.asked for name in names) + self.other

    @cached_property
    def row_label(self) -> tuple[int, ...]:
        """Label of each row, (S,): k for a name of the k-th class (from 1), 0 for an `other` name."""
        typed = tuple(k for k, names in enumerate(self.classes, start=1) for _ in names)
        return typed + (0,) * len(self.other)


@dataclass(frozen=True, eq=False)
class TextBank:
    """Unit text embeddings, one row per `vocabulary.rows`: (S, D), or (V, S, D) in V learned contexts."""

    vocabulary: Vocabulary
    embeddings: Tensor

    def __post_init__(self) -> None:
        expected = len(self.vocabulary.rows)
        if self.embeddings.ndim not in (2, 3) or self.embeddings.shape[-2] != expected:
            raise ValueError(f"embeddings must be (.., {expected}, D), got {tuple(self.embeddings.shape)}")

    @property
    def nbytes(self) -> int:
        """Bytes held, for the cache budget."""
        return self.embeddings.nbytes


@dataclass(frozen=True, eq=False)
class Window:
    """What the image tower says about one rectangle of the frame.

    Attributes:
        top, left: position on the token grid of the whole frame, in tokens (windows start on that grid).
        grid: (h, w) of this window, in tokens.
        tokens: what enters the last transformer block, (1 + h*w, C), class token first.
        taps: what leaves the blocks that the encoder was asked for, each of that shape.
    """

    top: int
    left: int
    grid: tuple[int, int]
    tokens: Tensor
    taps: tuple[Tensor, ...] = ()

    def __post_init__(self) -> None:
        h, w = self.grid
        for tokens in (self.tokens, *self.taps):
            if tokens.ndim != 2 or tokens.shape[0] != 1 + h * w:
                raise ValueError(
                    f"tokens must be ({1 + h * w}, C) for grid {self.grid}, got {tuple(tokens.shape)}"
                )

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return sum(tokens.nbytes for tokens in (self.tokens, *self.taps))


@dataclass(frozen=True, eq=False)
class Features:
    """The slow half of an answer: everything an encoder says about one photo, before any word is known.

    Attributes:
        encoder: identity of the tower and the window plan that made it (cache key, printed in reports).
        image_size: (H, W) of the photo in its own pixels.
        grid: (h, w) tokens of the whole frame.
        windows: one for the whole image, or overlapping ones that cover the grid.
        upsampling_weights: how finer positions take after tokens, (9, 4h, 4w), from a tower that knows
            (`ovs_core.encoders.upsampling`); None leaves evidence on the token grid.
    """

    encoder: str
    image_size: tuple[int, int]
    grid: tuple[int, int]
    windows: tuple[Window, ...]
    upsampling_weights: Tensor | None = None

    def __post_init__(self) -> None:
        if not self.windows:
            raise ValueError("features need at least one window")

    @property
    def nbytes(self) -> int:
        """Bytes held, for the cache budget."""
        finer = 0 if self.upsampling_weights is None else self.upsampling_weights.nbytes
        return finer + sum(window.nbytes for window in self.windows)


@dataclass(frozen=True, eq=False)
class Pyramid:
    """What a tower with a pyramid says about one photo, before any word is known; mask methods start here.

    Attributes:
        encoder: identity of the tower and the frame that made it (cache key, printed in reports).
        image_size: (H, W) of the photo in its own pixels.
        frame: (Hf, Wf) in pixels at which the tower looked at the photo.
        padded: (Hp, Wp) in pixels of that frame with the padding below and to the right of it.
        maps: four maps (C, h, w) of the padded frame, finest first (strides 4, 8, 16, 32).
        dense: (C, h, w), what the tower's head takes to the space shared with text, cell by cell.
    """

    encoder: str
    image_size: tuple[int, int]
    frame: tuple[int, int]
    padded: tuple[int, int]
    maps: tuple[Tensor, ...]
    dense: Tensor

    def __post_init__(self) -> None:
        shapes = [tuple(values.shape) for values in (*self.maps, self.dense)]
        if len(self.maps) != 4 or any(len(shape) != 3 for shape in shapes):
            raise ValueError(f"a pyramid needs four maps (C, h, w) and a dense one, got {shapes}")
        if any(side > room for side, room in zip(self.frame, self.padded, strict=True)):
            raise ValueError(f"frame must fit into padded={self.padded}, got {self.frame}")

    @property
    def nbytes(self) -> int:
        """Bytes held, for the cache budget."""
        return sum(level.nbytes for level in self.maps) + self.dense.nbytes


@dataclass(frozen=True, eq=False)
class View:
    """One intermediate quantity worth looking at.

    Attributes:
        kind: which quantity.
        title: what a caption says.
        maps: (M, h, w) low-resolution maps, one per entry of `labels`.
        labels: what each map belongs to (a class name, a point, a head).
        limits: (lowest, highest) value of one colour scale for all maps; None leaves each map its own.
        words: a name for every cell of every map, row-major, where cells are no places in the photo.
        columns: what each column of the maps is, where cells are no places in the photo; a square map has the
            same names down its side, a map of one row has its label there.
    """

    kind: ViewKind
    title: str
    maps: Tensor
    labels: tuple[str, ...]
    limits: tuple[float, float] | None = None
    words: tuple[tuple[str, ...], ...] = ()
    columns: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.maps.ndim != 3 or self.maps.shape[0] != len(self.labels):
            raise ValueError(f"maps must be ({len(self.labels)}, h, w), got {tuple(self.maps.shape)}")
        if self.words and [len(row) for row in self.words] != [self.maps[0].numel()] * len(self.maps):
            raise ValueError(f"words must be one per cell of {tuple(self.maps.shape)}")
        if self.columns and len(self.columns) != self.maps.shape[2]:
            raise ValueError(f"columns must be {self.maps.shape[2]} names, got {len(self.columns)}")


@dataclass(frozen=True)
class LabelClass:
    """What one number of a label map means.

    Attributes:
        id: the number, from 1.
        names: synonyms, first one shown.
        color: in every picture.
    """

    id: int
    names: tuple[str, ...]
    color: Color

    def __post_init__(self) -> None:
        if self.id < 0 or not self.names:
            raise ValueError(f"a class needs an id of 0 or more and a name, got {self.id} and {self.names}")


@dataclass(frozen=True, eq=False)
class LabelMap:
    """A number for every pixel: an answer, ground truth, or either edited by hand.

    Attributes:
        labels: (H, W) uint8 or uint16; 0 = other, else the id of a class.
        classes: what the numbers mean, ids different and rising; `other` is not among them.
        known: (H, W), False where nobody knows the label; None where all are known. Ground truth only.
        instances: (H, W), number of the object a pixel belongs to, 0 = none; None where objects are not told
            apart.
    """

    labels: NDArray[np.integer]
    classes: tuple[LabelClass, ...]
    known: NDArray[np.bool_] | None = None
    instances: NDArray[np.integer] | None = None

    def __post_init__(self) -> None:
        ids = [entry.id for entry in self.classes]
        if ids != sorted(set(ids)) or (ids and ids[0] < 1):
            raise ValueError(f"ids of classes must be different, rising and 1 or more; got {ids}")
        if self.labels.ndim != 2 or not np.issubdtype(self.labels.dtype, np.integer):
            raise ValueError(
                f"labels must be whole numbers (H, W), got {self.labels.dtype}{self.labels.shape}"
            )
        for name in ("known", "instances"):
            value = getattr(self, name)
            if value is not None and value.shape != self.labels.shape:
                raise ValueError(f"{name} must be {self.labels.shape}, got {value.shape}")

    @property
    def shape(self) -> tuple[int, int]:
        """(H, W) in pixels."""
        height, width = self.labels.shape
        return height, width

    @property
    def other(self) -> LabelClass:
        """What label 0 is called and looks like."""
        return LabelClass(OTHER, ("other",), OTHER_COLOR)

    @property
    def color_table(self) -> NDArray[np.uint8]:
        """Colour of every label, (largest id + 1, 3); numbers without a class are grey."""
        table = np.full((max((entry.id for entry in self.classes), default=0) + 1, 3), OTHER_COLOR, np.uint8)
        for entry in self.classes:
            table[entry.id] = entry.color
        return table

    def class_of(self, label: int) -> LabelClass:
        """The class of a label; `other` for 0.

        Raises:
            ValueError: for a number that means nothing here.
        """
        for entry in (self.other, *self.classes):
            if entry.id == label:
                return entry
        raise ValueError(f"label must be 0 or the id of a class, got {label}")


@dataclass(frozen=True)
class ClassSummary:
    """One line of the legend.

    Attributes:
        label: value in the label map; 0 = other.
        names: synonyms as typed, first one shown.
        color: (R, G, B) in 0..255.
        area_share: part of the photo's pixels, in [0, 1].
        mean_score: mean probability of the class over its pixels, in [0, 1]; 0 where it won nothing.
    """

    label: int
    names: tuple[str, ...]
    color: tuple[int, int, int]
    area_share: float
    mean_score: float


class Labelled(Protocol):
    """A photo with a label for every pixel: what pictures and files are made of."""

    @property
    def image(self) -> NDArray[np.uint8]:
        """The photo, upright, (H, W, 3) RGB."""
        ...

    @property
    def label_map(self) -> LabelMap:
        """Its labels, (H, W), with what they mean."""
        ...

    @property
    def labels(self) -> NDArray[np.integer]:
        """The numbers alone, (H, W)."""
        ...

    @property
    def vocabulary(self) -> Vocabulary:
        """What was asked."""
        ...

    @property
    def classes(self) -> tuple[ClassSummary, ...]:
        """One line per class in typed order, then "other" if it could win or did."""
        ...
