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
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ovs_core.devices import Cancel, Report
from ovs_core.evidence.protocol import Evidence
from ovs_core.image import to_frame
from ovs_core.options import Option, Options
from ovs_core.refine.rows import in_chunks, working_size
from ovs_core.refine.spec import RefinerSpec

DILATIONS = (8, 16)
ITERATIONS = 10
_DEVIATION_WEIGHT = 0.1
_EPSILON = 1e-8
_RING = ((-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0), (1, 1))


MAX_SIDE = Option(
    "pamr_side",
    "integer",
    512,
    "Longer side in pixels of the grid that PAMR works on.",
    title="PAMR working size",
    low=16,
    high=4096,
)


@dataclass(frozen=True, eq=False)
class PamrLook:
    """What PAMR keeps of a photo.

    Attributes:
        affinity: weight of every neighbour at every pixel of the working grid, (8 * dilations, H, W).
    """

    affinity: Tensor

    @property
    def nbytes(self) -> int:
        """Bytes held, for the cache budget."""
        return self.affinity.nbytes


def look(
    pixels: NDArray[np.uint8],
    grid: tuple[int, int],
    options: Options,
    device: torch.device,
    progress: Report = None,
    cancel: Cancel = None,
) -> PamrLook:
    """Affinities of a photo (H, W, 3) on the working grid, which is never coarser than evidence's (h, w)."""
    side = options.get(MAX_SIDE.name, MAX_SIDE.default)
    size = working_size(pixels.shape[:2], grid, side if isinstance(side, int) else int(str(side)))
    return PamrLook(pamr_affinity(to_frame(pixels, size).to(device), DILATIONS))


def refine(
    looked: PamrLook, evidence: Evidence, options: Options, progress: Report = None, cancel: Cancel = None
) -> Evidence:
    """The same rows on the working grid, each smoothed along the photo's own colours.

    Args:
        looked: from `look`.
        evidence: with a row per name.
        options: those of `SPEC`.
        progress: told (rows done, rows in all) after every chunk.
        cancel: looked at before every chunk.

    Raises:
        Cancelled: if `cancel` was set.
        ValueError: for evidence without rows.
    """
    size = (looked.affinity.shape[1], looked.affinity.shape[2])
    rows = evidence.rows.to(looked.affinity.device, torch.float32)

    def smooth(chunk: Tensor) -> Tensor:
        wide = F.interpolate(chunk[None], size=size, mode="bilinear", align_corners=False)[0]
        return _smooth(wide, looked.affinity, DILATIONS, ITERATIONS)

    return evidence.with_rows(in_chunks(rows, size, rows.element_size(), smooth, progress, cancel))


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


SPEC = RefinerSpec(
    "pamr",
    "PAMR",
    "Pulls edges to the photo's colours: neighbours that look alike share their scores (2005.08104).",
    look,
    refine,
    (MAX_SIDE,),
    needs_rows=True,
)
