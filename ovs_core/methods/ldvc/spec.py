"""LDVC and ZegCLIP as menus see them; the embedded model has a head of each, for CLIP a user trains one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import MappingProxyType

from ovs_core.checkpoints import CheckpointError
from ovs_core.encoders.towers import Family, Tower
from ovs_core.methods.base import BoundMethod
from ovs_core.methods.head_format import HeadFile, HeadFormat
from ovs_core.methods.ldvc.captions import LDVC_VIEWS, ZEGCLIP_VIEWS
from ovs_core.methods.ldvc.heads import KIND, PromptedHead, load_prompted_head
from ovs_core.methods.ldvc.method import (
    LDVC_OPTIONS,
    OPTIONS,
    PromptedSegmenter,
    PromptedText,
    calibrate_seen,
    prompted_encoder,
)
from ovs_core.methods.ldvc.model import MethodName
from ovs_core.methods.options import SCALE, TEMPLATE_SET, TOKEN_OPTIONS
from ovs_core.methods.spec import MethodSpec
from ovs_core.options import Option, Preset
from ovs_core.types import Features
from ovs_core.views import ViewSpec

# ZegCLIP's test configuration: frames of short side 512 in windows of 512, step 426; sigmoids, no threshold.
# The embedded model looks once at a whole frame.
_FULL = Preset(scale=1, threshold=0.0, short_side=512, window=512, stride=426, templates="single1")
_MINI = replace(_FULL, window=None, stride=0)
PRESETS: Mapping[Family, Preset] = MappingProxyType({"mini": _MINI, "openai": _FULL, "laion": _FULL})

# Names are embedded in what the head was trained with: there is no template to choose.
_NOT_ITS_OWN = (SCALE.name, TEMPLATE_SET.name)
_SHARED = (
    replace(SCALE, default=1.0, slider=(0.1, 5, 0.1)),
    *(option for option in TOKEN_OPTIONS if option.name not in _NOT_ITS_OWN),
)


def _read(name: MethodName, path: Path, tower: str) -> PromptedHead:
    return load_prompted_head(path, tower, method=name)


def _bind(name: MethodName, tower: Tower, head: HeadFile | None) -> BoundMethod[Features]:
    """A method with the head of a file.

    Raises:
        CheckpointError: if there is no file, or it is of another kind, method or tower.
    """
    if head is None:
        raise CheckpointError(f"{name} needs the file of its trained head.")
    trained = load_prompted_head(head.path, tower.sha256, method=name)
    try:
        return bind_head(tower, trained, head)
    except ValueError as error:
        raise CheckpointError(f"{head.path} does not fit its tower: {error}.") from error


def bind_head(tower: Tower, trained: PromptedHead, file: HeadFile) -> BoundMethod[Features]:
    """A head, of this project or official, on its tower.

    Raises:
        ValueError: if its prompts are for another tower.
    """
    vision = prompted_encoder(tower.vision, trained, file.sha256)
    trained.head.to(tower.device)
    method = PromptedSegmenter(trained, vision.visual)
    return BoundMethod(method, vision, PromptedText(tower.text, trained), {file.path.name: file.sha256})


def _spec(
    name: MethodName,
    title: str,
    paper: str,
    description: str,
    rule: str,
    options: tuple[Option, ...],
    views: tuple[ViewSpec, ...],
) -> MethodSpec:
    return MethodSpec(
        name,
        title,
        paper,
        description,
        rule,
        partial(_bind, name),
        PRESETS,
        (*_SHARED, *options),
        views,
        HeadFormat(KIND, partial(_read, name), MappingProxyType({"mini": f"mini-{name}"}), named=True),
        own_frame=True,
        group="decoder",
        calibrate=calibrate_seen,
    )


SPECS = (
    _spec(
        "zegclip",
        "ZegCLIP",
        "2212.03588",
        "Words look at the photo through a small trained decoder; each word is judged on its own.",
        "sigmoid(A(q = [T V_g, T] W, k = V)), prompts in the image tower learned",
        OPTIONS,
        ZEGCLIP_VIEWS,
    ),
    _spec(
        "ldvc",
        "LDVC",
        "2403.08426",
        "Patches move towards the words, each reading only related parts of the photo: whole, clean objects.",
        "sigmoid(A(q = V, k = [T V_g, T] W)), prompts in both towers learned, attention routed by windows",
        LDVC_OPTIONS,
        LDVC_VIEWS,
    ),
)
