"""What the page says: results, progress and mistakes as plain text and escaped HTML. No gradio here.

Class names, file names and error sentences come from outside and are text: everything passes `html.escape`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from types import MappingProxyType
from typing import Literal

from ovs_core.engine import Result
from ovs_core.render.legend import percent
from ovs_core.types import ClassSummary

OTHER_NAME = "other"
STOPPED = "Stopped. Nothing you entered is lost."
NOTHING_WON = (
    "Nothing you typed won a pixel. Lower the threshold, try plainer words, "
    "or take words out of the “everything else” list."
)


# Stage of the engine -> (while it runs, in a sum of seconds).
STAGES: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "load": ("Loading the model", "loading"),
        "text": ("Reading the words", "words"),
        "encode": ("Looking at the photo", "photo"),
        "method": ("Matching patches and words", "method"),
        "refine": ("Refining edges", "edges"),
        "decide": ("Labelling pixels", "labels"),
    }
)


@dataclass(frozen=True)
class Status:
    """One line about what is going on.

    Attributes:
        text: one sentence, plain text.
        kind: how it is marked; "busy" shows a bar.
        fraction: part done in [0, 1], or None when unknown.
        answers: whether values that come with it are a new answer.
    """

    text: str
    kind: Literal["busy", "done", "warning", "error"] = "done"
    fraction: float | None = None
    answers: bool = True


def status_html(status: Status | None, *, answer: str = "") -> str:
    """Give the status line as HTML that a screen reader announces; nothing for None.

    Args:
        status: what is going on.
        answer: name of the new answer that is on the page, at least a part of it; the page's script reads it.
    """
    if status is None:
        return ""
    mark = f' data-answer="{answer}"' if answer else ""
    if answer and status.kind != "busy":
        mark += " data-answer-last"
    role = "alert" if status.kind in ("warning", "error") else "status"
    bar = ""
    if status.kind == "busy":
        percent = 0 if status.fraction is None else round(100 * min(max(status.fraction, 0.0), 1.0))
        bar = f'<div class="bar" aria-hidden="true"><i style="width:{percent}%"></i></div>'
    return (
        f'<div class="ovs-status {status.kind}" role="{role}" aria-live="polite"{mark}>'
        f'<div class="line">{escape(status.text)}{bar}</div></div>'
    )


def shown_name(summary: ClassSummary) -> str:
    """Name a class as the page shows it."""
    return OTHER_NAME if summary.label == 0 else summary.names[0]


def is_empty(classes: Sequence[ClassSummary]) -> bool:
    """Tell whether no typed class won a single pixel."""
    return all(summary.area_share == 0 for summary in classes if summary.label)


def summary_text(classes: Sequence[ClassSummary], off: Collection[int] = ()) -> str:
    """Say the result in a few sentences, largest class first: the text alternative of the picture.

    Args:
        classes: legend.
        off: labels of words that are switched off.
    """
    names = [shown_name(c) for c in classes if c.label in off]
    dark = f" Switched off: {', '.join(names)}." if names else ""
    if is_empty(classes):
        return f"No word that is on won a pixel.{dark}" if dark else NOTHING_WON
    typed = sorted((c for c in classes if c.label and c.area_share > 0), key=lambda c: -c.area_share)
    rest = sum(c.area_share for c in classes if not c.label)
    parts = [f"{shown_name(c)} {percent(c.area_share)}" for c in typed]
    parts[0] = f"{shown_name(typed[0])} covers {percent(typed[0].area_share)} of the photo"
    if rest > 0:
        parts.append(f"{OTHER_NAME} {percent(rest)}")
    lost = [shown_name(c) for c in classes if c.label and c.area_share == 0 and c.label not in off]
    missing = f" Not found: {', '.join(lost)}." if lost else ""
    return f"{', '.join(parts)}.{missing}{dark}"


def seconds_text(seconds: Mapping[str, float]) -> str:
    """Write where the time went, e.g. "0.84 s (photo 0.60, words 0.24)"; very short stages are left out."""
    named = {STAGES.get(stage, ("", stage))[1]: value for stage, value in seconds.items()}
    parts = [f"{stage} {value:.2f}" for stage, value in named.items() if value >= 0.005]
    return f"{sum(seconds.values()):.2f} s" + (f" ({', '.join(parts)})" if parts else "")


def progress_text(stage: str, done: int, total: int) -> str:
    """Say what the engine is doing, e.g. "Looking at the photo, window 3 of 12 (17 %)"."""
    doing = STAGES.get(stage, (stage.capitalize(), stage))[0]
    if total <= 1:
        return doing
    return f"{doing}, {min(done + 1, total)} of {total} ({100 * done // total} %)"


def note_html(*sentences: str) -> str:
    """Give small grey text, one line per non-empty sentence."""
    return "".join(f'<p class="ovs-note">{escape(text)}</p>' for text in sentences if text)


def hex_color(color: Sequence[int]) -> str:
    """Write an (R, G, B) colour in 0..255 as #rrggbb."""
    red, green, blue = color
    return f"#{red:02x}{green:02x}{blue:02x}"


def swatch(color: Sequence[int]) -> str:
    """Give a small square of a colour."""
    return f'<span class="swatch" style="background:{hex_color(color)}" aria-hidden="true"></span>'


def class_table(classes: Sequence[ClassSummary]) -> str:
    """Give the table of one result: class with its colour, area share, mean score."""
    rows = []
    for summary in classes:
        synonyms = " | ".join(summary.names[1:]) if summary.label else ""
        synonyms = f' <span class="syn">| {escape(synonyms)}</span>' if synonyms else ""
        meter = f"width:{100 * summary.area_share:.1f}%;background:{hex_color(summary.color)}"
        bar = f'<span class="meter" style="{meter}"></span>' if summary.area_share > 0 else ""
        score = f"{summary.mean_score:.2f}" if summary.mean_score > 0 else "-"
        rows.append(
            f'<tr><td class="name">{swatch(summary.color)}{escape(shown_name(summary))}{synonyms}'
            f"{bar}</td>"
            f'<td class="number">{percent(summary.area_share)}</td><td class="number">{score}</td></tr>'
        )
    head = (
        '<tr><th scope="col">Class</th><th scope="col" class="number">Area</th>'
        '<th scope="col" class="number">Mean score</th></tr>'
    )
    return captioned_table(
        "Share of the photo's pixels, and how sure the method is where a class won", head, rows
    )


def compare_table(results: Sequence[Result], titles: Mapping[str, str]) -> str:
    """Give the table of a comparison: one row per method with its seconds and every class's area share."""
    if not results:
        return ""
    classes = {summary.label: summary for result in results for summary in result.classes}
    head = '<tr><th scope="col">Method</th><th scope="col" class="number">Seconds</th>' + "".join(
        f'<th scope="col" class="number">{swatch(summary.color)}{escape(shown_name(summary))}</th>'
        for summary in classes.values()
    )
    rows = []
    for result in results:
        shares = {summary.label: summary.area_share for summary in result.classes}
        cells = "".join(f'<td class="number">{percent(shares.get(label, 0.0))}</td>' for label in classes)
        title = escape(titles.get(result.method, result.method))
        seconds = f'<td class="number">{sum(result.seconds.values()):.2f}</td>'
        rows.append(f'<tr><td class="name">{title}</td>{seconds}{cells}</tr>')
    caption = "Seconds (work shared between methods is counted once) and area shares"
    return captioned_table(caption, head + "</tr>", rows)


def legend_html(classes: Sequence[ClassSummary], *, shares: bool = False) -> str:
    """Give the colours of all classes as one line of swatches and names, with area shares if wanted."""
    texts = [f"{shown_name(c)} · {percent(c.area_share)}" if shares else shown_name(c) for c in classes]
    items = "".join(
        f"<span>{swatch(c.color)}{escape(text)}</span>" for c, text in zip(classes, texts, strict=True)
    )
    return f'<div class="ovs-legend">{items}</div>'


def captioned_table(caption: str, head: str, rows: Sequence[str]) -> str:
    """Give a table that scrolls by itself; caption, head and rows are HTML."""
    body = "".join(rows)
    return (
        f'<div class="ovs-table" tabindex="0"><table><caption><span>{caption}</span></caption>'
        f"<thead>{head}</thead><tbody>{body}</tbody></table></div>"
    )
