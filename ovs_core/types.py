"""The values that travel through the house: frozen, shape-checked, no behaviour.

Axis letters, used everywhere in this package:
    B batch, C channels, D joint image-text width, H W photo pixels, h w token grid, K classes as typed,
    S names (all synonyms of all classes, then the "everything else" names; S >= K), N mask proposals,
    T heads, L tokens (1 class token + h*w patch tokens, row-major).

Class numbering, used everywhere: label 0 is "other" (nothing the user typed), label k is the k-th class as
typed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

OTHER = 0
"""The only label with a meaning of its own: nothing the user typed. "Not known" is a mask, never a label."""

Color = tuple[int, int, int]
"""(R, G, B) in 0..255."""
OTHER_COLOR: Color = (128, 128, 128)
"""Label 0: neutral grey, never given to a class."""

ViewKind = Literal[
    "similarity",
    "attention",
    # MVP-SEG (`ovs_core.methods.mvp_seg_views`)
    "view_maps",
    "view_wins",
    "global_map",
    "pooling_weights",
    "class_gates",
    "refining",
    "context_cosines",
    "prompt_cosines",
    "context_words",
    # FC-CLIP and MAFT+ (`ovs_core.methods.mask_views`)
    "mask_proposals",
    "query_attention",
    "void_shares",
    "mask_words",
    "winning_names",
    "text_shift",
    "transfer_attention",
    "frozen_and_tuned",
    "feature_change",
]


@dataclass(frozen=True)
class Vocabulary:
    """What the user typed, in order, and the hidden names that mean "none of these".

    Attributes:
        classes: one tuple of synonyms per class; the first one is the name shown.
        other: hidden "everything else" names; empty means the paper's plain argmax over `classes`.
        notes: what parsing dropped or changed, one sentence each, to be shown to the user.
        literal: names meant to the letter: no better-known word is asked beside them.
    """

    classes: tuple[tuple[str, ...], ...]
    other: tuple[str, ...] = ()
    notes: tuple[str, ...] = field(default=(), compare=False)
    literal: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        if not self.classes or any(not names for names in self.classes):
            raise ValueError("Type at least one class name.")

    @property
    def names(self) -> tuple[str, ...]:
        """The name shown for each class, (K,)."""
        return tuple(names[0] for names in self.classes)

    @cached_property
    def rows(self) -> tuple[str, ...]:
        """Every name in row order, (S,): class by class, then `other`."""
        return tuple(name for names in self.classes for name in names) + self.other

    @cached_property
    def row_label(self) -> tuple[int, ...]:
        """Label of each row, (S,): k for a name of the k-th class (from 1), 0 for an `other` name."""
        typed = tuple(k for k, names in enumerate(self.classes, start=1) for _ in names)
        return typed + (0,) * len(self.other)


@dataclass(frozen=True, eq=False)
class TextBank:
    """Unit text embeddings (S, D), one row per `vocabulary.rows`."""

    vocabulary: Vocabulary
    embeddings: Tensor

    def __post_init__(self) -> None:
        expected = len(self.vocabulary.rows)
        if self.embeddings.ndim != 2 or self.embeddings.shape[0] != expected:
            raise ValueError(f"embeddings must be ({expected}, D), got {tuple(self.embeddings.shape)}")


@dataclass(frozen=True, eq=False)
class Window:
    """What the image tower says about one rectangle of the frame.

    Attributes:
        top, left: position on the token grid of the whole frame, in tokens (windows start on that grid).
        grid: (h, w) of this window, in tokens.
        tokens: what enters the last transformer block, (1 + h*w, C), class token first.
    """

    top: int
    left: int
    grid: tuple[int, int]
    tokens: Tensor

    def __post_init__(self) -> None:
        h, w = self.grid
        if self.tokens.ndim != 2 or self.tokens.shape[0] != 1 + h * w:
            raise ValueError(
                f"tokens must be ({1 + h * w}, C) for grid {self.grid}, got {tuple(self.tokens.shape)}"
            )


@dataclass(frozen=True, eq=False)
class Features:
    """The slow half of an answer: everything an encoder says about one photo, before any word is known.

    Attributes:
        encoder: identity of the tower and the window plan that made it (cache key, printed in reports).
        image_size: (H, W) of the photo in its own pixels.
        grid: (h, w) tokens of the whole frame.
        windows: one for the whole image, or overlapping ones that cover the grid.
        shares: how finer positions take after tokens, (9, 4h, 4w), from a tower that knows
            (`ovs_core.encoders.upsampling`); None leaves evidence on the token grid.
    """

    encoder: str
    image_size: tuple[int, int]
    grid: tuple[int, int]
    windows: tuple[Window, ...]
    shares: Tensor | None = None

    def __post_init__(self) -> None:
        if not self.windows:
            raise ValueError("features need at least one window")

    @property
    def nbytes(self) -> int:
        """Bytes held, for the cache budget."""
        shares = 0 if self.shares is None else self.shares.nbytes
        return shares + sum(window.tokens.nbytes for window in self.windows)


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
        shapes = [tuple(one.shape) for one in (*self.maps, self.dense)]
        if len(self.maps) != 4 or any(len(shape) != 3 for shape in shapes):
            raise ValueError(f"a pyramid needs four maps (C, h, w) and a dense one, got {shapes}")
        if any(side > room for side, room in zip(self.frame, self.padded, strict=True)):
            raise ValueError(f"frame must fit into padded={self.padded}, got {self.frame}")

    @property
    def nbytes(self) -> int:
        """Bytes held, for the cache budget."""
        return sum(one.nbytes for one in self.maps) + self.dense.nbytes


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


@dataclass(frozen=True, eq=False)
class ScoreMap:
    """Evidence for every name on the token grid; `ovs_core.scores` makes labels of it tile by tile.

    Nothing of size K x H x W is ever held: rows stay on the grid and are interpolated one tile at a time.

    Attributes:
        evidence: (S, h, w) cosine similarities, one row per `vocabulary.rows`.
        vocabulary: what the rows mean.
        image_size: (H, W) the labels are for, in photo pixels.
    """

    evidence: Tensor
    vocabulary: Vocabulary
    image_size: tuple[int, int]

    def __post_init__(self) -> None:
        expected = len(self.vocabulary.rows)
        if self.evidence.ndim != 3 or self.evidence.shape[0] != expected:
            raise ValueError(f"evidence must be ({expected}, h, w), got {tuple(self.evidence.shape)}")

    @property
    def nbytes(self) -> int:
        """Bytes held, for the cache budget."""
        return self.evidence.nbytes


@dataclass(frozen=True, eq=False)
class MaskProposals:
    """Masks and what each of them shows; `ovs_core.scores` makes labels of them tile by tile.

    Nothing of size K x H x W or N x H x W is ever held. The score of a class at a pixel is the sum over masks
    of the mask's probability there times its score for the class.

    Attributes:
        masks: (N, h, w) logits on a grid that covers the padded frame.
        scores: (N, K), or (N, K + 1) with `other` last, in [0, 1]: share of each class, by its best name.
        void: (N,) share of "no object", in [0, 1]; a row of `scores` and its `void` sum to 1.
        vocabulary: what the columns of `scores` mean.
        image_size: (H, W) the labels are for, in photo pixels.
        frame: (Hf, Wf) in pixels that the tower looked at.
        padded: (Hp, Wp) in pixels of that frame with its padding.
        resize_masks: bring masks to the photo's size before they are weighed, as official code does where it
            answers panoptically too; otherwise their weighted sum is brought there.
    """

    masks: Tensor
    scores: Tensor
    void: Tensor
    vocabulary: Vocabulary
    image_size: tuple[int, int]
    frame: tuple[int, int]
    padded: tuple[int, int]
    resize_masks: bool = False

    def __post_init__(self) -> None:
        columns = len(self.vocabulary.classes) + bool(self.vocabulary.other)
        if self.masks.ndim != 3 or not len(self.masks):
            raise ValueError(f"masks must be (N, h, w) with N at least 1, got {tuple(self.masks.shape)}")
        if self.scores.shape != (len(self.masks), columns):
            raise ValueError(f"scores must be ({len(self.masks)}, {columns}), got {tuple(self.scores.shape)}")
        if self.void.shape != (len(self.masks),):
            raise ValueError(f"void must be ({len(self.masks)},), got {tuple(self.void.shape)}")

    @property
    def labels(self) -> tuple[int, ...]:
        """Label of each column of `scores`: k for the k-th class (from 1), 0 for `other`."""
        typed = tuple(range(1, len(self.vocabulary.classes) + 1))
        return (*typed, 0) if self.vocabulary.other else typed

    @property
    def nbytes(self) -> int:
        """Bytes held, for the cache budget."""
        return self.masks.nbytes + self.scores.nbytes + self.void.nbytes


Evidence = ScoreMap | MaskProposals
"""What labels are made from; `ovs_core.scores` takes either."""


@dataclass(frozen=True, eq=False)
class Segmentation:
    """The quick half of an answer: evidence for each name or masks, and the views that were asked for."""

    score_map: Evidence
    views: tuple[View, ...] = ()

    @property
    def nbytes(self) -> int:
        """Bytes held, for the cache budget."""
        return self.score_map.nbytes + sum(view.maps.nbytes for view in self.views)


SEVERAL_FRAMES = (1.0, 0.625, 1.25)
"""Frames of a preset that looks three times: about three times the work, fewer mistakes."""


@dataclass(frozen=True)
class Preset:
    """Settings that belong together: a threshold only means something at its scale, both only on their tower.

    Attributes:
        scale: multiplies cosine similarity before the softmax over names.
        threshold: a pixel whose best class has a smaller share becomes 0 = other, in [0, 1].
        short_side: frame the photo is resized to, shorter side in pixels.
        window: side of square sliding windows in frame pixels; None runs the whole image at once.
        stride: step between windows, in frame pixels; unused without `window`.
        templates: name of the prompt template set (`ovs_core.vocabulary.TEMPLATES`).
        frames: sizes of the frames that are looked at, in units of `short_side`; evidence is the mean over
            them (multi-scale inference), on the finest grid.
    """

    scale: float
    threshold: float
    short_side: int
    window: int | None
    stride: int
    templates: str
    frames: tuple[float, ...] = (1.0,)

    def __post_init__(self) -> None:
        if not self.scale > 0:
            raise ValueError(f"scale must be above 0, got {self.scale}")
        if not 0 <= self.threshold <= 1:
            raise ValueError(f"threshold must lie in [0, 1], got {self.threshold}")
        if self.short_side < 16:
            raise ValueError(f"short_side must be at least 16 pixels, got {self.short_side}")
        if self.window is not None and not 0 < self.stride <= self.window:
            raise ValueError(f"stride must lie in 1..window={self.window}, got {self.stride}")
        if not self.frames or min(self.frames) * self.short_side < 16:
            raise ValueError(f"frames must be of at least 16 pixels, one or more; got {self.frames}")

    @property
    def alone(self) -> tuple[Preset, ...]:
        """The same settings for each frame, which is then the only one."""
        sides = (round(self.short_side * size) for size in self.frames)
        return tuple(replace(self, short_side=side, frames=(1.0,)) for side in sides)

    def changed(
        self,
        *,
        scale: float | None = None,
        threshold: float | None = None,
        short_side: int | None = None,
        several_frames: bool = False,
    ) -> Preset:
        """The same settings but for those that are not None; with `several_frames`, looking three times.

        Raises:
            ValueError: for a setting out of range.
        """
        return replace(
            self,
            scale=self.scale if scale is None else scale,
            threshold=self.threshold if threshold is None else threshold,
            short_side=self.short_side if short_side is None else short_side,
            frames=SEVERAL_FRAMES if several_frames else self.frames,
        )


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
            raise ValueError(f"labels must be whole numbers (H, W), got {self.labels.dtype}{self.labels.shape}")
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
        mean_score: mean winning share over the pixels of this class, in [0, 1]; 0 where it won nothing.
    """

    label: int
    names: tuple[str, ...]
    color: tuple[int, int, int]
    area_share: float
    mean_score: float


@dataclass(frozen=True, eq=False)
class Result:
    """What a person, a file or a test gets: one label per pixel of the photo and what it means.

    Attributes:
        image: the photo, upright, (H, W, 3) uint8 RGB.
        labels: (H, W) uint8, or uint16 above 255 classes; 0 = other, k = k-th class as typed.
        vocabulary: what was asked.
        classes: one summary per class in typed order, then "other" (label 0) if the vocabulary has `other`
            names or the threshold is above 0.
        method: registry name of the method, e.g. "naclip".
        encoder: registry name of the tower, e.g. "mini".
        weights: file name -> SHA-256 of every weight file that made this answer.
        preset: settings used.
        refine: "none" or the refiner's registry name.
        switches: optional parts of the method that were on, by name.
        seconds: stage name -> seconds spent; a stage answered from a cache is absent.
        segmentation: the evidence behind the labels; re-labelling starts here.
        notes: what was out of the ordinary in answering, one sentence each, to be shown to the user.
    """

    image: NDArray[np.uint8]
    labels: NDArray[np.uint8] | NDArray[np.uint16]
    vocabulary: Vocabulary
    classes: tuple[ClassSummary, ...]
    method: str
    encoder: str
    weights: Mapping[str, str]
    preset: Preset
    refine: str
    seconds: Mapping[str, float]
    segmentation: Segmentation
    switches: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.labels.shape != self.image.shape[:2]:
            raise ValueError(f"labels must be {self.image.shape[:2]}, got {self.labels.shape}")

    def save(self, folder: str | Path, stem: str = "photo", formats: Iterable[str] = ()) -> tuple[Path, ...]:
        """Write label map, overlay and report, and `formats`; see `ovs_core.export.files.save_result`."""
        from ovs_core.export.files import save_result

        return save_result(self, folder, stem, formats)
