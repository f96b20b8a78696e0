"""From the options of a request to what the pipeline reads: checked once, the preset filled in."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

import torch

from ovs_core.encoders.towers import EncoderSpec
from ovs_core.engine.request import Request
from ovs_core.methods.base import check_point
from ovs_core.methods.spec import MethodSpec
from ovs_core.options import Option, Options, OptionValue, Preset
from ovs_core.refine.spec import RefinerSpec
from ovs_core.vocabulary import TEMPLATES


@dataclass(frozen=True)
class Settings:
    """Everything about a request that is no photo and no word.

    Attributes:
        preset: frame, prompts, scale and threshold.
        options: value of every declared option, by name; those of `preset` too.
        asked: names and values of the options that evidence depends on beside the preset's.
    """

    preset: Preset
    options: Options
    asked: Hashable = ()


def declared_options(
    method: MethodSpec, encoder: EncoderSpec, refiner: RefinerSpec | None, preset: Preset
) -> tuple[Option, ...]:
    """What can be set of a method on a tower with a refiner, with the defaults that suit them."""
    own = preset.options
    options = (*method.options, *encoder.options, *(() if refiner is None else refiner.options))
    return tuple(
        replace(option, default=own[option.name]) if option.name in own else option for option in options
    )


def settings_of(
    request: Request, method: MethodSpec, encoder: EncoderSpec, refiner: RefinerSpec, device: torch.device
) -> Settings:
    """Check a request against what is declared, and fill in what it leaves out.

    Raises:
        ValueError: for an option or view that is not declared, a value out of range, a point outside the
            photo, or a refiner that cannot take the method's answers; one sentence.
    """
    check_refiner(method, refiner)
    check_names(f"views of {method.title}", request.views, method.view_kinds)
    check_point(request.point)
    preset = method.preset(encoder, device)
    declared = declared_options(method, encoder, refiner, preset)
    values = checked_values(f"options of {method.title}", declared, request.options)
    preset = preset.with_overrides(values)
    if preset.templates not in TEMPLATES:
        raise ValueError(f"templates must be one of {', '.join(TEMPLATES)}; got {preset.templates!r}")
    return with_preset(method, encoder, preset, values)


def checked_values(what: str, declared: Sequence[Option], asked: Options) -> dict[str, OptionValue]:
    """Value of every declared option: as asked, or its default.

    Raises:
        ValueError: for an option that is not declared, or a value out of range.
    """
    check_names(what, asked, {option.name: option for option in declared})
    return {
        option.name: option.checked(asked[option.name]) if option.name in asked else option.default
        for option in declared
    }


def refines(refiner: RefinerSpec, method: MethodSpec) -> bool:
    """Whether a refiner takes what a method answers with."""
    return not (refiner.needs_rows and method.masks)


def with_preset(method: MethodSpec, encoder: EncoderSpec, preset: Preset, values: Options) -> Settings:
    """Settings with another preset: the options that it sets follow it."""
    own = preset.options
    values = MappingProxyType({name: own.get(name, value) for name, value in values.items()})
    asked = (*method.options, *encoder.options)
    return Settings(
        preset,
        values,
        tuple((o.name, values[o.name]) for o in asked if o.stage == "ask" and o.name not in own),
    )


def check_refiner(method: MethodSpec, refiner: RefinerSpec) -> None:
    """Return if a refiner can take a method's answers.

    Raises:
        ValueError: if it cannot; one sentence.
    """
    if not refines(refiner, method):
        raise ValueError(f"{refiner.title} cannot refine the mask proposals of {method.title}.")


def check_names(what: str, given: Mapping[str, object] | frozenset[str], known: object) -> None:
    """Return if every name of `given` is among `known`.

    Raises:
        ValueError: naming the first one that is not, and all that are.
    """
    names = sorted(known) if isinstance(known, frozenset) else list(known)  # type: ignore[call-overload]
    for name in sorted(set(given) - set(names)):
        raise ValueError(f"{what} must be among {', '.join(names) or '(none)'}; got {name!r}")
