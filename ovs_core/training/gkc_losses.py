"""Losses of GKC: what the student takes from a frozen CLIP, by way of text, and from captions.

Paper: GKC (ICCV 2023, arXiv 2303.09181), section 3.3, for text-guided knowledge distillation; OpenSeg
(arXiv 2112.12143) for grounding. Numbers follow yongliu20/GKC 21313c8, written anew from its description:
that code may not be copied. Where paper and code differ, both forms are here, each under its own name.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

MOST_REGIONS = 200  # of a batch that distillation compares
GROUNDED_WORDS, GROUNDED_REGIONS = 5, 25  # of a caption and of a photo
_FAR_BELOW = 100.0  # how far under the smallest similarity an absent pair is put

StructureForm = Literal["code", "paper"]


@dataclass(frozen=True, eq=False)
class Distilled:
    """Regions of a batch as student, teacher and text see them; unit rows, region i is the same in all three.

    Attributes:
        student: (n, D), with gradients: the projected query that was matched to the region.
        teacher: (n, D): frozen CLIP on the region alone.
        text: (n, D): the word that was used for the region.
        counts: regions of each photo, in order; they sum to n.
    """

    student: Tensor
    teacher: Tensor
    text: Tensor
    counts: Sequence[int]

    def __post_init__(self) -> None:
        shapes = {tuple(rows.shape) for rows in (self.student, self.teacher, self.text)}
        if len(shapes) != 1 or self.student.ndim != 2 or sum(self.counts) != len(self.student):
            raise ValueError(
                f"student, teacher and text must be equal (n, D) with n={sum(self.counts)}, "
                f"got {sorted(shapes)}"
            )


class Distillation(NamedTuple):
    """Both terms of text-guided distillation, scalars."""

    plain: Tensor
    structure: Tensor


def distillation(regions: Distilled, gamma: Tensor, form: StructureForm = "code") -> Distillation:
    """Both terms: each region like the teacher's, and pairs of regions as far apart as their words.

    Args:
        regions: of a batch; none gives zeros.
        gamma: learned length of text vectors, a scalar that starts at 1; read by the code's form alone.
        form: "code" compares products, "paper" distances.
    """
    plain = ((regions.student - regions.teacher) ** 2).sum(dim=1)  # (n,)
    pairs = _code_pairs(regions, gamma) if form == "code" else _paper_pairs(regions)
    nothing = regions.student.sum() * 0
    if not len(plain):
        return Distillation(nothing, nothing)
    structure = pairs.mean() if form == "code" else pairs.sum() / len(plain)
    return Distillation(plain.mean(), structure)


def joint_distillation(regions: Distilled, gamma: Tensor) -> Tensor:
    """One mean over all plain and pair terms, as in the code where pairs have no weight of their own."""
    plain = ((regions.student - regions.teacher) ** 2).sum(dim=1)
    if not len(plain):
        return regions.student.sum() * 0
    return torch.cat([plain, _code_pairs(regions, gamma)]).mean()


def _code_pairs(regions: Distilled, gamma: Tensor) -> Tensor:
    """(gamma^2 t_i t_j - v_i c_j)^2 of every pair inside a photo, flat."""
    parts = [
        ((gamma**2 * text @ text.T - student @ teacher.T) ** 2).flatten()
        for student, teacher, text in _photos(regions)
    ]
    return torch.cat(parts) if parts else regions.student.new_zeros(0)


def _paper_pairs(regions: Distilled) -> Tensor:
    """| |v_i - c_j| - |t_i - t_j| | of every pair inside a photo, flat (the paper's equation 5)."""
    parts = [
        (_distances(student, teacher) - _distances(text, text)).abs().flatten()
        for student, teacher, text in _photos(regions)
    ]
    return torch.cat(parts) if parts else regions.student.new_zeros(0)


def _distances(first: Tensor, second: Tensor) -> Tensor:
    """Euclidean distances (n, m) of unit rows by |a - b|^2 = 2 - 2ab: its gradient is finite at 0."""
    squared = 2 - 2 * first @ second.T
    return squared.clamp(min=torch.finfo(squared.dtype).eps).sqrt()


def _photos(regions: Distilled) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Student, teacher and text rows of each photo."""
    counts = list(regions.counts)
    split = (torch.split(rows, counts) for rows in (regions.student, regions.teacher, regions.text))
    return list(zip(*split, strict=True))


def some_regions(
    counts: Sequence[int], generator: torch.Generator | None, most: int = MOST_REGIONS
) -> Tensor:
    """Places of at most `most` regions of a batch, drawn evenly and in rising order, (m,).

    Args:
        counts: regions of each photo.
        generator: where the draw comes from; nothing is drawn where all fit.
        most: m.
    """
    total = sum(counts)
    if total <= most:
        return torch.arange(total)
    return torch.randperm(total, generator=generator)[:most].sort().values


@dataclass(frozen=True, eq=False)
class Grounded:
    """Captions and photos of a batch; caption i belongs to photo i.

    Attributes:
        words: a row per noun of a caption, (B, W, D), padded.
        has_word: (B, W) True where there is a noun.
        regions: a row per matched query, (B, R, D), padded.
        has_region: (B, R) True where there is a region.
    """

    words: Tensor
    has_word: Tensor
    regions: Tensor
    has_region: Tensor

    def __post_init__(self) -> None:
        words, regions = self.words.shape, self.regions.shape
        if len(words) != 3 or len(regions) != 3 or words[0] != regions[0] or words[2] != regions[2]:
            raise ValueError(
                f"words must be (B, W, D) and regions (B, R, D), got {tuple(words)}, {tuple(regions)}"
            )
        if self.has_word.shape != words[:2] or self.has_region.shape != regions[:2]:
            raise ValueError("has_word must be (B, W) and has_region (B, R)")


def grounding_loss(batch: Grounded, log_scale: Tensor) -> Tensor:
    """Captions and photos that belong together are near, those that do not are far; a scalar.

    Words look at the regions of a photo, regions at the words of a caption. Photos without a region and
    captions without a noun are in the batch like the others, with a distance of 0, as in the code.

    Args:
        batch: captions and photos.
        log_scale: logarithm of the scale of cosines.
    """
    distances = grounding_distances(batch, log_scale)
    own = torch.arange(len(batch.words), device=batch.words.device)
    losses = [F.cross_entropy(-rows, own) for way in distances for rows in (way, way.T)]
    return torch.stack(losses).mean()


def grounding_distances(batch: Grounded, log_scale: Tensor) -> tuple[Tensor, Tensor]:
    """Distance of every caption (row) from every photo (column), (B, B), by words and by regions."""
    scale = log_scale.exp()
    words, regions = F.normalize(batch.words, dim=2), F.normalize(batch.regions, dim=2)
    cosines = torch.einsum("pwd,qrd->pqwr", words, regions)  # (B, B, W, R)
    there = batch.has_word[:, None, :, None] & batch.has_region[None, :, None, :]
    similarity = scale * cosines
    similarity = torch.where(there, similarity, similarity.min() - _FAR_BELOW)
    far = scale * (1 - cosines)
    by_words = (similarity.softmax(dim=3) * far).sum(dim=3) * batch.has_word[:, None]  # (B, B, W)
    by_regions = (similarity.softmax(dim=2) * far).sum(dim=2) * batch.has_region[None]  # (B, B, R)
    words_of = batch.has_word.sum(dim=1).clamp(min=1)
    regions_of = batch.has_region.sum(dim=1).clamp(min=1)
    return by_words.sum(dim=2) / words_of[:, None], by_regions.sum(dim=2) / regions_of[None]


def padded_rows(rows: Sequence[Tensor], length: int) -> tuple[Tensor, Tensor]:
    """Lists of rows (n_i, D) as one tensor (B, length, D), cut there, and where it holds a row, (B, length).

    Raises:
        ValueError: if there is no list.
    """
    if not rows:
        raise ValueError("rows must hold at least one list of rows, got none")
    whole = rows[0].new_zeros(len(rows), length, rows[0].shape[1])
    there = torch.zeros(len(rows), length, dtype=torch.bool, device=whole.device)
    for place, own in enumerate(rows):
        kept = own[:length]
        whole[place, : len(kept)] = kept
        there[place, : len(kept)] = True
    return whole, there
