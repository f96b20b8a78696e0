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
from ovs_core.export.names import photo_stem
from ovs_core.export.numbers import number_map
from ovs_core.export.outlines import TOLERANCE, check_tolerance
from ovs_core.export.pictures import label_png, mask_pngs, png
from ovs_core.export.report import pixels_sha256, report, settings
from ovs_core.export.segments import instance_document, panoptic_document, segment_ids
from ovs_core.export.yolo import yolo_lines, yolo_names
from ovs_core.render.legend import figure
from ovs_core.render.segments import segment_figure
from ovs_core.vocabulary import thing_labels

MASK_FORMATS = ("panoptic", "instances")
"""What only results of methods that propose masks can be written as."""

FORMATS = ("coco", "coco-polygons", "yolo", "npz", "masks", "ids", *MASK_FORMATS)
"""What can be written beside the label map, the overlay and the report, which are always there."""

SETTINGS = "settings.json"
"""Name of the file in a ZIP that asks for the same again (`segment --settings`)."""

OVERLAY_SIDE = 2048
"""Longest side of the photo in an overlay file, in pixels."""


def save_result(
    result: Answered,
    out: str | Path,
    stem: str | None = None,
    formats: Iterable[str] = (),
    source: str = "",
    stuff: str = "default",
    tolerance: float = TOLERANCE,
) -> tuple[Path, ...]:
    """Write a result into folder `out` (made if missing) as `<stem>.<method>.*`; returns the files written.

    Each file appears under its name only when it is complete; files of an earlier run are replaced.

    Args:
        result: what to save.
        out: folder.
        stem: start of the file names; characters that no file name can have become "-". None takes the
            photo's own name, with a number where the folder holds files of another photo by that name.
        formats: any of `FORMATS`, besides label map, overlay and report.
        source: file name of the photo, for the report and COCO; "" takes the result's own.
        stuff: classes that are not counted (`ovs_core.vocabulary.thing_labels`), for `MASK_FORMATS`.
        tolerance: of polygons, in pixels of the photo; 0 is exact (`ovs_core.export.outlines`).

    Raises:
        ValueError: for an unknown format, one of `MASK_FORMATS` of a result without masks, or where the
            folder cannot be written.
    """
    folder = Path(out)
    stem = _free_stem(result, folder) if stem is None else photo_stem(stem)
    files = result_files(result, stem, formats, source, stuff, tolerance)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return tuple(_write(folder / _place(name, result, stem), content) for name, content in files)
    except OSError as error:
        raise ValueError(f"Cannot write into {folder}: {error.strerror or error}.") from error


def zip_result(
    result: Answered,
    path: str | Path,
    stem: str | None = None,
    formats: Iterable[str] = (),
    source: str = "",
    stuff: str = "default",
    tolerance: float = TOLERANCE,
) -> Path:
    """Write the files that `save_result` would write, and `SETTINGS`, into a ZIP file; returns its `path`.

    Other arguments and errors as for `save_result`.
    """
    packed = io.BytesIO()
    stem = _own_stem(result) if stem is None else photo_stem(stem)
    with zipfile.ZipFile(packed, "w") as archive:
        for name, content in result_files(result, stem, formats, source, stuff, tolerance):
            # PNG and NPZ are compressed already.
            method = zipfile.ZIP_STORED if name.endswith((".png", ".npz")) else zipfile.ZIP_DEFLATED
            archive.writestr(_place(name, result, stem), content, method)
        archive.writestr(SETTINGS, _json(settings(result), indent=2), zipfile.ZIP_DEFLATED)
    target = Path(path)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        return _write(target, packed.getvalue())
    except OSError as error:
        raise ValueError(f"Cannot write {target}: {error.strerror or error}.") from error


def result_files(
    result: Answered,
    stem: str | None = None,
    formats: Iterable[str] = (),
    source: str = "",
    stuff: str = "default",
    tolerance: float = TOLERANCE,
) -> Iterator[tuple[str, bytes]]:
    """Name and content of every file of a result, made one at a time; arguments as for `save_result`.

    Names begin with the stem and the method; on disk and in ZIP files, YOLO's labels have a folder of their
    own, where they are called as the photo is.
    """
    asked = _checked(formats)
    check_tolerance(tolerance)
    if not asked.isdisjoint(MASK_FORMATS):
        require_proposals(result.evidence)
    if "ids" in asked:
        number_map(result)
    stem = _own_stem(result) if stem is None else photo_stem(stem)
    return _contents(result, stem, asked, source or result.source, stuff, tolerance)


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
    result: Answered, stem: str, formats: frozenset[str], source: str, stuff: str, tolerance: float
) -> Iterator[tuple[str, bytes]]:
    """As `result_files`, with a safe stem and formats that the result can be written as."""
    start = _start(result, stem)
    yield f"{start}.labels.png", label_png(result)
    yield f"{start}.overlay.png", png(figure(result, max_side=OVERLAY_SIDE))
    yield f"{start}.json", _json(report(result, source), indent=2)
    if "coco" in formats:
        yield f"{start}.coco.json", _json(coco_document(result, source or stem))
    if "coco-polygons" in formats:
        polygons = coco_document(result, source or stem, polygons=True, tolerance=tolerance)
        yield f"{start}.coco-polygons.json", _json(polygons)
    if "yolo" in formats:
        yield f"{start}.yolo.txt", yolo_lines(result, tolerance).encode()
        yield f"{start}.yolo.names.txt", _text(yolo_names(result))
    if "npz" in formats:
        yield f"{start}.npz", _arrays(result)
    if "masks" in formats:
        for end, content in mask_pngs(result):
            yield f"{start}.mask.{end}", content
    if "ids" in formats:
        yield f"{start}.ids.png", png(number_map(result))
    if not formats.isdisjoint(MASK_FORMATS):
        yield from _segments(result, start, formats, source or stem, thing_labels(result.vocabulary, stuff))


def _start(result: Answered, stem: str) -> str:
    """What the names of all files of a result begin with."""
    return f"{stem}.{photo_stem(result.method, 40)}"


def _place(name: str, result: Answered, stem: str) -> str:
    """Path of a file below the folder: tools for YOLO look for a file named as the photo is."""
    start = _start(result, stem)
    if name == f"{start}.yolo.txt":
        return f"{start.removeprefix(f'{stem}.')}.yolo/{stem}.txt"
    return name


def _own_stem(result: Answered) -> str:
    """The photo's own name."""
    return photo_stem(Path(result.source).stem or "photo")


def _free_stem(result: Answered, folder: Path) -> str:
    """The photo's own name, with a number where the folder has another photo's report by that name."""
    stem = own = _own_stem(result)
    number = 1
    while _holds_another(folder / f"{_start(result, stem)}.json", result):
        number += 1
        stem = f"{own}-{number}"
    return stem


def _holds_another(path: Path, result: Answered) -> bool:
    """Whether a report is about another photo than the result."""
    try:
        there = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    image = there.get("image") if isinstance(there, dict) else None
    return isinstance(image, dict) and image.get("sha256", "") not in ("", pixels_sha256(result))


def _segments(
    result: Answered, start: str, formats: frozenset[str], file_name: str, things: Collection[int]
) -> Iterator[tuple[str, bytes]]:
    """Files of the panoptic and the instance answer."""
    if "panoptic" in formats:
        segments = segments_of(result.evidence, "panoptic", things)
        ids = f"{start}.panoptic.png"
        yield ids, png(segment_ids(segments.numbers))
        yield f"{start}.panoptic.json", _json(panoptic_document(segments, result, things, file_name, ids))
        yield f"{start}.panoptic.overlay.png", png(segment_figure(segments, result, OVERLAY_SIDE))
    if "instances" in formats:
        segments = segments_of(result.evidence, "instances", things)
        yield f"{start}.instances.json", _json(instance_document(result, things, file_name))
        yield f"{start}.instances.overlay.png", png(segment_figure(segments, result, OVERLAY_SIDE))


def _checked(formats: Iterable[str]) -> frozenset[str]:
    """The formats, all known."""
    asked = frozenset([formats] if isinstance(formats, str) else formats)
    unknown = sorted(asked.difference(FORMATS))
    if unknown:
        raise ValueError(f"Unknown export format {unknown[0]!r}; known formats: {', '.join(FORMATS)}.")
    return asked


def _write(path: Path, content: bytes) -> Path:
    """Write a file beside its place and move it there in one step."""
    path.parent.mkdir(exist_ok=True)
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
