"""A report or the settings of a ZIP, read back: question, refinement and edits, to be done again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ovs_core.edit.record import Edit, edits_from_json
from ovs_core.export.report import SCHEMA, SETTINGS_SCHEMA
from ovs_core.options import Options
from ovs_core.types import Vocabulary

MAX_BYTES = 64_000_000
"""Strokes and painted masks of a large photo fit; anything larger is no report."""


@dataclass(frozen=True)
class SavedRequest:
    """What was asked and what was done by hand.

    Attributes:
        vocabulary: as it was asked, better-known words and hidden names included.
        method, encoder, refiner: registry names.
        options: by name.
        edits: in order.
        exemplars: names of the boxes that were asked for besides words; their photos are not in the file.
        excluded: labels of classes that were switched off.
    """

    vocabulary: Vocabulary
    method: str
    encoder: str
    refiner: str
    options: Options
    edits: tuple[Edit, ...]
    exemplars: tuple[str, ...]
    excluded: tuple[int, ...] = ()


def read_saved(path: Path) -> SavedRequest:
    """Read a `<stem>.<method>.json`, or the `settings.json` of a ZIP.

    Raises:
        ValueError: for a file that cannot be read or is none; one sentence.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ValueError(
                f"{path} is larger than {MAX_BYTES // 1_000_000} MB; it is no report of this program."
            )
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"The settings {path} cannot be read: {error.strerror or error}.") from error
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"The settings {path} are no JSON: {error}.") from error
    if not isinstance(content, dict) or content.get("schema") not in (SCHEMA, SETTINGS_SCHEMA):
        raise ValueError(f"{path} is no report of this program ({SCHEMA} or {SETTINGS_SCHEMA}).")
    try:
        return _saved(content)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"The settings {path} are incomplete: {error!r}.") from error


def _saved(content: Mapping[str, Any]) -> SavedRequest:
    """The request in a report; raises what missing and strange fields raise."""
    words = content["vocabulary"]
    classes = tuple(tuple(map(_text, names)) for names in words["classes"])
    asked = tuple(tuple(map(_text, names)) for names in words.get("asked", words["classes"]))
    vocabulary = Vocabulary(
        classes,
        tuple(map(_text, words["other"])),
        queries=() if asked == classes else asked,
        ids=tuple(map(_integer, words.get("ids", ()))),
        literal=frozenset(map(_text, words.get("literal", ()))),
        guards=frozenset(map(_text, words.get("guards", ()))),
    )
    options = {
        _text(name): tuple(value) if isinstance(value, list) else value
        for name, value in content["options"].items()
    }
    return SavedRequest(
        vocabulary,
        _text(content["method"]),
        _text(content["encoder"]),
        _text(content["refine"]),
        options,
        edits_from_json(content.get("edits", [])),
        tuple(_text(box["name"]) for box in content.get("exemplars", ())),
        tuple(map(_integer, content.get("excluded", ()))),
    )


def _integer(value: Any) -> int:
    if not isinstance(value, int):
        raise TypeError(f"{value!r:.40} is no whole number")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r:.40} is no text")
    return value
