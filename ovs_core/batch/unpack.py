"""From rows back to files: label maps as PNG, regions and objects as COCO, one document for all photos."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ovs_core.batch.rows import Row
from ovs_core.batch.tables import read_header, read_rows, row_files
from ovs_core.export.coco import box, compressed, run_lengths
from ovs_core.export.names import photo_stem

UNPACKED = ("png", "coco", "instances")
"""What rows can become: a label map for each photo; COCO of all classes' regions; COCO of all objects."""


def unpack(rows: str, out: Path, kinds: Sequence[str]) -> tuple[Path, ...]:
    """Write what rows hold as files that other programs read; returns the files, or folders of them.

    Args:
        rows: folder of Parquet files, or a URI of one.
        out: folder to write into, made if missing.
        kinds: any of `UNPACKED`: "png" writes `out/labels/<id>.png`, "coco" `out/classes.coco.json`,
            "instances" `out/instances.coco.json`.

    Raises:
        ValueError: if there are no rows, they hold no objects where those are asked for, or the folder cannot
            be written; one sentence.
    """
    names = row_files(rows)
    if not names:
        raise ValueError(f"There are no rows in {rows}.")
    header = read_header(rows, names[0])
    try:
        out.mkdir(parents=True, exist_ok=True)
        return tuple(_write(kind, rows, out, header) for kind in dict.fromkeys(kinds))
    except OSError as error:
        raise ValueError(f"Cannot write into {out}: {error.strerror or error}.") from error


def labels_of(row: Row) -> NDArray[np.integer]:
    """Label map (H, W) of a row: 0 = other, k = k-th class as typed.

    Raises:
        ValueError: if the row has an error instead.
    """
    if row.labels is None:
        raise ValueError(f"{row.id} has no label map: {row.error}")
    with Image.open(io.BytesIO(row.labels)) as picture:
        return np.asarray(picture)


def _write(kind: str, rows: str, out: Path, header: Mapping[str, Any]) -> Path:
    if kind == "png":
        return _write_labels(rows, out / "labels")
    if kind == "coco":
        return _write_coco(rows, out / "classes.coco.json", header, "labels", _class_annotations)
    if kind == "instances":
        return _write_coco(rows, out / "instances.coco.json", header, "instances", _instance_annotations)
    raise ValueError(f"Rows become {', '.join(UNPACKED)}; got {kind!r}.")


def _write_labels(rows: str, folder: Path) -> Path:
    """One PNG for each photo, in folders as its id has them."""
    taken: set[str] = set()
    for row in read_rows(rows, ("id", "labels")):
        if row.labels is None:
            continue
        parts = [photo_stem(part) for part in PurePosixPath(row.id).parts if part != "/"]
        name = plain = "/".join(parts) or "unnamed"
        number = 1
        while name.casefold() in taken:
            number += 1
            name = f"{plain}-{number}"
        taken.add(name.casefold())
        target = folder / f"{name}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(row.labels)
    return folder


def _write_coco(rows: str, target: Path, header: Mapping[str, Any], column: str, annotations: Any) -> Path:
    """One document, written piece by piece: a million photos do not fit into memory."""
    settings = header["settings"]
    categories = [
        {"id": k, "name": names[0], "supercategory": ""}
        for k, names in enumerate(settings["classes"], start=1)
    ]
    info = {"description": f"OVS Lens, {settings['method']} on {settings['encoder']}", "version": "1"}
    head = json.dumps({"info": info, "licenses": [], "categories": categories}, ensure_ascii=False)
    part = target.with_name(f".{target.name}.part")
    try:
        with part.open("w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(head.removesuffix("}") + ', "images": [')
            for piece in _joined(_images(rows)):
                file.write(piece)
            file.write('], "annotations": [')
            for piece in _joined(annotations(rows, column)):
                file.write(piece)
            file.write("]}\n")
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)
    return target


def _joined(documents: Iterator[dict[str, Any]]) -> Iterator[str]:
    """Documents as JSON with commas between them."""
    for number, document in enumerate(documents):
        yield (", " if number else "") + json.dumps(document, ensure_ascii=False)


def _images(rows: str) -> Iterator[dict[str, Any]]:
    for number, row in _answered(rows, ()):
        yield {"id": number, "file_name": row.id, "width": row.width, "height": row.height}


def _answered(rows: str, columns: Sequence[str]) -> Iterator[tuple[int, Row]]:
    """Rows without an error, each with its number as an image."""
    all_rows = read_rows(rows, ("id", "width", "height", "error", *columns))
    return enumerate((row for row in all_rows if row.error is None), start=1)


def _class_annotations(rows: str, column: str) -> Iterator[dict[str, Any]]:
    number = 0
    for image, row in _answered(rows, (column,)):
        labels = labels_of(row)
        for k in np.unique(labels).tolist():
            if not k:
                continue
            number += 1
            mask = labels == k
            shape = {"counts": compressed(run_lengths(mask)), "size": list(mask.shape)}
            yield _annotation(number, image, k, int(mask.sum()), box(mask), shape)


def _instance_annotations(rows: str, column: str) -> Iterator[dict[str, Any]]:
    number = 0
    for image, row in _answered(rows, (column,)):
        if row.instances is None:
            raise ValueError("These rows hold no objects: their method labels pixels and proposes no masks.")
        for instance in row.instances:
            number += 1
            shape = {"counts": instance.counts, "size": [row.height, row.width]}
            yield _annotation(number, image, instance.label, instance.area, list(instance.bbox), shape) | {
                "score": instance.score
            }


def _annotation(
    number: int, image: int, label: int, area: int, bbox: list[int], segmentation: dict[str, Any]
) -> dict[str, Any]:
    return {
        "id": number,
        "image_id": image,
        "category_id": label,
        "iscrowd": 0,
        "area": area,
        "bbox": bbox,
        "segmentation": segmentation,
    }
