"""One report for people: a page of HTML that needs no other file.

`page.html` is the template; jinja2 escapes whatever it is given, so that names are text.
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from matplotlib import colormaps
from numpy.typing import NDArray
from PIL import Image

from ovs_core.evaluation.report import RESAMPLES, Gallery, Report
from ovs_core.evaluation.summary import COSTS, MEANINGS, ClassNumbers, PhotoNumbers, Summary
from ovs_core.metrics.error_types import ERROR_TYPES, REMEDIES
from ovs_core.render.charts import Picture, curve
from ovs_core.render.errors import ERROR_COLORS, ERROR_NAMES
from ovs_core.render.palette import text_color
from ovs_core.types import Color

_JPEG_QUALITY = 85
_WORST = 12  # classes that are named for winning where they are not
_LARGEST_MATRIX = 24  # classes; the others are summed up in one row and column
_SIDE_TITLES = ("photo", "truth", "answer", "errors")

TITLES: Mapping[str, str] = MappingProxyType(
    {
        "miou_truth": "mIoU, classes in truth",
        "miou_either": "mIoU, in truth or answer",
        "pixel_accuracy": "pixel accuracy",
        "boundary_miou": "boundary mIoU",
        "pq": "PQ",
        "sq": "SQ",
        "rq": "RQ",
        "seen_miou": "seen mIoU",
        "unseen_miou": "unseen mIoU",
        "harmonic_miou": "harmonic mIoU",
        "false_area": "false area",
        "absent_silent": "absent classes silent",
        "perfect_names_miou": "mIoU with perfect names",
        "perfect_masks_miou": "mIoU with perfect masks",
        **{metric: ERROR_NAMES[kind] for metric, kind in COSTS.items()},
    }
)
"""What each metric is called on the page."""

_ORACLES = ("miou_truth", "perfect_names_miou", "perfect_masks_miou")
_MAIN = tuple(name for name in MEANINGS if name not in COSTS and name not in _ORACLES[1:])


@dataclass(frozen=True)
class Cell:
    """One cell of the confusion of classes.

    Attributes:
        percent: of the row, as text; "" below 1 %.
        title: what it says in words.
        color, ink: of its ground and its letters, for CSS.
        anchor: place in the page that names its photos; "" if there is none.
    """

    percent: str
    title: str
    color: str
    ink: str
    anchor: str


@dataclass(frozen=True)
class Confusion:
    """The confusion of classes as a table; `rows` are (name of the true class, cells)."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Cell, ...]], ...]


def page(report: Report, galleries: Mapping[str, Gallery]) -> str:
    """The report as one HTML text, pictures inside; `galleries` may lack subjects."""
    dataset = report.dataset
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(percent=percent, signed=_signed, jpeg=_jpeg_uri, png=_png_uri)
    environment.tests["interval_without_zero"] = lambda interval: interval.low > 0 or interval.high < 0
    subjects = [
        _subject(place, name, report, galleries.get(name, Gallery()))
        for place, name in enumerate(report.summaries)
    ]
    return environment.get_template("page.html").render(
        title=f"{dataset.title}, {dataset.split}" if dataset.split else dataset.title,
        question=_question(report),
        summaries=report.summaries,
        differences=report.differences,
        first=next(iter(report.summaries)),
        main=[name for name in _MAIN if any(name in each.metrics for each in report.summaries.values())],
        oracles=_ORACLES,
        costs=[(metric, REMEDIES[kind]) for metric, kind in COSTS.items()],
        titles=TITLES,
        meanings=MEANINGS,
        unseen=", ".join(dataset.classes[label - 1][0] for label in report.unseen),
        resamples=RESAMPLES,
        subjects=subjects,
        error_colors=dict(zip(ERROR_TYPES, (_css(color) for color in ERROR_COLORS), strict=True)),
        error_names=ERROR_NAMES,
        side_titles=_SIDE_TITLES,
    )


def percent(value: float | None) -> str:
    """A part in [0, 1] as a percentage with one decimal; a dash where it is unknown."""
    return "-" if value is None or math.isnan(value) else f"{100 * value:.1f}"


def confusion_table(
    matrix: NDArray[np.integer], names: Sequence[str], anchors: Mapping[tuple[int, int], str] | None = None
) -> Confusion:
    """Rows of a confusion matrix as parts of their truth.

    Args:
        matrix: pixels by (truth, answer), (n, n). A class without truth has no row, one without pixels no
            column; of many classes the largest are shown, the others summed.
        names: of its rows and columns.
        anchors: (truth, answer) -> place in the page that names its photos.
    """
    groups, columns = _groups(matrix, names)
    summed = np.array([[matrix[np.ix_(rows, picked)].sum() for picked in groups] for rows in groups])
    rows = []
    for row in np.flatnonzero(summed.sum(axis=1)).tolist():
        parts = (summed[row] / summed[row].sum()).tolist()
        cells = []
        for column, part in enumerate(parts):
            pair = groups[row], groups[column]
            single = len(pair[0]) == len(pair[1]) == 1
            anchor = (anchors or {}).get((pair[0][0], pair[1][0]), "") if single else ""
            cells.append(_cell(part, f"{columns[row]} called {columns[column]}", anchor))
        rows.append((columns[row], tuple(cells)))
    return Confusion(columns, tuple(rows))


def _groups(matrix: NDArray[np.integer], names: Sequence[str]) -> tuple[list[list[int]], tuple[str, ...]]:
    """Classes with any pixel, the largest ones of many each alone, the rest as one group; and their names."""
    size = matrix.sum(axis=1) * 2 + matrix.sum(axis=0)  # what the truth has comes before what it has not
    ranked = [int(index) for index in np.argsort(-size, kind="stable") if size[index]]
    kept, rest = sorted(ranked[:_LARGEST_MATRIX]), ranked[_LARGEST_MATRIX:]
    last = (f"{len(rest)} more classes",) if rest else ()
    return [[index] for index in kept] + ([rest] if rest else []), (*(names[index] for index in kept), *last)


def _cell(part: float, title: str, anchor: str) -> Cell:
    red, green, blue = (int(level) for level in colormaps["viridis"](part, bytes=True)[:3])
    ink = _css(text_color((red, green, blue)))
    shown = f"{100 * part:.0f}" if part >= 0.01 else ""
    return Cell(shown, f"{title}: {percent(part)} %", _css((red, green, blue)), ink, anchor)


def _css(color: Color) -> str:
    return "#{:02x}{:02x}{:02x}".format(*color)


def _question(report: Report) -> str:
    """What was typed about how many photos, in a sentence or two."""
    dataset, settings = report.dataset, report.settings
    known = len(dataset.classes)
    typed = f"all {known} classes of the set typed"
    if settings.classes_in_image:
        typed = f"only the photo's own classes typed (of {known})"
    if settings.distractors:
        typed = (
            f"the photo's own classes typed and up to {settings.distractors} that are not in it (of {known})"
        )
    synonyms = sum(len(names) - 1 for names in dataset.classes)
    words = f", {synonyms} synonyms among them" if synonyms else ""
    background = "everything else is background and counts as a class"
    if not dataset.background:
        background = "no background: every pixel gets a class, pixels without one in the truth do not count"
    return f"{len(dataset.examples)} photos; {typed}{words}; {background}."


def _subject(place: int, name: str, report: Report, gallery: Gallery) -> dict[str, object]:
    """All that the template says of one subject."""
    summary, dataset = report.summaries[name], report.dataset
    names = ("background" if dataset.background else "no class", *dataset.names)
    rows = {photo: f"s{place}-r{index}" for index, photo in enumerate(summary.photos)}
    drawn = {photo: f"s{place}-p{index}" for index, photo in enumerate(gallery.photos)}
    shown = {cell: f"s{place}-c{cell[0]}-{cell[1]}" for cell in summary.confused}
    ranked = sorted(
        (numbers for numbers in summary.classes if numbers.iou is not None),
        key=lambda numbers: (-(numbers.iou or 0.0), numbers.label),
    )
    return {
        "name": name,
        "summary": summary,
        "facts": _facts(report.about[name], summary),
        "classes": ranked,
        "false_names": _false_names(summary.classes),
        "sweep": _sweep_chart(report, name),
        "confusion": confusion_table(summary.confusion, names, shown),
        "cells": [
            {
                "anchor": shown[cell],
                "title": f"{names[cell[0]]} called {names[cell[1]]}",
                "photos": [
                    (photo, drawn.get(photo) or rows.get(photo, ""), pixels) for photo, pixels in photos
                ],
            }
            for cell, photos in summary.confused.items()
        ],
        "photos": [
            (photo, rows[photo], drawn.get(photo, ""), numbers) for photo, numbers in _by_iou(summary)
        ],
        "galleries": [
            (title, [(drawn[photo], gallery.photos[photo]) for photo in keys])
            for title, keys in _sections(gallery)
        ],
    }


def _sweep_chart(report: Report, name: str) -> Picture | None:
    """MIoU over thresholds, the preset's own marked; None if nobody asked."""
    sweep = report.summaries[name].sweep
    if not sweep:
        return None
    preset = report.about[name].get("preset", {})
    return curve(
        [threshold for threshold, _ in sweep],
        [(100 * each.low, 100 * each.value, 100 * each.high) for _, each in sweep],
        ("threshold", "mIoU in %, classes in truth"),
        mark=preset.get("threshold"),
    )


def _by_iou(summary: Summary) -> list[tuple[str, PhotoNumbers]]:
    """Photos with their numbers, the worst first."""
    return sorted(summary.photos.items(), key=lambda item: (item[1].iou, item[0]))


def _sections(gallery: Gallery) -> list[tuple[str, tuple[str, ...]]]:
    """Headings and the photos below them, each photo once."""
    others = tuple(photo for photo in gallery.photos if photo not in (*gallery.best, *gallery.worst))
    parts = (
        ("Best photos", gallery.best),
        ("Worst photos", gallery.worst),
        ("Photos of the largest confusions", others),
    )
    drawn = ((title, tuple(photo for photo in keys if photo in gallery.photos)) for title, keys in parts)
    return [(title, keys) for title, keys in drawn if keys]


def _facts(about: Mapping[str, object], summary: Summary) -> list[tuple[str, str]]:
    """What the answers depend on, one fact a line."""
    facts = []
    for key, value in about.items():
        if key == "weights" and isinstance(value, Mapping):
            facts += [(f"weights {file}", f"SHA-256 {entry['sha256']}") for file, entry in value.items()]
        elif isinstance(value, Mapping):
            facts += [(inner.replace("_", " "), _fact(each)) for inner, each in value.items()]
        else:
            facts.append((key, _fact(value)))
    stages = ", ".join(f"{stage.replace('_', ' ')} {spent:.2f}" for stage, spent in summary.seconds.items())
    facts.append(("median seconds by stage", stages))
    facts.append(("classes typed, mean", f"{summary.typed:.1f}"))
    counted = f"{summary.counted} counted, {len(summary.nothing_to_ask)} without a class to ask about"
    facts.append(("photos", f"{counted}, {len(summary.left_out)} left out"))
    return facts


def _fact(value: object) -> str:
    return "none" if value is None else str(value)


def _false_names(classes: Sequence[ClassNumbers]) -> str:
    """The classes that win most where they are not, with their part of all photos' area in per cent."""
    wrong = sorted(
        (numbers for numbers in classes if numbers.false_share), key=lambda each: -each.false_share
    )
    return ", ".join(f"{each.name} {100 * each.false_share:.2f}" for each in wrong[:_WORST])


def _signed(value: float) -> str:
    return f"{100 * value:+.1f}"


def _jpeg_uri(picture: Picture) -> str:
    """A photo (h, w, 3) as text that stands in for its file."""
    return _data_uri(picture, "jpeg", quality=_JPEG_QUALITY)


def _png_uri(picture: Picture) -> str:
    """A chart (h, w, 3) as text that stands in for its file."""
    return _data_uri(picture, "png")


def _data_uri(picture: Picture, kind: str, **settings: int) -> str:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, kind, **settings)
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"
