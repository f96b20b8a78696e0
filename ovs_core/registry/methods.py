"""METHODS: what a menu needs to know of each method, and how to build it on a tower."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from types import MappingProxyType

from torch import nn

from ovs_core.methods.attention_rules import RULES
from ovs_core.methods.base import Method
from ovs_core.methods.training_free import TrainingFree
from ovs_core.registry.names import lookup

PROMPT_DENOISING_FLOOR = 0.5  # MaskCLIP's official settings
KEY_SMOOTHING_CEILING = 1.0


@dataclass(frozen=True)
class MethodSpec:
    """What a menu needs to know of a method, and how to build it.

    Attributes:
        name: registry name, e.g. "naclip".
        title: name people know it by.
        paper: arXiv id.
        description: one sentence in plain words.
        rule: what it does in the last block, as a formula.
        build: from the image tower that made the features and the switches turned on, the method.
        switches: optional parts, name -> one sentence.
    """

    name: str
    title: str
    paper: str
    description: str
    rule: str
    build: Callable[[nn.Module, frozenset[str]], Method]
    switches: Mapping[str, str] = field(default_factory=dict)


def _build_training_free(name: str, visual: nn.Module, switches: frozenset[str]) -> Method:
    return TrainingFree(
        name,
        visual,
        RULES[name],
        denoise_floor=PROMPT_DENOISING_FLOOR if "prompt_denoising" in switches else None,
        smooth_ceiling=KEY_SMOOTHING_CEILING if "key_smoothing" in switches else None,
    )


def _method(
    name: str, title: str, paper: str, description: str, rule: str, switches: Mapping[str, str] | None = None
) -> MethodSpec:
    build = partial(_build_training_free, name)
    return MethodSpec(name, title, paper, description, rule, build, MappingProxyType(dict(switches or {})))


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
        )
    }
)


def build_method(name: str, visual: nn.Module, switches: frozenset[str] = frozenset()) -> Method:
    """Build a method on the image tower that makes its features.

    Raises:
        ValueError: for an unknown method or a switch it does not have.
    """
    spec = lookup("method", METHODS, name)
    for switch in sorted(switches - set(spec.switches)):
        raise ValueError(
            f"switch must be one of {', '.join(spec.switches) or 'none'} for {name}; got {switch!r}"
        )
    return spec.build(visual, switches)
