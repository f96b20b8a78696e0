"""Inspect: scores and affinity of any place, and what only some methods have inside."""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
from numpy.typing import NDArray

from ovs_core.engine import Engine, Progress, Request, Result
from ovs_core.engine.paired import run_paired
from ovs_core.engine.photos import remembered_copy, remembered_photo
from ovs_core.image import display_copy, fitted
from ovs_core.methods import DEFAULT_METHOD
from ovs_core.methods.base import AFFINITY, SIMILARITY
from ovs_core.options import lookup
from ovs_core.render.heatmap import blend, common_range, heatmap
from ovs_core.types import View, ViewKind
from ovs_core.ui.asking import PHOTO_GONE, Question, answers, refinable
from ovs_core.ui.hover import SecondPhoto, hover_field, hover_html, photo_html
from ovs_core.ui.inputs import InputPanel
from ovs_core.ui.linked import LINKED, zoom_bar
from ovs_core.ui.maps_panel import connect_maps, maps_panel, maps_update
from ovs_core.ui.offered import (
    chosen_method,
    method_choices,
    method_infos,
    method_update,
    unavailable_html,
)
from ovs_core.ui.pictures import DISPLAY_SIDE, base_picture
from ovs_core.ui.runs import STATE_SECONDS, RunBar, Step, run_bar, status_line, wire
from ovs_core.ui.second_photo import searched, second_photo_field
from ovs_core.ui.surface import drawn
from ovs_core.ui.tour import tour_panel
from ovs_core.ui.view_html import sections_html, source_html
from ovs_core.ui.view_pictures import Seen, sections, seen
from ovs_core.ui.view_sections import Scale, Section
from ovs_core.ui.words import Status
from ovs_core.views import ViewSpec

MAP_SIDE = 512  # longer side of a heat map, in pixels
MOST_CLASSES = 24  # heat maps on the page; of more classes those that won most
CENTRE = (0.5, 0.5)
LAST_PART = 0.9  # of the work, when a second photo is looked at
RING = 9  # radius of the ring that marks the chosen point, in pixels
DONE = "Done. Move over the photo to ask about any place."
NOT_HOVERED: frozenset[ViewKind] = frozenset({"attention"})  # the affinity holds it for every point


@dataclass(frozen=True, eq=False)
class Insight:
    """Pictures of the views of one answer.

    Attributes:
        similarity: (picture, caption) per class, all on one colour scale.
        low, high: ends of that scale, cosine similarity.
        affinity: how strongly the chosen patch looks at every other, the point ringed.
        seen: the views that only some methods have.
        second: another photo and where patches are in it.
    """

    similarity: tuple[tuple[NDArray[np.uint8], str], ...]
    low: float
    high: float
    affinity: NDArray[np.uint8] | None
    seen: Seen
    second: SecondPhoto | None = None


def inspect_request(
    engine: Engine,
    question: Question,
    method: str,
    point: tuple[float, float],
    kinds: Collection[str] | None = None,
) -> Request:
    """Ask one method for its views.

    Args:
        engine: knows which views the method has.
        question: photo and words.
        method: registry name.
        point: (row, column) in [0, 1].
        kinds: which views; None takes all that the method has.

    Raises:
        ValueError: as `Question.request`, or for a view that the method does not have.
    """
    request = question.request(engine, method)
    views = engine.method_specs[method].view_kinds if kinds is None else frozenset(kinds)
    request = replace(request, views=views, point=point)
    engine.check(request)
    return request


def inspect_steps(
    engine: Engine,
    token: threading.Event | None,
    question: Question,
    method: str,
    point: tuple[float, float],
    beside: str | None = None,
) -> Iterator[tuple[Status, tuple[Result, Insight] | None]]:
    """Ask one method for its views; `point` is (row, column) in [0, 1], `beside` a second photo's path."""
    question, note = refinable(engine, question, method)

    def ask() -> Iterator[Progress | Result]:
        kinds = lookup("method", engine.method_specs, method).view_kinds - NOT_HOVERED
        asked = inspect_request(engine, question, method, point, kinds)
        return run_paired(engine, replace(asked, side=DISPLAY_SIDE), token)

    for event in answers(engine, ask):
        if isinstance(event, Status):
            yield event, None
            continue
        specs = engine.method_specs[event.method].cited_views
        if beside is not None:
            yield Status("Looking at the second photo", "busy", LAST_PART), None
        second, said = searched(engine, question, event.method, beside, token)
        shown = replace(insight(event, specs, point, MOST_CLASSES), second=second)
        yield Status(" ".join(filter(None, (DONE, note, said)))), (event, shown)


def insight(
    result: Result, specs: Sequence[ViewSpec], point: tuple[float, float], most: int | None = None
) -> Insight:
    """Draw the views of a result over its photo, cosines of at most `most` classes, the largest ones."""
    photo = display_copy(result.image, MAP_SIDE)
    views = {view.kind: view for view in result.views}
    similarity = _largest(_maps(views.get("similarity")), result, most)
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
    return Insight(pictures, low, high, affinity, seen(result, specs))


def _maps(view: View | None) -> list[tuple[NDArray[np.float32], str]]:
    """Give every map (h, w) of a view with its label."""
    if view is None:
        return []
    maps = view.maps.detach().float().cpu().numpy()  # (M, h, w)
    return list(zip(maps, view.labels, strict=True))


def _largest(
    maps: list[tuple[NDArray[np.float32], str]], result: Result, most: int | None
) -> list[tuple[NDArray[np.float32], str]]:
    """Keep the maps of the classes that won most, in typed order."""
    if most is None or len(maps) <= most:
        return maps
    shares = {summary.label: summary.area_share for summary in result.classes}
    ranked = sorted(range(len(maps)), key=lambda index: -shares.get(index + 1, 0.0))
    return [maps[index] for index in sorted(ranked[:most])]


def ringed(picture: NDArray[np.uint8], point: tuple[float, float]) -> NDArray[np.uint8]:
    """Draw a white ring with a dark rim round a point (row, column) in [0, 1] of a picture (H, W, 3)."""
    height, width = picture.shape[:2]
    rows, columns = np.ogrid[:height, :width]
    distance = np.hypot(rows + 0.5 - point[0] * height, columns + 0.5 - point[1] * width)  # (H, W)
    marked = picture.copy()
    marked[np.abs(distance - RING) < 3] = 0
    marked[np.abs(distance - RING) < 1.5] = 255
    return marked


def clicked_place(event: gr.EventData) -> Any:
    """Give the place that was clicked as (row, column) in [0, 1]; none for anything else."""
    try:
        ((across, down), *_) = drawn(event).points
    except ValueError:
        return gr.skip()
    return down, across


def point_note(views: Collection[ViewSpec]) -> str:
    """Say what a place of the photo is good for; "" where no view is about one."""
    return next((view.about_point for view in views if view.about_point), "")


def inspect_tab(engine: Engine, inputs: InputPanel) -> None:
    """Lay out the tab and connect it."""
    infos = method_infos(engine, inputs.encoder.value)
    with gr.Row(elem_classes="ovs-run", equal_height=False):
        method = gr.Dropdown(
            method_choices(infos),
            value=chosen_method(infos, DEFAULT_METHOD),
            label="Method",
            elem_id="inspect-method",
            scale=3,
            min_width=180,
        )
        start, stop = run_bar("Inspect", "inspect")
    missing = gr.HTML(unavailable_html(infos), padding=False, elem_id="inspect-missing")
    status, token = status_line("inspect")
    tour_panel(engine, inputs, method)
    beside = second_photo_field()
    kept = gr.State(None, time_to_live=STATE_SECONDS)
    point = gr.State(CENTRE, time_to_live=STATE_SECONDS)
    with gr.Column(elem_classes=LINKED):
        zoom_bar("inspect-zooms")
        hover = hover_field()
        similarity = gr.HTML("", padding=False, elem_id="similarity")
        picker = _class_picker()
        maps = maps_panel()
        own_views = gr.HTML("", padding=False, elem_id="class-views")
        shared_views = gr.HTML("", padding=False, elem_id="shared-views")

    def work(token: threading.Event, *values: Any) -> Iterator[Step]:
        *asked, method, point, label, before, chosen, second = values
        try:
            question = inputs.question(asked)
        except ValueError as error:
            yield Status(str(error), "error"), None
            return
        for status, answer in inspect_steps(engine, token, question, method, point, second):
            about = point_note(engine.method_specs[method].views)
            yield status, None if answer is None else _shown(*answer, point, about, label, before, chosen)

    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}

    def photo_to_click(photo: str | None) -> tuple[str, tuple[float, float]]:
        if photo == "":
            raise gr.Error(escape(PHOTO_GONE), print_exception=False)
        try:
            if photo is None:
                return "", CENTRE
            kept = remembered_photo(engine.cache, Path(photo))
            copy = remembered_copy(engine.cache, kept, fitted(kept.size, DISPLAY_SIDE))
            return photo_html(base_picture(copy)), CENTRE
        except ValueError:
            return "", CENTRE  # Inspect says why

    # A path that comes back from a browser is not looked at.
    inputs.photo.change(
        photo_to_click, [inputs.photo], [hover, point], api_name="photo_to_click", **quiet
    ).success(None, [hover], None, js="(html) => ovs.showCopy(html)")
    clicked = hover.select(clicked_place, None, [point], **quiet)
    wire(
        RunBar(start, stop, status, token),
        work,
        [*inputs.components, method, point, picker.label, kept, maps.view, beside],
        [hover, similarity, *picker.components, shared_views, kept, *maps.components],
        after=[clicked],
        tab="inspect",
        asked=[*inputs.watched, method, beside],
    )
    connect_maps(maps, [kept, picker.label, picker.one_scale, point])
    gr.on(
        [picker.label.change, picker.one_scale.input, hover.change],
        class_views,
        [kept, picker.label, picker.one_scale],
        [own_views],
        queue=False,
        trigger_mode="multiple",
        **quiet,
    )
    # A reply may come after the answer or the class that it is about has gone: what arrives is asked for its
    # mark, and made anew where that is another's.
    own_views.change(
        views_of_now,
        [own_views, kept, picker.label, picker.one_scale],
        [own_views],
        js=_MARK_OF_VIEWS,
        queue=False,
        trigger_mode="multiple",
        **quiet,
    )

    def follow(encoder: str, wanted: str | None) -> list[Any]:
        infos = method_infos(engine, encoder)
        return [method_update(infos, wanted), unavailable_html(infos)]

    gr.on(
        inputs.offer_changes,
        follow,
        [inputs.encoder, method],
        [method, missing],
        queue=False,
        **quiet,
    )


_MARK_OF_VIEWS = """(html, ...rest) => [(html || "").match(/data-mark="([^"]*)"/)?.[1] || "", ...rest]"""


def class_views(kept: Seen | None, label: int | str | None, one_scale: bool) -> str:
    """Give the sections of one class, marked; nothing for one that these words do not have."""
    mark = _mark(kept, label, one_scale)
    if not mark or kept is None or not isinstance(label, int):
        return ""
    shown = sections_html(sections(kept, label, per_class=True, one_scale=one_scale))
    return f'<div data-mark="{mark}">{shown}</div>'


def views_of_now(mark: str, kept: Seen | None, label: int | str | None, one_scale: bool) -> Any:
    """Give `class_views` anew if those on the page have the mark of another answer, class or scale."""
    return gr.skip() if mark == _mark(kept, label, one_scale) else class_views(kept, label, one_scale)


def _mark(kept: Seen | None, label: int | str | None, one_scale: bool) -> str:
    """Which answer, class and scale views are of; "" where there are none."""
    if kept is None or not kept.per_class:
        return ""
    if not isinstance(label, int) or not 1 <= label <= len(kept.names):
        return ""
    return f"{kept.mark}-{label}-{int(bool(one_scale))}"


@dataclass(frozen=True)
class _ClassPicker:
    """Which class is shown and how, in the order of `components`."""

    row: gr.Row
    label: gr.Dropdown
    one_scale: gr.Checkbox

    @property
    def components(self) -> list[Any]:
        return [self.row, self.label]


def _class_picker() -> _ClassPicker:
    with gr.Row(visible=False, equal_height=False, elem_id="class-picker", elem_classes="ovs-run") as row:
        label = gr.Dropdown(
            [],
            label="Look inside one class",
            allow_custom_value=True,  # a request about the words before may arrive late: it is no error
            elem_id="inspect-class",
            scale=3,
            min_width=180,
        )
        one_scale = gr.Checkbox(
            False,
            label="Same colour scale for all classes",
            elem_id="one-scale",
            scale=2,
            min_width=180,
        )
    return _ClassPicker(row, label, one_scale)


def _similarity(insight: Insight) -> str:
    """The maps of all classes as a section of the page; nothing where the method has none."""
    spec = next((spec for spec, _ in insight.seen.special if spec.kind == SIMILARITY.kind), None)
    if spec is None or not insight.similarity:
        return ""
    count, all_of = len(insight.similarity), len(insight.seen.names)
    note = f"{count} of {all_of} classes, those that won most of the photo." if count < all_of else ""
    scale = Scale(insight.low, insight.high)
    return sections_html(
        [Section(spec.kind, spec, insight.similarity, scale, note=note, over_photo=True)],
    )


def _shown(
    result: Result,
    insight: Insight,
    point: tuple[float, float],
    about: str,
    label: int | str | None,
    before: Seen | None,
    chosen: str | None,
) -> tuple[Any, ...]:
    """Give new values for all outputs; the class that was looked at stays if the words are the same."""
    current = insight.seen
    same = before is not None and before.names == current.names
    kept = label if same and isinstance(label, int) and label else current.first
    choices = [(name, number) for number, name in enumerate(current.names, start=1)]
    sources = {spec.kind: source_html(spec.source) for spec, _ in current.special}
    return (
        hover_html(result, point, about, sources.get(AFFINITY.kind, ""), insight.second),
        _similarity(insight),
        gr.update(visible=current.per_class),
        gr.update(choices=choices, value=kept),
        sections_html(sections(current, kept, per_class=False)),
        current,
        *maps_update(current, chosen),
    )
