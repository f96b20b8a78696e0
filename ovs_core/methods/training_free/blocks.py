"""What leaves each block of a tower, for rules and views that need more than the tokens of the last one.

The image half that carries it is one and the same for all of them (`deeper`), so they share one look at a
photo. What the last block makes of its tokens is computed where it is asked for, not carried.
"""

from __future__ import annotations

from dataclasses import replace

from open_clip.transformer import VisionTransformer
from torch import Tensor

from ovs_core.encoders.clip_vit import VisionEncoder
from ovs_core.types import Window

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


def at_depth(number: int, blocks: int) -> int:
    """Block, from 1, of a tower of `blocks` that lies as deep as block `number` of 12; never the last one."""
    return min(max(1, int(number * blocks / REFERENCE_BLOCKS + 0.5)), blocks - 1)
