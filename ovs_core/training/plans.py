"""Recipes in numbers, plans: read from JSON, and kept beside what they make."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Plan = TypeVar("Plan", bound="DataclassInstance")

FORMER_NAMES = MappingProxyType({"shares": "source_weights", "teacher_share": "teacher_part"})
"""Names of settings in older recipes and head files -> their names today."""


def plan_from_json(plan: Plan, values: Mapping[str, Any]) -> Plan:
    """`plan` with `values` in it, as JSON has them; plans inside it may be in part too.

    Raises:
        ValueError: for a name that the plan does not have.
    """
    values = current_names(values)
    known = [setting.name for setting in dataclasses.fields(plan)]
    unknown = sorted(set(values) - set(known))
    if unknown:
        names = ", ".join(unknown)
        raise ValueError(f"The recipe has unknown settings: {names}; known are {', '.join(known)}.")
    return dataclasses.replace(plan, **{name: _setting(getattr(plan, name), values[name]) for name in values})


def _setting(default: Any, value: Any) -> Any:
    """A setting from JSON: an inner plan keeps its defaults where `value` is silent, lists become tuples."""
    if dataclasses.is_dataclass(default) and not isinstance(default, type):
        return plan_from_json(default, value)
    return tuple(_setting(None, part) for part in value) if isinstance(value, list) else value


def current_names(values: Mapping[str, Any], former: Mapping[str, str] = FORMER_NAMES) -> dict[str, Any]:
    """A recipe as JSON holds it, with every setting under today's name, in its parts too.

    A former name beside today's stays, so that readers call it unknown.
    """

    def today(name: str) -> str:
        return name if former.get(name) in values else former.get(name, name)

    def in_parts(value: Any) -> Any:
        if isinstance(value, list | tuple):
            return [in_parts(part) for part in value]
        return current_names(value, former) if isinstance(value, Mapping) else value

    return {today(name): in_parts(value) for name, value in values.items()}


def keep_recipe(values: Mapping[str, Any], out: Path, former: Mapping[str, str] = FORMER_NAMES) -> None:
    """Write the recipe beside what it makes, once; `former` is as in `current_names`.

    Raises:
        FileExistsError: if `out` holds a run of another recipe.
    """
    out.mkdir(parents=True, exist_ok=True)
    text, path = json.dumps(values, indent=2) + "\n", out / "recipe.json"
    if path.exists():
        try:
            kept = current_names(json.loads(path.read_text(encoding="utf-8")), former)
        except ValueError:
            kept = {}
        if kept != json.loads(text):
            raise FileExistsError(f"{out} holds a run of another recipe; choose another or empty it.")
    path.write_text(text, encoding="utf-8")
