"""One report for people: a page of HTML that needs no other file."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ovs_core.evaluation.metrics import Interval
from ovs_core.evaluation.pictures import Sides, confusion_svg
from ovs_core.evaluation.report import RESAMPLES, Report
from ovs_core.evaluation.summary import MEANINGS, ClassNumbers, Summary
from ovs_core.render.palette import text_color
from ovs_core.types import Color

Examples = Mapping[str, tuple[Sequence[Sides], Sequence[Sides]]]
"""Subject -> its best photos and its worst photos."""

_JPEG_QUALITY = 85
_WORST = 12  # classes that are named for winning where they are not
_STYLE = """
:root { color-scheme: light; }
body { font: 15px/1.5 system-ui, sans-serif; color: #202124; margin: 2rem auto; max-width: 72rem; padding: 0
  1rem; }
h1 { font-size: 1.6rem; margin-bottom: 0; }
h2 { margin-top: 2.5rem; border-top: 1px solid #ddd; padding-top: 1rem; }
h3 { margin: 1.75rem 0 .5rem; font-size: 1.05rem; }
p.lead, .small { color: #5f6368; }
.small { font-size: .85rem; }
table { border-collapse: collapse; }
th, td { padding: .3rem .6rem; text-align: right; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
thead th { white-space: normal; vertical-align: bottom; border-bottom: 2px solid #ccc; font-weight: 600; }
tbody tr:nth-child(even) { background: #f6f7f8; }
.wide { overflow-x: auto; }
td b { font-weight: 650; }
td span.interval { color: #5f6368; font-size: .85rem; display: block; }
b.clear { color: #146c2e; }
dl.facts { display: grid; grid-template-columns: max-content 1fr; gap: .1rem 1rem; }
dl.facts dt { color: #5f6368; }
dl.facts dd { margin: 0; overflow-wrap: anywhere; }
.bars td { padding: .12rem .6rem; }
.bars td.bar { width: 45%; min-width: 12rem; }
.bar i { display: block; height: .8rem; background: #0072b2; border-radius: 2px; min-width: 1px; }
.bar i.edge { height: .3rem; background: #e69f00; margin-top: 2px; }
.sides { display: grid; grid-template-columns: repeat(3, 1fr); gap: .5rem; }
.sides img { width: 100%; display: block; }
figure { margin: 0 0 1.5rem; }
figcaption { margin-bottom: .35rem; overflow-wrap: anywhere; }
.chip { display: inline-block; border: 1px solid #0002; border-radius: .3rem; padding: .05rem .5rem;
  margin: .35rem .35rem 0 0; font-size: .85rem; }
svg.confusion { max-width: 100%; height: auto; font: 12px system-ui, sans-serif; }
svg.confusion .share { font-size: 10px; text-anchor: middle; pointer-events: none; }
"""


def page(report: Report, examples: Examples) -> str:
    """The report as one HTML text, pictures inside; `examples` may lack subjects."""
    dataset = report.dataset
    split = f", {dataset.split}" if dataset.split else ""
    title = f"{dataset.title}{split}"
    parts = [
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<style>{_STYLE}</style></head><body>",
        f"<h1>{escape(title)}</h1>",
        f'<p class="lead">{escape(_question(report))}</p>',
        _overview(report),
        _differences(report),
        _meanings(report),
    ]
    for name, summary in report.summaries.items():
        parts.append(_subject(name, summary, report, *examples.get(name, ((), ()))))
    return "\n".join([*filter(None, parts), "</body></html>\n"])


def percent(value: float | None) -> str:
    """A share in [0, 1] as a percentage with one decimal; a dash where it is unknown."""
    return "-" if value is None or math.isnan(value) else f"{100 * value:.1f}"


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


def _overview(report: Report) -> str:
    """A line for each subject, a column for each metric."""
    shown = [name for name in MEANINGS if any(name in one.metrics for one in report.summaries.values())]
    heads = ["", *(_TITLES[name] for name in shown), "s&nbsp;/ photo", "peak GB", "photos"]
    rows = []
    for name, summary in report.summaries.items():
        peak = "-" if summary.peak_bytes is None else f"{summary.peak_bytes / 1e9:.2f}"
        cells = [_value(summary.metrics.get(metric)) for metric in shown]
        cells += [f"{summary.seconds['total']:.2f}", peak, str(summary.counted)]
        rows.append([f"<b>{escape(name)}</b>", *cells])
    note = f"Per cent, 95 % intervals from {RESAMPLES:,} resamples of the photos; median seconds of a photo."
    return _table(heads, rows) + f'<p class="small">{note}</p>'


def _differences(report: Report) -> str:
    """The first subject against each other one."""
    if not report.differences:
        return ""
    first = next(iter(report.summaries))
    shown = list(next(iter(report.differences.values())))
    rows = [
        [f"{escape(first)} &minus; {escape(name)}", *(_signed(found.get(metric)) for metric in shown)]
        for name, found in report.differences.items()
    ]
    note = "Percentage points, paired by photo; green where the interval does not hold 0."
    heads = ["difference", *(_TITLES[name] for name in shown)]
    return f'<h3>Paired differences</h3>{_table(heads, rows)}<p class="small">{note}</p>'


def _meanings(report: Report) -> str:
    shown = [name for name in MEANINGS if any(name in one.metrics for one in report.summaries.values())]
    unseen = ", ".join(report.dataset.classes[label - 1][0] for label in report.unseen)
    facts = [(_TITLES[name], MEANINGS[name]) for name in shown]
    if unseen:
        facts.append(("unseen classes", unseen))
    return f"<details><summary>What the numbers mean</summary>{_facts(facts)}</details>"


def _subject(
    name: str, summary: Summary, report: Report, best: Sequence[Sides], worst: Sequence[Sides]
) -> str:
    about = report.about[name]
    parts = [f"<h2>{escape(name)}</h2>", _facts(_settings(about, summary))]
    if summary.left_out:
        rows = "".join(
            f"<li><b>{escape(photo)}</b>: {escape(why)}</li>" for photo, why in summary.left_out.items()
        )
        parts.append(f"<h3>Left out: {len(summary.left_out)}</h3><ul>{rows}</ul>")
    parts.append('<h3>Classes</h3><p class="small">Thick bar: IoU. Thin bar: boundary IoU.</p>')
    parts.append(_bars(summary.classes))
    names = ("background" if report.dataset.background else "no class", *report.dataset.names)
    parts.append("<h3>What is called what</h3>")
    parts.append('<p class="small">Rows: truth. Columns: answer. Per cent of the row; hover for names.</p>')
    parts.append(f'<div class="wide">{confusion_svg(summary.confusion, names)}</div>')
    for title, some in (("Best photos", best), ("Worst photos", worst)):
        if some:
            parts.append(f"<h3>{title}</h3>" + "".join(_figure(one) for one in some))
    return "\n".join(parts)


def _settings(about: Mapping[str, object], summary: Summary) -> list[tuple[str, str]]:
    """What the answers depend on, one fact a line."""
    facts = []
    for key, value in about.items():
        if key == "weights" and isinstance(value, Mapping):
            facts += [(f"weights {file}", f"SHA-256 {digest['sha256']}") for file, digest in value.items()]
        elif isinstance(value, Mapping):
            facts += [(inner.replace("_", " "), _fact(one)) for inner, one in value.items()]
        else:
            facts.append((key, _fact(value)))
    stages = ", ".join(f"{stage.replace('_', ' ')} {spent:.2f}" for stage, spent in summary.seconds.items())
    facts.append(("median seconds by stage", stages))
    facts.append(("classes typed, mean", f"{summary.typed:.1f}"))
    facts.append(
        (
            "photos",
            f"{summary.counted} counted, {len(summary.nothing_to_ask)} without a class to ask about, "
            f"{len(summary.left_out)} left out",
        )
    )
    return facts


def _fact(value: object) -> str:
    return "none" if value is None else str(value)


def _bars(classes: Sequence[ClassNumbers]) -> str:
    """A bar for each class in the truth, the best first, and the classes that win most where they are not."""
    ranked = sorted(
        (one for one in classes if one.iou is not None), key=lambda one: (-(one.iou or 0.0), one.label)
    )
    wrong = sorted((one for one in classes if one.false_share), key=lambda one: -one.false_share)
    rows = []
    for one in ranked:
        bars = "".join(
            f'<i{kind} style="width:{100 * (value or 0):.1f}%" title="{title} {percent(value)} %"></i>'
            for kind, value, title in (
                ("", one.iou, "IoU"),
                (' class="edge"', one.boundary_iou, "boundary IoU"),
            )
        )
        area = f"{100 * one.truth_share:.2f} → {100 * one.answer_share:.2f}"  # many classes are small
        rows.append(
            f'<tr><td>{escape(one.name)}</td><td class="bar">{bars}</td><td><b>{percent(one.iou)}</b></td>'
            f"<td>{percent(one.boundary_iou)}</td><td>{area}</td><td>{one.photos}</td></tr>"
        )
    head = "".join(
        f"<th>{text}</th>"
        for text in (
            "class",
            "",
            "IoU&nbsp;%",
            "boundary IoU&nbsp;%",
            "area&nbsp;% in truth&nbsp;→&nbsp;answer",
            "photos",
        )
    )
    worst = ", ".join(f"{escape(one.name)} {100 * one.false_share:.2f}" for one in wrong[:_WORST])
    note = "Win most in photos that do not have them, per cent of the area of all photos"
    last = f'<p class="small">{note}: {worst}.</p>' if wrong else ""
    return (
        f'<div class="wide"><table class="bars"><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>{last}"
    )


def _figure(one: Sides) -> str:
    pictures = "".join(
        f'<img src="{_data_uri(picture)}" alt="{title}" title="{title}">'
        for picture, title in zip(one.pictures, ("photo", "truth", "answer"), strict=True)
    )
    chips = "".join(_chip(name, color) for name, color in one.legend)
    caption = f"<b>{escape(one.photo)}</b>, mIoU {percent(one.iou)} %: photo, truth, answer"
    return f'<figure><figcaption>{caption}</figcaption><div class="sides">{pictures}</div>{chips}</figure>'


def _chip(name: str, color: Color) -> str:
    ink = "#000" if text_color(color) == (0, 0, 0) else "#fff"
    return f'<span class="chip" style="background:rgb{color};color:{ink}">{escape(name)}</span>'


def _data_uri(picture: NDArray[np.uint8]) -> str:
    """A picture (h, w, 3) as text that stands in for its file."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=_JPEG_QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"


def _value(one: Interval | None) -> str:
    if one is None:
        return "-"
    between = f"{percent(one.low)} &ndash; {percent(one.high)}"
    return f'<b>{percent(one.value)}</b><span class="interval">{between}</span>'


def _signed(one: Interval | None) -> str:
    if one is None:
        return "-"
    value, low, high = (f"{100 * number:+.1f}" for number in (one.value, one.low, one.high))
    mark = ' class="clear"' if one.low > 0 or one.high < 0 else ""
    return f'<b{mark}>{value}</b><span class="interval">{low} … {high}</span>'


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of cells that are HTML already."""
    head = "".join(f"<th>{text}</th>" for text in heads)
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _facts(facts: Iterable[tuple[str, str]]) -> str:
    inside = "".join(f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in facts)
    return f'<dl class="facts">{inside}</dl>'


_TITLES: Mapping[str, str] = MappingProxyType(
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
    }
)
