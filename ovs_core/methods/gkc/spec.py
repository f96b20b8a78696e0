"""GKC as menus see it; its authors publish no head: the embedded model has one of this project."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from types import MappingProxyType

from torch import Tensor

from ovs_core.checkpoints import CheckpointError
from ovs_core.encoders.clip_resnet import IMAGENET_MEAN, IMAGENET_STD, ResNetPyramid
from ovs_core.encoders.towers import Family, PyramidEncoder, Tower
from ovs_core.methods.base import BoundMethod
from ovs_core.methods.gkc.captions import GKC_VIEWS
from ovs_core.methods.gkc.head_file import KIND, TrainedGkc, load_gkc_head, tuned_resnet
from ovs_core.methods.gkc.method import Gkc
from ovs_core.methods.gkc.synonyms import REGION_PROMPT
from ovs_core.methods.gkc.teacher import Looked, Teacher, see_photo, see_places
from ovs_core.methods.gkc.teacher_views import TEACHER_VIEWS
from ovs_core.methods.head_format import HeadFile, HeadFormat
from ovs_core.methods.mask_classification.spec import PRESETS as MASK_PRESETS
from ovs_core.methods.options import MASK_OPTIONS
from ovs_core.methods.photo_pyramid import PhotoPyramidEncoder
from ovs_core.methods.spec import MethodSpec
from ovs_core.options import Preset
from ovs_core.types import Vocabulary

# ResNets: the frame of its evaluation; the bare name is the prompt. The embedded model's head is trained with
# its own frame and prompt.
PRESETS: Mapping[Family, Preset] = MappingProxyType(
    {
        "mini": MASK_PRESETS["mini"],
        "resnet": replace(MASK_PRESETS["mini"], short_side=800, templates="name"),
    }
)


def bind(tower: Tower, head: HeadFile | None) -> BoundMethod[Looked]:
    """GKC with the head of a file, on the student's tower that is in it.

    Raises:
        CheckpointError: if there is no file, or it is of another kind or tower.
    """
    if head is None or tower.pyramid is None:
        raise CheckpointError("GKC needs an image tower that gives a pyramid, and the file of its head.")
    trained = load_gkc_head(head.path, tower.sha256)
    pyramid = _student(tower.pyramid, trained, head)
    teacher, on_photo = _teacher(tower, trained)
    method = Gkc(trained.head.to(tower.device), teacher=teacher)
    deeper = PhotoPyramidEncoder(pyramid) if on_photo else None
    return BoundMethod(
        method,
        pyramid,
        tower.text,
        {head.path.name: head.sha256},
        deeper=deeper,
        needs_deeper=TEACHER_VIEWS if on_photo else frozenset(),
    )


def _teacher(tower: Tower, trained: TrainedGkc) -> tuple[Teacher, bool]:
    """The tower as it was before training, and whether it must look at the photo itself.

    The embedded tower is not tuned: what it sees is in the student's pyramid.
    """

    def say(words: Sequence[str]) -> Tensor:
        vocabulary = Vocabulary(tuple((word,) for word in words))
        return tower.text.embed(vocabulary, (REGION_PROMPT,)).embeddings

    log_scale = tower.model.logit_scale.detach()
    if isinstance(tower.pyramid, ResNetPyramid):
        form = trained.training.get("plan", {}).get("regions", "crops")
        return Teacher(partial(see_photo, tower.pyramid.visual, form), say, log_scale), True
    return Teacher(partial(see_places, tower.model.visual), say, log_scale), False


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
