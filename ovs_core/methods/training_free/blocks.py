"""What leaves each block of a tower, for rules and views that need more than the tokens of the last one.

The image half that carries it is one and the same for all of them (`deeper`), so they share one look at a
photo. What the last block makes of its tokens is computed where it is asked for, not carried.

`stitched` lets the last block see all windows at once: OV-Stitcher (Moon et al., arXiv 2604.08110), its
stitch attention alone. There, queries, keys and values are averaged where windows overlap; here the tokens
that enter the block are, before its layer norm, so that every rule and view works on them unchanged. The
class token is the mean of the windows'.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ovs_core.encoders.clip_vit import VisionEncoder
from ovs_core.options import Option
from ovs_core.types import Features, Window
from ovs_core.windows import accumulate

if TYPE_CHECKING:  # types only: who builds the model loads its library, which takes seconds
    from open_clip.transformer import VisionTransformer

STITCH = Option(
    "stitch",
    "switch",
    False,
    "The last block attends over all windows at once; without windows nothing changes.",
    title="One attention over all windows (stitch)",
)
REFERENCE_BLOCKS = 12  # of ViT-B/16, in whose numbers papers count


def deeper(vision: VisionEncoder) -> VisionEncoder:
    """The same image half, whose windows also carry what leaves the blocks before the last two.

    What leaves the last but one they hold already: it is what enters the last one.
    """
    return replace(vision, taps=tuple(range(max(0, len(vision.visual.transformer.resblocks) - 2))))


def block_outputs(visual: VisionTransformer, window: Window) -> tuple[Tensor, ...]:
    """What leaves the blocks of a tower of L blocks but the last one, L - 1 times (1 + h*w, C).

    Raises:
        ValueError: if the window does not come from `deeper`.
    """
    wanted = max(0, len(visual.transformer.resblocks) - 2)
    if len(window.taps) != wanted:
        raise ValueError(f"features must carry what leaves the first {wanted} blocks, got {len(window.taps)}")
    return (*window.taps, window.tokens)


def stitched(features: Features) -> Features:
    """The same features as one window over the whole frame: means of tokens where windows overlap.

    One window is left as it is. Attention costs the square of the frame's tokens afterwards.
    """
    if len(features.windows) == 1:
        return features
    first = features.windows[0]
    tokens, *taps = (
        _on_frame(features, [(window.tokens, *window.taps)[layer] for window in features.windows])
        for layer in range(1 + len(first.taps))
    )
    return replace(features, windows=(Window(0, 0, features.grid, tokens, tuple(taps)),))


def _on_frame(features: Features, layers: list[Tensor]) -> Tensor:
    """Tokens (1 + h*w, C) of the frame from those of each window, class token first."""
    parts = (
        (window, tokens[1:].float().T.reshape(-1, *window.grid))
        for window, tokens in zip(features.windows, layers, strict=True)
    )
    patches = accumulate(parts, features.grid).flatten(1).T  # (h*w, C)
    first = torch.stack([tokens[:1].float() for tokens in layers]).mean(dim=0)
    return torch.cat([first, patches]).to(layers[0].dtype)


def at_depth(number: int, blocks: int) -> int:
    """Block, from 1, of a tower of `blocks` that lies as deep as block `number` of 12; never the last one."""
    return min(max(1, int(number * blocks / REFERENCE_BLOCKS + 0.5)), blocks - 1)
