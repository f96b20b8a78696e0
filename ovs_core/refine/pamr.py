"""PAMR, pixel-adaptive refinement: smooth evidence along the photo's own colours; nothing is learned.

Paper: Araslanov and Roth, "Single-Stage Semantic Segmentation from Image Labels", arXiv 2005.08104.
Settings are those of the training-free CLIP methods (SCLIP, NACLIP): dilations 8 and 16, 10 iterations.
As in the official code (visinf/1-stage-wseg, bebc9a6), the local deviation is the unbiased one of the 3 x 3
neighbourhood of every dilation with its centre, while the average leaves the centre out.
Deviations: rows are enlarged with half-pixel centres as everywhere else here (official: aligned corners);
to bound the memory the working size is capped and rows go through in chunks (same bits).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ovs_core.devices import Cancel, Report, advance
from ovs_core.image import to_frame
from ovs_core.types import ScoreMap

DILATIONS = (8, 16)
ITERATIONS = 10
_DEVIATION_WEIGHT = 0.1
_EPSILON = 1e-8
_CHUNK_BYTES = 16 << 20
_RING = ((-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0), (1, 1))


def refine_pamr(
    score_map: ScoreMap,
    pixels: NDArray[np.uint8],
    *,
    max_side: int = 512,
    progress: Report = None,
    cancel: Cancel = None,
) -> ScoreMap:
    """Refine every row of a score map by the photo it belongs to.

    Args:
        score_map: evidence on the token grid.
        pixels: the photo, (H, W, 3) uint8 RGB.
        max_side: longer side of the working grid, in pixels; no side gets smaller than the token grid's.
        progress: told (rows done, rows in all) after every chunk.
        cancel: looked at before every chunk.

    Returns:
        The same rows on the working grid.

    Raises:
        Cancelled: if `cancel` was set.
    """
    evidence = score_map.evidence.to(torch.float32)
    size = _working_size(pixels.shape[:2], evidence.shape[1:], max_side)
    affinity = pamr_affinity(to_frame(pixels, size).to(evidence.device), DILATIONS)
    count = max(1, _CHUNK_BYTES // (4 * size[0] * size[1]))
    refined = evidence.new_empty(len(evidence), *size)
    advance(0, len(evidence), progress, cancel)
    for start in range(0, len(evidence), count):
        rows = evidence[None, start : start + count]  # (1, rows, h, w)
        rows = F.interpolate(rows, size=size, mode="bilinear", align_corners=False)[0]
        refined[start : start + count] = _smooth(rows, affinity, DILATIONS, ITERATIONS)
        advance(min(start + count, len(evidence)), len(evidence), progress, cancel)
    return ScoreMap(refined, score_map.vocabulary, score_map.image_size)


def pamr(
    evidence: Tensor, image: Tensor, dilations: Sequence[int] = DILATIONS, iterations: int = ITERATIONS
) -> Tensor:
    """Average every row with its neighbours of similar colour, again and again.

    Args:
        evidence: (S, H, W), any values; rows do not see each other.
        image: (C, H, W) of the same size, any colour range.
        dilations: distances of the eight neighbours, in pixels; edges are repeated.
        iterations: times the average is taken.

    Returns:
        (S, H, W) float32.
    """
    if evidence.ndim != 3 or image.ndim != 3 or evidence.shape[1:] != image.shape[1:]:
        raise ValueError(
            f"expected (S, H, W) and (C, H, W), got {tuple(evidence.shape)} and {tuple(image.shape)}"
        )
    return _smooth(evidence.to(torch.float32), pamr_affinity(image, dilations), dilations, iterations)


def pamr_affinity(image: Tensor, dilations: Sequence[int] = DILATIONS) -> Tensor:
    """Weight of every neighbour at every pixel of an image (C, H, W): (8 * dilations, H, W), summing to 1.

    exp(-|difference| / (1e-8 + 0.1 * local deviation)), the exponent averaged over channels, normalised.
    """
    image = image.to(torch.float32)
    scale = _EPSILON + _DEVIATION_WEIGHT * _local_deviation(image, dilations)
    far = [-((shifted - image).abs() / scale).mean(0) for shifted in _neighbours(image, dilations)]
    return torch.stack(far).softmax(0)


def _smooth(rows: Tensor, affinity: Tensor, dilations: Sequence[int], iterations: int) -> Tensor:
    """Replace rows (S, H, W) by the weighted mean of their neighbours, `iterations` times."""
    for _ in range(iterations):
        mean = torch.zeros_like(rows)
        for weight, shifted in zip(affinity, _neighbours(rows, dilations), strict=True):
            mean.addcmul_(weight, shifted)
        rows = mean
    return rows


def _local_deviation(image: Tensor, dilations: Sequence[int]) -> Tensor:
    """Unbiased standard deviation (C, H, W) over all neighbours and, once per dilation, the pixel itself."""
    number = 9 * len(dilations)
    # Differences from the pixel keep the sums small: a flat image gives exactly 0.
    total, squares = torch.zeros_like(image), torch.zeros_like(image)
    for shifted in _neighbours(image, dilations):
        difference = shifted - image
        total += difference
        squares.addcmul_(difference, difference)
    variance = (squares - total.square() / number) / (number - 1)
    return variance.clamp_(min=0).sqrt_()


def _neighbours(rows: Tensor, dilations: Sequence[int]) -> Iterator[Tensor]:
    """Yield rows (S, H, W) shifted to each neighbour, dilation by dilation; views of one padded copy each."""
    height, width = rows.shape[1:]
    for distance in dilations:
        padded = F.pad(rows[None], (distance,) * 4, mode="replicate")[
            0
        ]  # (S, H + 2 distance, W + 2 distance)
        for down, right in _RING:
            top, left = distance * (1 + down), distance * (1 + right)
            yield padded[:, top : top + height, left : left + width]


def _working_size(image_size: Sequence[int], grid: Sequence[int], max_side: int) -> tuple[int, int]:
    """(H, W) of the working grid: the photo's own size or smaller, but never coarser than the token grid."""
    scale = min(1.0, max_side / max(image_size))
    height, width = (max(tokens, round(side * scale)) for side, tokens in zip(image_size, grid, strict=True))
    return height, width
