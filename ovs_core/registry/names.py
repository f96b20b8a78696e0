"""Looking a name up in a registry."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

Value = TypeVar("Value")


def lookup(what: str, registry: Mapping[str, Value], name: str) -> Value:
    """Entry `name` of a registry.

    Raises:
        ValueError: if there is none; the sentence lists the known names.
    """
    if name not in registry:
        raise ValueError(f"{what} must be one of {', '.join(registry)}; got {name!r}")
    return registry[name]
