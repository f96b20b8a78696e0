"""Evidence as masks and what each of them shows: FC-CLIP, MAFT+ and their kind.

The score of a class at a pixel is the sum over masks of the mask's probability there times its score for the
class (MaskFormer, arXiv 2107.06278, section 3.4). At scale 1 a probability is the class's part of the scores
of all classes. N x H x W is never held.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType

import torch
from torch import Tensor

from ovs_core.devices import Cancel, stop_if_cancelled
from ovs_core.evidence.base import (
    Activation,
    Decided,
    Tile,
    best_class,
    best_labels,
    check_size,
    checked_exclusion,
    class_labels,
    spread,
)
from ovs_core.evidence.sampling import bilinear, tile_bytes
from ovs_core.types import Vocabulary

_LEAST_SCORE = 1e-12  # of a class that no mask shows; its logarithm is taken
NO_ROWS = (
    "This method answers with masks and has no scores per name on a grid; choose one that labels pixels."
)


@dataclass(frozen=True, eq=False)
class MaskProposals:
    """Masks and what each of them shows; see `ovs_core.evidence.protocol.Evidence`.

    Attributes:
        masks: (N, h, w) logits on a grid that covers the padded frame.
        scores: (N, K), or (N, K + 1) with `other` last, in [0, 1]: probability of each class, by its best
            name.
        void: (N,) probability of "no object", in [0, 1]; a row of `scores` and its `void` sum to 1.
        vocabulary: what the columns of `scores` mean.
        image_size: (H, W) the labels are for, in photo pixels.
        frame: (Hf, Wf) in pixels that the tower looked at.
        padded: (Hp, Wp) in pixels of that frame with its padding.
        resize_masks: bring masks to the photo's size before they are weighed, as official code does where it
            answers panoptically too; otherwise their weighted sum is brought there.
        offsets: added to class probabilities, by label, before the best is taken.
        excluded: labels of typed classes that do not compete.
    """

    masks: Tensor
    scores: Tensor
    void: Tensor
    vocabulary: Vocabulary
    image_size: tuple[int, int]
    frame: tuple[int, int]
    padded: tuple[int, int]
    resize_masks: bool = False
    offsets: Mapping[int, float] = field(default_factory=lambda: MappingProxyType({}))
    excluded: frozenset[int] = frozenset()

    def __post_init__(self) -> None:
        columns = len(class_labels(self.vocabulary))
        if self.masks.ndim != 3 or not len(self.masks):
            raise ValueError(f"masks must be (N, h, w) with N at least 1, got {tuple(self.masks.shape)}")
        if self.scores.shape != (len(self.masks), columns):
            raise ValueError(f"scores must be ({len(self.masks)}, {columns}), got {tuple(self.scores.shape)}")
        if self.void.shape != (len(self.masks),):
            raise ValueError(f"void must be ({len(self.masks)},), got {tuple(self.void.shape)}")

    @property
    def labels(self) -> tuple[int, ...]:
        """Labels that compete, columns of `competing`: k for the k-th class (from 1), 0 for `other`."""
        return tuple(label for label in class_labels(self.vocabulary) if label not in self.excluded)

    @property
    def competing(self) -> Tensor:
        """Probability of each class that competes, (N, C), by mask.

        The others' part of a mask is shared out in proportion, as a soft-max over fewer names does it; that
        it is "no object" says the mask, whatever the names. A mask without any part left shows nothing.
        """
        if not self.excluded:
            return self.scores
        every = class_labels(self.vocabulary)
        left = self.scores[:, [every.index(label) for label in self.labels]]
        return left * ((1 - self.void) / left.sum(1).clamp(min=_LEAST_SCORE))[:, None]

    @property
    def nbytes(self) -> int:
        """Bytes held, for the cache budget."""
        return self.masks.nbytes + self.scores.nbytes + self.void.nbytes

    @property
    def activation(self) -> Activation:
        """Scores of classes are probabilities already; at a pixel they are divided by their sum."""
        return "none"

    @property
    def seen(self) -> frozenset[str]:
        """Nothing is calibrated by the names that training saw."""
        return frozenset()

    @property
    def device(self) -> torch.device:
        """Where the masks live."""
        return self.masks.device

    @property
    def proposals(self) -> MaskProposals:
        """These masks."""
        return self

    @property
    def rows(self) -> Tensor:
        """There are none: masks have no scores per name on a grid."""
        raise ValueError(NO_ROWS)

    def decide(self, scale: float, size: tuple[int, int], cancel: Cancel = None) -> Iterator[Decided]:
        """Yield the best class of every pixel at `size` (H, W), tile by tile.

        Scores are divided by the best one and raised to the scale, which spares 847 classes a logarithm and
        an exponential per pixel.

        Raises:
            Cancelled: if `cancel` was set, before the next tile.
        """
        check_size(size)
        for top, left, scores in self.class_tiles(size):
            stop_if_cancelled(cancel)
            scores.clamp_(min=_LEAST_SCORE)
            scores /= scores.amax(0)
            if not any(self.offsets.values()):
                labels = best_labels(scores, 1.0, self.labels)
                yield Decided(top, left, labels, scores.pow_(scale).sum(0).reciprocal_())
                continue
            chances = scores.pow_(scale)
            chances /= chances.sum(0)
            winner = best_class(chances, self.labels, self.offsets)
            known = torch.tensor(self.labels, dtype=torch.int32, device=self.device)
            yield Decided(top, left, known[winner], chances.gather(0, winner[None])[0])

    def probabilities(self, scale: float, size: tuple[int, int]) -> Iterator[Tile]:
        """Yield the probability of every class at `size` (H, W), tile by tile; excluded ones: 0."""
        check_size(size)
        for top, left, scores in self.class_tiles(size):
            logits = scores.clamp_(min=_LEAST_SCORE).log_().mul_(scale)
            yield Tile(top, left, spread(logits.softmax(0), self.labels, self.vocabulary))

    def score_maps(self, size: tuple[int, int]) -> Tensor:
        """Sum over masks of probability times score of each class at `size`, (K or K + 1, h, w)."""
        whole = torch.empty(self.scores.shape[1], *size, device=self.device)
        for top, left, scores in replace(self, excluded=frozenset()).class_tiles(size):
            rows, columns = scores.shape[1:]
            whole[:, top : top + rows, left : left + columns] = scores
        return whole

    def for_vocabulary(self, vocabulary: Vocabulary) -> MaskProposals:
        """The same masks under other shown names; classes must be as many."""
        return replace(self, vocabulary=vocabulary)

    def calibrated(self, offsets: Mapping[int, float]) -> MaskProposals:
        """The same with numbers added to class probabilities, by label, before the best is taken."""
        return replace(self, offsets=MappingProxyType(dict(offsets)))

    def without(self, labels: Collection[int]) -> MaskProposals:
        """The same where some typed classes do not compete, in masks and in pixels."""
        return replace(self, excluded=checked_exclusion(self.vocabulary, labels))

    def to(self, device: torch.device) -> MaskProposals:
        """The same in float32 on a device."""
        masks, scores, void = (value.float().to(device) for value in (self.masks, self.scores, self.void))
        return replace(self, masks=masks, scores=scores, void=void)

    def mean(self, others: Sequence[MaskProposals]) -> MaskProposals:
        """Masks of several looks are different masks: only one look has a mean.

        Raises:
            ValueError: for more than one look.
        """
        if others:
            raise ValueError("A method that proposes masks looks once; its masks have no mean over frames.")
        return self

    def with_rows(self, rows: Tensor) -> MaskProposals:
        """Masks have no rows.

        Raises:
            ValueError: always.
        """
        raise ValueError(NO_ROWS)

    def only(self, masks: list[int] | Tensor) -> MaskProposals:
        """Some of the proposals."""
        return replace(self, masks=self.masks[masks], scores=self.scores[masks], void=self.void[masks])

    def class_tiles(self, size: tuple[int, int]) -> Iterator[tuple[int, int, Tensor]]:
        """Yield (top, left, scores) for every tile at `size` (H, W); scores (C, rows, columns).

        Classes are those of `labels`.

        The official order of steps: masks upsampled to the padded frame, sigmoid, weighed by their scores,
        the padding cut off, the sum resized; with `resize_masks` the last two come before the sigmoid.
        """
        weigh = self.competing.float().T  # (C, N)
        for top, left, framed, down, across in self._frame_tiles(size, extra_rows=len(weigh)):
            if self.resize_masks or self.frame == size:  # nothing to do in the second case
                chances = (framed if self.frame == size else down @ framed @ across.T).sigmoid()
                yield top, left, (weigh @ chances.flatten(1)).view(-1, *chances.shape[1:])
            else:
                scores = (weigh @ framed.sigmoid().flatten(1)).view(-1, *framed.shape[1:])
                yield top, left, down @ (scores @ across.T)

    def mask_tiles(self, size: tuple[int, int]) -> Iterator[tuple[int, int, Tensor]]:
        """Yield (top, left, logits) for every tile at `size` (H, W); logits (N, rows, columns) of masks."""
        for top, left, framed, down, across in self._frame_tiles(size, extra_rows=0):
            yield top, left, down @ framed @ across.T

    def _frame_tiles(
        self, size: tuple[int, int], extra_rows: int
    ) -> Iterator[tuple[int, int, Tensor, Tensor, Tensor]]:
        """Yield top and left of every tile at `size`, and what it is made of.

        That is: mask logits (N, r, c) on the pixels of the frame around the tile, and the weights that bring
        them to its rows (rows, r) and columns (columns, c). `extra_rows` are held beside them per pixel.
        """
        masks, (height, width) = self.masks.float(), size
        (frame_height, frame_width), padded, device = self.frame, self.padded, self.device
        # A tile smaller than the frame's part under it is counted as large as that part.
        shrink = max(1.0, frame_height / height) * max(1.0, frame_width / width)
        room = max(1, int(tile_bytes(device) / (4 * shrink * (len(masks) + extra_rows))))  # pixels
        # Square tiles: what is computed twice, at the edges of tiles, is least.
        columns = min(width, max(1, math.isqrt(room)))
        rows = max(1, room // columns)
        strips = []
        for left in range(0, width, columns):
            part, across = bilinear(left, min(left + columns, width), width, frame_width, device)
            strips.append((left, across, *bilinear(part.start, part.stop, padded[1], masks.shape[2], device)))
        for top in range(0, height, rows):
            part, down = bilinear(top, min(top + rows, height), height, frame_height, device)
            cells, up = bilinear(part.start, part.stop, padded[0], masks.shape[1], device)
            band = up @ masks[:, cells]  # (N, r, w)
            for left, across, cells, up in strips:
                yield top, left, band[:, :, cells] @ up.T, down, across
