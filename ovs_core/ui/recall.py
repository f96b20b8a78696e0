"""What a visit finds again: words, method and options, from this browser or from the page's address."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import gradio as gr

from ovs_core.engine import Engine
from ovs_core.options import Option
from ovs_core.ui.inputs import InputPanel, Opening
from ovs_core.ui.offered import encoder_choices, method_infos

_MOST_LETTERS = 1_000_000  # of one text; nobody typed more
_LINKED = ("classes", "method", "encoder", "refine", "background")


def connect_recall(
    engine: Engine, page: gr.Blocks, inputs: InputPanel, method: gr.Dropdown, opening: Opening
) -> None:
    """Keep what is typed and chosen in the browser, find it again, and let a button copy it as a link."""
    options = zip(inputs.options.options, inputs.options.components, strict=True)
    fields: dict[str, Any] = {
        "classes": inputs.classes,
        "method": method,
        "encoder": inputs.encoder,
        "refine": inputs.refiner,
        "background": inputs.background,
        **{f"option {option.name}": component for option, component in options},
    }
    names, components = json.dumps(list(fields)), list(fields.values())
    stored = gr.JSON(visible=False)
    opened = {name: text for name, text in (("classes", opening.classes), ("method", opening.method)) if text}

    def recall(sent: Any) -> list[Any]:
        kept, address = (_as_fields(sent, part) for part in ("kept", "address"))
        wanted = {**kept, **opened, **{name: address[name] for name in _LINKED if name in address}}
        values = fitting(engine, wanted, inputs.options.options)
        return [gr.update(value=values[name]) if name in values else gr.skip() for name in fields]

    quiet: dict[str, Any] = {"show_progress": "hidden", "queue": False, "api_visibility": "private"}
    page.load(recall, [stored], components, js="() => ovs.recall()", **quiet).then(
        None, None, None, js="() => ovs.remember()"
    )
    keep = f"(...values) => ovs.keep({names}, ...values)"
    gr.on([component.change for component in components], None, components, None, js=keep)
    linked = [fields[name] for name in _LINKED]
    usual = json.dumps([None, None, *(component.value for component in linked[2:])])
    with inputs.more:
        gr.Button("Copy a link to these words and choices", size="sm", elem_id="permalink").click(
            None, linked, None, js=f"(...values) => ovs.link({json.dumps(_LINKED)}, {usual}, ...values)"
        )


def fitting(engine: Engine, wanted: Mapping[str, Any], options: tuple[Option, ...]) -> dict[str, Any]:
    """Those of the wanted values that fit the page: names may have gone, and anybody can write an address."""
    values = {
        name: wanted[name]
        for name in ("classes", "background")
        if isinstance(wanted.get(name), str) and len(wanted[name]) <= _MOST_LETTERS
    }
    models = [name for _, name in encoder_choices(engine)]
    values["encoder"] = wanted["encoder"] if wanted.get("encoder") in models else models[0]
    usable = [info.name for info in method_infos(engine, values["encoder"]) if info.available]
    for name, known in (("method", usable), ("refine", engine.refiner_specs)):
        if wanted.get(name) in known:
            values[name] = wanted[name]
    for option in options:
        value = wanted.get(f"option {option.name}")
        plain = bool if option.kind == "switch" else str
        if isinstance(value, plain) and (option.kind != "choice" or value in option.choices):
            values[f"option {option.name}"] = value
    return values


def _as_fields(sent: Any, part: str) -> dict[str, Any]:
    """One part of what the browser sent; nothing where it is of another form."""
    inside = sent.get(part) if isinstance(sent, dict) else None
    return inside if isinstance(inside, dict) else {}
