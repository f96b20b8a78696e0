"""From evidence on the token grid to labels, shares and margins per pixel, one tile at a time.

The rule everywhere: interpolate the rows bilinearly (half-pixel centres, edges repeated), multiply by the
scale, softmax over all names, take the largest name of each class (label 0: of the `other` names), then the
largest class. Only one tile (S, rows, columns) exists at a time: 847 classes need no more memory than two.

Masks follow the same rule with one row per class, its evidence being the logarithm of its score at the pixel:
at scale 1 a share is the class's part of the scores of all classes (MaskFormer, arXiv 2107.06278, section
3.4, for the scores).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ovs_core.types import ClassSummary, Evidence, MaskProposals, Preset, ScoreMap, Vocabulary

# A tile that stays in a processor's cache is several times faster than one that does not.
_TILE_BYTES_CPU, _TILE_BYTES_ELSEWHERE = 4 << 20, 64 << 20
_TILE_WIDTH = 128  # pixels; a wider tile is made of more samples, most with a weight of zero
_LEAST_SCORE = 1e-12  # of a class that no mask shows; its logarithm is taken


@dataclass(frozen=True, eq=False)
class Tile:
    """Shares of one rectangle.

    Attributes:
        top, left: first row and column, in pixels of the whole map.
        shares: (K, rows, columns) in [0, 1], or (K + 1, ...) with `other` last.
    """

    top: int
    left: int
    shares: Tensor


def on_cpu(found: Evidence) -> Evidence:
    """The same evidence in float32 in main memory: labels come from there, and the device stays free."""
    if isinstance(found, MaskProposals):
        masks, scores, void = (one.float().cpu() for one in (found.masks, found.scores, found.void))
        return replace(found, masks=masks, scores=scores, void=void)
    return replace(found, evidence=found.evidence.float().cpu())


def mean_evidence(found: Sequence[ScoreMap]) -> ScoreMap:
    """Mean of evidence for the same names from several looks at one photo, on the finest of their grids."""
    grids = [tuple(one.evidence.shape[1:]) for one in found]
    finest = max(grids, key=math.prod)
    total = torch.zeros_like(found[grids.index(finest)].evidence)
    for one in found:
        total += F.interpolate(one.evidence[None], size=finest, mode="bilinear", align_corners=False)[0]
    return replace(found[0], evidence=total / len(found))


def decide(
    score_map: Evidence, preset: Preset | tuple[float, float], size: tuple[int, int] | None = None
) -> tuple[NDArray[np.uint8] | NDArray[np.uint16], NDArray[np.float32]]:
    """Label every pixel.

    Args:
        score_map: evidence of every name, or masks and their classes.
        preset: scale and threshold, alone or as part of a preset.
        size: (H, W) of the answer in pixels; the photo's own by default.

    Returns:
        Labels (H, W), uint8 or above 255 classes uint16: k = k-th class (the first of equals), 0 = `other`
        won or the best share is below the threshold. Shares (H, W) float32 in [0, 1] of what was best.
    """
    scale, threshold = (preset.scale, preset.threshold) if isinstance(preset, Preset) else preset
    size = size or score_map.image_size
    row_label = _row_labels(score_map)
    labels: NDArray[np.uint8] | NDArray[np.uint16]
    labels = np.empty(size, np.uint8 if len(score_map.vocabulary.classes) < 256 else np.uint16)
    share = np.empty(size, np.float32)
    for top, left, values, peak in _behind_the_best(score_map, scale, size):
        # Few names win anywhere in a tile: painting those, the first one last, is ten times faster than an
        # argmax over all of them.
        label = torch.zeros_like(values[0], dtype=torch.int32)  # (rows, columns)
        for row in reversed((values.amax((1, 2)) == peak).nonzero()[:, 0].tolist()):
            label.masked_fill_(values[row] == peak, row_label[row])
        ratios = values.pow_(scale) if isinstance(score_map, MaskProposals) else values.exp_()
        best = ratios.sum(0).reciprocal_()  # (rows, columns): the softmax of the best name
        label.masked_fill_(best < threshold, 0)
        where = (slice(top, top + label.shape[0]), slice(left, left + label.shape[1]))
        labels[where] = label.cpu().numpy()
        share[where] = best.cpu().numpy()
    return labels, share


def shares(score_map: Evidence, scale: float, size: tuple[int, int]) -> Iterator[Tile]:
    """Yield the share of every class, tile by tile, at `size` (H, W) in pixels."""
    lengths = _row_counts(score_map)
    for top, left, logits in _tiles(score_map, scale, size):
        yield Tile(top, left, _largest(logits.softmax(0), lengths))


def share_map(score_map: Evidence, scale: float, size: tuple[int, int]) -> Tensor:
    """Shares of every class at once, (K, H, W) or with `other` last (K + 1, H, W); for small `size` only."""
    whole = torch.empty(len(_row_counts(score_map)), *size, device=_device(score_map))
    for tile in shares(score_map, scale, size):
        rows, columns = tile.shares.shape[1:]
        whole[:, tile.top : tile.top + rows, tile.left : tile.left + columns] = tile.shares
    return whole


def margin(score_map: Evidence, scale: float, size: tuple[int, int] | None = None) -> NDArray[np.float32]:
    """Share of the best class minus that of the second best, (H, W) in [0, 1]: how sure a label is.

    `other` counts as a class. Where nothing competes (one class, no `other`) it is the share itself.
    """
    size = size or score_map.image_size
    answer = np.empty(size, np.float32)
    for tile in shares(score_map, scale, size):
        best = tile.shares.topk(min(2, len(tile.shares)), dim=0).values
        lead = best[0] - best[1] if len(best) > 1 else best[0]
        rows, columns = lead.shape
        answer[tile.top : tile.top + rows, tile.left : tile.left + columns] = lead.cpu().numpy()
    return answer


def class_scores(score_map: ScoreMap) -> Tensor:
    """Evidence of each class on its own grid, (K, h, w) or with `other` last (K + 1, h, w): its best name."""
    return _largest(score_map.evidence, _row_counts(score_map))


def summarise(
    labels: NDArray[np.uint8] | NDArray[np.uint16],
    share: NDArray[np.float32],
    vocabulary: Vocabulary,
    colors: Sequence[tuple[int, int, int]],
) -> tuple[ClassSummary, ...]:
    """Measure what each class got: one line per class in typed order, then `other` if it could win or did.

    Args:
        labels: (H, W) as from `decide`.
        share: (H, W) as from `decide`.
        vocabulary: what the labels mean.
        colors: K + 1 colours, one per label, `other` first.

    Raises:
        ValueError: if the number of colours or the shapes do not fit.
    """
    known = len(vocabulary.classes)
    if len(colors) != known + 1 or labels.shape != share.shape:
        shapes = f"labels {labels.shape}, share {share.shape}"
        raise ValueError(f"expected {known + 1} colours and equal shapes, got {len(colors)}, {shapes}")
    flat = labels.reshape(-1)
    pixels = np.bincount(flat, minlength=known + 1)
    sums = np.bincount(flat, weights=share.reshape(-1), minlength=known + 1)
    present = [*range(1, known + 1)]
    if vocabulary.other or pixels[0]:
        present.append(0)
    return tuple(
        ClassSummary(
            label=label,
            names=vocabulary.classes[label - 1] if label else ("other",),
            color=colors[label],
            area_share=float(pixels[label] / flat.size),
            mean_score=float(sums[label] / pixels[label]) if pixels[label] else 0.0,
        )
        for label in present
    )


def _device(score_map: Evidence) -> torch.device:
    return score_map.masks.device if isinstance(score_map, MaskProposals) else score_map.evidence.device


def _row_labels(score_map: Evidence) -> tuple[int, ...]:
    """Label of each row of evidence."""
    if isinstance(score_map, MaskProposals):
        return score_map.labels
    return score_map.vocabulary.row_label


def _row_counts(score_map: Evidence) -> list[int]:
    """Number of rows of each class, then of `other` if it has any."""
    if isinstance(score_map, MaskProposals):
        return [1] * len(score_map.labels)
    vocabulary = score_map.vocabulary
    counts = [len(names) for names in vocabulary.classes]
    return [*counts, len(vocabulary.other)] if vocabulary.other else counts


def _largest(rows: Tensor, counts: Sequence[int]) -> Tensor:
    """Reduce rows (S, ...) to groups (len(counts), ...) by maximum."""
    return torch.stack([group.amax(0) for group in torch.split(rows, list(counts))])


def _behind_the_best(
    score_map: Evidence, scale: float, size: tuple[int, int]
) -> Iterator[tuple[int, int, Tensor, float]]:
    """Yield top, left, values and the value of the best name of a pixel, for every tile at `size`.

    Values (rows of evidence, ...) are logits minus the best one; of masks they are scores over the best one,
    which spares 847 classes a logarithm and an exponential per pixel.
    """
    if not isinstance(score_map, MaskProposals):
        for top, left, logits in _tiles(score_map, scale, size):
            logits -= logits.amax(0)
            yield top, left, logits, 0.0
        return
    _check_size(size)
    for top, left, scores in mask_scores(score_map, size):
        scores.clamp_(min=_LEAST_SCORE)
        scores /= scores.amax(0)
        yield top, left, scores, 1.0


def _check_size(size: tuple[int, int]) -> None:
    if min(size) < 1:
        raise ValueError(f"size must be at least 1 x 1 pixels, got {size}")


def _tiles(score_map: Evidence, scale: float, size: tuple[int, int]) -> Iterator[tuple[int, int, Tensor]]:
    """Yield (top, left, logits) for every tile at `size`; logits (rows of evidence, ...) may be changed."""
    _check_size(size)
    if not isinstance(score_map, MaskProposals):
        yield from _logit_tiles(score_map, scale, size)
        return
    for top, left, scores in mask_scores(score_map, size):
        yield top, left, scores.clamp_(min=_LEAST_SCORE).log_().mul_(scale)


def mask_scores(proposals: MaskProposals, size: tuple[int, int]) -> Iterator[tuple[int, int, Tensor]]:
    """Yield (top, left, scores) for every tile at `size` (H, W); scores (K, rows, columns), `other` last.

    The official order of steps: masks upsampled to the padded frame, sigmoid, weighed by their scores, the
    padding cut off, the sum resized; with `proposals.resize_masks` the last two come before the sigmoid.
    """
    weigh = proposals.scores.float().T  # (K, N)
    for top, left, framed, down, across in _frame_tiles(proposals, size, extra_rows=len(weigh)):
        if proposals.resize_masks or proposals.frame == size:  # nothing to do in the second case
            chances = (framed if proposals.frame == size else down @ framed @ across.T).sigmoid()
            yield top, left, (weigh @ chances.flatten(1)).view(-1, *chances.shape[1:])
        else:
            scores = (weigh @ framed.sigmoid().flatten(1)).view(-1, *framed.shape[1:])
            yield top, left, down @ (scores @ across.T)


def mask_tiles(proposals: MaskProposals, size: tuple[int, int]) -> Iterator[tuple[int, int, Tensor]]:
    """Yield (top, left, logits) for every tile at `size` (H, W); logits (N, rows, columns) of every mask."""
    for top, left, framed, down, across in _frame_tiles(proposals, size, extra_rows=0):
        yield top, left, down @ framed @ across.T


def _frame_tiles(
    proposals: MaskProposals, size: tuple[int, int], extra_rows: int
) -> Iterator[tuple[int, int, Tensor, Tensor, Tensor]]:
    """Yield top and left of every tile at `size`, and what it is made of.

    That is: mask logits (N, r, c) on the pixels of the frame around the tile, and the weights that bring them
    to its rows (rows, r) and columns (columns, c). `extra_rows` are held beside them per pixel.
    """
    masks, (height, width) = proposals.masks.float(), size
    (frame_height, frame_width), padded = proposals.frame, proposals.padded
    device = masks.device
    # A tile smaller than the frame's part under it is counted as large as that part.
    shrink = max(1.0, frame_height / height) * max(1.0, frame_width / width)
    budget = _TILE_BYTES_CPU if device.type == "cpu" else _TILE_BYTES_ELSEWHERE
    room = max(1, int(budget / (4 * shrink * (len(masks) + extra_rows))))  # pixels
    # Square tiles: what is computed twice, at the edges of tiles, is least.
    columns = min(width, max(1, math.isqrt(room)))
    rows = max(1, room // columns)
    strips = []
    for left in range(0, width, columns):
        part, across = _bilinear(left, min(left + columns, width), width, frame_width, device)
        strips.append((left, across, *_bilinear(part.start, part.stop, padded[1], masks.shape[2], device)))
    for top in range(0, height, rows):
        part, down = _bilinear(top, min(top + rows, height), height, frame_height, device)
        cells, up = _bilinear(part.start, part.stop, padded[0], masks.shape[1], device)
        band = up @ masks[:, cells]  # (N, r, w)
        for left, across, cells, up in strips:
            yield top, left, band[:, :, cells] @ up.T, down, across


def _logit_tiles(
    score_map: ScoreMap, scale: float, size: tuple[int, int]
) -> Iterator[tuple[int, int, Tensor]]:
    """Yield (top, left, logits) for every tile at `size`; logits (S, rows, columns) may be changed.

    Bilinear sampling is separable: a tile is two small matrix products, with weights of its rows and columns.
    """
    height, width = size
    names, h, w = score_map.evidence.shape
    device = score_map.evidence.device
    scaled = score_map.evidence.to(torch.float32) * scale
    budget = _TILE_BYTES_CPU if device.type == "cpu" else _TILE_BYTES_ELSEWHERE
    room = max(1, budget // (4 * names))  # pixels
    columns = min(width, room, _TILE_WIDTH)
    rows = max(1, room // columns)
    strips = [
        (left, *_bilinear(left, min(left + columns, width), width, w, device))
        for left in range(0, width, columns)
    ]
    for top in range(0, height, rows):
        grid_rows, down = _bilinear(top, min(top + rows, height), height, h, device)
        band = down @ scaled[:, grid_rows]  # (S, rows, w)
        for left, grid_columns, across in strips:
            yield top, left, band[:, :, grid_columns] @ across.T  # (S, rows, columns)


def _bilinear(start: int, stop: int, length: int, cells: int, device: torch.device) -> tuple[slice, Tensor]:
    """Bilinear weights of pixels start..stop-1 of `length` along an axis of `cells` samples.

    Returns:
        The samples that take part, n of them, and their weights (stop - start, n).
    """
    position = (np.arange(start, stop) + 0.5) * (cells / length) - 0.5
    position = position.clip(0, cells - 1)
    below = np.minimum(position.astype(np.int64), max(cells - 2, 0))
    first, last = int(below[0]), min(int(below[-1]) + 1, cells - 1)
    weights = np.zeros((stop - start, last - first + 1), np.float32)
    pixel = np.arange(stop - start)
    weights[pixel, below - first] = 1 - (position - below)
    if cells > 1:
        weights[pixel, below - first + 1] = position - below
    return slice(first, last + 1), torch.from_numpy(weights).to(device)
