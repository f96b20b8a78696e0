"""Numbers as pictures to take away: bars, a matrix with its numbers, maps side by side, a colour scale.

Every function gives an RGB picture (H, W, 3) uint8 on white; `stacked` puts several on one page. matplotlib
draws marks, numbers and scales; names that a person typed are written by `ovs_core.render.lettering`, because
matplotlib below 3.11 does not join Arabic letters or order Hebrew ones. Names must be ones a picture can show
(`ovs_core.render.lettering.picture_name`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from ovs_core.render.heatmap import ColorMap, heatmap
from ovs_core.render.lettering import FAINT, INK, MUTED, PAPER, font_for, latin, shorten, wrap, write
from ovs_core.render.palette import PALETTE, text_color
from ovs_core.types import Color

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Picture = NDArray[np.uint8]

LETTER = 16  # height of letters, in pixels
GAP = 12  # between parts of a page, in pixels
_BAR, _CELL = 26, (72, 40)  # height of a row of bars; (width, height) of a matrix cell
_LABEL_PART = 0.4  # most of a chart's width that names may take
_NUMBERS = 64  # width of the numbers behind bars, in pixels
_POINTS_PER_PIXEL = 0.72  # at matplotlib's 100 pixels an inch
_NUMBER_SIZE = 13 * _POINTS_PER_PIXEL


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
    lengths: Sequence[float],
    colors: Sequence[Color],
    width: int = 640,
) -> Picture:
    """One bar per name with its number behind it; `lengths` are the filled parts of the bars, in [0, 1]."""
    left = GAP + _names_width(names, max(1, width - 2 * GAP) * _LABEL_PART) + GAP
    inside = (left, GAP // 2, max(left + 1, width - GAP - _NUMBERS), GAP // 2 + _BAR * len(names))
    figure, axes = _axes((width, _BAR * len(names) + GAP), inside)
    rows = np.arange(len(names))
    axes.barh(rows, np.ones(len(names)), height=0.64, color="none", edgecolor=_unit(FAINT))
    axes.barh(rows, lengths, height=0.64, color=[_unit(color) for color in colors])
    for row, value in enumerate(values):
        axes.annotate(
            f"{value:.3f}",
            (1, row),
            xytext=(GAP * _POINTS_PER_PIXEL, 0),
            textcoords="offset points",
            va="center",
            color=_unit(INK),
            fontsize=_NUMBER_SIZE,
        )
    axes.set(xlim=(0, 1), ylim=(len(names) - 0.5, -0.5))
    page, pen = _drawn(figure)
    for row, name in enumerate(names):
        _name(pen, (left - GAP, inside[1] + _BAR * (row + 0.5)), name, left - 2 * GAP, "rm")
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
    width, height = _CELL
    left = GAP + _names_width(rows, 220) + GAP
    inside = (left, height, left + wide * width, (high + 1) * height)
    figure, axes = _axes((inside[2] + GAP, inside[3] + GAP), inside)
    colors = heatmap(values, values.shape, *limits, colormap)
    axes.imshow(colors, aspect="auto", interpolation="nearest")
    axes.set_xticks(np.arange(wide + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(high + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="white", linewidth=2 * _POINTS_PER_PIXEL)
    for row, column in np.ndindex(high, wide):
        red, green, blue = colors[row, column].tolist()
        ink = _unit(text_color((red, green, blue)))
        number = f"{values[row, column]:.2f}"
        axes.text(column, row, number, ha="center", va="center", color=ink, fontsize=_NUMBER_SIZE)
    page, pen = _drawn(figure)
    for column, name in enumerate(columns):
        _name(pen, (left + (column + 0.5) * width, height / 2), name, width - 4, "mm")
    for row, name in enumerate(rows):
        _name(pen, (left - GAP, (row + 1.5) * height), name, left - 2 * GAP, "rm")
    return np.asarray(page)


def curve(
    places: Sequence[float],
    values: Sequence[tuple[float, float, float]],
    titles: tuple[str, str],
    mark: float | None = None,
    size: tuple[int, int] = (640, 320),
) -> Picture:
    """A curve with a band, axes and their titles, `size` (width, height) in pixels.

    Args:
        places: along the x axis, rising.
        values: (low, value, high) at each place.
        titles: of the x and the y axis, in our own words.
        mark: place of a dashed line; None draws none.
        size: of the picture.
    """
    figure = _blank(size, layout="constrained")
    axes = figure.add_subplot()
    low, middle, high = (np.array(part) for part in zip(*values, strict=True))
    axes.fill_between(places, low, high, color=_unit(PALETTE[0]), alpha=0.2, linewidth=0)
    axes.plot(places, middle, color=_unit(PALETTE[0]), marker="o", markersize=3)
    if mark is not None:
        axes.axvline(mark, color=_unit(INK), linestyle="--", linewidth=1)
    axes.set(xlabel=titles[0], ylabel=titles[1])
    axes.grid(color=_unit(FAINT), linewidth=0.5)
    axes.spines[["top", "right"]].set_visible(False)
    return np.asarray(_drawn(figure)[0])


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
    right = left + width + GAP // 2 + round(font.getlength(last)) + GAP
    figure, axes = _axes((right, 2 * LETTER), (left, LETTER // 2, left + width, LETTER // 2 + LETTER))
    axes.imshow(np.linspace(0, 1, width)[None], colormap, aspect="auto", interpolation="nearest")
    page, pen = _drawn(figure)
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


def _blank(size: tuple[int, int], layout: Literal["constrained"] | None = None) -> Figure:
    """A figure of (width, height) pixels, made without pyplot, which would keep it for ever."""
    from matplotlib.figure import Figure  # takes half a second to load: only for those who see a chart

    return Figure(figsize=(size[0] / 100, size[1] / 100), dpi=100, layout=layout)


def _axes(size: tuple[int, int], inside: tuple[int, int, int, int]) -> tuple[Figure, Axes]:
    """A figure of (width, height) pixels and axes without frame in (left, top, right, bottom) of it."""
    width, height = size
    left, top, right, bottom = inside
    figure = _blank(size)
    box = (left / width, 1 - bottom / height, (right - left) / width, (bottom - top) / height)
    axes = figure.add_axes(box, frameon=False)
    axes.tick_params(which="both", length=0, labelbottom=False, labelleft=False)
    return figure, axes


def _drawn(figure: Figure) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    """The figure as a picture that can be written on."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()  # type: ignore[no-untyped-call]
    pixels = np.asarray(canvas.buffer_rgba())  # type: ignore[no-untyped-call]
    page = Image.fromarray(pixels).convert("RGB")
    return page, ImageDraw.Draw(page)


def _unit(color: Color) -> tuple[float, float, float]:
    """A colour as matplotlib takes it."""
    return color[0] / 255, color[1] / 255, color[2] / 255


def _names_width(names: Sequence[str], most: float) -> int:
    """Pixels that the widest name takes, at most `most`."""
    return round(min(most, max((font_for(name, LETTER) or latin(LETTER)).getlength(name) for name in names)))


def _name(pen: ImageDraw.ImageDraw, place: tuple[float, float], name: str, room: float, anchor: str) -> None:
    font = font_for(name, LETTER) or latin(LETTER)
    write(pen, place, shorten(name, font, room), font, INK, anchor)
