"""The CLIP inside an official file of FC-CLIP or MAFT+: told by what is in the file, loaded strictly.

A file holds a whole CLIP below "backbone.clip_model."; the rest is the head's
(`ovs_core.methods.mask_classification.official`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from torch import Tensor

from ovs_core.checkpoints import CheckpointError, load_strict
from ovs_core.encoders.clip_conv import STAGE_CHANNELS, check_conv_tower

if TYPE_CHECKING:  # types only: who builds the model loads its library, which takes seconds
    from open_clip.model import CLIP

CLIP_PREFIX = "backbone.clip_model."
_TEXT = ("positional_embedding", "text_projection", "token_embedding.", "transformer.", "ln_final.")
_INPUTS = ("adapter_1", "input_proj.2.0", "input_proj.1.0", "input_proj.0.0")
_ANCHORS = ("sem_seg_head.predictor.query_feat.weight", "void_embedding.weight")


def input_channels(shapes: Mapping[str, tuple[int, ...]], *, source: str) -> tuple[int, int, int, int]:
    """Channels of the four maps that the head of a file reads, finest first.

    Raises:
        CheckpointError: if it is no file of FC-CLIP or MAFT+.
    """
    inputs = [shapes.get(f"sem_seg_head.pixel_decoder.{name}.weight", ())[1:2] for name in _INPUTS]
    if not all(inputs) or any(name not in shapes for name in _ANCHORS):
        raise CheckpointError(
            f"{source} is not a checkpoint of FC-CLIP or MAFT+: it has no mask decoder on four maps."
        )
    quarter, eighth, sixteenth, coarsest = (channels[0] for channels in inputs)
    return quarter, eighth, sixteenth, coarsest


def official_architecture(state: Mapping[str, Tensor], *, source: str) -> str | None:
    """open_clip's name of the CLIP in a file; None for a tower no official weights exist for.

    Raises:
        CheckpointError: if it is no file of FC-CLIP or MAFT+.
    """
    inputs = input_channels({name: tuple(value.shape) for name, value in state.items()}, source=source)
    return architecture_of(inputs)


def architecture_of(inputs: tuple[int, int, int, int]) -> str | None:
    """open_clip's name of the ConvNeXt whose maps have these channels; None for an unknown one."""
    return next((name for name, channels in STAGE_CHANNELS.items() if channels == inputs), None)


def load_clip(model: CLIP, state: Mapping[str, Tensor], *, source: str) -> None:
    """Fill a CLIP with the tuned one of a file; a text tower that is not in it stays as it is.

    Raises:
        CheckpointError: listing missing and unexpected keys and wrong shapes.
        ValueError: if `model` has no convolutional tower.
    """
    check_conv_tower(model.visual)
    own = clip_state(state)
    absent = () if "token_embedding.weight" in own else _TEXT
    load_strict(model, own, source=source, ignore=absent)


def clip_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of CLIP, under open_clip's names."""
    return {
        name.removeprefix(CLIP_PREFIX): value for name, value in state.items() if name.startswith(CLIP_PREFIX)
    }
