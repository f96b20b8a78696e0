"""Sets of prompts that class names are put into."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType

from ovs_core.vocabulary.clip_words import clip_words


def _texts(templates: Iterable[Callable[[str], str]]) -> tuple[str, ...]:
    """Turn open_clip's template functions into texts with one `{}`."""
    return tuple(template("{}") for template in templates)


_IMAGENET_80 = _texts(clip_words("zero_shot_metadata").OPENAI_IMAGENET_TEMPLATES)
_SCENES_5 = (  # MaskCLIP: what a segmentation prompt adds to the 80 of a classifier
    "there is a {} in the scene.",
    "there is the {} in the scene.",
    "this is a {} in the scene.",
    "this is the {} in the scene.",
    "this is one {} in the scene.",
)
_VILD_14 = (  # ViLD's prompts as FC-CLIP and MAFT+ write them; full stops are missing there too
    "a photo of a {}.",
    "This is a photo of a {}",
    "There is a {} in the scene",
    "There is the {} in the scene",
    "a photo of a {} in the scene",
    "a photo of a small {}.",
    "a photo of a medium {}.",
    "a photo of a large {}.",
    "This is a photo of a small {}.",
    "This is a photo of a medium {}.",
    "This is a photo of a large {}.",
    "There is a small {} in the scene.",
    "There is a medium {} in the scene.",
    "There is a large {} in the scene.",
)
TEMPLATES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "imagenet80": _IMAGENET_80,
        "maskclip85": _IMAGENET_80 + _SCENES_5,
        "vild14": _VILD_14,
        "short7": _texts(clip_words("zero_shot_metadata").SIMPLE_IMAGENET_TEMPLATES),
        "single1": ("a photo of a {}.",),
        "name": ("{}",),
    }
)
"""Prompt template sets; each text holds one `{}` for the class name."""
