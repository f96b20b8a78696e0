"""GKC as menus see it; its authors publish no head: the embedded model has one of this project."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from ovs_core.checkpoints import CheckpointError
from ovs_core.encoders.clip_resnet import IMAGENET_MEAN, IMAGENET_STD, ResNetPyramid
from ovs_core.encoders.towers import Family, PyramidEncoder, Tower
from ovs_core.methods.base import BoundMethod
from ovs_core.methods.gkc.captions import GKC_VIEWS
from ovs_core.methods.gkc.head_file import KIND, TrainedGkc, load_gkc_head, tuned_resnet
from ovs_core.methods.gkc.method import Gkc
from ovs_core.methods.head_format import HeadFile, HeadFormat
from ovs_core.methods.mask_classification.spec import PRESETS as MASK_PRESETS
from ovs_core.methods.options import MASK_OPTIONS
from ovs_core.methods.spec import MethodSpec
from ovs_core.options import Preset
from ovs_core.types import Pyramid

# ResNets: the frame of its evaluation; the bare name is the prompt. The embedded model's head is trained with
# its own frame and prompt.
PRESETS: Mapping[Family, Preset] = MappingProxyType(
    {
        "mini": MASK_PRESETS["mini"],
        "resnet": replace(MASK_PRESETS["mini"], short_side=800, templates="name"),
    }
)


def bind(tower: Tower, head: HeadFile | None) -> BoundMethod[Pyramid]:
    """GKC with the head of a file, on the student's tower that is in it.

    Raises:
        CheckpointError: if there is no file, or it is of another kind or tower.
    """
    if head is None or tower.pyramid is None:
        raise CheckpointError("GKC needs an image tower that gives a pyramid, and the file of its head.")
    trained = load_gkc_head(head.path, tower.sha256)
    method = Gkc(trained.head.to(tower.device))
    pyramid = _student(tower.pyramid, trained, head)
    return BoundMethod(method, pyramid, tower.text, {head.path.name: head.sha256})


def _student(pyramid: PyramidEncoder, trained: TrainedGkc, head: HeadFile) -> PyramidEncoder:
    """The tower's pyramid, as the student sees: with its tuned tensors and ImageNet's mean and deviation."""
    if not isinstance(pyramid, ResNetPyramid):
        if trained.tuned:
            raise CheckpointError(f"{head.path} holds a tuned tower of another architecture.")
        return pyramid
    visual = tuned_resnet(pyramid.visual, trained, source=str(head.path)).to(pyramid.device, pyramid.dtype)
    identity = f"{pyramid.identity}+{head.sha256[:12]}" if trained.tuned else pyramid.identity
    return replace(pyramid, visual=visual, identity=identity, mean=IMAGENET_MEAN, std=IMAGENET_STD)


SPECS = (
    MethodSpec(
        "gkc",
        "GKC",
        "2303.09181",
        "Masks and names in one pass: learnt from CLIP and from synonyms, CLIP itself no longer looks.",
        "sum_n sigmoid(m_n) p_n, p_n = softmax(s cos(query_n, words))",
        bind,
        PRESETS,
        MASK_OPTIONS,
        GKC_VIEWS,
        HeadFormat(KIND, load_gkc_head, MappingProxyType({"mini": "mini-gkc"})),
        reads="pyramid",
        masks=True,
        own_frame=True,
        group="masks",
    ),
)
