"""What can be asked, and why not the rest: the entries of menus."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch

from ovs_core.checkpoints import CheckpointError, WeightStore
from ovs_core.encoders.loading import missing_sentence
from ovs_core.encoders.towers import EncoderSpec
from ovs_core.engine.settings import declared_options, refines
from ovs_core.methods.heads import verified_head
from ovs_core.methods.spec import Group, MethodSpec
from ovs_core.options import Option
from ovs_core.refine.spec import RefinerSpec
from ovs_core.types import ViewKind


@dataclass(frozen=True)
class MethodInfo:
    """One method on one encoder, for a menu.

    Attributes:
        name, title, paper, description, rule, masks, group: see `ovs_core.methods.spec.MethodSpec`.
        ticked: whether Compare offers it ticked on the encoder.
        alike: it gives nearly the labels of the default method there, because the encoder's tower was trained
            through both.
        options: what can be set, with the defaults that suit it on the encoder.
        views: intermediate quantities that it can show.
        available: it runs on the encoder, and what was trained for it is on this machine.
        reason: why not, and what to do about it; empty if available.
        refiners: names of the refiners that take its answers.
    """

    name: str
    title: str
    paper: str
    description: str
    rule: str
    options: tuple[Option, ...] = ()
    available: bool = True
    reason: str = ""
    masks: bool = False
    ticked: bool = True
    group: Group = "more"
    alike: bool = False
    views: frozenset[ViewKind] = frozenset()
    refiners: tuple[str, ...] = ()

    @property
    def switches(self) -> Mapping[str, str]:
        """Its switches, name -> one sentence."""
        return {option.name: option.help for option in self.options if option.kind == "switch"}


@dataclass(frozen=True)
class EncoderInfo:
    """One encoder, for a menu.

    Attributes:
        name, title, tier: see `ovs_core.encoders.towers.EncoderSpec`.
        available: its weights are on this machine.
        reason: why not, and what to do about it; empty if available.
        weights: one sentence about the weights.
    """

    name: str
    title: str
    tier: str
    available: bool
    reason: str
    weights: str


def refiners_for(method: MethodSpec, refiners: Iterable[RefinerSpec]) -> tuple[str, ...]:
    """Names of the refiners that take what a method answers with."""
    return tuple(refiner.name for refiner in refiners if refines(refiner, method))


def why_not(
    method: MethodSpec,
    encoder: EncoderSpec,
    store: WeightStore,
    methods: Mapping[str, MethodSpec],
    encoders: Mapping[str, EncoderSpec],
) -> str:
    """Why a method does not run on a tower, in one sentence with the next step; "" if it does.

    Whether the tower's own weights are here is another question (`EncoderInfo`).
    """
    if not method.runs_on(encoder):
        others = ", ".join(spec.name for spec in encoders.values() if method.runs_on(spec))
        where = f"choose one of: {others}" if others else "none that is known here will do"
        return f"{method.title} does not run on {encoder.title} ({encoder.name}); {where}."
    try:
        verified_head(store, method, encoder, methods, whole=False)
    except CheckpointError as error:
        return str(error)
    return ""


def method_info(
    method: MethodSpec,
    encoder: EncoderSpec,
    reason: str,
    refiners: Iterable[RefinerSpec],
    device: torch.device,
) -> MethodInfo:
    """The entry of a method; `reason` is why it cannot be asked, "" if it can."""
    runs = encoder.family in method.presets
    options = method.options
    if runs:
        options = declared_options(method, encoder, None, method.preset(encoder, device))
    return MethodInfo(
        method.name,
        method.title,
        method.paper,
        method.description,
        method.rule,
        options,
        available=not reason,
        reason=reason,
        masks=method.masks,
        ticked=method.ticked and encoder.family not in method.alike,
        group=method.group,
        alike=encoder.family in method.alike,
        views=method.view_kinds,
        refiners=refiners_for(method, refiners),
    )


def encoder_info(name: str, encoder: EncoderSpec, store: WeightStore) -> EncoderInfo:
    """The entry of an encoder."""
    reason = weights_missing(encoder, store)
    about = reason or describe_weights(encoder, store)
    return EncoderInfo(name, encoder.title, encoder.tier, not reason, reason, about)


def weights_missing(encoder: EncoderSpec, store: WeightStore) -> str:
    """What to do about weights that are not here; "" if they are."""
    if encoder.entry is None or store.locate(encoder.entry) is not None:
        return ""
    return missing_sentence(store.entry(encoder.entry))


def describe_weights(encoder: EncoderSpec, store: WeightStore) -> str:
    """One plain sentence: which weights an encoder uses, where they come from, or how to get them."""
    if encoder.entry is None:
        return f"{encoder.title}: made by the program that started this engine."
    entry, path = store.entry(encoder.entry), store.locate(encoder.entry)
    if path is None:
        return missing_sentence(entry)
    size = path.stat().st_size / 1e6
    return f"{entry.title}: {path.name}, {size:.0f} MB, licence {entry.licence}, {entry.source}."
