"""Sections of views as HTML whose pictures are files of the app's own cache.

`views.html` is the template; jinja2 escapes whatever it is given, so that names are text.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from ovs_core.render.charts import Picture, scale_ends
from ovs_core.render.palette import text_color
from ovs_core.types import ClassSummary
from ovs_core.ui.pictures import store_png, store_shown
from ovs_core.ui.view_sections import Scale, Section
from ovs_core.ui.words import hex_color, legend_html, note_html
from ovs_core.views import Source

RAMP = "linear-gradient(to right, #440154, #3b528b, #21918c, #5ec962, #fde725)"  # viridis, as the maps
SYMBOL = re.compile(r"\b([a-z])_([a-z0-9])\b")  # "m_i" in our own sentences
FILE_ROUTE = "gradio_api/file="  # relative, so that it also holds behind a proxy


def sections_html(sections: Sequence[Section]) -> str:
    """Give all sections below each other, small ones in pairs; nothing for none."""
    return str(_macros().views(sections))


def section_html(section: Section) -> str:
    """Give heading, sentence, pictures, key and numbers of one view, and its picture to take away."""
    return str(_macros().view(section))


def scale_html(scale: Scale, what: str = "") -> str:
    """Give a colour scale with the numbers of its ends."""
    return str(_macros().scale_bar(_ends(scale), what))


def file_url(path: str) -> str:
    """Give the address of a file of the app's own cache."""
    return FILE_ROUTE + quote(Path(path).as_posix())


def _macros() -> Any:
    """The template's macros, by name."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined
    )
    environment.globals["ramp"] = RAMP
    environment.filters.update(
        ends=_ends,
        figure_url=_figure_url,
        hex=hex_color,
        legend=_legend,
        note=_note,
        symbols=_symbols,
        symbols_of=_symbols_of,
        tint=_tint,
        urls=_urls,
    )
    return environment.get_template("views.html").module


def _ends(scale: Scale) -> tuple[str, str]:
    return scale_ends(scale.low, scale.high)


def _urls(section: Section) -> list[tuple[str, tuple[Picture, str]]]:
    """Address of each panel, and the panel."""
    return [
        (file_url(store_shown(panel[0], f"{section.kind}-{number}")), panel)
        for number, panel in enumerate(section.panels, start=1)
    ]


def _figure_url(section: Section) -> str:
    return "" if section.figure is None else file_url(store_png(section.figure, f"{section.kind}.png"))


def _legend(key: Sequence[ClassSummary]) -> Markup:
    return Markup(legend_html(key, shares=True))


def _note(sentence: str) -> Markup:
    return Markup(note_html(sentence))


def source_html(source: Source) -> str:
    """Give the equation that a view shows, and a link to its paper; nothing for none."""
    return str(_macros().source(source))


def _symbols(sentence: str) -> Markup:
    """A sentence whose symbols have their index below the line."""
    return _lowered(note_html(sentence))


def _symbols_of(formula: str) -> Markup:
    """The same within a line."""
    return _lowered(str(escape(formula)))


def _lowered(html: str) -> Markup:
    return Markup(SYMBOL.sub(r"<i>\1</i><sub>\2</sub>", html))


def _tint(color: Sequence[int]) -> str:
    red, green, blue = (int(value) for value in color)
    ink = hex_color(text_color((red, green, blue)))
    return f"background:{hex_color((red, green, blue))} !important;color:{ink}"
