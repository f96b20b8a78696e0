"""Pictures of a report: photo, truth and answer side by side, and the confusion of classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from matplotlib import colormaps
from numpy.typing import NDArray
from PIL import Image

from ovs_core.evaluation.codes import Truth
from ovs_core.evaluation.metrics import Counts
from ovs_core.render.overlay import paint
from ovs_core.render.palette import colors_for, text_color
from ovs_core.types import Color

_SIDE = 360  # pixels of the longer side of each picture
_VOID_COLOR: Color = (255, 255, 255)
_LARGEST_MATRIX = 24  # classes; the others are summed up in one row and column
_CELL = 26  # pixels
_LONGEST_NAME = 20  # letters; longer ones are cut
_LETTER = 7  # pixels, of the 12 px font


@dataclass(frozen=True, eq=False)
class Sides:
    """One photo beside its truth and an answer.

    Attributes:
        photo: its key.
        iou: its mean IoU, in [0, 1].
        pictures: photo, truth and answer, each (h, w, 3).
        legend: name and colour of every class in one of the two, and of pixels that do not count.
    """

    photo: str
    iou: float
    pictures: tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint8]]
    legend: tuple[tuple[str, Color], ...]


def sides(
    key: str,
    iou: float,
    image: NDArray[np.uint8],
    truth: Truth,
    answer: NDArray[np.int16],
    names: Sequence[str],
) -> Sides:
    """Draw a photo (H, W, 3), its truth (H, W) and an answer (H, W) in classes of the dataset.

    Pixels of the truth that do not count are white.
    """
    height, width = image.shape[:2]
    scale = min(1.0, _SIDE / max(height, width))
    small = (max(1, round(height * scale)), max(1, round(width * scale)))
    rows = ((np.arange(small[0]) + 0.5) * height / small[0]).astype(int)
    columns = ((np.arange(small[1]) + 0.5) * width / small[1]).astype(int)
    picture = np.asarray(Image.fromarray(image).resize((small[1], small[0]), Image.Resampling.LANCZOS))
    colors = colors_for(names)
    void = len(colors)
    labels = [one[np.ix_(rows, columns)].astype(np.int32) for one in (truth, answer)]
    labels[0][labels[0] < 0] = void
    painted = [paint(picture, one, [*colors, _VOID_COLOR], opacity=0.7) for one in labels]
    shown = [int(label) for label in np.unique(labels) if label != void]
    legend = tuple((names[label - 1] if label else "other", colors[label]) for label in shown)
    if (labels[0] == void).any():
        legend = (*legend, ("does not count", _VOID_COLOR))
    return Sides(key, iou, (picture, painted[0], painted[1]), legend)


def confusion_svg(matrix: Counts, names: Sequence[str]) -> str:
    """Rows of a confusion matrix as shares of their truth, as an SVG picture with a title on every cell.

    Args:
        matrix: pixels by (truth, answer), (n, n). A class without truth has no row, one without pixels no
            column; of many classes the largest are drawn, the others summed.
        names: of its rows and columns.
    """
    matrix, names = _largest(matrix, names)
    rows = [int(row) for row in np.flatnonzero(matrix.sum(axis=1))]
    shares = matrix[rows] / matrix[rows].sum(axis=1, keepdims=True)
    margin = 14 + _LETTER * min(max(map(len, names)), _LONGEST_NAME)  # for the names, on the left and on top
    width, height = (margin + _CELL * count for count in (len(names), len(rows)))
    parts = [
        f'<svg class="confusion" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" '
        'aria-label="Confusion of classes, rows are the truth">'
    ]
    for place, row in enumerate(rows):
        middle = margin + _CELL * (place + 0.5) + 4
        parts.append(f'<text x="{margin - 6}" y="{middle}" text-anchor="end">{_short(names[row])}</text>')
    for place, name in enumerate(names):
        middle = margin + _CELL * (place + 0.5) + 4
        parts.append(f'<text transform="translate({middle},{margin - 6}) rotate(-90)">{_short(name)}</text>')
    for place, column in np.ndindex(*shares.shape):
        title = f"{names[rows[place]]} called {names[column]}"
        corner = (margin + _CELL * column, margin + _CELL * place)
        parts.append(_cell(corner, float(shares[place, column]), title))
    return "\n".join([*parts, "</svg>"])


def _short(name: str) -> str:
    return escape(name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}…")


def _cell(corner: tuple[int, int], value: float, title: str) -> str:
    """One cell at (left, top), with its share written in it where that is at least 1 %."""
    left, top = corner
    red, green, blue = (int(level) for level in colormaps["viridis"](value, bytes=True)[:3])
    place = f'x="{left}" y="{top}" width="{_CELL - 1}" height="{_CELL - 1}"'
    square = f'<rect {place} fill="rgb({red},{green},{blue})">'
    square += f"<title>{escape(title)}: {100 * value:.1f} %</title></rect>"
    if value < 0.01:
        return square
    ink = "#000" if text_color((red, green, blue)) == (0, 0, 0) else "#fff"
    middle = f'x="{left + _CELL / 2 - 0.5}" y="{top + _CELL / 2 + 4}"'
    return f'{square}<text class="share" {middle} fill="{ink}">{100 * value:.0f}</text>'


def _largest(matrix: Counts, names: Sequence[str]) -> tuple[Counts, tuple[str, ...]]:
    """Classes with any pixel, the largest ones of many, and a sum of the others."""
    size = matrix.sum(axis=1) * 2 + matrix.sum(axis=0)  # what the truth has comes before what it has not
    ranked = [int(index) for index in np.argsort(-size, kind="stable") if size[index]]
    kept, rest = sorted(ranked[:_LARGEST_MATRIX]), ranked[_LARGEST_MATRIX:]
    groups = [[index] for index in kept] + ([rest] if rest else [])
    summed = np.array([[matrix[np.ix_(rows, columns)].sum() for columns in groups] for rows in groups])
    last = (f"{len(rest)} more classes",) if rest else ()
    return summed, (*(names[index] for index in kept), *last)
