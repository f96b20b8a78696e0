"""Files to take away from the Segment tab: a click makes the file, then a hidden link hands it over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType
from typing import Any

import gradio as gr

from ovs_core.engine import Engine
from ovs_core.export.files import FORMATS, MASK_FORMATS, result_files, zip_result
from ovs_core.options import Options
from ovs_core.ui.answer import Answer, relabelled
from ovs_core.ui.option_fields import quick_options
from ovs_core.ui.pictures import store
from ovs_core.ui.runs import clamped
from ovs_core.ui.segment_views import PLAIN, Look, LookBar, formats_with

NO_ANSWER = "There is nothing to save yet: press Segment first."
DOWNLOADS: Mapping[str, str] = MappingProxyType(
    {"labels": "Label map PNG", "overlay": "Overlay PNG", "json": "JSON", "zip": "ZIP"}
)
ENDINGS: Mapping[str, str] = MappingProxyType(
    {"labels": ".labels.png", "overlay": ".overlay.png", "json": ".json"}
)
CLICK_LINK_JS = "() => { setTimeout(() => document.querySelector('#file-link').click(), 150); }"


def export_file(
    engine: Engine,
    answer: Answer | None,
    options: Options,
    kind: str,
    formats: Sequence[str] = (),
    look: Look = PLAIN,
) -> str:
    """Write one file at the photo's own size with the settings as they stand, and give its path.

    Args:
        engine: the engine.
        answer: what to save.
        options: of the stage "decide".
        kind: "labels", "overlay", "json" or "zip".
        formats: names from `FORMATS`, for the ZIP.
        look: the overlay is the picture on the page; the ZIP holds its files, too.

    Raises:
        ValueError: nothing to save yet.
    """
    if answer is None:
        raise ValueError(NO_ANSWER)
    result = relabelled(engine, answer, options, None).result
    if kind != "zip":
        segments = look.kind(result) if kind == "overlay" else None
        ending = ENDINGS[kind] if segments is None else f".{segments}{ENDINGS[kind]}"
        files = result_files(result, answer.name, () if segments is None else (segments,), stuff=look.stuff)
        return next(store(content, name) for name, content in files if name.endswith(ending))
    with TemporaryDirectory(prefix="ovs-lens-") as folder:
        path = Path(folder) / f"{answer.name}.{result.method}.zip"
        zip_result(result, path, answer.name, formats_with(look, result, formats), stuff=look.stuff)
        return store(path.read_bytes(), path.name)


def downloads(
    engine: Engine, answer: gr.State, sliders: Mapping[str, gr.Slider], bar: LookBar
) -> gr.CheckboxGroup:
    """Lay out the downloads; gives the field of further formats."""
    with gr.Accordion("Download", open=True, elem_id="downloads"):
        with gr.Row():
            buttons = {
                kind: gr.Button(label, size="sm", min_width=120, elem_id=f"save-{kind}")
                for kind, label in DOWNLOADS.items()
            }
        formats = gr.CheckboxGroup(
            [name for name in FORMATS if name not in MASK_FORMATS],
            value=[],
            label="Also in the ZIP",
            info="The ZIP always holds label map, overlay and JSON, and the files of the picture shown.",
            elem_id="formats",
        )
    link = gr.DownloadButton("File", elem_id="file-link", elem_classes="ovs-offstage")

    for kind, button in buttons.items():

        def make(answer: Answer | None, *values: Any, kind: str = kind) -> str:
            *quick, formats, picture, stuff = values
            try:
                if answer is None:
                    raise ValueError(NO_ANSWER)
                result = answer.result
                options = quick_options(engine, result.method, result.encoder, sliders, quick)
                return export_file(engine, answer, options, kind, formats, Look(picture, stuff))
            except ValueError as error:
                raise gr.Error(escape(str(error)), title="Nothing to save", print_exception=False) from error

        button.click(
            make,
            [answer, *sliders.values(), formats, *bar.inputs],
            [link],
            js=clamped([answer, *sliders.values(), formats, *bar.inputs]),
            concurrency_id="files",
            concurrency_limit=2,
            api_visibility="private",
        ).success(None, None, None, js=CLICK_LINK_JS)
    return formats
