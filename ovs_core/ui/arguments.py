"""Arguments of an HTTP request as they were sent: each of its kind, or one sentence that says what to send.

Gradio's fields would turn a list into its printed form, and end at a word in place of a number in an error
that says nothing to the visitor.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, TypeVar

from gradio.components import Component

F = TypeVar("F", bound=Component)
LONGEST_SHOWN = 60  # letters of a wrong value that the sentence repeats


def as_sent(field: F) -> F:
    """Let a field hand over what the request holds, untouched, so that one reader judges it."""
    field.preprocess = _untouched  # type: ignore[method-assign]
    return field


def _untouched(payload: Any) -> Any:
    return payload


def text(name: str, value: object, default: str = "") -> str:
    """A piece of text; None stands for the default.

    Raises:
        ValueError: for anything else.
    """
    if value is None:
        return default
    if not isinstance(value, str):
        raise _wrong(name, "text", value)
    return value


def names(name: str, value: object) -> list[str]:
    """A list of names; None stands for none.

    Raises:
        ValueError: for anything else.
    """
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(entry, str) for entry in value):
        raise _wrong(name, "a list of names", value)
    return value


def number(name: str, value: object) -> float | None:
    """A number that is not infinite; None where there is none.

    Raises:
        ValueError: for anything else.
    """
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not _is_finite(value):
        raise _wrong(name, "a number", value)
    return float(value)


def whole_number(name: str, value: object, default: int) -> int:
    """A whole number; None stands for the default.

    Raises:
        ValueError: for anything else.
    """
    given = number(name, value)
    if given is None:
        return default
    if not given.is_integer():
        raise _wrong(name, "a whole number", value)
    return int(given)


def switch(name: str, value: object) -> bool:
    """True or false; None stands for false.

    Raises:
        ValueError: for anything else.
    """
    if value is not None and not isinstance(value, bool):
        raise _wrong(name, "true or false", value)
    return bool(value)


def by_name(name: str, value: object) -> Mapping[str, Any]:
    """Values by their names; None stands for none.

    Raises:
        ValueError: for anything else.
    """
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise _wrong(name, "an object of values by name", value)
    return value


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number of hundreds of digits
        return False


def _wrong(name: str, expected: str, value: object) -> ValueError:
    shown = repr(value) if isinstance(value, (str, int, float, list, dict)) else "something else"
    if len(shown) > LONGEST_SHOWN:
        shown = f"{shown[:LONGEST_SHOWN]}..."
    return ValueError(f"{name} must be {expected}, got {shown}")
