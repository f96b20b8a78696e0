"""What a pointer over the photo shows: scores of every class at a place and what its patch looks at.

All of it is sent once, as bytes; `hover.js` reads them, and a move asks the server nothing. A payload has at
most `MOST_BYTES_SENT` bytes, whatever the photo and however many classes: the grid of scores is made coarser
for more classes and beside a second photo, and an affinity has at most `MOST_PLACES` places.
"""

from __future__ import annotations

import base64
import json
import math
import secrets
import zlib
from dataclasses import dataclass
from html import escape
from pathlib import Path

import gradio as gr
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ovs_core.engine import Result
from ovs_core.engine.beside import PatchCosines
from ovs_core.evidence.base import class_counts
from ovs_core.evidence.decide import class_probabilities
from ovs_core.evidence.protocol import Evidence
from ovs_core.render.heatmap import scale_bar
from ovs_core.types import OTHER_COLOR
from ovs_core.ui.pictures import base_picture
from ovs_core.ui.view_html import file_url, scale_html
from ovs_core.ui.view_sections import Scale
from ovs_core.ui.words import OTHER_NAME, hex_color, swatch

MOST_CLASSES = 24  # of more classes those that won most of the photo
MOST_BYTES_SENT = 2_000_000
_SCORE_BYTES = 700_000  # of the three numbers of every class and place, before base64
_SCORE_BYTES_BESIDE = 400_000  # the same where cosines with a second photo are sent, too
_LEVEL = 4  # of deflating; higher ones take longer and save little
_LONGEST_GRID = 192  # places of scores along the longer side
_MOST_NAMES = 255  # of one class, to say in a byte which one won
_INFERNO = "linear-gradient(to right, #000004, #57106e, #bc3754, #f98e09, #fcffa4)"
_PEAK = (
    f'<span class="ovs-scale"><span>0</span><i style="background:{_INFERNO}" aria-hidden="true"></i>'
    '<span class="peak"></span></span>'
)
_SCRIPT = Path(__file__).with_name("hover.js")
_ABOUT = "Move over the photo, tap it, or focus it and press arrow keys; a click or Enter pins the place."
_FIRST = "Press Inspect, or click a place to ask about it."


@dataclass(frozen=True, eq=False)
class Scores:
    """Numbers of the shown classes on a grid, (C, h, w) uint8 each.

    Attributes:
        names: of each class, `other` last where it competes.
        colors: of each class, "#rrggbb".
        probabilities: 255 stands for 1.
        scores: of the best name, 0 to 255 from `low` to `high`; None where a method has no score per name.
        low, high: ends of that scale, in the method's own units.
        winners: which name that is, from 0; None with `scores`.
    """

    names: tuple[tuple[str, ...], ...]
    colors: tuple[str, ...]
    probabilities: NDArray[np.uint8]
    scores: NDArray[np.uint8] | None
    low: float
    high: float
    winners: NDArray[np.uint8] | None


@dataclass(frozen=True, eq=False)
class SecondPhoto:
    """What stands beside the photo: `picture` is a file of the app's own cache."""

    picture: str
    alike: PatchCosines


def hover_field() -> gr.HTML:
    """Lay out the field; `hover_html` makes its values."""
    script = _SCRIPT.read_text(encoding="utf-8")
    return gr.HTML("", elem_id="hover", padding=False, js_on_load=script)


def scores_of(result: Result, most_bytes: int = _SCORE_BYTES) -> Scores:
    """Scores of the classes that won most, on a grid that fits so many bytes."""
    evidence, table = result.evidence, result.label_map.color_table
    vocabulary = evidence.vocabulary
    shares = {summary.label: summary.area_share for summary in result.classes}
    count = len(vocabulary.classes)
    ranked = sorted(range(count), key=lambda at: -shares.get(at + 1, 0.0))
    kept = [*sorted(ranked[:MOST_CLASSES]), *([count] if vocabulary.other else [])]
    groups = (*vocabulary.classes, *([vocabulary.other] if vocabulary.other else []))
    size = _grid(evidence.image_size, len(kept), most_bytes)
    probabilities = class_probabilities(evidence, result.preset.scale, size)[kept]
    best = _best_names(evidence, size)
    low = high = 0.0
    scores = winners = None
    if best is not None:
        chosen = best[0][kept].cpu().numpy()
        low, high = float(chosen.min()), float(chosen.max())
        scores = np.rint((chosen - low) * (255 / (high - low) if high > low else 0.0)).astype(np.uint8)
        winners = best[1][kept].clamp(max=_MOST_NAMES).cpu().numpy().astype(np.uint8)
    return Scores(
        tuple(groups[at][:_MOST_NAMES] if at < count else (OTHER_NAME, *groups[at]) for at in kept),
        tuple(hex_color(table[at + 1].tolist() if at < count else OTHER_COLOR) for at in kept),
        np.rint(probabilities.clamp(0, 1).cpu().numpy() * 255).astype(np.uint8),
        scores,
        low,
        high,
        winners,
    )


def photo_html(picture: str) -> str:
    """The value of the field before an answer: a photo, from the app's own cache, that can be clicked."""
    figure = _figure(_stage(picture, _FIRST, focus=True), _FIRST)
    return f'<div class="ovs-hover" data-asks><div class="pair">{figure}</div></div>'


def hover_html(
    result: Result,
    point: tuple[float, float],
    about: str = "",
    source: str = "",
    second: SecondPhoto | None = None,
) -> str:
    """The value of the field: photo, map, bars and the numbers behind them; no two answers have the same.

    Args:
        result: with its view "affinity", if the method has it.
        point: (row, column) in [0, 1] that is shown first.
        about: what a click is good for beside pinning: the method is asked again about that place.
        source: HTML below the map: where it comes from.
        second: another photo, to be searched for the patch.
    """
    shown = scores_of(result, _SCORE_BYTES if second is None else _SCORE_BYTES_BESIDE)
    affinity = next((view.maps for view in result.views if view.kind == "affinity"), None)
    data = {
        "grid": shown.probabilities.shape[1:],
        "names": shown.names,
        "probabilities": _packed(shown.probabilities),
        "scores": "" if shown.scores is None else _packed(shown.scores),
        "range": (shown.low, shown.high),
        "winners": "" if shown.winners is None else _packed(shown.winners),
        "other": bool(result.vocabulary.other),
        "threshold": result.preset.threshold,
        "start": (point[1], point[0]),
        **({} if affinity is None else _affinity(affinity)),
        **({} if second is None else _beside(second.alike)),
    }
    picture = base_picture(result.image)
    described = f"{_ABOUT} {about}".strip()
    figures = _figure(_stage(picture, described, focus=True), escape(described))
    if affinity is not None:
        caption = f"What the patch there looks at in the last block, mean of the heads: {_PEAK}"
        figures += _figure(_stage(picture, "What the patch looks at", focus=False), caption + source)
    if second is not None:
        figures += _second_figure(second)
    bars = "".join(
        f'<div class="bar"><span class="of">{swatch(bytes.fromhex(color[1:]))}{escape(names[0])}</span>'
        f'<span class="track"><i style="background:{color}"></i></span>'
        '<b class="number"></b><span class="best"></span></div>'
        for names, color in zip(shown.names, shown.colors, strict=True)
    )
    sent = escape(json.dumps(data, ensure_ascii=False), quote=False)
    asks = " data-asks" if about else ""
    return (
        f'<div class="ovs-hover" data-answer="{secrets.token_hex(8)}"{asks}><div class="pair">{figures}</div>'
        f'<p class="verdict" aria-live="polite"></p><div class="bars">{bars}</div>'
        f'<div class="data" hidden>{sent}</div></div>'
    )


def _stage(picture: str, described: str, *, focus: bool) -> str:
    """The photo with a cursor; without focus, under a map."""
    url, described = escape(file_url(picture)), escape(described)
    image, cursor = f'<img src="{url}" alt="Your photo" draggable="false">', '<i class="cursor"></i>'
    if focus:
        how = f'tabindex="0" role="application" aria-label="{described}"'
        return f'<div class="stage" {how}>{image}{cursor}</div>'
    return (
        f'<div class="stage map" role="img" aria-label="{described}">{image}<canvas></canvas>{cursor}</div>'
    )


def _figure(stage: str, caption: str) -> str:
    return f"<figure>{stage}<figcaption>{caption}</figcaption></figure>"


def _second_figure(second: SecondPhoto) -> str:
    """The second photo under the map of cosines with the patch, and its scale."""
    stage = (
        '<div class="beside" role="img" aria-label="How alike each place of the second photo is">'
        f'<img src="{escape(file_url(second.picture))}" alt="The second photo" draggable="false">'
        '<canvas></canvas><i class="found"></i></div>'
    )
    values = second.alike.cosines
    scale = scale_html(Scale(float(values.min()), float(values.max())), "cos(patch, patch) ")
    caption = 'Where this patch is in the second photo: <span class="alike"></span>'
    return _figure(stage, caption + scale)


def _grid(image_size: tuple[int, int], classes: int, most_bytes: int) -> tuple[int, int]:
    """Places (h, w) of the scores: of the photo's shape, and so many that the payload holds them."""
    height, width = image_size
    longest = min(_LONGEST_GRID, max(height, width))
    short = longest * min(height, width) / max(height, width)
    shrink = min(1.0, math.sqrt(most_bytes / (3 * classes * longest * max(1.0, short))))
    factor = shrink * longest / max(height, width)
    return max(1, int(height * factor)), max(1, int(width * factor))


def _best_names(evidence: Evidence, size: tuple[int, int]) -> tuple[Tensor, Tensor] | None:
    """Score and place of each class's best name, (K, h, w) each, `other` last; None without rows."""
    try:
        rows = evidence.rows
    except ValueError:
        return None  # a score for each mask, not for each name
    fine = F.interpolate(rows[None].float(), size=size, mode="bilinear", align_corners=False)[0]
    pairs = [group.max(dim=0) for group in torch.split(fine, list(class_counts(evidence.vocabulary)))]
    return torch.stack([pair.values for pair in pairs]), torch.stack([pair.indices for pair in pairs])


def _affinity(maps: Tensor) -> dict[str, object]:
    """An affinity (N, h, w) as bytes, each map from 0 to its own largest value, with that value."""
    values = maps.float().cpu().numpy().clip(min=0)
    peaks = values.reshape(len(values), -1).max(axis=1)
    unit = values / np.maximum(peaks, np.finfo(np.float32).tiny)[:, None, None]
    return {
        "places": values.shape[1:],
        "affinity": _packed(np.rint(unit * 255).astype(np.uint8)),
        "peaks": [float(f"{peak:.3g}") for peak in peaks],
        "colors": _packed(scale_bar(256, 1, "inferno")),
    }


def _beside(alike: PatchCosines) -> dict[str, object]:
    """Cosines of the patches of two photos as bytes, all from their least to their largest."""
    values = alike.cosines.numpy()
    low, high = float(values.min()), float(values.max())
    unit = (values - low) / max(high - low, float(np.finfo(np.float32).tiny))
    return {
        "patches": values.shape[:2],
        "there": values.shape[2:],
        "alike": _packed(np.rint(unit * 255).astype(np.uint8)),
        "alike_range": (low, high),
        "alike_colors": _packed(scale_bar(256, 1)),
    }


def _packed(values: NDArray[np.uint8]) -> str:
    """Deflated, to a third of its size, as what comes with an answer is not compressed on its way."""
    return base64.b64encode(zlib.compress(values.tobytes(), _LEVEL)).decode("ascii")
