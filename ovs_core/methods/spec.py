"""What is declared of a method, once: menus, options, views, presets, and how it is bound to a tower."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Literal

import torch

from ovs_core.encoders.towers import EncoderSpec, Family, Reads, Tower
from ovs_core.methods.base import BoundMethod, Calibrate, as_it_is
from ovs_core.methods.head_format import HeadFile, HeadFormat, published_head
from ovs_core.methods.papers import TITLES
from ovs_core.options import Option, Preset
from ovs_core.types import ViewKind
from ovs_core.views import Source, ViewSpec

Bind = Callable[[Tower, HeadFile | None], BoundMethod[Any]]
"""From a tower and, where the method needs one, the verified file of its head."""

Group = Literal["last_block", "prompts", "decoder", "masks", "more"]
GROUPS: Mapping[Group, str] = MappingProxyType(
    {
        "last_block": "Rules on CLIP's last block",
        "prompts": "Learned prompts",
        "decoder": "Trained decoders on patch tokens",
        "masks": "Mask classification",
        "more": "More methods",
    }
)
"""What a method is, by its name in menus, in their order."""

CPU_TEMPLATES = "short7"
"""Stands in for the 80 published prompts on a CPU, where 80 cost seconds per class and gain little."""
CPU_SHORT_SIDE = 640
"""Largest frame of a ConvNeXt tower on a CPU unless one asks for more: 800 takes twice the time."""


@dataclass(frozen=True)
class MethodSpec:
    """A method as menus, parsers, endpoints and reports see it; adding one is adding one of these.

    Attributes:
        name: registry name, e.g. "naclip".
        title: name people know it by.
        paper: arXiv id; "" where there is none.
        description: one sentence in plain words.
        rule: what it does, as a formula.
        bind: puts it on a tower. Raises CheckpointError if its head does not fit.
        presets: settings that suit it, by family of weights; it runs on no other.
        options: what can be set, in the order of menus.
        views: intermediate quantities that it can show, in the order of the page.
        head: what its trained head's file looks like; None if it needs none.
        reads: what of a tower it starts from.
        masks: whether it answers with mask proposals: panoptic and instance answers are possible.
        own_frame: whether it was trained at one frame with one prompt and keeps them where methods are
            compared; the others then look at one frame together.
        ticked: whether Compare offers it ticked; not what takes far longer than all others together.
        group: what it is.
        alike: families whose tower was trained through it and the default method, so that both give nearly
            the same labels; Compare offers it unticked there.
        calibrate: what options of the stage "decide" do beside scale and threshold.
    """

    name: str
    title: str
    paper: str
    description: str
    rule: str
    bind: Bind
    presets: Mapping[Family, Preset]
    options: tuple[Option, ...]
    views: tuple[ViewSpec, ...] = ()
    head: HeadFormat | None = None
    reads: Reads = "tokens"
    masks: bool = False
    own_frame: bool = False
    ticked: bool = True
    group: Group = "more"
    alike: frozenset[Family] = frozenset()
    calibrate: Calibrate = field(default=as_it_is)

    @property
    def view_kinds(self) -> frozenset[ViewKind]:
        """Names of the views."""
        return frozenset(view.kind for view in self.views)

    @property
    def cited_views(self) -> tuple[ViewSpec, ...]:
        """The views, each with all of its source."""
        return tuple(replace(view, source=self._whole(view.source)) for view in self.views)

    def _whole(self, source: Source) -> Source:
        arxiv = source.arxiv or self.paper
        return Source(source.shows or self.rule, arxiv, source.title or TITLES.get(arxiv, self.title))

    def option(self, name: str) -> Option | None:
        """The option of this name, if the method has it."""
        return next((option for option in self.options if option.name == name), None)

    def runs_on(self, encoder: EncoderSpec) -> bool:
        """Whether it can run on a tower at all, given all files; a head may be one's own."""
        headed = (
            self.head is None
            or encoder.own_heads
            or published_head(self.head, self.name, encoder) is not None
        )
        return encoder.gives(self.reads) and headed and encoder.family in self.presets

    def preset(self, encoder: EncoderSpec, device: torch.device) -> Preset:
        """Settings that suit it on a tower: published ones where they exist, cheaper ones on a CPU.

        Raises:
            ValueError: if it does not run on the tower.
        """
        preset = self.presets.get(encoder.family)
        if preset is None:
            raise ValueError(f"{self.title} does not run on {encoder.title} ({encoder.name}).")
        if device.type == "cpu" and preset.templates == "imagenet80":
            preset = replace(preset, templates=CPU_TEMPLATES)
        if device.type == "cpu" and encoder.family == "convnext":
            preset = replace(preset, short_side=min(preset.short_side, CPU_SHORT_SIDE))
        return preset
