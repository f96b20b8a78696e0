"""The words of an answer as chips: where each scores, and who has its area once it is switched off.

Score maps come once with the answer: no setting changes them, and pointing at a word asks the server nothing
(`answer_words.js`). They have at most `_MAP_BYTES` bytes before base64, whatever the photo and the words.
"""

from __future__ import annotations

import base64
import json
import math
import secrets
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np

from ovs_core.engine import Engine, Result
from ovs_core.evidence.heirs import heirs
from ovs_core.render.heatmap import scale_bar
from ovs_core.render.legend import percent
from ovs_core.types import ClassSummary
from ovs_core.ui.words import shown_name, swatch

_MAP_BYTES = 300_000
_LONGEST_MAP = 128  # places along the longer side
_MOST_HEIRS = 3  # that are named
_SCRIPT = Path(__file__).with_name("answer_words.js")
_HINT = (
    "Point at a word or tap it to see where it scores; click it, or tap it again, to switch it off "
    "and see who has its area. No model runs."
)


@dataclass(frozen=True)
class WordFields:
    """Chips, and the numbers behind their maps."""

    chips: gr.HTML
    maps: gr.HTML


def word_fields() -> WordFields:
    """Lay out empty fields."""
    chips = gr.HTML("", elem_id="answer-words", padding=False, js_on_load=_SCRIPT.read_text(encoding="utf-8"))
    return WordFields(chips, gr.HTML("", elem_id="word-maps", padding=False))


def words_html(engine: Engine, result: Result, *, shares: bool = True) -> str:
    """The chips of an answer's words as it is shown, and who inherited what.

    Args:
        engine: labels the answer with all its words, where some are switched off.
        result: the answer.
        shares: say how much of the photo each has; not beside a picture that shows something else.
    """
    off = result.evidence.excluded
    typed = [entry for entry in result.classes if 0 < entry.label <= len(result.vocabulary.classes)]
    drawn = [entry.label for entry in result.classes if entry.label and entry.area_share > 0]
    chips = "".join(_chip(entry, entry.label not in off, drawn, shares) for entry in typed)
    lines = "".join(f"<p>{escape(line)}</p>" for line in _inherited(engine, result, typed))
    return (
        f'<div class="ovs-words" role="group" aria-label="Words of this answer">{chips}</div>'
        f'<p class="ovs-note said">{_HINT}</p><div class="heirs" role="status">{lines}</div>'
    )


def maps_html(result: Result) -> str:
    """The scores of every word over the photo, for the script; all words on one scale."""
    count = len(result.vocabulary.classes)
    height, width = result.evidence.image_size
    shrink = min(_LONGEST_MAP / max(height, width), math.sqrt(_MAP_BYTES / (count * height * width)))
    grid = max(1, int(height * shrink)), max(1, int(width * shrink))
    scores = result.evidence.score_maps(grid)[:count].float().cpu().numpy()
    low, high = float(scores.min()), float(scores.max())
    steps = np.rint((scores - low) * (255 / (high - low) if high > low else 0.0)).astype(np.uint8)
    sent = {
        "grid": grid,
        "maps": _packed(steps.tobytes()),
        "range": (low, high),
        "colors": _packed(scale_bar(256, 1).tobytes()),
    }
    return f'<div class="data" data-key="{secrets.token_hex(4)}" hidden>{escape(json.dumps(sent))}</div>'


def switched(event: gr.EventData, off: frozenset[int]) -> frozenset[int] | None:
    """Labels of the words that are off after a click on a chip; None for anything that is no such click."""
    data: Any = event._data if isinstance(event._data, dict) else {}
    label, on = data.get("label"), data.get("on")
    if not isinstance(label, int) or not isinstance(on, bool):
        return None
    return off - {label} if on else off | {label}


def _chip(entry: ClassSummary, on: bool, drawn: list[int], shares: bool) -> str:
    place = f' data-mask="{drawn.index(entry.label)}"' if shares and entry.label in drawn else ""
    share = f' <span class="share">{percent(entry.area_share)}</span>' if shares and on else ""
    return (
        f'<button type="button" aria-pressed="{str(on).lower()}" data-label="{entry.label}"{place}>'
        f'{swatch(entry.color)}<span class="word">{escape(entry.names[0])}</span>{share}</button>'
    )


def _inherited(engine: Engine, result: Result, typed: list[ClassSummary]) -> list[str]:
    """One line for each word that is off: "trees → grass 62 %, other 38 %"."""
    off = result.evidence.excluded
    if not off:
        return []
    before = engine.relabel(result, without=()).labels
    names = {entry.label: shown_name(entry) for entry in result.classes}
    lines = []
    for entry in typed:
        if entry.label not in off:
            continue
        inheritors = heirs(before, result.labels, entry.label)
        parts = [
            f"{names.get(heir.label, 'other')} {percent(heir.share)}" for heir in inheritors[:_MOST_HEIRS]
        ]
        if rest := sum(heir.share for heir in inheritors[_MOST_HEIRS:]):
            parts.append(f"further words {percent(rest)}")
        lines.append(f"{entry.names[0]} → {', '.join(parts) or 'had no area'}")
    return lines


def _packed(values: bytes) -> str:
    return base64.b64encode(values).decode("ascii")
