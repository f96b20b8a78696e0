"""Content-dependent transfer: name embeddings look at the picture before they are compared with it.

Paper: MAFT+ (arXiv 2408.00744); numbers follow jiaosiyu1999/MAFT-Plus fd12806. One block of
cross-attention: queries are the names, keys and values the picture's tokens in the joint space.

Two quirks of the official code. The semantic weights normalise the sum of name and change, the panoptic ones
the change alone; which one is not in the file. And image tokens are cut from the dense map's memory without
moving channels last: a "token" is C consecutive numbers of the channel-major map, a mixture of channels and
places, so attention over tokens is not a picture. Official weights need both; new ones need not.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

from torch import Tensor, nn

from ovs_core.decoders.positions import sine_positions

Residual = Literal["semantic", "panoptic"]
ImageTokens = Literal["official", "per_pixel"]
ToJointSpace = Callable[[Tensor], Tensor]  # vectors (n, C) of a dense map to (n, D)

HEADS = 8


class Transferred(NamedTuple):
    """What names became.

    Attributes:
        rows: (B, S, D), not normalised.
        attention: how much each name takes from each token, mean of the heads, (B, S, h*w).
    """

    rows: Tensor
    attention: Tensor


class TextTransfer(nn.Module):
    """The block.

    Args:
        joint: width of the image-text space, divisible by 8.
        residual: "semantic" for LN(T + change), "panoptic" for T + LN(change), whose change starts at zero.
    """

    def __init__(self, joint: int, residual: Residual) -> None:
        super().__init__()
        self.residual = residual
        self.attention = nn.MultiheadAttention(joint, HEADS, batch_first=True)
        self.linear, self.norm = nn.Linear(joint, joint), nn.LayerNorm(joint)
        if residual == "panoptic":
            nn.init.zeros_(self.linear.weight)
            nn.init.zeros_(self.linear.bias)

    def forward(self, rows: Tensor, tokens: Tensor) -> Transferred:
        """Adapt name embeddings (S, D) to pictures whose tokens are (B, D, h, w)."""
        values = tokens.flatten(2).transpose(1, 2)  # (B, h*w, D)
        grid = (tokens.shape[2], tokens.shape[3])
        places = sine_positions(grid, tokens.shape[1], tokens.device).flatten(1).T
        asked = rows.expand(len(tokens), -1, -1)
        looked, attention = self.attention(asked, values + places, values)
        change = self.linear(looked)
        adapted = self.norm(asked + change) if self.residual == "semantic" else asked + self.norm(change)
        return Transferred(adapted, attention)


def image_tokens(dense: Tensor, to_joint_space: ToJointSpace, order: ImageTokens) -> Tensor:
    """Take a dense map (B, C, h, w) through the tower's head: (B, D, h, w).

    Args:
        dense: the map.
        to_joint_space: the tower's head.
        order: "per_pixel" for the feature of each cell, "official" for the official cut through memory.
    """
    batch, channels, height, width = dense.shape
    vectors = dense if order == "official" else dense.movedim(1, 3)
    embeddings = to_joint_space(vectors.reshape(-1, channels))  # (B*h*w, D)
    return embeddings.reshape(batch, height, width, -1).movedim(3, 1)
