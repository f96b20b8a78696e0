"""MVP-SEG and MVP-SEG+ as menus see them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

from ovs_core.checkpoints import CheckpointError
from ovs_core.encoders.clip_vit import joint_width
from ovs_core.encoders.towers import Tower
from ovs_core.methods.base import BoundMethod
from ovs_core.methods.head_format import HeadFile, HeadFormat
from ovs_core.methods.mvp_seg.captions import MVP_SEG_VIEWS, PLUS_VIEWS
from ovs_core.methods.mvp_seg.contexts import KIND, load_contexts
from ovs_core.methods.mvp_seg.model import OPTIONS, ContextText, build_mvp_seg
from ovs_core.methods.mvp_seg.plus import STUDENT_TEACHER, MvpSegPlus, StudentEncoder, StudentFeatures
from ovs_core.methods.mvp_seg.student import KIND as STUDENT_KIND
from ovs_core.methods.mvp_seg.student import load_student
from ovs_core.methods.options import MULTI_SCALE_OPTION, SCALE, SHORT_SIDE, THRESHOLD, TOKEN_OPTIONS
from ovs_core.methods.spec import MethodSpec
from ovs_core.methods.training_free.spec import LAION, MINI, RESNET
from ovs_core.types import Features

# With contexts that the user trained: the paper's scale; prompts are learnt, so one template will do. Never
# measured: there are no official contexts.
_FULL = replace(LAION, scale=1, templates="single1")

_RESNET = replace(_FULL, short_side=RESNET.short_side, window=None, stride=0)


def bind(tower: Tower, head: HeadFile | None) -> BoundMethod[Features]:
    """MVP-SEG with the contexts of a file.

    Raises:
        CheckpointError: if there is no file, or it is no file of contexts, or of another tower's.
    """
    if head is None:
        raise CheckpointError("MVP-SEG needs a file of trained contexts.")
    contexts = load_contexts(head.path, tower.sha256)
    vision = tower.tokens
    method = build_mvp_seg(vision.visual, tower.text, contexts)
    text = ContextText(tower.text, contexts, head.sha256)
    return BoundMethod(method, vision, text, {head.path.name: head.sha256})


# The student looks once at a whole frame; on the embedded model 0 to 0.4 are as good as thresholds.
_PLUS = replace(MINI, scale=1.0)
_PLUS_FULL = replace(_FULL, short_side=512, window=None, stride=0)  # never measured


def bind_plus(tower: Tower, head: HeadFile | None) -> BoundMethod[StudentFeatures]:
    """MVP-SEG+ with the student of a file.

    Raises:
        CheckpointError: if there is no file, or it holds no student, or one that was taught on another tower.
    """
    if head is None:
        raise CheckpointError("MVP-SEG+ needs the file of a trained student.")
    trained = load_student(head.path, tower.sha256)
    visual = tower.vision.visual
    student = trained.on(visual, joint_width(visual), str(head.path)).to(tower.device)
    text = ContextText(tower.text, trained.contexts, head.sha256)
    identity = f"{tower.vision.identity}+student {head.sha256[:12]}"
    image = StudentEncoder(student, identity, tower.device, stem_of=tower.vision.identity)
    method = MvpSegPlus(trained.contexts.k, build_mvp_seg(visual, tower.text, trained.contexts))
    return BoundMethod(
        method,
        image,
        text,
        {head.path.name: head.sha256},
        deeper=replace(image, teacher=tower.vision),
        needs_deeper=frozenset({STUDENT_TEACHER}),
    )


def _read_plus(path: Path, tower: str) -> object:
    return load_student(path, tower)


SPECS = (
    MethodSpec(
        "mvp_seg",
        "MVP-SEG",
        "2304.06957",
        "Looks at each class with several learned prompts; one more says whether it is there at all.",
        "softmax_c(tau1 sum_i cos(F, t_i^c)) g_c, F of MaskCLIP, t_i and g learned",
        bind,
        # The embedded model's scale is the best of a sweep on training photos.
        MappingProxyType(
            {"mini": replace(MINI, scale=0.4), "openai": _FULL, "laion": _FULL, "resnet": _RESNET}
        ),
        (
            # Its scores are logits already: at scale 1 probabilities are the paper's.
            replace(SCALE, default=1.0, slider=(0.05, 2, 0.05)),
            *(option for option in TOKEN_OPTIONS if option.name != SCALE.name),
            *OPTIONS,
        ),
        MVP_SEG_VIEWS,
        HeadFormat(KIND, load_contexts, MappingProxyType({"mini": "mini-mvp-seg"})),
        group="prompts",
    ),
    MethodSpec(
        "mvp_seg_plus",
        "MVP-SEG+",
        "2304.06957",
        "A network that MVP-SEG taught answers alone: seen classes from masks, unseen ones from its teacher.",
        "softmax_c(<f, T_c>), f a DeepLabv2, T_c = sum_i t_i^c",
        bind_plus,
        MappingProxyType({"mini": _PLUS, "openai": _PLUS_FULL, "laion": _PLUS_FULL}),
        (replace(SCALE, default=1.0, slider=(0.05, 2, 0.05)), THRESHOLD, SHORT_SIDE, MULTI_SCALE_OPTION),
        PLUS_VIEWS,
        HeadFormat(STUDENT_KIND, _read_plus, MappingProxyType({"mini": "mini-mvp-seg-plus"})),
        group="prompts",
    ),
)
