"""Sections of views as escaped HTML whose pictures are files of the app's own cache."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape
from pathlib import Path
from urllib.parse import quote

from ovs_core.render.charts import scale_ends
from ovs_core.render.palette import text_color
from ovs_core.ui.pictures import store_png
from ovs_core.ui.view_pictures import Scale, Section, Table
from ovs_core.ui.words import hex_color, legend_html, note_html

RAMP = "linear-gradient(to right, #440154, #3b528b, #21918c, #5ec962, #fde725)"  # viridis, as the maps
SYMBOL = re.compile(r"\b([a-z])_([a-z0-9])\b")  # "m_i" in our own sentences
FILE_ROUTE = "gradio_api/file="  # relative, so that it also holds behind a proxy


def sections_html(sections: Sequence[Section]) -> str:
    """Give all sections below each other, small ones in pairs; nothing for none."""
    return f'<div class="ovs-views">{"".join(map(section_html, sections))}</div>' if sections else ""


def section_html(section: Section) -> str:
    """Give heading, sentence, pictures, key and numbers of one view, and its picture to take away."""
    small = len(section.panels) == 1 or (not section.panels and section.look.drawing != "words")
    parts = [
        f"<h3>{escape(section.look.heading)}</h3>",
        SYMBOL.sub(r"<i>\1</i><sub>\2</sub>", note_html(section.look.sentence)),
        _figures(section),
        "" if section.scale is None else scale_html(section.scale),
        legend_html(section.key, shares=True) if section.key else "",
        "" if section.table is None else table_html(section.table, section.look.heading),
        note_html(section.note),
        _link(section),
    ]
    size = "" if small else " wide"
    return f'<section class="ovs-view{size}" data-kind="{section.kind}">{"".join(parts)}</section>'


def scale_html(scale: Scale, what: str = "") -> str:
    """Give a colour scale with the numbers of its ends."""
    first, last = scale_ends(scale.low, scale.high)
    return (
        f'<div class="ovs-scale"><span>{escape(what)}{first}</span>'
        f'<i style="background:{RAMP}" aria-hidden="true"></i><span>{last}</span></div>'
    )


def table_html(table: Table, caption: str) -> str:
    """Give a table whose cells are coloured, or whose rows have bars, as the table says."""
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in table.head)
    rows = []
    for index, (name, *texts) in enumerate(table.rows):
        bar = ""
        if table.meters:
            share, color = table.meters[index]
            style = f"width:{100 * share:.1f}%;background:{hex_color(color)}"
            bar = f'<span class="track"><span class="meter" style="{style}"></span></span>'
        cells = "".join(f"<td{_tint(table, index, at)}>{escape(text)}</td>" for at, text in enumerate(texts))
        rows.append(f'<tr><th scope="row">{escape(name)}{bar}</th>{cells}</tr>')
    kind = "matrix" if table.colors is not None else "bars" if table.meters else "words"
    return (
        f'<div class="ovs-table {kind}" tabindex="0" role="group" aria-label="{escape(caption)}">'
        f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def file_url(path: str) -> str:
    """Give the address of a file of the app's own cache."""
    return FILE_ROUTE + quote(Path(path).as_posix())


def _tint(table: Table, row: int, column: int) -> str:
    if table.colors is None:
        return ""
    red, green, blue = table.colors[row, column].tolist()
    ink = hex_color(text_color((red, green, blue)))
    return f' style="background:{hex_color((red, green, blue))} !important;color:{ink}"'


def _figures(section: Section) -> str:
    if not section.panels:
        return ""
    figures = []
    for number, (picture, caption) in enumerate(section.panels, start=1):
        url = escape(file_url(store_png(picture, f"{section.kind}-{number}.png")))
        said = escape(f"{section.look.heading}: {caption}")
        height, width = picture.shape[:2]
        figures.append(
            f'<figure><a href="{url}" target="_blank" rel="noopener">'
            f'<img src="{url}" alt="{said}" width="{width}" height="{height}"></a>'
            f"<figcaption>{escape(caption)}</figcaption></figure>"
        )
    return f'<div class="maps">{"".join(figures)}</div>'


def _link(section: Section) -> str:
    if section.figure is None:
        return ""
    name = f"{section.kind}.png"
    url = escape(file_url(store_png(section.figure, name)))
    said = escape(f"Save this picture: {section.look.heading}")
    return f'<a class="save" href="{url}" download="{name}" aria-label="{said}">Save this picture (PNG)</a>'
