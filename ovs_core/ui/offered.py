"""Which methods go with the chosen image-text model, and why not the others: the same in every tab."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from html import escape
from typing import Any

import gradio as gr

from ovs_core.engine import Engine, MethodInfo
from ovs_core.methods import DEFAULT_METHOD
from ovs_core.ui.places import without_places


def encoder_choices(engine: Engine) -> list[tuple[str, str]]:
    """Give (title, name) of the image-text models that are here; all of them if none is."""
    infos = engine.encoders()
    return [(info.title, info.name) for info in infos if info.available] or [
        (info.title, info.name) for info in infos
    ]


def encoder_update(engine: Engine) -> Any:
    """Offer the models that are here; the field shows only where there is a choice."""
    here = [info for info in engine.encoders() if info.available]
    return gr.update(choices=encoder_choices(engine), visible=len(here) > 1)


def method_infos(engine: Engine, encoder: str) -> tuple[MethodInfo, ...]:
    """Give every method, and whether it can be asked on an encoder, as `Engine.methods`, fit for strangers.

    Raises:
        ValueError: for an unknown name.
    """
    return tuple(
        replace(info, reason=without_places(info.reason, engine.store)) for info in engine.methods(encoder)
    )


def method_choices(infos: Collection[MethodInfo]) -> list[tuple[str, str]]:
    """Give (title, name) of the methods that can be asked."""
    return [(info.title, info.name) for info in infos if info.available]


def chosen_method(infos: Collection[MethodInfo], wanted: str | None) -> str | None:
    """Give the wanted method if it can be asked, else the usual one, else any; None if there is none."""
    names = [name for _, name in method_choices(infos)]
    return next((name for name in (wanted, DEFAULT_METHOD, *names) if name in names), None)


def method_update(infos: Collection[MethodInfo], wanted: str | None) -> Any:
    """Give new choices of methods, the one that was chosen kept if it can be."""
    return gr.update(choices=method_choices(infos), value=chosen_method(infos, wanted))


def unavailable_html(infos: Collection[MethodInfo]) -> str:
    """Say which methods cannot be asked and why, folded away; nothing if all can."""
    missing = [info for info in infos if not info.available]
    if not missing:
        return ""
    reasons = "".join(f"<li><b>{escape(info.title)}</b>: {escape(info.reason)}</li>" for info in missing)
    titles = escape(", ".join(info.title for info in missing))
    return (
        f'<details class="ovs-note"><summary>Not offered here: {titles}. Why?</summary>'
        f"<ul>{reasons}</ul></details>"
    )


def refiner_choices(engine: Engine) -> list[tuple[str, str]]:
    """Title and name of every refiner; those that wait for a file of weights say so."""
    return [
        (
            spec.title
            if not spec.weights or any(map(engine.store.has, spec.weights))
            else f"{spec.title} (needs a file)",
            name,
        )
        for name, spec in engine.refiner_specs.items()
    ]
