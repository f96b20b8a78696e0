"""The two-stage baseline as menus see it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType

import torch
from torch import Tensor

from ovs_core.checkpoints import CheckpointError
from ovs_core.encoders.base import Channels
from ovs_core.encoders.mini_pyramid import MiniPyramid, picture_embeddings, vectors_to_joint_space
from ovs_core.encoders.towers import Family, Tower
from ovs_core.methods.base import BoundMethod
from ovs_core.methods.head_format import HeadFile, HeadFormat
from ovs_core.methods.mask_classification import head_file
from ovs_core.methods.mask_classification.captions import FC_CLIP_VIEWS
from ovs_core.methods.mask_classification.spec import PRESETS as MASK_PRESETS
from ovs_core.methods.options import MASK_OPTIONS
from ovs_core.methods.photo_pyramid import PhotoPyramid, PhotoPyramidEncoder
from ovs_core.methods.spec import MethodSpec
from ovs_core.methods.two_stage.model import OPTIONS, RESCORED, TwoStage
from ovs_core.options import Preset
from ovs_core.views import Source, ViewSpec

PRESETS: Mapping[Family, Preset] = MappingProxyType({"mini": MASK_PRESETS["mini"]})
RESCORED_VIEW = ViewSpec(
    RESCORED,
    "labels",
    "What the second look is worth",
    "Labels as the trained head alone names the masks, and with CLIP's look at a picture of each, with the "
    "seconds that naming took and the part of the photo that changes. The masks are the same.",
    titled=True,
    source=Source("p_n of the trained head, and its geometric mean with CLIP(crop of m_n)"),
)


def bind(tower: Tower, head: HeadFile | None) -> BoundMethod[PhotoPyramid]:
    """The baseline with FC-CLIP's head of the embedded tower.

    Raises:
        CheckpointError: if there is no file, it is no head of FC-CLIP, or another tower's.
    """
    if head is None or not isinstance(tower.pyramid, MiniPyramid):
        raise CheckpointError("The two-stage baseline needs the embedded tower and FC-CLIP's head for it.")
    trained = head_file.load_mask_head(head.path, tower.sha256, method="fc_clip")
    pyramid = tower.pyramid
    embed = partial(_embed, pyramid, pyramid.mean, pyramid.std)
    method = TwoStage(
        trained.head.to(tower.device),
        partial(vectors_to_joint_space, pyramid.visual),
        embed,
        tower.model.logit_scale.detach(),
        trained.seen,
    )
    return BoundMethod(method, PhotoPyramidEncoder(pyramid), tower.text, {head.path.name: head.sha256})


def _embed(pyramid: MiniPyramid, mean: Channels, std: Channels, pictures: Tensor) -> Tensor:
    """CLIP's global embeddings (n, D) of pictures (n, 3, side, side) in [0, 1]."""
    centre, spread = (torch.tensor(value, device=pictures.device).view(3, 1, 1) for value in (mean, std))
    return picture_embeddings(pyramid.visual, ((pictures - centre) / spread).to(pyramid.dtype))


def _read(path: Path, tower: str) -> object:
    return head_file.load_mask_head(path, tower, method="fc_clip")


SPECS = (
    MethodSpec(
        "two_stage",
        "Two stages (SimBaseline)",
        "2112.14757",
        "Proposes masks, then runs CLIP again on a picture of each: slow, and plain crops say little.",
        "sum_n sigmoid(m_n) p_n, p_n = (trained head)^(1 - a) CLIP(crop of m_n)^a",
        bind,
        PRESETS,
        (*MASK_OPTIONS, *OPTIONS),
        (*FC_CLIP_VIEWS, RESCORED_VIEW),
        HeadFormat(head_file.KIND, _read, MappingProxyType({"mini": "mini-fc-clip"}), named=True),
        reads="pyramid",
        masks=True,
        own_frame=True,
        ticked=False,
        group="masks",
    ),
)
