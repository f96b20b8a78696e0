"""From the views of an answer to what is shown of each: pictures with captions, a key, numbers; no gradio.

How a kind is drawn its method declares (`ViewSpec`); here every way of drawing is one function.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ovs_core.encoders.region_crops import CROP_SIDE, OUTSIDE, region_crop
from ovs_core.engine import Result
from ovs_core.methods.base import AFFINITY
from ovs_core.render.charts import (
    Picture,
    bars,
    matrix,
    scale_ends,
    scale_strip,
    short_number,
    side_by_side,
    stacked,
    text_strip,
)
from ovs_core.render.heatmap import blend, common_range, heatmap
from ovs_core.render.legend import legend
from ovs_core.render.lettering import INK, one_line, picture_name
from ovs_core.render.overlay import paint
from ovs_core.render.palette import PALETTE
from ovs_core.types import OTHER_COLOR, ClassSummary, View, ViewKind
from ovs_core.ui.pictures import resampled_labels, shown_copy
from ovs_core.ui.view_sections import Scale, Section, Table
from ovs_core.views import Drawing, Source, ViewSpec

MAP_SIDE = 512  # longer side of a map over the photo, in pixels
_OPACITY = 0.6  # of numbered areas and labels over the photo
_BAR_COLOR = PALETTE[0]
OWN_SCALES = "Each map has its own scale: dark and bright are the two numbers below it."
_LEAST_WIDTH = 480  # of a figure, in pixels, so that its heading can be read


@dataclass(frozen=True, eq=False)
class Seen:
    """What is kept of an answer to show its views, one class after the other.

    Attributes:
        views: in the order of the page, with how each is drawn.
        special: those that have a place of their own on the page, likewise.
        method: registry name.
        stem: file name of the photo, without its ending.
        photo_size: (H, W) of the photo in pixels.
        photo: display copy, (H, W, 3).
        names: of the classes as typed, (K,).
        colors: one per label, (K + 1, 3).
        stand_ins: names that no font here can write, and what a picture shows in their place.
        first: label of the class to show first: the largest one.
        mark: no other answer has it.
    """

    views: tuple[tuple[ViewSpec, View], ...]
    special: tuple[tuple[ViewSpec, View], ...]
    method: str
    stem: str
    photo_size: tuple[int, int]
    photo: Picture
    names: tuple[str, ...]
    colors: NDArray[np.uint8]
    stand_ins: Mapping[str, str]
    first: int
    mark: str = field(default_factory=partial(secrets.token_hex, 8))

    @property
    def every(self) -> tuple[tuple[ViewSpec, View], ...]:
        """All views."""
        return (*self.special, *self.views)

    @property
    def per_class(self) -> bool:
        """Whether any view is shown for one class at a time."""
        return any(spec.per_class for spec, _ in self.views)


def seen(result: Result, specs: Sequence[ViewSpec]) -> Seen:
    """Keep what the views of a result need to be drawn, in the order of the method's `specs`."""
    by_kind = {view.kind: view for view in result.views}
    names = result.vocabulary.names
    drawn = {name: picture_name(name, label) for label, name in enumerate(names, start=1)}
    shares = {summary.label: summary.area_share for summary in result.classes if summary.label}
    kept = [(spec, by_kind[spec.kind]) for spec in specs if spec.kind in by_kind]
    return Seen(
        tuple(pair for pair in kept if not pair[0].special),
        tuple(pair for pair in kept if pair[0].special),
        result.method,
        Path(result.source).stem or "photo",
        result.photo_size,
        shown_copy(result.image, MAP_SIDE),
        names,
        result.label_map.color_table,
        {name: other for name, other in drawn.items() if other != one_line(name)},
        max(shares, key=lambda label: shares[label]),
    )


def sections(
    kept: Seen, label: int, *, per_class: bool | None = None, one_scale: bool = False
) -> tuple[Section, ...]:
    """Draw the views in the order of the page.

    Args:
        kept: from `seen`.
        label: the class to show where a view has maps for each, from 1.
        per_class: only views that have, or have not, maps for each class; None takes all.
        one_scale: colour the maps of all classes on one scale; otherwise those of the class alone.

    Raises:
        ValueError: for a label that no class has.
    """
    if not 1 <= label <= len(kept.names):
        raise ValueError(f"class must be a number from 1 to {len(kept.names)}, got {label}")
    return tuple(
        _section(kept, look, view, label, one_scale)
        for look, view in kept.views
        if per_class in (None, look.per_class)
    )


def figure(
    kept: Seen, kind: ViewKind, label: int, *, one_scale: bool = False, point: tuple[float, float]
) -> Picture | None:
    """One view as a picture to take away; None for words.

    Args:
        kept: from `seen`.
        kind: of a view that the answer has.
        label: as in `sections`.
        one_scale: as in `sections`.
        point: (row, column) in [0, 1]: of an affinity the map of that place.
    """
    look, view = next(pair for pair in kept.every if pair[0].kind == kind)
    if kind == AFFINITY.kind:
        rows, columns = view.maps.shape[1:]
        place = _step(point[0], rows) * columns + _step(point[1], columns)
        view = replace(view, maps=view.maps[place : place + 1], labels=view.labels[place : place + 1])
    elif look.special:
        view = replace(view, limits=view.limits or common_range(_maps(view)))
    return _section(kept, look, view, label, one_scale).figure


def _step(part: float, count: int) -> int:
    """Which of `count` equal steps a part in [0, 1] falls into."""
    return min(int(part * count), count - 1)


def _section(kept: Seen, look: ViewSpec, view: View, label: int, one_scale: bool) -> Section:
    if look.per_class:
        whole, view = view, of_class(view, label, len(kept.names))
        if look.drawing == "heat":
            everywhere = whole.limits or common_range(_maps(whole))
            view = replace(view, limits=everywhere if one_scale else common_range(_maps(view)))
    section = _DRAW[look.drawing](kept, view, look)
    if look.titled:
        section = replace(section, note=f"{view.title}. {section.note}".strip())
    return _with_figure(section, kept, label)


def of_class(view: View, label: int, classes: int) -> View:
    """The part of a view, whose maps come class by class, that belongs to one class.

    Raises:
        ValueError: if the maps cannot be shared out evenly.
    """
    each, left = divmod(len(view.maps), classes)
    if left or not each:
        raise ValueError(f"{view.kind} must have maps for each of {classes} classes, got {len(view.maps)}")
    part = slice((label - 1) * each, label * each)
    return replace(view, maps=view.maps[part], labels=view.labels[part], words=view.words[part])


def _maps(view: View) -> NDArray[np.float32]:
    """Maps (M, h, w) as NumPy has them."""
    return view.maps.detach().float().cpu().numpy()


def _heat(kept: Seen, view: View, look: ViewSpec) -> Section:
    """Maps over the photo, or alone where their columns have names and are no places."""
    size = (kept.photo.shape[0], kept.photo.shape[1])
    maps = _maps(view)[: look.most]
    limits = view.limits or (common_range([maps[0]]) if len(maps) == 1 else None)
    panels = []
    for values, label in zip(maps, view.labels, strict=False):
        low, high = limits or common_range([values])
        colors = heatmap(values, size, low, high)
        picture = colors if view.columns else blend(colors, kept.photo)
        said = f"up to {short_number(float(values.max()))}" if look.peaks else ""
        if limits is None:
            said = " to ".join(scale_ends(low, high))
        panels.append((picture, f"{label}: {said}" if said else label))
    note = " ".join(filter(None, (_left_out(len(view.maps), look), "" if limits else OWN_SCALES)))
    scale = Scale(*limits) if limits else None
    return Section(view.kind, look, tuple(panels), scale, note=note, over_photo=not view.columns)


def _numbered(kept: Seen, view: View, look: ViewSpec) -> Section:
    """Areas 1..n, n being the upper limit."""
    maps = _maps(view)[: look.most].round().astype(np.uint8)
    count = round(view.limits[1]) if view.limits else int(maps.max())
    colors = [OTHER_COLOR, *(PALETTE[number % len(PALETTE)] for number in range(count))]
    names = ["none", *(f"{look.noun} {number}" for number in range(1, count + 1))]
    return _areas(kept, view, look, maps, np.array(colors, np.uint8), names)


def _labels(kept: Seen, view: View, look: ViewSpec) -> Section:
    """Areas of classes in their own colours."""
    maps = _maps(view)[: look.most].round().astype(np.uint16)
    return _areas(kept, view, look, maps, kept.colors, ["other", *kept.names])


def _areas(
    kept: Seen,
    view: View,
    look: ViewSpec,
    maps: NDArray[np.uint8] | NDArray[np.uint16],
    colors: NDArray[np.uint8],
    names: Sequence[str],
) -> Section:
    """Maps of whole numbers over the photo; the key gives each number's share, of the last map if several."""
    size = kept.photo.shape[:2]
    panels = [
        (paint(kept.photo, resampled_labels(one, size), colors, _OPACITY), label)
        for one, label in zip(maps, view.labels, strict=False)
    ]
    key = []
    for number in np.unique(maps).tolist():
        red, green, blue = colors[number].tolist()
        share = float((maps[-1] == number).mean())
        key.append(ClassSummary(number, (names[number],), (red, green, blue), share, 0.0))
    note = _left_out(len(view.maps), look)
    if len(maps) > 1 and not note:
        note = f"Shares are those of the last map, “{view.labels[len(maps) - 1]}”."
    return Section(view.kind, look, tuple(panels), key=tuple(key), note=note, over_photo=True)


def _crops(kept: Seen, view: View, look: ViewSpec) -> Section:
    """What lies where each map is above one half, alone on grey, its box stretched to a square."""
    panels = []
    for values, label in zip(_maps(view)[: look.most], view.labels, strict=False):
        fine = Image.fromarray(values).resize(kept.photo.shape[1::-1], Image.Resampling.BILINEAR)
        inside = np.asarray(fine) > 0.5
        grey = np.full((CROP_SIDE, CROP_SIDE, 3), OUTSIDE, np.uint8)
        panels.append((region_crop(kept.photo, inside) if inside.any() else grey, label))
    return Section(view.kind, look, tuple(panels), note=_left_out(len(view.maps), look))


def _bars(kept: Seen, view: View, look: ViewSpec) -> Section:
    """One number per label; of too many the largest ones, or the first if they are ranked already."""
    values = _maps(view).reshape(len(view.labels), -1)[:, 0]
    by_size = len(values) > look.most and not look.ranked
    order = (np.argsort(-values, kind="stable") if by_size else np.arange(len(values)))[: look.most]
    low, high = view.limits or common_range([values])
    names, values = [view.labels[row] for row in order], values[order]
    shares = np.clip((values - low) / max(high - low, np.finfo(np.float32).tiny), 0, 1).tolist()
    own = {name: kept.colors[label].tolist() for label, name in enumerate(kept.names, start=1)}
    colors = [tuple(own.get(name, _BAR_COLOR)) for name in names]
    rows = tuple((name, f"{value:.3f}") for name, value in zip(names, values.tolist(), strict=True))
    table = Table(("", "value"), rows, meters=tuple(zip(shares, colors, strict=True)))
    chart = bars([_written(name, kept) for name in names], values.tolist(), shares, colors)
    note = _left_out(len(view.labels), look, "the largest" if by_size else "the first")
    return Section(view.kind, look, table=table, chart=chart, note=note)


def _matrix(kept: Seen, view: View, look: ViewSpec) -> Section:
    """A matrix: rows of one map each, or square maps below each other."""
    maps = _maps(view)
    columns = view.columns or _numbers(maps.shape[2])
    names: Sequence[str] = view.labels
    if len(maps) == 1:
        names = columns
    elif maps.shape[1] > 1:
        names = [f"{label}: {name}" for label in view.labels for name in columns]
    values = maps.reshape(-1, maps.shape[2])
    limits = view.limits or common_range([values])
    texts = ([f"{value:.2f}" for value in row] for row in values.tolist())
    rows = tuple((name, *row) for name, row in zip(names, texts, strict=True))
    table = Table(("", *columns), rows, heatmap(values, (values.shape[0], values.shape[1]), *limits))
    beside, above = ([_written(name, kept) for name in side] for side in (names, columns))
    chart = matrix(values, beside, above, limits)
    return Section(view.kind, look, scale=Scale(*limits), table=table, chart=chart)


def _words(kept: Seen, view: View, look: ViewSpec) -> Section:
    """Words with their numbers; the longer side of the table runs down."""
    numbers = _maps(view).reshape(len(view.labels), -1)[: look.most]
    cells = [
        [f"{word} ({number:.2f})" for word, number in zip(row, values, strict=True)]
        for row, values in zip(view.words, numbers.tolist(), strict=False)
    ]
    places = view.columns or _numbers(numbers.shape[1])
    labels, note = view.labels[: look.most], _left_out(len(view.labels), look)
    if len(places) > len(cells):
        turned = zip(places, zip(*cells, strict=True), strict=True)
        rows = tuple((place, *row) for place, row in turned)
        return Section(view.kind, look, table=Table(("", *labels), rows), note=note)
    rows = tuple((label, *row) for label, row in zip(labels, cells, strict=True))
    return Section(view.kind, look, table=Table(("", *places), rows), note=note)


_DRAW: Mapping[Drawing, Callable[[Seen, View, ViewSpec], Section]] = MappingProxyType(
    {
        "heat": _heat,
        "numbered": _numbered,
        "labels": _labels,
        "crops": _crops,
        "bars": _bars,
        "matrix": _matrix,
        "words": _words,
    }
)


def _with_figure(section: Section, kept: Seen, label: int) -> Section:
    """The section with everything on one picture: heading, maps or chart, key, sentence; words have none."""
    if section.panels:
        pictures, captions = zip(*section.panels, strict=True)
        body = side_by_side(pictures, [_written(caption, kept) for caption in captions])
    elif section.chart is not None:
        body = section.chart
    else:
        return section
    width = max(_LEAST_WIDTH, body.shape[1])
    heading = section.look.heading
    if section.look.per_class:
        heading = f"{heading}: {kept.names[label - 1]}"
    parts = [text_strip(_written(heading, kept), width, INK, 20), body]
    if section.key:
        parts.append(legend(section.key, width))
    if section.scale is not None:
        parts.append(scale_strip(section.scale.low, section.scale.high))
    text = " ".join(filter(None, (section.look.sentence, section.note, _cited(section.look.source))))
    return replace(section, figure=stacked([*parts, text_strip(_written(text, kept), width)]))


def _cited(source: Source) -> str:
    """Equation and paper in one line; "" where neither is known."""
    paper = ", ".join(filter(None, (source.title, source.arxiv and f"arXiv {source.arxiv}")))
    return f"{source.shows} ({paper})" if paper else source.shows


def _written(text: str, kept: Seen) -> str:
    """The text with stand-ins for class names that a picture cannot show."""
    for name, other in kept.stand_ins.items():
        text = text.replace(name, other)
    return one_line(text)


def _numbers(count: int) -> tuple[str, ...]:
    return tuple(str(number) for number in range(1, count + 1))


def _left_out(count: int, look: ViewSpec, which: str = "the first") -> str:
    """Say how many of many are shown; "" if all are."""
    return "" if count <= look.most else f"Of {count}, {which} {look.most} are shown."
