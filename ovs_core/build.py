"""The one place where names become objects: methods, encoders, refiners and the settings that go with them.

The front door of `ovs_core.registry`, which holds data and small functions that take loaded parts; nothing is
read or built at import.
"""

from ovs_core.registry.heads import HeadFile, Ready, checked_head, find_head, usable_head
from ovs_core.registry.methods import METHODS, MethodSpec, build_method, describe_head, runs_on, why_not
from ovs_core.registry.names import lookup
from ovs_core.registry.own_heads import add_head, check_head, own_heads
from ovs_core.registry.presets import CPU_TEMPLATES, PRESETS, preset_for
from ovs_core.registry.refiners import REFINERS, RefinerSpec, Steps, refiners_for
from ovs_core.registry.towers import (
    CLIP_MEAN,
    CLIP_STD,
    ENCODERS,
    EncoderSpec,
    Family,
    LoadedModel,
    PyramidEncoder,
    Tower,
    build_open_clip,
    build_tower,
    checked_file,
    missing_sentence,
)

DEFAULT_METHOD = "naclip"
DEFAULT_ENCODER = "mini"

__all__ = [
    "CLIP_MEAN",
    "CLIP_STD",
    "CPU_TEMPLATES",
    "DEFAULT_ENCODER",
    "DEFAULT_METHOD",
    "ENCODERS",
    "METHODS",
    "PRESETS",
    "REFINERS",
    "EncoderSpec",
    "Family",
    "HeadFile",
    "LoadedModel",
    "MethodSpec",
    "PyramidEncoder",
    "Ready",
    "RefinerSpec",
    "Steps",
    "Tower",
    "add_head",
    "build_method",
    "build_open_clip",
    "build_tower",
    "check_head",
    "checked_file",
    "checked_head",
    "describe_head",
    "find_head",
    "lookup",
    "missing_sentence",
    "own_heads",
    "preset_for",
    "refiners_for",
    "runs_on",
    "usable_head",
    "why_not",
]
