"""A picture that is drawn on, by mouse, pen or finger: places, boxes and strokes, in pixels of the photo."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from urllib.parse import quote

import gradio as gr

from ovs_core.ui.view_html import FILE_ROUTE
from ovs_core.vocabulary.boxes import Box

PLACE, BOX, STROKE = "place", "box", "stroke"
MOST_POINTS = 10_000  # of one gesture
LAST = 1e-3  # pixels by which a place at the far edge of a photo lies inside
_SCRIPT = Path(__file__).with_name("surface.js")
_NOTHING_DRAWN = "Nothing was drawn; try again."


@dataclass(frozen=True)
class Drawn:
    """What a person drew.

    Attributes:
        tool: `PLACE`, `BOX` (two opposite corners) or `STROKE`.
        points: (x, y) of each place, in [0, 1] of the picture.
    """

    tool: str
    points: tuple[tuple[float, float], ...]

    def places(self, photo_size: tuple[int, int]) -> tuple[tuple[float, float], ...]:
        """The points in pixels of a photo of (H, W), all inside it."""
        height, width = photo_size
        return tuple((min(x * width, width - LAST), min(y * height, height - LAST)) for x, y in self.points)

    def box(self, photo_size: tuple[int, int]) -> Box:
        """The box between the first and the last point, at whole pixels of a photo of (H, W)."""
        height, width = photo_size
        (x0, y0), (x1, y1) = self.points[0], self.points[-1]
        across, down = (
            sorted((round(x0 * width), round(x1 * width))),
            sorted((round(y0 * height), round(y1 * height))),
        )
        return float(across[0]), float(down[0]), float(across[1]), float(down[1])


@dataclass(frozen=True)
class Mark:
    """Something drawn that stays on the picture.

    Attributes:
        kind: "find", "avoid" (boxes), "plus" or "minus" (places).
        at: (x, y) of a place or (left, top, right, bottom) of a box, in pixels of the photo.
        text: beside a box.
    """

    kind: str
    at: Sequence[float]
    text: str = ""


def drawing_surface(elem_id: str) -> gr.HTML:
    """Lay out an empty surface; `select` tells what was drawn, `surface_html` makes its values."""
    return gr.HTML(
        "",
        elem_id=elem_id,
        padding=False,
        js_on_load=_SCRIPT.read_text(encoding="utf-8"),
    )


def surface_html(
    picture: str,
    photo_size: tuple[int, int],
    alt: str,
    tool: str,
    marks: Sequence[Mark] = (),
    radius: float = 1,
) -> str:
    """The value of a surface.

    Args:
        picture: path of a file of the app's own cache that shows the photo.
        photo_size: (H, W) of the photo itself.
        alt: what it shows, for who cannot see it.
        tool: what is drawn, unless an element around the picture has a `data-tool` of its own.
        marks: what stays on it.
        radius: of strokes, in pixels of the photo; `data-radius` likewise.
    """
    height, width = photo_size
    view = f'viewBox="0 0 {width} {height}" preserveAspectRatio="none" aria-hidden="true"'
    unit = max(width, height) / 100
    return (
        f'<div class="ovs-surface" data-tool="{tool}" data-radius="{radius:g}">'
        f'<img src="{FILE_ROUTE}{quote(picture)}" alt="{escape(alt)}" draggable="false">'
        f'<svg class="marks" {view}>{"".join(_mark_svg(mark, unit) for mark in marks)}</svg>'
        f'<svg class="live" {view}></svg></div>'
    )


def drawn(event: gr.EventData) -> Drawn:
    """Read what a browser says was drawn.

    Raises:
        ValueError: for anything but places on the picture; one sentence.
    """
    data = event._data if isinstance(event._data, dict) else {}
    points, tool = data.get("points"), data.get("tool")
    if tool not in (PLACE, BOX, STROKE) or not isinstance(points, list) or not points:
        raise ValueError(_NOTHING_DRAWN)
    if len(points) > MOST_POINTS:
        raise ValueError(f"A stroke has up to {MOST_POINTS:,} places; this one has {len(points):,}.")
    if not all(isinstance(point, list) and len(point) == 2 and all(map(_is_part, point)) for point in points):
        raise ValueError(_NOTHING_DRAWN)
    return Drawn(tool, tuple((float(x), float(y)) for x, y in points))


def _is_part(value: object) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value) and 0 <= value <= 1


def _mark_svg(mark: Mark, unit: float) -> str:
    """A mark as SVG in pixels of the photo; `unit` is a hundredth of its longer side."""
    if mark.kind in ("plus", "minus"):
        x, y = mark.at
        arm = 0.7 * unit
        upright = f"M{x:g} {y - arm:g}V{y + arm:g}" if mark.kind == "plus" else ""
        return (
            f'<g class="{mark.kind}"><circle cx="{x:g}" cy="{y:g}" r="{1.4 * unit:g}"/>'
            f'<path d="M{x - arm:g} {y:g}H{x + arm:g}{upright}"/></g>'
        )
    left, top, right, bottom = mark.at
    below = top + 3.4 * unit
    return (
        f'<g class="{mark.kind}"><rect x="{left:g}" y="{top:g}" width="{right - left:g}" '
        f'height="{bottom - top:g}"/><text x="{left + unit:g}" y="{below:g}" '
        f'font-size="{3 * unit:g}">{escape(mark.text)}</text></g>'
    )
