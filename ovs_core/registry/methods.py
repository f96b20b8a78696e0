"""METHODS: what a menu needs to know of each method, and how to build it on a tower."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from ovs_core.checkpoints import CheckpointError, WeightStore
from ovs_core.methods.attention_rules import RULES
from ovs_core.methods.mask_views import FC_CLIP_VIEWS, MAFT_PLUS_VIEWS
from ovs_core.methods.mvp_seg import NO_REFINING
from ovs_core.methods.mvp_seg_views import MVP_SEG_VIEWS
from ovs_core.methods.training_free import TrainingFree
from ovs_core.registry.heads import (
    PER_PIXEL,
    HeadFile,
    Ready,
    build_with_contexts,
    build_with_mask_head,
    head_problem,
)
from ovs_core.registry.names import lookup
from ovs_core.registry.own_heads import head_notes, trained_on
from ovs_core.registry.towers import ENCODERS, EncoderSpec, Family, Reads, Tower
from ovs_core.types import ViewKind

PROMPT_DENOISING_FLOOR = 0.5  # MaskCLIP's official settings
KEY_SMOOTHING_CEILING = 1.0
# Scale of MaskCLIP's preset on each family of weights: at it, smoothed scores are the shares they stand for.
SMOOTHED_SCALE: Mapping[Family, float] = MappingProxyType({"mini": 20, "openai": 40, "laion": 40})

Build = Callable[[Tower, frozenset[str]], Ready]
BuildWithHead = Callable[[Tower, HeadFile, frozenset[str]], Ready]


@dataclass(frozen=True)
class MethodSpec:
    """What a menu needs to know of a method, and how to build it.

    Attributes:
        name: registry name, e.g. "naclip".
        title: name people know it by.
        paper: arXiv id.
        description: one sentence in plain words.
        rule: what it does, as a formula.
        build: from the tower and the switches turned on, the method; None if it needs a head.
        build_with_head: the same with the file of its trained head; None if it needs none. Which head belongs
            to which tower say `EncoderSpec.heads` and, for the user's own, its file.
        switches: optional parts, name -> one sentence.
        reads: what it starts from.
        masks: whether it answers with mask proposals: panoptic and instance answers are possible.
        views: intermediate quantities that it can show.
    """

    name: str
    title: str
    paper: str
    description: str
    rule: str
    build: Build | None = None
    build_with_head: BuildWithHead | None = None
    switches: Mapping[str, str] = field(default_factory=dict)
    reads: Reads = "tokens"
    masks: bool = False
    views: frozenset[ViewKind] = frozenset()


def _build_training_free(name: str, tower: Tower, switches: frozenset[str]) -> Ready:
    method = TrainingFree(
        name,
        tower.vision.visual,
        RULES[name],
        denoise_floor=PROMPT_DENOISING_FLOOR if "prompt_denoising" in switches else None,
        smooth_ceiling=KEY_SMOOTHING_CEILING if "key_smoothing" in switches else None,
        smoothed_scale=SMOOTHED_SCALE[tower.family],
    )
    return Ready(method, tower.vision)


def _method(
    name: str, title: str, paper: str, description: str, rule: str, switches: Mapping[str, str] | None = None
) -> MethodSpec:
    return MethodSpec(
        name,
        title,
        paper,
        description,
        rule,
        build=partial(_build_training_free, name),
        switches=MappingProxyType(dict(switches or {})),
        views=frozenset({"similarity", "attention"}),
    )


def _mask_method(
    name: Literal["fc_clip", "maft_plus"],
    title: str,
    paper: str,
    description: str,
    rule: str,
    views: frozenset[ViewKind],
    switches: Mapping[str, str] | None = None,
) -> MethodSpec:
    return MethodSpec(
        name,
        title,
        paper,
        description,
        rule,
        build_with_head=partial(build_with_mask_head, name),
        switches=MappingProxyType(dict(switches or {})),
        reads="pyramid",
        masks=True,
        views=views,
    )


METHODS: Mapping[str, MethodSpec] = MappingProxyType(
    {
        spec.name: spec
        for spec in (
            _method(
                "clip",
                "CLIP as it is",
                "2103.00020",
                "Compares every patch of unchanged CLIP with the words: what all the others improve on.",
                "softmax(s q k^T) v, residual and MLP kept",
            ),
            _method(
                "maskclip",
                "MaskCLIP",
                "2112.01071",
                "Lets every patch speak only for itself: sharp places, noisy areas.",
                "v, no residual, no MLP",
                {
                    "prompt_denoising": "Take out classes that are nowhere convincing.",
                    "key_smoothing": "Unsure patches follow patches that look alike.",
                },
            ),
            _method(
                "sclip",
                "SCLIP",
                "2312.01597",
                "Patches that ask or answer alike share what they see; the rest of CLIP stays.",
                "(softmax(s q q^T) + softmax(s k k^T)) v, residual and MLP kept",
            ),
            _method(
                "clearclip",
                "ClearCLIP",
                "2407.12442",
                "Patches that ask alike share what they see, without the noisy residual path.",
                "softmax(s q q^T) v, no residual, no MLP",
            ),
            _method(
                "naclip",
                "NACLIP",
                "2404.08181",
                "Patches that look alike share what they see, near ones most: smooth areas.",
                "softmax(s k k^T + Gaussian of patch distance) v, no residual, no MLP",
            ),
            MethodSpec(
                "mvp_seg",
                "MVP-SEG",
                "2304.06957",
                "Looks at each class with several learned prompts; one more says whether it is there at all.",
                "softmax_c(tau1 sum_i cos(F, t_i^c)) g_c, F of MaskCLIP, t_i and g learned",
                build_with_head=build_with_contexts,
                switches=MappingProxyType(
                    {NO_REFINING: "Do not ask the global prompt which classes are in the photo."}
                ),
                views=MVP_SEG_VIEWS,
            ),
            _mask_method(
                "fc_clip",
                "FC-CLIP",
                "2308.02487",
                "Proposes masks, then names each by a trained head and by what CLIP sees inside it.",
                "sum_n sigmoid(m_n) p_n, p_n = (trained head)^(1 - a) CLIP^a",
                FC_CLIP_VIEWS,
            ),
            _mask_method(
                "maft_plus",
                "MAFT+",
                "2408.00744",
                "Proposes masks, then names each by a CLIP tuned to follow masks; words adapt to the photo.",
                "sum_n sigmoid(m_n) p_n, p_n = softmax(s cos(CLIP inside m_n, words after transfer))",
                MAFT_PLUS_VIEWS,
                {
                    PER_PIXEL: "Words adapt to the photo place by place, not by the mixed tokens that "
                    "official weights learnt; with the embedded model they always do."
                },
            ),
        )
    }
)


def build_method(
    name: str, tower: Tower, switches: frozenset[str] = frozenset(), head: HeadFile | None = None
) -> Ready:
    """Build a method on a tower.

    Args:
        name: registry name.
        tower: from `build_tower`.
        switches: optional parts to turn on.
        head: file of its trained head, if it needs one.

    Raises:
        ValueError: for an unknown method, a switch it does not have, a head that is missing or not wanted, or
            a tower that does not give what it reads.
    """
    spec = lookup("method", METHODS, name)
    for switch in sorted(switches - set(spec.switches)):
        raise ValueError(
            f"switch must be one of {', '.join(spec.switches) or 'none'} for {name}; got {switch!r}"
        )
    if spec.build is not None:
        return spec.build(tower, switches)
    if spec.build_with_head is None or head is None:
        raise ValueError(f"{spec.title} needs the file of a trained head")
    ready = spec.build_with_head(tower, head, switches)
    return replace(ready, weights=MappingProxyType({head.path.name: head.sha256}))


def runs_on(method: MethodSpec, encoder: EncoderSpec) -> bool:
    """Whether a method can run on a tower at all, given all files; a head may be one's own."""
    headed = method.name in encoder.heads or encoder.own_heads
    return encoder.gives(method.reads) and (method.build is not None or headed)


def wrong_encoder(method: MethodSpec, encoder: EncoderSpec) -> str:
    """Say that a method cannot run on a tower, and on which it can."""
    others = ", ".join(spec.name for spec in ENCODERS.values() if runs_on(method, spec))
    return f"{method.title} does not run on {encoder.title} ({encoder.name}); choose one of: {others}."


def why_not(method: MethodSpec, encoder: EncoderSpec, store: WeightStore) -> str:
    """Why a method does not run on a tower, in one sentence with the next step; "" if it does.

    Whether the tower's own weights are here is another question (`EncoderInfo`).
    """
    if not runs_on(method, encoder):
        return wrong_encoder(method, encoder)
    if method.build is not None:
        return ""
    return head_problem(store, method.name, method.title, encoder)


def describe_head(store: WeightStore, path: Path) -> str:
    """What a head that was added is for, e.g. "MVP-SEG on CLIP ViT-B/16, OpenAI (vit_b16_openai)"."""
    try:
        notes = head_notes(path)
    except CheckpointError as error:
        return str(error)
    encoder = trained_on(store, notes.tower)
    where = "weights that are not here" if encoder is None else f"{encoder.title} ({encoder.name})"
    return f"{METHODS[notes.method].title} on {where}"
