"""PRESETS: the settings that suit a method on a family of weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

import torch

from ovs_core.registry.methods import METHODS
from ovs_core.registry.names import lookup
from ovs_core.registry.towers import EncoderSpec, Family
from ovs_core.types import Preset

_MINI = Preset(scale=20, threshold=0.3, short_side=512, window=None, stride=0, templates="single1")
# Official configurations: frames of short side 336 in windows of 224, logits x 40, pixels under 0.1
# unlabelled.
_OPENAI = Preset(scale=40, threshold=0.1, short_side=336, window=224, stride=112, templates="imagenet80")
# Thresholds belong to the weights they were found on; other weights start without one.
_LAION = replace(_OPENAI, threshold=0.0)

PRESETS: Mapping[tuple[str, Family], Preset] = MappingProxyType(
    {
        # The embedded model: one whole frame, one prompt.
        ("clip", "mini"): _MINI,
        ("maskclip", "mini"): _MINI,
        ("sclip", "mini"): _MINI,
        ("clearclip", "mini"): _MINI,
        ("naclip", "mini"): _MINI,
        # OpenAI's weights: as published. ClearCLIP: 0.4 is its COCO-Object value, the nearest to everyday
        # photos.
        ("clip", "openai"): _OPENAI,
        ("maskclip", "openai"): _OPENAI,
        ("sclip", "openai"): _OPENAI,
        ("clearclip", "openai"): replace(_OPENAI, scale=50, threshold=0.4, window=448, stride=224),
        ("naclip", "openai"): _OPENAI,
        # Other full-size weights (LAION, MetaCLIP).
        ("clip", "laion"): _LAION,
        ("maskclip", "laion"): _LAION,
        ("sclip", "laion"): _LAION,
        ("clearclip", "laion"): replace(_LAION, scale=50, window=448, stride=224),
        ("naclip", "laion"): _LAION,
    }
)

CPU_TEMPLATES = "short7"
"""Stands in for the 80 published prompts on a CPU, where 80 cost seconds per class and gain little."""


def preset_for(method: str, encoder: EncoderSpec, device: torch.device) -> Preset:
    """Settings that suit a method on a tower: published ones where they exist, with fewer prompts on a CPU.

    Raises:
        ValueError: for an unknown method.
    """
    lookup("method", METHODS, method)
    preset = PRESETS[method, encoder.family]
    if device.type == "cpu" and preset.templates == "imagenet80":
        return replace(preset, templates=CPU_TEMPLATES)
    return preset
