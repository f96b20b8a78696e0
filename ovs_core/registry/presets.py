"""PRESETS: the settings that suit a method on a family of weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

import torch

from ovs_core.registry.methods import METHODS, wrong_encoder
from ovs_core.registry.names import lookup
from ovs_core.registry.towers import EncoderSpec, Family
from ovs_core.types import Preset

_MINI = Preset(scale=20, threshold=0.25, short_side=512, window=None, stride=0, templates="single1")
# Best of a sweep on training photos. At scale 100 shares would be the paper's.
_MINI_MVP_SEG = replace(_MINI, scale=40)
# Class shares of masks need no scale, and "no object" takes the place of a threshold. Frame and prompt are
# those that the heads are trained and measured with (`ovs_core.training.mask_plans`).
_MINI_MASKS = replace(_MINI, scale=1, threshold=0.0, short_side=448)
_MASKS = Preset(scale=1, threshold=0.0, short_side=800, window=None, stride=0, templates="vild14")
# Official configurations: frames of short side 336 in windows of 224, logits x 40, pixels under 0.1
# unlabelled.
_OPENAI = Preset(scale=40, threshold=0.1, short_side=336, window=224, stride=112, templates="imagenet80")
# Thresholds belong to the weights they were found on; other weights start without one.
_LAION = replace(_OPENAI, threshold=0.0)
# With contexts that the user trained. At scale 100 shares are the paper's; its prompts are learnt, so one
# template will do. Never measured: there are no official contexts.
_MVP_SEG = replace(_LAION, scale=100, templates="single1")

PRESETS: Mapping[tuple[str, Family], Preset] = MappingProxyType(
    {
        # The embedded model: one whole frame, one prompt.
        ("clip", "mini"): _MINI,
        ("maskclip", "mini"): _MINI,
        ("sclip", "mini"): _MINI,
        ("clearclip", "mini"): _MINI,
        ("naclip", "mini"): _MINI,
        ("mvp_seg", "mini"): _MINI_MVP_SEG,
        ("fc_clip", "mini"): _MINI_MASKS,
        ("maft_plus", "mini"): _MINI_MASKS,
        # OpenAI's weights: as published. ClearCLIP: 0.4 is its COCO-Object value, the nearest to everyday
        # photos.
        ("clip", "openai"): _OPENAI,
        ("maskclip", "openai"): _OPENAI,
        ("sclip", "openai"): _OPENAI,
        ("clearclip", "openai"): replace(_OPENAI, scale=50, threshold=0.4, window=448, stride=224),
        ("naclip", "openai"): _OPENAI,
        ("mvp_seg", "openai"): _MVP_SEG,
        # Other full-size weights (LAION, MetaCLIP).
        ("clip", "laion"): _LAION,
        ("maskclip", "laion"): _LAION,
        ("sclip", "laion"): _LAION,
        ("clearclip", "laion"): replace(_LAION, scale=50, window=448, stride=224),
        ("naclip", "laion"): _LAION,
        ("mvp_seg", "laion"): _MVP_SEG,
        # Official files of mask methods: the frame of their evaluations.
        ("fc_clip", "convnext"): _MASKS,
        ("maft_plus", "convnext"): _MASKS,
    }
)

CPU_TEMPLATES = "short7"
"""Stands in for the 80 published prompts on a CPU, where 80 cost seconds per class and gain little."""
CPU_SHORT_SIDE = 640
"""Largest frame of a ConvNeXt tower on a CPU unless one asks for more: 800 takes twice the time."""


def preset_for(method: str, encoder: EncoderSpec, device: torch.device) -> Preset:
    """Settings that suit a method on a tower: published ones where they exist, cheaper ones on a CPU.

    Raises:
        ValueError: for an unknown method, or one that does not run on the tower.
    """
    spec = lookup("method", METHODS, method)
    preset = PRESETS.get((method, encoder.family))
    if preset is None:
        raise ValueError(wrong_encoder(spec, encoder))
    if device.type == "cpu" and preset.templates == "imagenet80":
        preset = replace(preset, templates=CPU_TEMPLATES)
    if device.type == "cpu" and encoder.family == "convnext":
        preset = replace(preset, short_side=min(preset.short_side, CPU_SHORT_SIDE))
    return preset
