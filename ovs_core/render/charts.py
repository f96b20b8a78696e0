"""Numbers as pictures to take away: bars, a matrix with its numbers, maps side by side, a colour scale.

Every function gives an RGB picture (H, W, 3) uint8 on white; `stacked` puts several on one page. Names must
be ones a picture can show (`ovs_core.render.lettering.picture_name`).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from ovs_core.render.heatmap import ColorMap, heatmap, scale_bar
from ovs_core.render.lettering import FAINT, INK, MUTED, PAPER, font_for, latin, shorten, wrap, write
from ovs_core.render.palette import text_color
from ovs_core.types import Color

Picture = NDArray[np.uint8]

LETTER = 16  # height of letters, in pixels
GAP = 12  # between parts of a page, in pixels
_BAR, _CELL = 26, (72, 40)  # height of a row of bars; (width, height) of a matrix cell
_LABEL_SHARE = 0.4  # most of a chart's width that names may take


def short_number(value: float) -> str:
    """A number as a person reads it: three digits that count, e.g. "0.0123"."""
    return f"{value + 0.0:.3g}"  # adding 0 makes 0 of -0


def scale_ends(low: float, high: float) -> tuple[str, str]:
    """The two ends of a scale as a person reads them; what is nothing beside the other end is 0."""
    least = 1e-3 * max(abs(low), abs(high))
    first, last = (short_number(0.0 if abs(value) < least else value) for value in (low, high))
    return first, last


def bars(
    names: Sequence[str],
    values: Sequence[float],
    shares: Sequence[float],
    colors: Sequence[Color],
    width: int = 640,
) -> Picture:
    """One bar per name with its number behind it; `shares` are the filled parts of the bars, in [0, 1]."""
    room = max(1, width - 2 * GAP)
    font = latin(LETTER)
    left = GAP + _names_width(names, room * _LABEL_SHARE) + GAP
    right = width - GAP - round(font.getlength("-0.000")) - GAP
    page, pen = _sheet(width, _BAR * len(names) + GAP)
    for row, (name, value, share, color) in enumerate(zip(names, values, shares, colors, strict=True)):
        middle = GAP / 2 + _BAR * (row + 0.5)
        _name(pen, (left - GAP, middle), name, left - 2 * GAP, "rm")
        box = (left, middle - _BAR * 0.32, right, middle + _BAR * 0.32)
        pen.rectangle(box, outline=FAINT)
        pen.rectangle((left, box[1], left + share * (right - left), box[3]), fill=color)
        write(pen, (right + GAP, middle), f"{value:.3f}", font, INK)
    return np.asarray(page)


def matrix(
    values: NDArray[np.floating],
    rows: Sequence[str],
    columns: Sequence[str],
    limits: tuple[float, float],
    colormap: ColorMap = "viridis",
) -> Picture:
    """A matrix (R, C) as coloured cells with their numbers, names on the left and above."""
    high, wide = values.shape
    cell_width, cell_height = _CELL
    left = GAP + _names_width(rows, 220) + GAP
    page, pen = _sheet(left + wide * cell_width + GAP, (high + 1) * cell_height + GAP)
    colors = heatmap(values, values.shape, *limits, colormap)
    font = latin(LETTER)
    for column, name in enumerate(columns):
        _name(pen, (left + (column + 0.5) * cell_width, cell_height / 2), name, cell_width - 4, "mm")
    for row, name in enumerate(rows):
        top = (row + 1) * cell_height
        _name(pen, (left - GAP, top + cell_height / 2), name, left - 2 * GAP, "rm")
        for column in range(wide):
            red, green, blue = colors[row, column].tolist()
            x = left + column * cell_width
            pen.rectangle((x, top, x + cell_width - 2, top + cell_height - 2), fill=(red, green, blue))
            place = (x + cell_width / 2 - 1, top + cell_height / 2 - 1)
            write(pen, place, f"{values[row, column]:.2f}", font, text_color((red, green, blue)), "mm")
    return np.asarray(page)


def side_by_side(pictures: Sequence[Picture], captions: Sequence[str], columns: int = 4) -> Picture:
    """Pictures of one size (H, W, 3) in rows, each with its caption below."""
    height, width = pictures[0].shape[:2]
    columns = min(columns, len(pictures))
    rows = -(-len(pictures) // columns)
    line = round(LETTER * 1.7)
    page, pen = _sheet(GAP + columns * (width + GAP), rows * (height + line + GAP))
    for place, (picture, caption) in enumerate(zip(pictures, captions, strict=True)):
        left, top = GAP + place % columns * (width + GAP), place // columns * (height + line + GAP)
        page.paste(Image.fromarray(picture), (left, top))
        _name(pen, (left, top + height + line / 2), caption, width, "lm")
    return np.asarray(page)


def scale_strip(low: float, high: float, colormap: ColorMap = "viridis", width: int = 320) -> Picture:
    """A colour scale with the numbers of its ends."""
    font = latin(LETTER)
    first, last = scale_ends(low, high)
    left = GAP + round(font.getlength(first)) + GAP // 2
    page, pen = _sheet(left + width + GAP // 2 + round(font.getlength(last)) + GAP, 2 * LETTER)
    page.paste(Image.fromarray(scale_bar(width, LETTER, colormap)), (left, LETTER // 2))
    write(pen, (GAP, LETTER), first, font, INK)
    write(pen, (left + width + GAP // 2, LETTER), last, font, INK)
    return np.asarray(page)


def text_strip(text: str, width: int, ink: Color = MUTED, size: int = LETTER) -> Picture:
    """A text in as many lines as it takes."""
    font = font_for(text, size) or latin(size)
    lines = wrap(text, font, width - 2 * GAP)
    page, pen = _sheet(width, round(1.4 * size * len(lines)))
    for number, line in enumerate(lines):
        write(pen, (GAP, (number + 0.5) * 1.4 * size), line, font, ink)
    return np.asarray(page)


def stacked(parts: Sequence[Picture]) -> Picture:
    """Parts below each other on one white page as wide as the widest."""
    width = max(part.shape[1] for part in parts)
    page = np.full((sum(part.shape[0] + GAP for part in parts) + GAP, width, 3), 255, np.uint8)
    top = GAP
    for part in parts:
        page[top : top + part.shape[0], : part.shape[1]] = part
        top += part.shape[0] + GAP
    return page


def _sheet(width: int, height: int) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    page = Image.new("RGB", (width, height), PAPER)
    return page, ImageDraw.Draw(page)


def _names_width(names: Sequence[str], most: float) -> int:
    """Pixels that the widest name takes, at most `most`."""
    return round(min(most, max((font_for(name, LETTER) or latin(LETTER)).getlength(name) for name in names)))


def _name(pen: ImageDraw.ImageDraw, place: tuple[float, float], name: str, room: float, anchor: str) -> None:
    font = font_for(name, LETTER) or latin(LETTER)
    write(pen, place, shorten(name, font, room), font, INK, anchor)
