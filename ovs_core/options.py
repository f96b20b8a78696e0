"""Settings: declared once by whoever reads them, shown, checked and remembered everywhere from that."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, TypeVar

Value = TypeVar("Value")

OptionValue = float | int | bool | str | tuple[str, ...]
Options = Mapping[str, OptionValue]
"""Names of declared options and their values."""


@dataclass(frozen=True)
class Option:
    """One setting, declared once: slider, flag, HTTP argument, JSON field and cache key are made from it.

    Attributes:
        name: in snake case; options of one name mean the same everywhere.
        kind: what values it takes; "words" are a tuple of names.
        default: value where nobody says another; presets may name another one for some weights.
        help: one sentence in plain words.
        title: what a person reads beside it; made from the name if empty.
        low, high: range of a number, ends included; None has no end.
        choices: values of a choice.
        stage: the first step that must run again when it changes.
        slider: (lowest, highest, step) that a slider offers; None offers the whole range.
    """

    name: str
    kind: Literal["number", "integer", "switch", "choice", "words"]
    default: OptionValue
    help: str
    title: str = ""
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()
    stage: Literal["look", "ask", "decide"] = "ask"
    slider: tuple[float, float, float] | None = None

    @property
    def label(self) -> str:
        """What a person reads beside it."""
        return self.title or self.name.replace("_", " ").capitalize()

    def checked(self, value: object) -> OptionValue:
        """A value as this option has it.

        Raises:
            ValueError: for another kind of value, or one out of range; one sentence.
        """
        if self.kind == "switch" and isinstance(value, bool):
            return value
        if self.kind == "choice" and value in self.choices:
            return str(value)
        if (
            self.kind == "words"
            and isinstance(value, list | tuple)
            and all(isinstance(v, str) for v in value)
        ):
            return tuple(value)
        if self.kind in ("number", "integer") and isinstance(value, int | float) and value is not True:
            whole = self.kind == "number" or float(value).is_integer()
            above, below = (-math.inf if self.low is None else self.low), math.inf
            below = below if self.high is None else self.high
            if whole and value is not False and above <= value <= below:
                return int(value) if self.kind == "integer" else float(value)
        raise ValueError(f"{self.name} must be {self._expected()}, got {value!r}")

    def _expected(self) -> str:
        if self.kind == "switch":
            return "true or false"
        if self.kind == "choice":
            return f"one of {', '.join(self.choices)}"
        if self.kind == "words":
            return "a list of names"
        what = "a number" if self.kind == "number" else "a whole number"
        if self.low is not None and self.high is not None:
            return f"{what} in [{self.low:g}, {self.high:g}]"
        return what if self.low is None else f"{what} of {self.low:g} or more"


MULTI_SCALE = (1.0, 0.625, 1.25)
"""Frames of multi-scale inference: about three times the work, fewer mistakes."""


@dataclass(frozen=True)
class Preset:
    """Settings that belong together: a threshold only means something at its scale, both only on their tower.

    Attributes:
        scale: multiplies cosine similarity before the softmax over names.
        threshold: a pixel whose best class is less probable becomes 0 = other, in [0, 1].
        short_side: frame the photo is resized to, shorter side in pixels.
        window: side of square sliding windows in frame pixels; None runs the whole image at once.
        stride: step between windows, in frame pixels; unused without `window`.
        templates: name of the prompt template set (`ovs_core.vocabulary.TEMPLATES`).
        frames: sizes of the frames that are looked at, in units of `short_side`; evidence is the mean over
            them (multi-scale inference), on the finest grid.
    """

    scale: float
    threshold: float
    short_side: int
    window: int | None
    stride: int
    templates: str
    frames: tuple[float, ...] = (1.0,)

    def __post_init__(self) -> None:
        if not self.scale > 0:
            raise ValueError(f"scale must be above 0, got {self.scale}")
        if not 0 <= self.threshold <= 1:
            raise ValueError(f"threshold must lie in [0, 1], got {self.threshold}")
        if self.short_side < 16:
            raise ValueError(f"short_side must be at least 16 pixels, got {self.short_side}")
        if self.window is not None and not 0 < self.stride <= self.window:
            raise ValueError(f"stride must lie in 1..window={self.window}, got {self.stride}")
        if not self.frames or min(self.frames) * self.short_side < 16:
            raise ValueError(f"frames must be of at least 16 pixels, one or more; got {self.frames}")

    @property
    def single_scale(self) -> tuple[Preset, ...]:
        """The same settings for each frame, which is then the only one."""
        sides = (round(self.short_side * size) for size in self.frames)
        return tuple(replace(self, short_side=side, frames=(1.0,)) for side in sides)

    def with_overrides(self, options: Options) -> Preset:
        """The same settings but for those that `options` name; other options are passed over.

        Raises:
            ValueError: for a setting out of range.
        """
        own = {field.name for field in fields(self)} - {"frames"}
        changes: dict[str, Any] = {name: value for name, value in options.items() if name in own}
        if "window" in changes:
            changes["window"] = changes["window"] or None
        if "multi_scale" in options:
            changes["frames"] = MULTI_SCALE if options["multi_scale"] else (1.0,)
        return replace(self, **changes)

    @property
    def options(self) -> Options:
        """These settings as options, by name."""
        values = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "frames"}
        return {**values, "window": self.window or 0, "multi_scale": len(self.frames) > 1}


def lookup(what: str, registry: Mapping[str, Value], name: object) -> Value:
    """Entry `name` of a registry.

    Raises:
        ValueError: if there is none; the sentence lists the known names.
    """
    if not isinstance(name, str) or name not in registry:
        raise ValueError(f"{what} must be one of {', '.join(registry)}; got {name!r}")
    return registry[name]
