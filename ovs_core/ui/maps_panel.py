"""Maps to take away from the Inspect tab: a view's numbers as NPZ, or its picture as PNG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import gradio as gr

from ovs_core.export.names import photo_stem
from ovs_core.export.views import view_npz
from ovs_core.ui.pictures import store, store_png
from ovs_core.ui.view_pictures import Seen, figure

NOTHING_SEEN = "There is nothing to save yet: press Inspect first."
NO_PICTURE = "This view is words and has no picture: take its NPZ."
ENDS = ("npz", "png")
CLICK_LINK_JS = "() => { setTimeout(() => document.querySelector('#maps-link').click(), 150); }"


@dataclass(frozen=True)
class MapsPanel:
    """The choice of a view, a button for each kind of file, and the hidden link that hands a file over."""

    row: gr.Row
    view: gr.Dropdown
    buttons: Mapping[str, gr.Button]
    link: gr.DownloadButton

    @property
    def components(self) -> list[Any]:
        """Components in the order of `maps_update`."""
        return [self.row, self.view]


def maps_update(kept: Seen, chosen: str | None) -> list[Any]:
    """Offer the views of an answer; the one that was chosen stays if there is such a one."""
    choices = [(spec.heading, spec.kind) for spec, _ in kept.every]
    kinds = [kind for _, kind in choices]
    value = chosen if chosen in kinds else next(iter(kinds), None)
    return [gr.update(visible=bool(kinds)), gr.update(choices=choices, value=value)]


def map_file(
    kept: Seen | None, kind: str | None, end: str, label: object, one_scale: bool, point: tuple[float, float]
) -> str:
    """Write one view as a file and give its path.

    Args:
        kept: of the answer.
        kind: which view.
        end: "npz" holds all of its maps, "png" what is on the page.
        label: the class that is shown, from 1.
        one_scale: whether all classes have one colour scale.
        point: (row, column) in [0, 1], for views about one place.

    Raises:
        ValueError: nothing to save, or words as a picture; one sentence.
    """
    spec, view = next((pair for pair in (kept.every if kept else ()) if pair[0].kind == kind), (None, None))
    if kept is None or spec is None or view is None:
        raise ValueError(NOTHING_SEEN)
    name = f"{photo_stem(kept.stem)}.{kept.method}.{view.kind}.{end}"
    if end == "npz":
        numbers = view_npz(view, spec, method=kept.method, classes=kept.names, photo_size=kept.photo_size)
        return store(numbers, name)
    chosen = label if isinstance(label, int) and 1 <= label <= len(kept.names) else kept.first
    picture = figure(kept, view.kind, chosen, one_scale=one_scale, point=point)
    if picture is None:
        raise ValueError(NO_PICTURE)
    return store_png(picture, name)


def maps_panel() -> MapsPanel:
    """Lay out the panel; it shows once there is an answer."""
    with gr.Row(visible=False, equal_height=False, elem_id="maps", elem_classes="ovs-run") as row:
        view = gr.Dropdown(
            [],
            label="Maps to take away",
            info="NPZ: every map of the view as numbers, for all classes. PNG: its picture.",
            elem_id="maps-view",
            scale=3,
            min_width=180,
        )
        buttons = {end: gr.Button(end.upper(), min_width=90, elem_id=f"maps-{end}") for end in ENDS}
    link = gr.DownloadButton("File", elem_id="maps-link", elem_classes="ovs-offstage")
    return MapsPanel(row, view, buttons, link)


def connect_maps(panel: MapsPanel, shown: Sequence[Any]) -> None:
    """Let the buttons make files; `shown` are answer, class, scale and point as they stand on the page."""
    for end, button in panel.buttons.items():

        def make(kind: str | None, kept: Seen | None, *how: Any, end: str = end) -> str:
            try:
                return map_file(kept, kind, end, *how)
            except ValueError as error:
                raise gr.Error(escape(str(error)), title="Nothing to save", print_exception=False) from error

        button.click(
            make,
            [panel.view, *shown],
            [panel.link],
            concurrency_id="files",
            concurrency_limit=2,
            api_visibility="private",
        ).success(None, None, None, js=CLICK_LINK_JS)
