"""The one place where names become objects: methods, encoders, refiners and the settings that go with them.

The front door of `ovs_core.registry`, which holds data and small functions that take loaded parts; nothing is
read or built at import.
"""

from ovs_core.registry.methods import METHODS, MethodSpec, build_method
from ovs_core.registry.names import lookup
from ovs_core.registry.presets import CPU_TEMPLATES, PRESETS, preset_for
from ovs_core.registry.refiners import REFINERS, RefinerSpec, Steps
from ovs_core.registry.towers import (
    CLIP_MEAN,
    CLIP_STD,
    ENCODERS,
    EncoderSpec,
    Family,
    LoadedModel,
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
    "LoadedModel",
    "MethodSpec",
    "RefinerSpec",
    "Steps",
    "Tower",
    "build_method",
    "build_open_clip",
    "build_tower",
    "checked_file",
    "lookup",
    "missing_sentence",
    "preset_for",
]
