"""The recipe of the embedded model in numbers; `checkpoints/mini/recipe.json` holds the shipped one."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, TypeVar

from ovs_core.training import plans
from ovs_core.training.plans import current_names

Plan = TypeVar("Plan", "MiniPlan", "Member", "ImagePlan")

FORMER_NAMES = MappingProxyType(
    {
        **plans.FORMER_NAMES,
        **{f"{what}_share": f"{what}_chance" for what in ("rare", "paste", "thing")},
        **{f"{stage}_share": f"{stage}_part" for stage in ("detect", "materials")},
    }
)

PLAIN_SOURCES = (("coco", 0.5), ("mosaic", 0.3), ("camvid", 0.1), ("pets", 0.1))
REFINE_SOURCES = (("coco", 0.45), ("things", 0.25), ("mosaic", 0.12), ("camvid", 0.08), ("pets", 0.1))
DETECT_SOURCES = (("coco", 0.5), ("mosaic", 0.25), ("camvid", 0.1), ("pets", 0.15))
MATERIAL_SOURCES = (
    *(("coco", 0.34), ("coco128", 0.08), ("nyu", 0.17), ("msrc", 0.08), ("voc", 0.08), ("camvid", 0.04)),
    *(("labelme_facade", 0.03), ("facade", 0.02), ("furniture", 0.04), ("clothing", 0.03), ("pets", 0.03)),
    ("mosaic", 0.06),
)


@dataclass(frozen=True)
class ImagePlan:
    """Settings of the image recipe.

    Attributes:
        side: training crop, pixels.
        short_side: range of the photo's shorter side before cropping, pixels.
        batch: pictures a step.
        source_weights: how often each source is drawn, relative to the others.
        rate: peak learning rate of the transformer and the stem's last layers.
        rare_chance: part of the COCO samples that are drawn class first, photo second.
        paste_chance: part of the COCO samples into which a thing from another photo is pasted.
        thing_chance: part of the samples with drawn masks into which things of one-object photos are pasted.
        belief_weight: of the VOC network's belief, against the labels.
        trunk_rate: peak learning rate of the stem's trunks and heads; 0 keeps them as they are.
        whole_every: of the steps with a `trunk_rate`, how many it takes until the trunks' first blocks, whose
            large maps cost most of the backward pass, learn once.
        half_trunks: whether trunks that learn are computed in bfloat16 too, as those that do not always are.
    """

    side: int = 384
    short_side: tuple[int, int] = (320, 720)
    batch: int = 8
    source_weights: tuple[tuple[str, float], ...] = PLAIN_SOURCES
    rate: float = 4e-4
    trunk_rate: float = 0.0
    whole_every: int = 1
    rare_chance: float = 0.6
    paste_chance: float = 0.0
    thing_chance: float = 0.0
    belief_weight: float = 0.0
    half_trunks: bool = False

    @property
    def needs_things(self) -> bool:
        """Whether photos of one thing are wanted with its place."""
        return self.thing_chance > 0 or any(name == "things" for name, _ in self.source_weights)


@dataclass(frozen=True)
class Member:
    """One way to train the image tower on the text tower.

    Attributes:
        image, image_steps: on frozen trunks.
        tune, tune_steps: with the trunks.
        seed: of everything that is drawn; members with equal settings need different ones.
    """

    image: ImagePlan = field(default_factory=lambda: ImagePlan(rate=6e-4))
    image_steps: int = 1100
    tune: ImagePlan = field(
        default_factory=lambda: ImagePlan(rate=1.5e-4, trunk_rate=5e-5, whole_every=4, rare_chance=0.0)
    )
    tune_steps: int = 300
    seed: int = 0


def _short_member() -> Member:
    """Fewer steps on photos with things pasted in: worse alone, and wrong in other places."""
    tune = ImagePlan(rate=1e-4, trunk_rate=5e-5, whole_every=8, rare_chance=0.3, paste_chance=0.3)
    return Member(ImagePlan(rate=4e-4, whole_every=8, paste_chance=0.3), 500, tune, 48)


@dataclass(frozen=True)
class MiniPlan:
    """The recipe in numbers; `checkpoints/mini/recipe.json` holds the shipped one.

    Attributes:
        text_steps, text_batch: steps of the text tower, and its prompts a step (fewer where names repeat).
        members: image towers trained from the same start, each in its own way.
        refine, refine_steps, refine_seeds: the mean of the members' weights (model soup, arXiv 2203.05482) is
            trained on, once for each seed; what goes on is the mean of that start and of what each seed made
            of it (as in WiSE-FT, arXiv 2109.01903).
        detect, detect_steps: then the detector joins the stem and all is trained on; 0 steps leave it out.
        detect_part: part of the trained weights in what ships, in [0, 1]; the rest is what it started from.
        materials, materials_steps, materials_part: then the segmenter of materials joins, and all is
            trained on with every labelled set; 0 steps leave it out.
        hold_out: names that no photo may teach: their pixels do not count, photos of them alone are left out.
        seed: of the text tower, and of what all members start from.
    """

    text_steps: int = 1600
    text_batch: int = 640
    members: tuple[Member, ...] = field(default_factory=lambda: (_short_member(), Member()))
    refine: ImagePlan = field(
        default_factory=lambda: ImagePlan(
            source_weights=REFINE_SOURCES,
            rate=1e-4,
            trunk_rate=5e-5,
            whole_every=8,
            thing_chance=0.5,
            belief_weight=0.3,
            half_trunks=True,
        )
    )
    refine_steps: int = 600
    refine_seeds: tuple[int, ...] = (10,)
    detect: ImagePlan = field(
        default_factory=lambda: ImagePlan(
            source_weights=DETECT_SOURCES,
            rate=1.5e-4,
            trunk_rate=3e-5,
            whole_every=32,
            paste_chance=0.3,
            belief_weight=0.3,
            half_trunks=True,
        )
    )
    detect_steps: int = 640
    detect_part: float = 0.7
    materials: ImagePlan = field(
        default_factory=lambda: ImagePlan(
            source_weights=MATERIAL_SOURCES,
            rate=1.2e-4,
            trunk_rate=3e-5,
            whole_every=32,
            paste_chance=0.3,
            belief_weight=0.2,
            half_trunks=True,
        )
    )
    materials_steps: int = 640
    materials_part: float = 1.0
    hold_out: tuple[str, ...] = ()
    seed: int = 0


def plan_from_json(values: Mapping[str, Any]) -> MiniPlan:
    """Read a recipe as `train_mini` writes it; what is left out keeps its default, in its parts too.

    Raises:
        ValueError: for a name that no recipe has, or for no member.
    """
    values = current_names(values, FORMER_NAMES)
    for several in ("hold_out", "refine_seeds"):
        if several in values:
            values[several] = tuple(values[several])
    for stage in ("refine", "detect", "materials"):
        if stage in values:
            values[stage] = _image_plan(getattr(MiniPlan(), stage), values[stage])
    if "members" in values:
        values["members"] = tuple(_member(member) for member in values["members"])
        if not values["members"]:
            raise ValueError("members must hold at least one way to train the image tower, got none")
    return _replaced(MiniPlan(), values)


def _member(values: Mapping[str, Any]) -> Member:
    """A member whose parts keep the defaults of those parts."""
    default, values = Member(), dict(values)
    for part in ("image", "tune"):
        if part in values:
            values[part] = _image_plan(getattr(default, part), values[part])
    return _replaced(default, values)


def _image_plan(default: ImagePlan, values: Mapping[str, Any]) -> ImagePlan:
    """`default` with `values` in it; JSON's lists become tuples."""
    values = dict(values)
    if "source_weights" in values:
        values["source_weights"] = tuple((name, float(weight)) for name, weight in values["source_weights"])
    if "short_side" in values:
        values["short_side"] = tuple(values["short_side"])
    return _replaced(default, values)


def _replaced(plan: Plan, values: Mapping[str, Any]) -> Plan:
    known = [setting.name for setting in dataclasses.fields(plan)]
    unknown = sorted(set(values) - set(known))
    if unknown:
        names = ", ".join(unknown)
        raise ValueError(f"The recipe has unknown settings: {names}; known are {', '.join(known)}.")
    return dataclasses.replace(plan, **values)
