"""Official weights of FC-CLIP and MAFT+: told apart by what is in the file, renamed and loaded strictly.

A file holds a whole CLIP below "backbone.clip_model.", a frozen copy of it below "backbone_t." (MAFT+; not
needed for answers), the decoders, the row for "no object" and, for MAFT+, content-dependent transfer. Sizes
are read from the shapes. The form of the transfer is not in the file: the number of classes it was trained
on tells (171 of COCO-Stuff: semantic, 133 of COCO panoptic: panoptic).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

from torch import Tensor

from ovs_core.checkpoints import CheckpointError, load_strict
from ovs_core.decoders.mask_decoder import MaskDecoderConfig
from ovs_core.decoders.pixel_decoder import LEVELS, PixelDecoderConfig
from ovs_core.decoders.text_transfer import Residual
from ovs_core.encoders.clip_conv import conv_to_joint_space
from ovs_core.encoders.official_clip import CLIP_PREFIX, architecture_of, input_channels
from ovs_core.methods.mask_classification.fc_clip import FcClip
from ovs_core.methods.mask_classification.head import MaskHead, MaskHeadConfig
from ovs_core.methods.mask_classification.maft_plus import MaftPlus

if TYPE_CHECKING:  # types only: who builds the model loads its library, which takes seconds
    from open_clip.model import CLIP

NOT_NEEDED = ("backbone_t.", "criterion.")
FORM_BY_CLASSES: Mapping[int, Residual] = MappingProxyType({171: "semantic", 133: "panoptic"})
_HEADS = 8  # of every attention; shapes do not tell
# Official name, as a pattern, and ours.
_RENAMES = (
    (r"sem_seg_head\.pixel_decoder\.", "pixel_decoder."),
    (r"sem_seg_head\.predictor\.", "mask_decoder."),
    (r"transformer_cross_attention_layers\.(\d+)\.multihead_attn\.", r"layers.\1.cross_attn."),
    (r"transformer_cross_attention_layers\.(\d+)\.norm\.", r"layers.\1.cross_norm."),
    (r"transformer_self_attention_layers\.(\d+)\.self_attn\.", r"layers.\1.self_attn."),
    (r"transformer_self_attention_layers\.(\d+)\.norm\.", r"layers.\1.self_norm."),
    (r"transformer_ffn_layers\.(\d+)\.norm\.", r"layers.\1.ffn_norm."),
    (r"transformer_ffn_layers\.(\d+)\.linear", r"layers.\1.linear"),
    (r"\._mask_pooling_proj\.", ".mask_pooling_proj."),
    (r"^cdt\.cross_atten\.multihead_attn\.", "cdt.attention."),
    (r"^cdt\.cross_atten\.MLP\.", "cdt.linear."),
    (r"^cdt\.cross_atten\.norm\.", "cdt.norm."),
)


@dataclass(frozen=True)
class OfficialForm:
    """What a file is, read from its names and shapes.

    Attributes:
        method: which method's.
        architecture: open_clip's name of its CLIP; None for a tower no official weights exist for.
        head: sizes of its head, and the form of its transfer.
        classes: number of classes it was trained on; None if the file does not say.
        has_text: whether CLIP's text tower is in it.
    """

    method: Literal["fc_clip", "maft_plus"]
    architecture: str | None
    head: MaskHeadConfig
    classes: int | None
    has_text: bool


def recognise(state: Mapping[str, Tensor], *, source: str, residual: Residual | None = None) -> OfficialForm:
    """Tell what a file holds.

    Args:
        state: from `ovs_core.checkpoints.read_state`.
        source: path or title, for the message.
        residual: form of the transfer, where the file cannot tell it.

    Raises:
        CheckpointError: if it is not such a file, or its form cannot be told.
    """
    shapes = {name: tuple(value.shape) for name, value in state.items()}
    inputs = input_channels(shapes, source=source)
    weight = shapes.get("criterion.empty_weight")
    classes = None if weight is None else weight[0] - 1
    transfer: Residual | None = None
    if any(name.startswith("cdt.") for name in shapes):
        transfer = residual or _form(classes, source)
    return OfficialForm(
        method="fc_clip" if transfer is None else "maft_plus",
        architecture=architecture_of(inputs),
        head=_head_config(shapes, inputs, transfer, source),
        classes=classes,
        has_text=CLIP_PREFIX + "token_embedding.weight" in shapes,
    )


def load_head(state: Mapping[str, Tensor], form: OfficialForm, *, source: str) -> MaskHead:
    """Build the head of a file.

    Raises:
        CheckpointError: listing missing and unexpected keys and wrong shapes.
    """
    head = MaskHead(form.head)
    load_strict(head, head_state(state), source=source)
    return head.eval()


def build_method(
    state: Mapping[str, Tensor], form: OfficialForm, model: CLIP, seen: frozenset[str], *, source: str
) -> MaftPlus | FcClip:
    """Build the method of a file on its CLIP.

    Args:
        state: from `ovs_core.checkpoints.read_state`.
        form: from `recognise`.
        model: filled by `load_clip`.
        seen: names of the classes that the file was trained on; read by FC-CLIP only.
        source: path or title, for messages.

    Raises:
        CheckpointError: if the head does not fit.
    """
    head = load_head(state, form, source=source)
    to_joint_space: Callable[[Tensor], Tensor] = partial(conv_to_joint_space, model.visual)
    log_scale = model.logit_scale.detach()
    if form.method == "maft_plus":
        return MaftPlus(head, to_joint_space, log_scale)
    return FcClip(head, to_joint_space, log_scale, seen, resize_masks=True)


def head_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of the head, under our names."""
    return {
        our_name(name): value
        for name, value in state.items()
        if not name.startswith((CLIP_PREFIX, *NOT_NEEDED))
    }


def our_name(official: str) -> str:
    """Name in `MaskHead` of a tensor of the official head."""
    for pattern, ours in _RENAMES:
        official = re.sub(pattern, ours, official)
    return official


def _form(classes: int | None, source: str) -> Residual:
    if classes is None or classes not in FORM_BY_CLASSES:
        known = " or ".join(f"{number} ({form})" for number, form in FORM_BY_CLASSES.items())
        raise CheckpointError(
            f"{source} does not say which form of content-dependent transfer it was trained with: expected "
            f"{known} training classes, got {classes}. Say which with `residual`."
        )
    return FORM_BY_CLASSES[classes]


def _head_config(
    shapes: Mapping[str, tuple[int, ...]],
    inputs: tuple[int, int, int, int],
    transfer: Residual | None,
    source: str,
) -> MaskHeadConfig:
    """Sizes from shapes."""
    pixel, predictor = "sem_seg_head.pixel_decoder.", "sem_seg_head.predictor."
    encoder = pixel + "transformer.encoder.layers."
    try:
        width = shapes[pixel + "mask_features.weight"][0]
        pixels = PixelDecoderConfig(
            inputs,
            width,
            feedforward=shapes[encoder + "0.linear1.weight"][0],
            layers=_count(shapes, encoder),
            heads=_HEADS,
            points=shapes[encoder + "0.self_attn.attention_weights.weight"][0] // (_HEADS * LEVELS),
        )
        masks = MaskDecoderConfig(
            joint=shapes["void_embedding.weight"][1],
            width=width,
            queries=shapes[predictor + "query_feat.weight"][0],
            feedforward=shapes[predictor + "transformer_ffn_layers.0.linear1.weight"][0],
            layers=_count(shapes, predictor + "transformer_ffn_layers."),
            heads=_HEADS,
        )
    except KeyError as error:
        raise CheckpointError(f"{source} lacks {error.args[0]}: it is cut short or another model.") from error
    return MaskHeadConfig(pixels, masks, transfer)


def _count(shapes: Mapping[str, tuple[int, ...]], prefix: str) -> int:
    """Number of layers whose names start with `prefix` and a number."""
    return len({name.removeprefix(prefix).split(".")[0] for name in shapes if name.startswith(prefix)})
