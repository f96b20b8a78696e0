"""Inspect: how alike every patch is to every class, and which patches one patch looks at."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import gradio as gr
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ovs_core.build import DEFAULT_METHOD
from ovs_core.engine import Engine, Progress
from ovs_core.image import display_copy, read_photo
from ovs_core.render.heatmap import blend, common_range, heatmap
from ovs_core.types import Result, View, ViewKind
from ovs_core.ui.asking import Question, answers
from ovs_core.ui.inputs import InputPanel
from ovs_core.ui.pictures import base_picture, photo_field
from ovs_core.ui.runs import RunBar, Step, run_bar, status_line, wire
from ovs_core.ui.words import Status, note_html

VIEWS: frozenset[ViewKind] = frozenset(("similarity", "attention"))
MAP_SIDE = 512  # longer side of a heat map, in pixels
RING = 9  # radius of the ring that marks the chosen point, in pixels
RAMP = "linear-gradient(to right, #440154, #3b528b, #21918c, #5ec962, #fde725)"  # viridis, as the maps


@dataclass(frozen=True, eq=False)
class Insight:
    """Pictures of the views of one answer.

    Attributes:
        similarity: (picture, caption) per class, all on one colour scale.
        low, high: ends of that scale, cosine similarity.
        affinity: how strongly the chosen patch looks at every other, the point ringed.
    """

    similarity: tuple[tuple[NDArray[np.uint8], str], ...]
    low: float
    high: float
    affinity: NDArray[np.uint8] | None


def inspect_steps(
    engine: Engine, token: threading.Event | None, question: Question, method: str, point: tuple[float, float]
) -> Iterator[tuple[Status, Insight | None]]:
    """Ask one method for its views; `point` is (row, column) in [0, 1]."""

    def ask() -> Iterator[Progress | Result]:
        request = question.request(engine, method, None, None)
        return engine.run(replace(request, views=VIEWS, point=point), token)

    for event in answers(ask):
        if isinstance(event, Status):
            yield event, None
        else:
            yield Status("Done. Click the photo to ask about another patch."), insight(event, point)


def insight(result: Result, point: tuple[float, float]) -> Insight:
    """Draw the views of a result over its photo."""
    photo = display_copy(result.image, MAP_SIDE)
    views = {view.kind: view for view in result.segmentation.views}
    similarity = _maps(views.get("similarity"))
    low, high = common_range([values for values, _ in similarity])
    pictures = tuple(
        (blend(heatmap(values, photo.shape[:2], low, high), photo), f"{label}: up to {values.max():.3f}")
        for values, label in similarity
    )
    attention = _maps(views.get("attention"))
    affinity = None
    if attention:
        mean = np.mean([values for values, _ in attention], axis=0)
        affinity = blend(heatmap(mean, photo.shape[:2], *common_range([mean]), "inferno"), photo)
        affinity = ringed(affinity, point)
    return Insight(pictures, low, high, affinity)


def _maps(view: View | None) -> list[tuple[NDArray[np.float32], str]]:
    """Give every map (h, w) of a view with its label."""
    if view is None:
        return []
    maps = view.maps.detach().float().cpu().numpy()  # (M, h, w)
    return list(zip(maps, view.labels, strict=True))


def ringed(picture: NDArray[np.uint8], point: tuple[float, float]) -> NDArray[np.uint8]:
    """Draw a white ring with a dark rim round a point (row, column) in [0, 1] of a picture (H, W, 3)."""
    height, width = picture.shape[:2]
    rows, columns = np.ogrid[:height, :width]
    distance = np.hypot(rows + 0.5 - point[0] * height, columns + 0.5 - point[1] * width)  # (H, W)
    marked = picture.copy()
    marked[np.abs(distance - RING) < 3] = 0
    marked[np.abs(distance - RING) < 1.5] = 255
    return marked


def scale_html(low: float, high: float) -> str:
    """Give the colour scale shared by all maps."""
    return (
        f'<div class="ovs-scale"><span>Cosine similarity {low:.3f}</span>'
        f'<i style="background:{RAMP}" aria-hidden="true"></i><span>{high:.3f}</span></div>'
    )


def point_in_percent(picture: str, event: gr.SelectData) -> tuple[float, float]:
    """Give a click on a picture as (across, down) in percent."""
    with Image.open(picture) as opened:
        width, height = opened.size
    across, down = event.index
    return round(100 * (across + 0.5) / width, 1), round(100 * (down + 0.5) / height, 1)


def clickable_copy(photo: str | None) -> str | None:
    """Give the path of the copy of a photo that can be clicked; None if it is missing or unreadable."""
    if photo is None:
        return None
    try:
        return base_picture(read_photo(photo).pixels)
    except ValueError:
        return None


def inspect_tab(engine: Engine, inputs: InputPanel) -> None:
    """Lay out the tab and connect it."""
    with gr.Row(elem_classes="ovs-run", equal_height=False):
        method = gr.Dropdown(
            [(info.title, info.name) for info in engine.methods() if info.available],
            value=DEFAULT_METHOD,
            label="Method",
            elem_id="inspect-method",
            scale=3,
            min_width=180,
        )
        start, stop = run_bar("Inspect", "inspect")
    status, token = status_line("inspect")
    similarity_scale = gr.HTML("", padding=False)
    similarity = gr.Gallery(
        label="Similarity of every patch to every class, before any threshold",
        columns=3,
        height="auto",
        object_fit="contain",
        format="png",
        visible=False,
        interactive=False,
        elem_id="similarity",
        elem_classes="ovs-gallery",
        buttons=["download", "fullscreen"],
    )
    gr.HTML(
        note_html(
            "Click a point of the photo, or set it below, to see which other patches "
            "that patch looks at (bright: more)."
        ),
        padding=False,
    )
    with gr.Row(elem_classes="ovs-pair"):
        picture = photo_field(
            label="The point",
            interactive=False,
            sources=[],
            buttons=[],
            elem_id="inspect-photo",
            alt_text="Your photo; click to choose a point",
        )
        affinity = gr.Image(
            label="What it looks at",
            format="png",
            interactive=False,
            elem_id="affinity",
            buttons=["download", "fullscreen"],
        )
    with gr.Row():
        across = gr.Slider(0, 100, 50, step=0.1, label="Point: across (%)", elem_id="across", min_width=160)
        down = gr.Slider(0, 100, 50, step=0.1, label="Point: down (%)", elem_id="down", min_width=160)

    def work(token: threading.Event, *values: Any) -> Iterator[Step]:
        *asked, method, across, down = values
        point = (down / 100, across / 100)
        for status, found in inspect_steps(engine, token, Question(*asked), method, point):
            yield status, None if found is None else _shown(found)

    inputs.photo.change(
        clickable_copy, [inputs.photo], [picture], show_progress="hidden", api_visibility="private"
    )
    clicked = picture.select(
        point_in_percent, [picture], [across, down], show_progress="hidden", api_visibility="private"
    )
    wire(
        RunBar(start, stop, status, token),
        work,
        [*inputs.question, method, across, down],
        [similarity_scale, similarity, affinity],
        after=[clicked],
    )


def _shown(found: Insight) -> tuple[Any, ...]:
    gallery = [(picture, caption) for picture, caption in found.similarity]
    return scale_html(found.low, found.high), gr.update(value=gallery, visible=bool(gallery)), found.affinity
