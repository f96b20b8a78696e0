"""SAM models from official files: vit_b, vit_l, vit_h of segment-anything, and MobileSAM.

The only place that wires SAM: an image encoder, a prompt encoder and a mask decoder; the last two are the
same in all four. Which of them a file holds is told from its tensors, never from its name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

from torch import Tensor

from ovs_core.checkpoints import CheckpointError, load_strict, read_state
from ovs_core.refine.sam.tiny_vit import OUTPUT_CHANNELS, UNUSED, TinyViT, TinyViTConfig

if TYPE_CHECKING:  # types only: who builds the model loads its library, which takes seconds
    from segment_anything.modeling import Sam

SamKind = Literal["vit_b", "vit_l", "vit_h", "vit_t"]

IMAGE_SIZE = 1024  # side of the padded frame, in pixels
EMBEDDING_SIDE = 64  # cells of the image embedding along a side
_CHANNEL_MEAN = (123.675, 116.28, 103.53)  # of ImageNet, RGB in 0..255, as segment-anything has them
_CHANNEL_DEVIATION = (58.395, 57.12, 57.375)
_WIDTHS: Mapping[int, SamKind] = MappingProxyType({768: "vit_b", 1024: "vit_l", 1280: "vit_h"})
_PATCH_EMBEDDING = "image_encoder.patch_embed.proj.weight"  # of the plain vision transformers
_FIRST_CONVOLUTION = "image_encoder.patch_embed.seq.0.c.weight"  # of TinyViT
_IGNORED = tuple(f"image_encoder.{prefix}" for prefix in UNUSED)
_OFFICIAL = "sam_vit_b_01ec64.pth, sam_vit_l_0b3195.pth, sam_vit_h_4b8939.pth or mobile_sam.pt"


def load_sam(path: Path) -> Sam:
    """The model in an official file, on the CPU in float32, ready for use.

    Raises:
        CheckpointError: for a file that is absent, damaged, holds code, or is no SAM, in one sentence.
    """
    return sam_from_state(read_state(path), source=str(path))


def sam_from_state(state: Mapping[str, Tensor], *, source: str) -> Sam:
    """A model with the given tensors, every one of them fitting.

    Args:
        state: names and tensors as in an official file.
        source: where they come from, for the message.

    Raises:
        CheckpointError: if they are of no model known here, or some are missing.
    """
    sam = build_sam(recognise(state, source=source))
    load_strict(sam, state, source=source, ignore=_IGNORED)
    return sam.eval().requires_grad_(False)


def recognise(state: Mapping[str, Tensor], *, source: str) -> SamKind:
    """Which SAM a file holds.

    Raises:
        CheckpointError: if it is none of those that can be used here; names the next step.
    """
    if any(name.startswith("mask_decoder.hf_mlp") or ".hf_token." in name for name in state):
        raise CheckpointError(f"{source} is SAM-HQ, which needs another decoder; use {_OFFICIAL}.")
    if any(
        name.startswith(("image_encoder.trunk.", "memory_encoder.", "memory_attention.")) for name in state
    ):
        raise CheckpointError(f"{source} is SAM 2, which needs another program; use {_OFFICIAL}.")
    if _FIRST_CONVOLUTION in state:
        return "vit_t"
    if _PATCH_EMBEDDING in state and state[_PATCH_EMBEDDING].ndim == 4:
        width = int(state[_PATCH_EMBEDDING].shape[0])
        if width in _WIDTHS:
            return _WIDTHS[width]
        known = ", ".join(map(str, _WIDTHS))
        raise CheckpointError(f"{source} is a SAM of width {width}; those known here have {known}.")
    raise CheckpointError(f"{source} is not a Segment Anything file; use {_OFFICIAL}.")


def build_sam(kind: SamKind) -> Sam:
    """A model of that layout with random weights."""
    from segment_anything.build_sam import build_sam_vit_b, build_sam_vit_h, build_sam_vit_l

    build: Mapping[SamKind, Callable[[], Sam]] = {
        "vit_b": build_sam_vit_b,
        "vit_l": build_sam_vit_l,
        "vit_h": build_sam_vit_h,
        "vit_t": build_mobile_sam,
    }
    return build[kind]().eval()


def build_mobile_sam(config: TinyViTConfig | None = None) -> Sam:
    """MobileSAM with random weights: TinyViT before the prompt encoder and the mask decoder of every SAM."""
    from segment_anything.modeling import MaskDecoder, PromptEncoder, Sam, TwoWayTransformer

    side = (EMBEDDING_SIDE, EMBEDDING_SIDE)
    return Sam(
        image_encoder=TinyViT(config),
        prompt_encoder=PromptEncoder(
            embed_dim=OUTPUT_CHANNELS,
            image_embedding_size=side,
            input_image_size=(IMAGE_SIZE, IMAGE_SIZE),
            mask_in_chans=16,
        ),
        mask_decoder=MaskDecoder(
            num_multimask_outputs=3,
            transformer=TwoWayTransformer(depth=2, embedding_dim=OUTPUT_CHANNELS, mlp_dim=2048, num_heads=8),
            transformer_dim=OUTPUT_CHANNELS,
            iou_head_depth=3,
            iou_head_hidden_dim=256,
        ),
        pixel_mean=list(_CHANNEL_MEAN),
        pixel_std=list(_CHANNEL_DEVIATION),
    )
