"""Fields for declared options: one for each, made from its declaration, shared by all tabs."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from ovs_core.engine import Engine
from ovs_core.options import Option, Options, OptionValue

OWN = "The method's own"
_OFTEN_WANTED = frozenset({"multi_scale"})


@dataclass(frozen=True)
class OptionFields:
    """Fields by name of their option; a field left as it is leaves the method its own value."""

    options: tuple[Option, ...]
    components: tuple[Any, ...]

    def read(self, values: Sequence[Any]) -> Options:
        """What was chosen, by name; fields left empty are not in it.

        Raises:
            ValueError: for a value out of range; one sentence.
        """
        chosen: dict[str, OptionValue] = {}
        for option, value in zip(self.options, values, strict=True):
            if option.kind == "words" and isinstance(value, str):
                value = [name.strip() for name in value.split(";") if name.strip()]
            if option.kind in ("number", "integer") and isinstance(value, str):
                value = _number(option, value.strip())
            if value in (None, "", [], OWN) or (option.kind == "switch" and value is False):
                continue
            chosen[option.name] = option.checked(value)
        return chosen


def distinct_options(engine: Engine, *, quick: bool) -> tuple[Option, ...]:
    """Every option once: of the stage "decide", whose answers need no model (`quick`), or the others."""
    options: dict[str, Option] = {}
    for specs in (engine.method_specs, engine.encoder_specs, engine.refiner_specs):
        for spec in specs.values():
            for option in spec.options:
                if (option.stage == "decide") == quick:
                    options.setdefault(option.name, option)
    return tuple(options.values())


def option_fields(engine: Engine) -> OptionFields:
    """Lay out a field for every option that needs a model; rarely wanted ones are folded away."""
    options = distinct_options(engine, quick=False)
    often = [option for option in options if option.name in _OFTEN_WANTED]
    rare = [option for option in options if option.name not in _OFTEN_WANTED]
    fields = {option.name: _field(option, _owners(engine, option)) for option in often}
    with gr.Accordion("Options of single methods", open=False, elem_id="method-options"):
        fields |= {option.name: _field(option, _owners(engine, option)) for option in rare}
    return OptionFields((*often, *rare), tuple(fields.values()))


def _owners(engine: Engine, option: Option) -> str:
    """Who has an option, where few do."""
    titles = []
    for specs in (engine.method_specs, engine.encoder_specs, engine.refiner_specs):
        for spec in specs.values():
            if any(own.name == option.name for own in spec.options):
                titles.append(spec.title)
    return f" ({', '.join(titles)})" if len(titles) <= 2 else ""


def _field(option: Option, owners: str) -> Any:
    """The field of one option."""
    about: dict[str, Any] = {
        "label": option.label + owners,
        "info": option.help,
        "elem_id": f"option-{option.name.replace('_', '-')}",
    }
    if option.kind == "switch":
        return gr.Checkbox(value=bool(option.default), **about)
    if option.kind == "choice":
        return gr.Dropdown([OWN, *option.choices], value=OWN, **about)
    if option.kind == "words":
        return gr.Textbox("", placeholder="a; b", **about)
    # Not gr.Number: an empty one that lies in a folded part of the page becomes 0 when that is opened.
    return gr.Textbox("", placeholder="the method's own", max_lines=1, **about)


def _number(option: Option, text: str) -> float | int | str:
    """A number as typed, or "" for an empty field.

    Raises:
        ValueError: for anything else; one sentence.
    """
    if not text:
        return ""
    try:
        return int(text)
    except ValueError:
        pass
    try:
        return float(text.replace(",", "."))
    except ValueError:
        raise ValueError(f"{option.name} must be a number, got {text!r}") from None


def quick_sliders(engine: Engine, method: str, encoder: str) -> dict[str, gr.Slider]:
    """Lay out a slider for every option that answers at once, by name."""
    sliders = {}
    for option in distinct_options(engine, quick=True):
        low, high, step = slider_range(option)
        default = option.default if isinstance(option.default, int | float) else low
        sliders[option.name] = gr.Slider(
            low, high, default, step=step, label=option.label, info=option.help, elem_id=option.name
        )
    for name, update in slider_values(engine, method, encoder).items():
        for key, value in update.items():
            setattr(sliders[name], key, value)
    return sliders


def slider_values(engine: Engine, method: str | None, encoder: str) -> Mapping[str, Mapping[str, Any]]:
    """What each slider shows for a method on an encoder; nothing where there is no method."""
    if method is None:
        return {}
    own = {option.name: option for option in engine.options(method, encoder)}
    values: dict[str, dict[str, Any]] = {}
    for option in distinct_options(engine, quick=True):
        mine = own.get(option.name)
        values[option.name] = {"visible": mine is not None}
        if mine is not None:
            low, high, step = slider_range(mine)
            values[option.name] |= {"minimum": low, "maximum": high, "step": step, "value": mine.default}
    return values


def slider_range(option: Option) -> tuple[float, float, float]:
    """Lowest and highest value that a slider offers, and its step."""
    if option.slider is not None:
        return option.slider
    low = 0.0 if option.low is None else option.low
    high = low + 1 if option.high is None else option.high
    return low, high, 1 if option.kind == "integer" else (high - low) / 100


def declared_only(engine: Engine, method: str, encoder: str, refiner: str, options: Options) -> Options:
    """Of shared fields' values those that a method, its encoder or the refiner declares.

    Raises:
        ValueError: for an unknown name.
    """
    known: Collection[str] = {option.name for option in engine.options(method, encoder, refiner)}
    return {name: value for name, value in options.items() if name in known}


def quick_options(
    engine: Engine, method: str, encoder: str, sliders: Mapping[str, Any], values: Sequence[Any]
) -> Options:
    """What stands in the sliders, of the options that a method declares.

    Raises:
        ValueError: for a value out of range, or an unknown name; one sentence.
    """
    own = {option.name: option for option in engine.options(method, encoder)}
    return {
        name: own[name].checked(value)
        for name, value in zip(sliders, values, strict=True)
        if name in own and value is not None
    }
