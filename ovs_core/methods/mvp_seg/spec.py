"""MVP-SEG as menus see it."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType

from ovs_core.checkpoints import CheckpointError
from ovs_core.encoders.towers import Tower
from ovs_core.methods.base import BoundMethod
from ovs_core.methods.head_format import HeadFile, HeadFormat
from ovs_core.methods.mvp_seg.captions import MVP_SEG_VIEWS
from ovs_core.methods.mvp_seg.contexts import KIND, load_contexts
from ovs_core.methods.mvp_seg.model import NO_REFINING, ContextText, build_mvp_seg
from ovs_core.methods.options import SCALE, TOKEN_OPTIONS
from ovs_core.methods.spec import MethodSpec
from ovs_core.methods.training_free.spec import LAION, MINI, RESNET
from ovs_core.options import Option
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
            Option(
                NO_REFINING,
                "switch",
                False,
                "Do not ask the global prompt which classes are in the photo.",
            ),
        ),
        MVP_SEG_VIEWS,
        HeadFormat(KIND, load_contexts, MappingProxyType({"mini": "mini-mvp-seg"})),
        group="prompts",
    ),
)
