"""What a section of views on the page is made of: pictures with captions, a key, numbers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ovs_core.render.charts import Picture
from ovs_core.types import ClassSummary, Color, ViewKind
from ovs_core.views import ViewSpec


@dataclass(frozen=True)
class Scale:
    """The colour scale of maps: values of its two ends."""

    low: float
    high: float


@dataclass(frozen=True)
class Table:
    """Numbers or words for the page.

    Attributes:
        head: names of the columns, the first one of the row names.
        rows: row name and one text per column.
        colors: (rows, columns, 3) background of every cell but the row names; None leaves them white.
        meters: part of each row's first number that a bar fills, in [0, 1], and its colour; or nothing.
    """

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    colors: NDArray[np.uint8] | None = None
    meters: tuple[tuple[float, Color], ...] = ()


@dataclass(frozen=True, eq=False)
class Section:
    """One view as it is shown.

    Attributes:
        kind: which view.
        look: heading and sentence.
        panels: (picture (H, W, 3), caption) of each map.
        scale: of all panels; None where each has its own or none.
        key: colours of areas with their names and shares.
        table: numbers or words.
        chart: the numbers of the table as a picture; None for words.
        note: what was left out; "" if nothing.
        figure: all of it as one picture to take away; None for words.
        over_photo: whether the panels lie over the photo, place by place.
    """

    kind: ViewKind
    look: ViewSpec
    panels: tuple[tuple[Picture, str], ...] = ()
    scale: Scale | None = None
    key: tuple[ClassSummary, ...] = ()
    table: Table | None = None
    chart: Picture | None = None
    note: str = ""
    figure: Picture | None = None
    over_photo: bool = False
