"""From tokens to finer positions without blurred edges: each one takes after the tokens that look like it.

Evidence on a token grid is usually interpolated, which draws every border as wide as a token. Here each of
the 4 x 4 positions of a token instead mixes the evidence of the 3 x 3 tokens around it. How much of each, an
attention says, between what the stem sees at the position and what it sees at the tokens: convex upsampling
(RAFT, arXiv 2003.12039, section 3.3) with weights from queries and keys instead of a plain convolution.
They depend on the photo alone: one set serves every word and every method, and evidence stays a mean of
evidence.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

FINER = 4  # fine positions per token, both ways
NEIGHBOURS = 9  # 3 x 3 tokens, row-major, the own one in the middle
_ROWS_AT_ONCE = 256  # of evidence: what it takes in between would be twice as large as the answer
FAR_WEIGHT = 0.02  # of neighbours that bilinear interpolation would leave out, when training starts


class NeighbourWeights(nn.Module):
    """How much of each of its 3 x 3 tokens every fine position takes.

    Args:
        quarter, eighth: channels of the stem's maps at a quarter and an eighth of the frame.
        tokens: channels of a token.
        width: of queries and keys.
    """

    def __init__(self, quarter: int, eighth: int, tokens: int, width: int = 32) -> None:
        super().__init__()
        self.quarter, self.eighth = nn.Conv2d(quarter, width, 1), nn.Conv2d(eighth, width, 1)
        self.local = nn.Conv2d(width, width, 3, padding=1)
        self.query = nn.Conv2d(width, width, 1)
        self.key, self.token_key = nn.Conv2d(width, width, 1), nn.Conv2d(tokens, width, 1)
        self.place = nn.Parameter(bilinear_weights().log())  # (9, 4, 4)

    def forward(self, quarter: Tensor, eighth: Tensor, tokens: Tensor) -> Tensor:
        """Weights (B, 9, 4h, 4w), which sum to 1 over the neighbours, float32.

        Args:
            quarter: (B, C, 4h, 4w).
            eighth: (B, C, 2h, 2w).
            tokens: (B, C, h, w).
        """
        size = (quarter.shape[2], quarter.shape[3])
        wide = F.interpolate(self.eighth(eighth), size=size, mode="bilinear", align_corners=False)
        fine = F.gelu(self.local(F.gelu(self.quarter(quarter) + wide)))  # (B, E, 4h, 4w)
        key = self.key(F.avg_pool2d(fine, FINER)) + self.token_key(tokens)  # (B, E, h, w)
        batch, width, h, w = key.shape
        # One small product for each token, as in `sharpen`; einsum would copy each of them by itself.
        query = self.query(fine).float().reshape(batch, width, h, FINER, w, FINER)
        query = query.permute(0, 2, 4, 1, 3, 5).reshape(batch * h * w, width, FINER * FINER)
        near = neighbours(key.float().flatten(0, 1)).reshape(batch, width, NEIGHBOURS, h, w)
        near = near.permute(0, 3, 4, 2, 1).reshape(batch * h * w, NEIGHBOURS, width).contiguous()
        alike = torch.bmm(near, query) / math.sqrt(width)  # (B h w, 9, 16)
        weights = (alike + self.place.flatten(1)).softmax(dim=1)
        weights = weights.reshape(batch, h, w, NEIGHBOURS, FINER, FINER).permute(0, 3, 1, 4, 2, 5)
        return weights.reshape(batch, NEIGHBOURS, h * FINER, w * FINER)


def bilinear_weights() -> Tensor:
    """What bilinear interpolation takes from 3 x 3 tokens at each fine position of one, (9, 4, 4).

    Neighbours that it would not look at get a little, so that training can raise it.
    """
    offset = (torch.arange(FINER) + 0.5) / FINER - 0.5  # of a fine position from its token's middle
    steps = torch.tensor([-1.0, 0.0, 1.0])
    axis = (1 - (steps[:, None] - offset).abs()).clamp(min=0)  # (3, 4)
    weights = torch.einsum("ar,bc->abrc", axis, axis).reshape(NEIGHBOURS, FINER, FINER) + FAR_WEIGHT
    return weights / weights.sum(dim=0)


def neighbours(rows: Tensor) -> Tensor:
    """The 3 x 3 tokens around each one, (S, 9, h, w) from (S, h, w); outside the frame its edge goes on."""
    return _around(rows).permute(0, 3, 4, 1, 2).flatten(1, 2)


def _around(rows: Tensor) -> Tensor:
    """A view of the 3 x 3 tokens around each one, (S, h, w, 3, 3) of (S, h, w)."""
    wide = F.pad(rows[None], (1, 1, 1, 1), mode="replicate")[0]  # (S, h + 2, w + 2)
    return wide.unfold(1, 3, 1).unfold(2, 3, 1)


def sharpen(evidence: Tensor, weights: Tensor) -> Tensor:
    """Evidence (S, h, w) at fine positions, (S, 4h, 4w), by weights (9, 4h, 4w) of one photo.

    Raises:
        ValueError: if the weights belong to another grid.
    """
    rows, h, w = evidence.shape
    if weights.shape != (NEIGHBOURS, h * FINER, w * FINER):
        expected = (NEIGHBOURS, h * FINER, w * FINER)
        raise ValueError(
            f"upsampling weights must be {expected} for a grid of {h} x {w}, got {tuple(weights.shape)}"
        )
    # One small product for each token, its neighbours side by side: five times faster than an einsum.
    of_token = weights.to(evidence).reshape(NEIGHBOURS, h, FINER, w, FINER)
    of_token = of_token.permute(1, 3, 0, 2, 4).reshape(h * w, NEIGHBOURS, FINER * FINER)
    finer = evidence.new_empty(rows, h, FINER, w, FINER)
    for start in range(0, rows, _ROWS_AT_ONCE):
        some = evidence[start : start + _ROWS_AT_ONCE]
        near = _around(some).permute(1, 2, 0, 3, 4).reshape(h * w, len(some), NEIGHBOURS)
        made = torch.bmm(near, of_token).reshape(h, w, len(some), FINER, FINER)
        finer[start : start + len(some)] = made.permute(2, 0, 3, 1, 4)
    return finer.reshape(rows, h * FINER, w * FINER)
