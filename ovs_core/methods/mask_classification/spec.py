"""FC-CLIP and MAFT+ as menus see them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from ovs_core.checkpoints import CheckpointError, read_state
from ovs_core.encoders.mini_pyramid import MiniPyramid, dense_of_stem
from ovs_core.encoders.towers import Family, Tower
from ovs_core.methods.base import BoundMethod
from ovs_core.methods.head_format import HeadFile, HeadFormat
from ovs_core.methods.mask_classification import head_file, official
from ovs_core.methods.mask_classification.captions import FC_CLIP_VIEWS, MAFT_PLUS_VIEWS
from ovs_core.methods.mask_classification.maft_plus import OPTIONS, MaftPlus
from ovs_core.methods.options import MASK_OPTIONS
from ovs_core.methods.spec import MethodSpec
from ovs_core.options import Option, Preset
from ovs_core.types import Pyramid
from ovs_core.views import ViewSpec
from ovs_core.vocabulary import read_vocabulary

Name = Literal["fc_clip", "maft_plus"]

# Probabilities of classes need no scale, and "no object" takes the place of a threshold. Frame and prompt are
# those that the heads are trained and measured with: the embedded model's by `ovs_core.training.mask_plans`,
# official files' by their evaluations.
_MINI = Preset(scale=1, threshold=0.0, short_side=448, window=None, stride=0, templates="single1")
_CONVNEXT = replace(_MINI, short_side=800, templates="vild14")
PRESETS: Mapping[Family, Preset] = MappingProxyType({"mini": _MINI, "convnext": _CONVNEXT})


def _bind(name: Name, tower: Tower, head: HeadFile | None) -> BoundMethod[Pyramid]:
    """A mask method with the head of a file: ours on the embedded tower, an official one elsewhere.

    Raises:
        CheckpointError: if there is no file, or it is of another kind, method or tower.
    """
    if head is None or tower.pyramid is None:
        raise CheckpointError(f"{name} needs an image tower that gives a pyramid, and the file of its head.")
    if isinstance(tower.pyramid, MiniPyramid):
        return _bind_ours(name, tower, tower.pyramid, head)
    source, state = str(head.path), read_state(head.path)
    form = official.recognise(state, source=source)
    if form.method != name:
        raise CheckpointError(f"{source} holds a head of {form.method}, expected one of {name}.")
    method = official.build_method(state, form, tower.model, seen_names(), source=source)
    method.head.to(tower.device)
    return BoundMethod(method, tower.pyramid, tower.text, {head.path.name: head.sha256})


def _bind_ours(name: Name, tower: Tower, pyramid: MiniPyramid, head: HeadFile) -> BoundMethod[Pyramid]:
    trained = head_file.load_mask_head(head.path, tower.sha256, method=name)
    visual = head_file.tuned_tower(pyramid.visual, trained, source=str(head.path))
    method = head_file.build_mask_method(trained, visual, tower.model.logit_scale.detach())
    method.head.to(tower.device)
    if visual is not pyramid.visual:
        if isinstance(method, MaftPlus):
            method = replace(method, frozen=partial(dense_of_stem, pyramid.visual))
        identity = f"{pyramid.identity}+{head.sha256[:12]}"
        stem = any(name.startswith("conv1.") for name in trained.tuned)
        pyramid = replace(pyramid, visual=visual, identity=identity, stem_of="" if stem else pyramid.identity)
    return BoundMethod(method, pyramid, tower.text, {head.path.name: head.sha256})


def seen_names() -> frozenset[str]:
    """Names of the classes that official heads of FC-CLIP were trained on, synonyms included."""
    return frozenset(name for names in read_vocabulary("@cocopanoptic133").classes for name in names)


def _read(name: Name, path: Path, tower: str) -> object:
    return head_file.load_mask_head(path, tower, method=name)


def _spec(
    name: Name,
    title: str,
    paper: str,
    description: str,
    rule: str,
    views: tuple[ViewSpec, ...],
    published: str,
    options: tuple[Option, ...] = (),
) -> MethodSpec:
    return MethodSpec(
        name,
        title,
        paper,
        description,
        rule,
        partial(_bind, name),
        PRESETS,
        MASK_OPTIONS + options,
        views,
        HeadFormat(head_file.KIND, partial(_read, name), MappingProxyType({"mini": published}), named=True),
        reads="pyramid",
        masks=True,
        own_frame=True,
        group="masks",
    )


SPECS = (
    _spec(
        "fc_clip",
        "FC-CLIP",
        "2308.02487",
        "Proposes masks, then names each by a trained head and by what CLIP sees inside it.",
        "sum_n sigmoid(m_n) p_n, p_n = (trained head)^(1 - a) CLIP^a",
        FC_CLIP_VIEWS,
        "mini-fc-clip",
    ),
    _spec(
        "maft_plus",
        "MAFT+",
        "2408.00744",
        "Proposes masks, then names each by a CLIP tuned to follow masks; words adapt to the photo.",
        "sum_n sigmoid(m_n) p_n, p_n = softmax(s cos(CLIP inside m_n, words after transfer))",
        MAFT_PLUS_VIEWS,
        "mini-maft-plus",
        OPTIONS,
    ),
)
