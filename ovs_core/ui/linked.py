"""Pictures of one photo side by side: one cursor, one zoom, and a wipe between any two of them.

All of it happens in the browser (`linked.js`): a move asks the server nothing. Whatever is a `stage` in an
element of the class `LINKED` is one of the pictures; that element, or one field in it, brings the script.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

import gradio as gr

from ovs_core.ui.view_html import file_url
from ovs_core.ui.words import note_html

LINKED = "ovs-linked"
_SCRIPT = Path(__file__).with_name("linked.js")
_ZOOMS = (("in", "Zoom in"), ("out", "Zoom out"), ("whole", "Whole photo"))
_ABOUT = (
    "All panels share cursor and zoom. Double-click, pinch, Ctrl and wheel, or + and - zoom at a place; "
    "drag to see another part; arrow keys move the cursor."
)


@dataclass(frozen=True)
class Panel:
    """One picture.

    Attributes:
        name: its key, and the end of its element's id.
        title: what is written below it.
        picture: path of a file of the app's own cache; all panels have pictures of one shape.
        alt: for who cannot see it.
        listed: whether it has a panel; it can be wiped in any case.
        saved: path of the PNG file that is taken away; "" for `picture`.
    """

    name: str
    title: str
    picture: str
    alt: str
    listed: bool = True
    saved: str = ""


def linked_field(elem_id: str) -> gr.HTML:
    """Lay out an empty field; `linked_panels` makes its values."""
    script = _SCRIPT.read_text(encoding="utf-8")
    return gr.HTML("", elem_id=elem_id, elem_classes=LINKED, padding=False, js_on_load=script)


def zoom_bar(elem_id: str) -> gr.HTML:
    """Lay out the buttons of a column of the class `LINKED` whose fields hold the stages."""
    script = _SCRIPT.read_text(encoding="utf-8")
    return gr.HTML(_zooms(), elem_id=elem_id, padding=False, js_on_load=script)


def linked_panels(panels: Sequence[Panel]) -> str:
    """The value of the field; nothing for no panels.

    The wipe begins between the first panel and the truth, else the second one, else the photo.
    """
    listed = [panel for panel in panels if panel.listed]
    if not listed:
        return ""
    figures = "".join(
        f'<figure id="panel-{escape(panel.name)}">{_stage(_picture(panel), panel.title)}'
        f"<figcaption>{escape(panel.title)} {_save(panel)}</figcaption></figure>"
        for panel in listed
    )
    return (
        f'<div class="ovs-compared">{_wipe(panels, listed)}{_zooms()}'
        f'<div class="ovs-panels">{figures}</div></div>'
    )


def _zooms() -> str:
    buttons = "".join(f'<button type="button" data-zoom="{name}">{title}</button>' for name, title in _ZOOMS)
    group = f'<div class="zooms" role="group" aria-label="Zoom of all panels">{buttons}</div>'
    return group + note_html(_ABOUT)


def _wipe(panels: Sequence[Panel], listed: Sequence[Panel]) -> str:
    """Two pictures, one over the other, and how much is seen of each."""
    sent = {panel.name: file_url(panel.picture) for panel in panels}
    choices = {panel.name: panel.title for panel in panels}
    left, *others = (panel.name for panel in listed)
    right = next((name for name in ("truth", *others) if name in sent), "photo")
    selects = "".join(
        f'<label>{text} <select data-side="{side}">{_options(choices, chosen)}</select></label>'
        for side, text, chosen in (("left", "Left", left), ("right", "Right", right))
    )
    pictures = (
        '<img class="right" alt="" draggable="false">'
        '<span class="over"><img class="left" alt="" draggable="false"></span><i class="edge"></i>'
    )
    return (
        f'<figure class="wipe" data-pictures="{escape(json.dumps(sent))}"><div class="sides">{selects}</div>'
        f"{_stage(pictures, 'Wipe')}"
        '<input type="range" min="0" max="100" value="50" '
        'aria-label="Wipe: part of the left picture, in per cent"></figure>'
    )


def _options(choices: dict[str, str], chosen: str) -> str:
    return "".join(
        f'<option value="{escape(name)}"{" selected" if name == chosen else ""}>{escape(title)}</option>'
        for name, title in choices.items()
    )


def _stage(pictures: str, title: str) -> str:
    label = f"{escape(title)}: move the cursor of all panels here"
    return (
        f'<div class="stage" tabindex="0" role="application" aria-label="{label}">{pictures}'
        '<i class="cursor"></i></div>'
    )


def _picture(panel: Panel) -> str:
    return f'<img src="{escape(file_url(panel.picture))}" alt="{escape(panel.alt)}" draggable="false">'


def _save(panel: Panel) -> str:
    url, name = escape(file_url(panel.saved or panel.picture)), escape(panel.name)
    return f'<a href="{url}" download="{name}.png" aria-label="Save {escape(panel.title)} as PNG">PNG</a>'
