"""Answers beside the ground truth of their photo: files that a person brings, numbers, pictures of errors."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
from numpy.typing import NDArray

from ovs_core.image import fitted
from ovs_core.labelled.truth_files import read_truth
from ovs_core.metrics.agreement import Agreement, ClassAgreement, Untyped, agreement
from ovs_core.metrics.error_types import ERROR_TYPES, REMEDIES, ErrorType
from ovs_core.render.errors import ERROR_COLORS, ERROR_NAMES, UNKNOWN, error_picture
from ovs_core.render.legend import percent
from ovs_core.render.overlay import paint
from ovs_core.types import LabelMap, Vocabulary
from ovs_core.ui.pictures import resampled_labels, sent_file, shown_copy, store_png
from ovs_core.ui.view_html import file_url
from ovs_core.ui.words import Status, captioned_table, note_html, status_html, swatch

TRUTH_GONE = "The ground truth was not uploaded here by you, or is no longer kept: choose it again."
NO_MASK = "The class list needs its mask: choose that file, too."
MEASURED_SIDE = 1024  # longer side of what is compared, in pixels: quick enough to follow a slider
PICTURE_SIDE = 512  # longer side of the pictures
_ENDS = (".png", ".bmp", ".tif", ".tiff", ".gif", ".json")
_LIST_ENDS = (".txt", ".csv", ".json")


@dataclass(frozen=True)
class TruthFields:
    """Where ground truth is given; `components` in the order of `TruthFiles`."""

    mask: gr.File
    class_list: gr.File

    @property
    def components(self) -> list[Any]:
        """Components in the order of the fields of `TruthFiles`."""
        return [self.mask, self.class_list]

    @property
    def changes(self) -> list[Any]:
        """Events after which there is another truth."""
        return [self.mask.change, self.class_list.change]


@dataclass(frozen=True)
class TruthFiles:
    """Files as they stand on the page: a path, None for no file, "" for one that may not be opened."""

    mask: str | None
    class_list: str | None

    @property
    def given(self) -> bool:
        """Whether there is anything to compare with."""
        return self.mask is not None or self.class_list is not None

    @property
    def may_be_opened(self) -> bool:
        """Whether none of them was refused."""
        return "" not in (self.mask, self.class_list)

    def read(self, size: tuple[int, int], vocabulary: Vocabulary, photo_name: str) -> LabelMap:
        """Read them.

        Args:
            size: (H, W) of the photo in pixels.
            vocabulary: what was asked; without a class list value k means its k-th class.
            photo_name: file name of the photo without the end.

        Raises:
            ValueError: one sentence that says what does not fit, without places of this machine.
        """
        files = [Path(path) for path in (self.mask, self.class_list) if path]
        if not self.may_be_opened or not all(file.is_file() for file in files):
            raise ValueError(TRUTH_GONE)
        if self.mask is None:
            raise ValueError(NO_MASK)
        listed = None if self.class_list is None else files[1]
        try:
            return read_truth(files[0], size, vocabulary.classes, listed, photo_name)
        except ValueError as error:
            text = str(error)
            for file in files:
                text = text.replace(str(file), file.name)
            raise ValueError(re.sub("^the ", "The ", text)) from error


@dataclass(frozen=True, eq=False)
class Measured:
    """One answer beside the truth.

    Attributes:
        title: of the method.
        answer: labels as compared, (h, w).
        agreement: numbers and errors, of the same size.
    """

    title: str
    answer: LabelMap
    agreement: Agreement


def truth_fields() -> TruthFields:
    """Lay out the files, folded away."""
    with gr.Accordion("Ground truth (optional)", open=False, elem_id="truth"):
        gr.HTML(
            note_html(
                "Compare answers with what is really there: Segment and Compare then show IoU per class, "
                "boundary IoU and what kind every error is of."
            ),
            padding=False,
        )
        mask = sent_file(
            gr.File(
                label="Mask, COCO JSON or label map",
                file_types=list(_ENDS),
                height=110,
                elem_id="truth-mask",
            )
        )
        class_list = sent_file(
            gr.File(
                label="Class list, where it needs one",
                file_types=list(_LIST_ENDS),
                height=110,
                elem_id="truth-classes",
            )
        )
        gr.HTML(
            note_html(
                "A list has lines like “1 dog” or, for a colour mask, “64 128 64 dog”; the JSON beside a "
                "label map of this app is one, too. Without a list, 1 is the first class as typed, 0 other."
            ),
            padding=False,
        )
    return TruthFields(mask, class_list)


def measured_copy(label_map: LabelMap) -> LabelMap:
    """Labels at the size in which they are compared."""
    size = fitted(label_map.shape, MEASURED_SIDE)
    known = None if label_map.known is None else resampled_labels(label_map.known, size)
    return replace(label_map, labels=resampled_labels(label_map.labels, size), known=known, instances=None)


def truth_html(
    files: TruthFiles,
    image: NDArray[np.uint8],
    size: tuple[int, int],
    vocabulary: Vocabulary,
    photo_name: str,
    answers: Mapping[str, LabelMap],
) -> str:
    """Show answers beside the truth, or say in one sentence why not.

    Args:
        files: what was given.
        image: the photo at any size, (h, w, 3).
        size: (H, W) of the photo in pixels.
        vocabulary: what was asked.
        photo_name: file name of the photo without the end.
        answers: title -> labels, from `measured_copy`.
    """
    try:
        measurements = measured(files, size, vocabulary, photo_name, answers)
    except ValueError as error:
        return status_html(Status(str(error), "error"))
    return measured_html(measurements, image, size, vocabulary)


def measured(
    files: TruthFiles,
    size: tuple[int, int],
    vocabulary: Vocabulary,
    photo_name: str,
    answers: Mapping[str, LabelMap],
) -> list[Measured]:
    """Compare every answer with the truth; arguments as for `truth_html`.

    Raises:
        ValueError: as `TruthFiles.read`, or where truth and answers have nothing to compare; one sentence.
    """
    truth = measured_copy(files.read(size, vocabulary, photo_name))
    untyped: Untyped = "other" if vocabulary.other else "not known"
    return [Measured(title, answer, agreement(truth, answer, untyped)) for title, answer in answers.items()]


def measured_html(
    measurements: Sequence[Measured], image: NDArray[np.uint8], size: tuple[int, int], vocabulary: Vocabulary
) -> str:
    """Show answers beside the truth; arguments as for `truth_html`."""
    truth, untyped = measurements[0].agreement.truth, "other" if vocabulary.other else "not known"
    best = max(range(len(measurements)), key=lambda at: measurements[at].agreement.miou)
    shown = measurements[best].agreement
    left_out = "counted as other" if untyped == "other" else "left out"
    missing = (
        f"In the truth, but not typed: {', '.join(shown.untyped)} ({left_out})." if shown.untyped else ""
    )
    height, width = truth.shape
    parts = [
        "<h2>Beside the ground truth</h2>",
        f'<p role="status">{escape(_headline(measurements, best))}</p>',
        _pictures(measurements, image),
        _key(),
        _classes_table(measurements[0]) if len(measurements) == 1 else _methods_table(measurements),
        _kinds_table(measurements),
        note_html(missing, f"Measured on {width} x {height} pixels." if (height, width) != size else ""),
    ]
    return f'<div class="ovs-views"><section class="ovs-view wide">{"".join(parts)}</section></div>'


def _headline(measurements: Sequence[Measured], best: int) -> str:
    measurement = measurements[best].agreement
    numbers = (
        f"mean IoU {percent(measurement.miou)}, boundary IoU {percent(measurement.boundary_miou)}, "
        f"{percent(measurement.accuracy)} of the pixels right"
    )
    if len(measurements) == 1:
        return f"{numbers[0].upper()}{numbers[1:]}."
    return f"Nearest to the truth on this photo: {measurements[best].title}, {numbers}."


def _pictures(measurements: Sequence[Measured], image: NDArray[np.uint8]) -> str:
    """The truth, and the errors of every answer."""
    photo = shown_copy(image, PICTURE_SIDE)
    size = (photo.shape[0], photo.shape[1])
    drawn, unknown = truth_picture(measurements[0].agreement.truth, photo)
    pictures = [("truth", "The truth" + (", not known in white" if unknown.any() else ""), drawn)]
    for number, measurement in enumerate(measurements, start=1):
        kinds = np.where(unknown, UNKNOWN, resampled_labels(measurement.agreement.errors, size))
        pictures.append((f"errors-{number}", f"Errors: {measurement.title}", error_picture(photo, kinds)))
    figures = []
    for name, caption, picture in pictures:
        url, alt = escape(file_url(store_png(picture, f"{name}.png"))), escape(caption)
        figures.append(
            f'<figure><a href="{url}" target="_blank" rel="noopener">'
            f'<img src="{url}" alt="{alt}" width="{size[1]}" height="{size[0]}"></a>'
            f"<figcaption>{alt}</figcaption></figure>"
        )
    return f'<div class="maps large">{"".join(figures)}</div>'


def truth_picture(
    truth: LabelMap, photo: NDArray[np.uint8], opacity: float = 0.7
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """The truth over a photo (h, w, 3), white where nobody knows it, and where that is, (h, w)."""
    size = (photo.shape[0], photo.shape[1])
    drawn = paint(photo, resampled_labels(truth.labels, size), truth.color_table, opacity)
    unknown = np.zeros(size, bool) if truth.known is None else ~resampled_labels(truth.known, size)
    drawn[unknown] = 255
    return drawn, unknown


def _key() -> str:
    items = "".join(
        f"<span>{swatch(color)}{ERROR_NAMES[kind]}</span>"
        for kind, color in zip(ERROR_TYPES, ERROR_COLORS, strict=True)
    )
    return f'<div class="ovs-legend">{items}</div>'


def _classes_table(one: Measured) -> str:
    """IoU of every class, what costs it most, and what to do about that."""
    heads = ("Class", "IoU", "Boundary IoU", "Costs most", "What helps")
    rows = []
    for entry in one.agreement.classes:
        kind = _worst(entry) if entry.id else None  # nobody types a word for other
        cost = f"{ERROR_NAMES[kind]} ({percent(entry.costs[kind])})" if kind else ""
        name = f"{swatch(one.answer.class_of(entry.id).color)}{escape(entry.name)}"
        cells = [_number(entry.iou), _number(entry.boundary_iou), _text(cost)]
        rows.append(
            f'<tr><td class="name">{name}</td>{"".join(cells)}{_text(REMEDIES[kind] if kind else "")}</tr>'
        )
    caption = "Classes in the truth or in the answer. IoU and the costs of its errors sum to 100 %."
    return captioned_table(caption, _head(heads, (1, 2)), rows)


def _methods_table(measurements: Sequence[Measured]) -> str:
    """Means of every method and IoU of every class."""
    names = {entry.id: entry.name for measurement in measurements for entry in measurement.agreement.classes}
    order = sorted(names)
    heads = ("Method", "Mean IoU", "Boundary IoU", "Pixels right", *(names[label] for label in order))
    rows = []
    for measurement in measurements:
        iou = {entry.id: entry.iou for entry in measurement.agreement.classes}
        means = (
            measurement.agreement.miou,
            measurement.agreement.boundary_miou,
            measurement.agreement.accuracy,
        )
        cells = "".join(_number(value) for value in (*means, *(iou.get(label) for label in order)))
        rows.append(f'<tr><td class="name">{escape(measurement.title)}</td>{cells}</tr>')
    caption = "Means over the classes in the truth, then IoU of each class"
    return captioned_table(caption, _head(heads, range(1, len(heads))), rows)


def _kinds_table(measurements: Sequence[Measured]) -> str:
    """Share of the photo that each kind of error has, with its remedy."""
    heads = (
        "Error",
        *(measurement.title if len(measurements) > 1 else "Photo" for measurement in measurements),
        "What helps",
    )
    rows = []
    for number, (kind, color) in enumerate(zip(ERROR_TYPES, ERROR_COLORS, strict=True), start=1):
        shares = "".join(
            _number(float((measurement.agreement.errors == number).mean())) for measurement in measurements
        )
        name = f'<td class="name">{swatch(color)}{ERROR_NAMES[kind]}</td>'
        rows.append(f"<tr>{name}{shares}{_text(REMEDIES[kind])}</tr>")
    caption = "Share of the photo in each kind of error"
    return captioned_table(caption, _head(heads, range(1, len(heads) - 1)), rows)


def _worst(entry: ClassAgreement) -> ErrorType | None:
    """The kind of error that costs a class most; None where nothing is wrong or the truth has none of it."""
    costs = [(cost, kind) for kind, cost in entry.costs.items() if cost > 0]
    return max(costs, default=(0.0, None))[1]


def _head(names: Sequence[str], numbers: Sequence[int]) -> str:
    cells = (
        f'<th scope="col"{" class=number" if at in numbers else ""}>{escape(name)}</th>'
        for at, name in enumerate(names)
    )
    return f"<tr>{''.join(cells)}</tr>"


def _number(value: float | None) -> str:
    return f'<td class="number">{"-" if value is None else percent(value)}</td>'


def _text(text: str) -> str:
    return f"<td>{escape(text)}</td>"
