"""Which files one result becomes, and how they reach the disk: whole or not at all."""

from __future__ import annotations

import io
import json
import os
import zipfile
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ovs_core.evidence.segments import require_proposals, segments_of
from ovs_core.export.answered import Answered
from ovs_core.export.coco import coco_document
from ovs_core.export.names import safe_name
from ovs_core.export.pictures import label_png, mask_pngs, png
from ovs_core.export.report import report
from ovs_core.export.segments import instance_document, panoptic_document, segment_ids
from ovs_core.export.yolo import yolo_lines, yolo_names
from ovs_core.render.legend import figure
from ovs_core.render.segments import segment_figure
from ovs_core.vocabulary import thing_labels

MASK_FORMATS = ("panoptic", "instances")
"""What only results of methods that propose masks can be written as."""

FORMATS = ("coco", "coco-polygons", "yolo", "npz", "masks", *MASK_FORMATS)
"""What can be written beside the label map, the overlay and the report, which are always there."""

OVERLAY_SIDE = 2048
"""Longest side of the photo in an overlay file, in pixels."""


def save_result(
    result: Answered,
    out: str | Path,
    stem: str = "photo",
    formats: Iterable[str] = (),
    source: str = "",
    stuff: str = "default",
) -> tuple[Path, ...]:
    """Write a result into folder `out` (made if missing) as `<stem>.<method>.*`; returns the files written.

    Each file appears under its name only when it is complete; files of an earlier run are replaced.

    Args:
        result: what to save.
        out: folder.
        stem: start of the file names; characters that could lead out of the folder become "-".
        formats: any of `FORMATS`, besides label map, overlay and report.
        source: file name of the photo, for the report and COCO.
        stuff: classes that are not counted (`ovs_core.vocabulary.thing_labels`), for `MASK_FORMATS`.

    Raises:
        ValueError: for an unknown format, one of `MASK_FORMATS` of a result without masks, or where the
            folder cannot be written.
    """
    folder = Path(out)
    files = result_files(result, stem, formats, source, stuff)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return tuple(_write(folder / name, content) for name, content in files)
    except OSError as error:
        raise ValueError(f"Cannot write into {folder}: {error.strerror or error}.") from error


def zip_result(
    result: Answered,
    path: str | Path,
    stem: str = "photo",
    formats: Iterable[str] = (),
    source: str = "",
    stuff: str = "default",
) -> Path:
    """Write the files that `save_result` would write into one ZIP file at `path`; returns `path`.

    Other arguments and errors as for `save_result`.
    """
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, content in result_files(result, stem, formats, source, stuff):
            # PNG and NPZ are compressed already.
            method = zipfile.ZIP_STORED if name.endswith((".png", ".npz")) else zipfile.ZIP_DEFLATED
            archive.writestr(name, content, method)
    target = Path(path)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        return _write(target, packed.getvalue())
    except OSError as error:
        raise ValueError(f"Cannot write {target}: {error.strerror or error}.") from error


def result_files(
    result: Answered,
    stem: str = "photo",
    formats: Iterable[str] = (),
    source: str = "",
    stuff: str = "default",
) -> Iterator[tuple[str, bytes]]:
    """Name and content of every file of a result, made one at a time; arguments as for `save_result`."""
    asked = _checked(formats)
    if not asked.isdisjoint(MASK_FORMATS):
        require_proposals(result.evidence)
    return _contents(result, safe_name(stem, 120, dots=True), asked, source, stuff)


def check_formats(formats: Iterable[str], method: str, *, masks: bool) -> None:
    """Refuse formats that a method's results cannot be written as, before any work.

    Args:
        formats: asked for.
        method: registry name.
        masks: whether it proposes masks.

    Raises:
        ValueError: one sentence.
    """
    wrong = sorted(_checked(formats).intersection(MASK_FORMATS))
    if wrong and not masks:
        raise ValueError(f"Export format {wrong[0]!r} needs a method that proposes masks; {method} does not.")


def _contents(
    result: Answered, stem: str, formats: frozenset[str], source: str, stuff: str
) -> Iterator[tuple[str, bytes]]:
    """As `result_files`, with a safe stem and formats that the result can be written as."""
    start = f"{stem}.{safe_name(result.method, 40, dots=True)}"
    yield f"{start}.labels.png", label_png(result)
    yield f"{start}.overlay.png", png(figure(result, max_side=OVERLAY_SIDE))
    yield f"{start}.json", _json(report(result, source), indent=2)
    if "coco" in formats:
        yield f"{start}.coco.json", _json(coco_document(result, source or stem))
    if "coco-polygons" in formats:
        yield f"{start}.coco-polygons.json", _json(coco_document(result, source or stem, polygons=True))
    if "yolo" in formats:
        yield f"{start}.yolo.txt", yolo_lines(result).encode()
        yield f"{start}.yolo.names.txt", _text(yolo_names(result))
    if "npz" in formats:
        yield f"{start}.npz", _arrays(result)
    if "masks" in formats:
        for end, content in mask_pngs(result):
            yield f"{start}.mask.{end}", content
    if not formats.isdisjoint(MASK_FORMATS):
        yield from _segments(result, start, formats, source or stem, thing_labels(result.vocabulary, stuff))


def _segments(
    result: Answered, start: str, formats: frozenset[str], file_name: str, things: Collection[int]
) -> Iterator[tuple[str, bytes]]:
    """Files of the panoptic and the instance answer."""
    if "panoptic" in formats:
        found = segments_of(result.evidence, "panoptic", things)
        ids = f"{start}.panoptic.png"
        yield ids, png(segment_ids(found.numbers))
        yield f"{start}.panoptic.json", _json(panoptic_document(found, result, things, file_name, ids))
        yield f"{start}.panoptic.overlay.png", png(segment_figure(found, result, OVERLAY_SIDE))
    if "instances" in formats:
        found = segments_of(result.evidence, "instances", things)
        yield f"{start}.instances.json", _json(instance_document(result, things, file_name))
        yield f"{start}.instances.overlay.png", png(segment_figure(found, result, OVERLAY_SIDE))


def _checked(formats: Iterable[str]) -> frozenset[str]:
    """The formats, all known."""
    asked = frozenset(formats)
    unknown = sorted(asked.difference(FORMATS))
    if unknown:
        raise ValueError(f"Unknown export format {unknown[0]!r}; known formats: {', '.join(FORMATS)}.")
    return asked


def _write(path: Path, content: bytes) -> Path:
    """Write a file beside its place and move it there in one step."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.write_bytes(content)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return path


def _json(document: dict[str, Any], indent: int | None = None) -> bytes:
    """A document as UTF-8 text, letters of every script as they are."""
    return _text(json.dumps(document, ensure_ascii=False, indent=indent, allow_nan=False) + "\n")


def _text(text: str) -> bytes:
    """UTF-8; half a surrogate pair, which UTF-8 cannot hold, is written as its escape."""
    return text.encode("utf-8", "backslashreplace")


def _arrays(result: Answered) -> bytes:
    """Labels, winning probabilities and names as a NumPy archive that opens without pickle."""
    names = np.array(["other", *result.vocabulary.names])
    buffer = io.BytesIO()
    np.savez_compressed(buffer, labels=result.labels, share=result.confidence, names=names)
    return buffer.getvalue()
