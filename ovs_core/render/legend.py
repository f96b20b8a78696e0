"""The legend, always outside the picture: one chip per class, with its name and its share of the photo."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from ovs_core.render.lettering import (
    FAINT,
    INK,
    MUTED,
    PAPER,
    font_for,
    latin,
    one_line,
    picture_name,
    shorten,
    wrap,
    write,
)
from ovs_core.render.overlay import OPACITY, paint
from ovs_core.render.palette import text_color
from ovs_core.types import ClassSummary, Labelled

_LEAST_WIDTH = 320  # pixels: a legend narrower than this cannot be read, so a smaller photo gets a margin
_ENTRIES = 40  # above this the smallest classes are summed up in one line
_NUMBERED = "Numbered classes: no font on this machine has the letters of their names."

Label = TypeVar("Label", bound=np.integer)


@dataclass(frozen=True)
class _Entry:
    """One chip: what is written in it, what beside it, and its colour; None is an outlined, empty chip."""

    name: str
    share: str
    color: tuple[int, int, int] | None


def legend(classes: Sequence[ClassSummary], width: int) -> NDArray[np.uint8]:
    """Legend strip (height, width, 3) for these classes, wrapped into as many rows as it takes.

    Classes that won no pixel get an empty chip. Of more than 40 classes the largest are drawn, the rest are
    summed up. A class whose name no font of this machine can write is named by its number, and a note says
    so once.

    Args:
        classes: in the order to be drawn, normally `Result.classes`.
        width: of the strip in pixels, at least 1.
    """
    size = max(13, min(28, round(width / 52)))
    gap, row = round(size * 0.8), round(size * 2.1)
    room = max(width - 2 * gap, 1)
    draw = partial(_draw_entry, size=size, most=room)
    probe = ImageDraw.Draw(Image.new("RGB", (1, 1)))
    places: list[tuple[int, int]] = []
    x, y = 0, 0
    entries, numbered = _entries(classes)
    for entry in entries:
        wide = draw(probe, entry, 0, 0)
        if x and x + wide > room:
            x, y = 0, y + row
        places.append((x, y))
        x += wide + round(size * 1.3)
    small = latin(round(size * 0.85))
    note = wrap(_NUMBERED, small, room) if numbered else []
    below = y + row + gap
    strip = Image.new("RGB", (width, below + len(note) * round(size * 1.2) + (gap if note else 0)), PAPER)
    pen = ImageDraw.Draw(strip)
    for entry, (x, y) in zip(entries, places, strict=True):
        draw(pen, entry, gap + x, round(gap * 0.75) + y)
    for number, line in enumerate(note):
        write(pen, (gap, below + round(size * (0.6 + 1.2 * number))), line, small, MUTED)
    return np.asarray(strip)


def figure(
    result: Labelled, max_side: int | None = None, opacity: float = OPACITY, outline: bool = True
) -> NDArray[np.uint8]:
    """Overlay with the legend below it as one picture, (H', W', 3).

    Args:
        result: what to draw.
        max_side: a photo whose longer side has more pixels is drawn at this size; None keeps its own.
        opacity: see `paint`.
        outline: see `paint`.
    """
    image, labels = shrunk(result.image, result.labels, max_side)
    return with_legend(paint(image, labels, result.label_map.color_table, opacity, outline), result.classes)


def shrunk(
    image: NDArray[np.uint8], labels: NDArray[Label], max_side: int | None
) -> tuple[NDArray[np.uint8], NDArray[Label]]:
    """Photo (H, W, 3) and labels (H, W) with a longer side of at most `max_side` pixels; None keeps them."""
    longest = max(labels.shape)
    if max_side is None or longest <= max_side:
        return image, labels
    height, width = (max(1, round(side * max_side / longest)) for side in labels.shape)
    image = np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.LANCZOS))
    rows = ((np.arange(height) + 0.5) * labels.shape[0] / height).astype(int)
    columns = ((np.arange(width) + 0.5) * labels.shape[1] / width).astype(int)
    return image, labels[np.ix_(rows, columns)]


def with_legend(picture: NDArray[np.uint8], classes: Sequence[ClassSummary]) -> NDArray[np.uint8]:
    """A picture (H, W, 3) with the legend of these classes below it; a small one stands on white paper."""
    height, width = picture.shape[:2]
    strip = legend(classes, max(width, _LEAST_WIDTH))
    page = np.full((height + strip.shape[0], strip.shape[1], 3), 255, np.uint8)
    left = (strip.shape[1] - width) // 2
    page[:height, left : left + width] = picture
    page[height:] = strip
    return page


def percent(share: float) -> str:
    """An area share in [0, 1] as a person reads it: "0 %", "< 0.1 %", "4.2 %", "37 %"."""
    if share <= 0:
        return "0 %"
    if share < 0.001:
        return "< 0.1 %"
    return f"{share:.1%}".replace("%", " %") if share < 0.1 else f"{share:.0%}".replace("%", " %")


def _entries(classes: Sequence[ClassSummary]) -> tuple[list[_Entry], bool]:
    """What to draw, and whether a number stands for a name that cannot be written.

    Every class, or of very many the largest ones and a sum of the others.
    """
    ranked = sorted(range(len(classes)), key=lambda index: -classes[index].area_share)
    kept = [classes[index] for index in sorted(ranked[:_ENTRIES])]
    typed = [summary.names[0] if summary.label else "other" for summary in kept]
    drawn = [picture_name(name, summary.label) for name, summary in zip(typed, kept, strict=True)]
    entries = [
        _Entry(name, percent(summary.area_share), summary.color if summary.area_share > 0 else None)
        for name, summary in zip(drawn, kept, strict=True)
    ]
    rest = ranked[_ENTRIES:]
    if rest:
        share = sum(classes[index].area_share for index in rest)
        entries.append(_Entry(f"{len(rest)} more classes", percent(share), None))
    return entries, drawn != [one_line(name) for name in typed]


def _draw_entry(pen: ImageDraw.ImageDraw, entry: _Entry, left: int, top: int, *, size: int, most: int) -> int:
    """Draw one chip with its share; returns its width in pixels, at most `most` if the share fits at all."""
    share_font = latin(size)
    font = font_for(entry.name, size) or share_font
    pad, high = round(size * 0.55), round(size * 1.6)
    share_width = round(share_font.getlength(entry.share))
    name = shorten(entry.name, font, most - share_width - 3 * pad)
    chip = round(font.getlength(name)) + 2 * pad
    middle = top + high / 2
    box = (left, top, left + chip - 1, top + high - 1)
    if entry.color is None:
        pen.rounded_rectangle(box, radius=high // 4, fill=PAPER, outline=FAINT)
        ink = MUTED
    else:
        pen.rounded_rectangle(box, radius=high // 4, fill=entry.color)
        ink = text_color(entry.color)
    write(pen, (left + pad, middle), name, font, ink)
    write(pen, (left + chip + pad, middle), entry.share, share_font, MUTED if entry.color is None else INK)
    return chip + pad + share_width
