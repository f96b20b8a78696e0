"""CLIP, MaskCLIP, SCLIP, ClearCLIP, NACLIP, ResCLIP, SC-CLIP and SFP as menus see them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from types import MappingProxyType

from ovs_core.encoders.towers import Family, Tower
from ovs_core.methods.base import AFFINITY, ATTENTION, SIMILARITY, BoundMethod
from ovs_core.methods.head_format import HeadFile
from ovs_core.methods.options import TOKEN_OPTIONS
from ovs_core.methods.spec import MethodSpec
from ovs_core.methods.training_free.absent import DROP_ABSENT, LEAST_OVERLAP, LEAST_OVERLAP_MINI
from ovs_core.methods.training_free.attention_rules import RULES, LastBlock
from ovs_core.methods.training_free.blocks import deeper
from ovs_core.methods.training_free.calibrated import CALIBRATIONS
from ovs_core.methods.training_free.cross_correlation import EARLIER_WEIGHT, RESCLIP
from ovs_core.methods.training_free.layer_views import LAYERS, NORMS, layer_specs
from ovs_core.methods.training_free.model import DEEPER_OPTIONS, MASKCLIP_OPTIONS, OPTIONS, TrainingFree
from ovs_core.methods.training_free.resnet import PoolRule, ResNetTrainingFree
from ovs_core.options import Option, Preset
from ovs_core.types import Features

MINI = Preset(scale=20, threshold=0.25, short_side=512, window=None, stride=0, templates="single1")
"""The embedded model: one whole frame, one prompt; threshold from a sweep on training photos."""
OPENAI = Preset(scale=40, threshold=0.1, short_side=336, window=224, stride=112, templates="imagenet80")
"""Official configurations: frames of short side 336 in windows of 224, logits x 40, under 0.1 other."""
LAION = replace(OPENAI, threshold=0.0)
"""Thresholds belong to the weights they were found on; other weights start without one."""
RESNET = replace(LAION, short_side=512, window=None, stride=0)
"""MaskCLIP's official frame, whole; its ResNets are asked like other full-size weights."""
PRESETS: Mapping[Family, Preset] = MappingProxyType({"mini": MINI, "openai": OPENAI, "laion": LAION})
# Rules on a ViT's last block do not exist on a ResNet: MaskCLIP's own does, and CLIP as it is.
_WITH_RESNETS: Mapping[Family, Preset] = MappingProxyType({**PRESETS, "resnet": RESNET})
# ClearCLIP: 0.4 is its COCO-Object value, the nearest to everyday photos.
_CLEARCLIP: Mapping[Family, Preset] = MappingProxyType(
    {
        "mini": MINI,
        "openai": replace(OPENAI, scale=50, threshold=0.4, window=448, stride=224),
        "laion": replace(LAION, scale=50, window=448, stride=224),
    }
)
# SC-CLIP: its COCO-Object values, too. SFP's are not known; the formula is the same.
_CALIBRATED: Mapping[Family, Preset] = MappingProxyType(
    {"mini": MINI, "openai": replace(OPENAI, scale=55, threshold=0.35), "laion": replace(LAION, scale=55)}
)
TRAINED_THROUGH: frozenset[Family] = frozenset({"mini"})
"""The embedded tower saw every training batch through two of the five rules drawn at random."""
_DEEPER: Mapping[str, LastBlock] = MappingProxyType({**CALIBRATIONS, "resclip": RESCLIP})
_NEED_DEEPER = frozenset({DROP_ABSENT.name, LAYERS, NORMS})


def _bind(name: str, tower: Tower, head: HeadFile | None) -> BoundMethod[Features]:
    if tower.resnet is not None:
        rule: PoolRule = "clip" if name == "clip" else "maskclip"
        return BoundMethod(
            ResNetTrainingFree(tower.resnet.visual, rule), tower.resnet, tower.tuned_text, tower.tuned_files
        )
    vision = tower.vision
    method = TrainingFree(vision.visual, RULES[name], absent_overlap=_absent_overlap(tower))
    return BoundMethod(
        method,
        vision,
        tower.tuned_text,
        tower.tuned_files,
        deeper=deeper(vision),
        needs_deeper=_NEED_DEEPER,
    )


def _bind_deeper(name: str, tower: Tower, head: HeadFile | None) -> BoundMethod[Features]:
    vision = deeper(tower.vision)
    method = TrainingFree(vision.visual, _DEEPER[name], absent_overlap=_absent_overlap(tower))
    return BoundMethod(method, vision, tower.tuned_text, tower.tuned_files)


def _absent_overlap(tower: Tower) -> float:
    return LEAST_OVERLAP_MINI if tower.family == "mini" else LEAST_OVERLAP


def _spec(
    name: str,
    title: str,
    paper: str,
    description: str,
    rule: str,
    options: tuple[Option, ...] = OPTIONS,
    presets: Mapping[Family, Preset] = PRESETS,
    alike: frozenset[Family] = TRAINED_THROUGH,
    bind: Callable[[str, Tower, HeadFile | None], BoundMethod[Features]] = _bind,
    ticked: bool = True,
) -> MethodSpec:
    return MethodSpec(
        name,
        title,
        paper,
        description,
        rule,
        partial(bind, name),
        presets,
        (*TOKEN_OPTIONS, *options),
        (SIMILARITY, ATTENTION, AFFINITY, *layer_specs(rule)),
        ticked=ticked,
        group="last_block",
        alike=alike,
    )


SPECS = (
    _spec(
        "clip",
        "CLIP as it is",
        "2103.00020",
        "Compares every patch of unchanged CLIP with the words: what all the others improve on.",
        "softmax(s q k^T) v, residual and MLP kept",
        presets=_WITH_RESNETS,
    ),
    _spec(
        "maskclip",
        "MaskCLIP",
        "2112.01071",
        "Lets every patch speak only for itself: sharp places, noisy areas.",
        "v, no residual, no MLP",
        MASKCLIP_OPTIONS,
        _WITH_RESNETS,
    ),
    _spec(
        "sclip",
        "SCLIP",
        "2312.01597",
        "Patches that ask or answer alike share what they see; the rest of CLIP stays.",
        "(softmax(s q q^T) + softmax(s k k^T)) v, residual and MLP kept",
    ),
    _spec(
        "clearclip",
        "ClearCLIP",
        "2407.12442",
        "Patches that ask alike share what they see, without the noisy residual path.",
        "softmax(s q q^T) v, no residual, no MLP",
        presets=_CLEARCLIP,
    ),
    _spec(
        "naclip",
        "NACLIP",
        "2404.08181",
        "Patches that look alike share what they see, near ones most: smooth areas.",
        "softmax(s k k^T + Gaussian of patch distance) v, no residual, no MLP",
        alike=frozenset(),  # the others are like it
    ),
    _spec(
        "resclip",
        "ResCLIP, first half",
        "2411.15851",
        "NACLIP whose last block also looks where earlier blocks look, which know places better.",
        "2 (0.6 softmax(s k k^T + Gaussian) + 0.4 mean of softmax(s q k^T) of blocks 6 to 9) v, no residual",
        (EARLIER_WEIGHT, *DEEPER_OPTIONS),
        alike=frozenset(),
        bind=_bind_deeper,
        ticked=False,  # it looks deeper: another pass of the tower
    ),
    _spec(
        "sc_clip",
        "SC-CLIP",
        "2411.15869",
        "Repairs abnormal patches, then lets patches share by what earlier blocks find alike.",
        "1/2 (softmax(s k k^T) + softmax(3 (S9 - mean))) v + 0.3 CLS, averaged by S4; x11 and x4 + ... x10",
        DEEPER_OPTIONS,
        _CALIBRATED,
        alike=frozenset(),
        bind=_bind_deeper,
        ticked=False,  # it looks deeper: another pass of the tower
    ),
    _spec(
        "sfp",
        "SFP",
        "",
        "Repairs patches that the class token dwells on, then shares as SC-CLIP does (ICCV 2025).",
        "1/3 (softmax(s q q^T) + softmax(s k k^T) + softmax(3 (S9 - mean))) v + 0.3 CLS, averaged by S4; "
        "of x4 + ... x10 by S9 alone",
        DEEPER_OPTIONS,
        _CALIBRATED,
        alike=frozenset(),
        bind=_bind_deeper,
        ticked=False,  # it looks deeper: another pass of the tower
    ),
)
