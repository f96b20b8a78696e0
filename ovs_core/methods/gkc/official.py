"""Names of the official GKC model and ours, for those who train with that code: nobody published weights.

A state holds the student's tower below "backbone.", the decoders, the projections of all predictions, the
text tower, and the frozen teacher ("vision_clip."), which an answer does not need.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

from ovs_core.methods.mask_classification.official import our_name as decoder_name

_HEAD = (
    (r"^mask_decoder\.class_embed\.", "class_embed."),
    (r"^embed_proj\.1\.", "embed_proj."),
    (r"^non_object_embedding$", "void_embedding"),
)
_PROJECTIONS = (
    (r"^aux_embed_porj_(\d+)\.1\.", r"aux_embed.\1."),
    (r"^kd_proj\.", "kd_proj."),
    (r"^aux_kd_porj_(\d+)\.", r"aux_kd.\1."),
    (r"^text_kd_logit_scale$", "gamma"),
)
_TOWER = "backbone."
_TEACHER = "vision_clip."
_TEXT = "text_encoder."


def tower_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of the student's tower, under open_clip's names; it has no attention pool."""
    return _below(state, _TOWER)


def teacher_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of the frozen teacher, under open_clip's names."""
    return _below(state, _TEACHER)


def text_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of the text tower, under open_clip's names."""
    return _below(state, _TEXT)


def head_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of `GkcHead`."""
    named = {_renamed(decoder_name(name), _HEAD): value for name, value in state.items()}
    kept = ("pixel_decoder.", "mask_decoder.", "class_embed.", "embed_proj.", "void_embedding", "logit_scale")
    return {name: value for name, value in named.items() if name.startswith(kept)}


def projection_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of what training has beside the head (`ovs_core.training.gkc_model.GkcProjections`)."""
    named = {_renamed(name, _PROJECTIONS): value for name, value in state.items()}
    return {
        name: value
        for name, value in named.items()
        if name.startswith(("aux_embed.", "kd_proj.", "aux_kd.")) or name == "gamma"
    }


def _below(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}


def _renamed(name: str, pairs: tuple[tuple[str, str], ...]) -> str:
    for pattern, ours in pairs:
        name = re.sub(pattern, ours, name)
    return name
