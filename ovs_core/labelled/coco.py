"""Ground truth of one photo from COCO JSON (https://cocodataset.org/#format-data), ours or anyone's."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ovs_core.render.palette import colors_for
from ovs_core.types import LabelClass, LabelMap

Size = tuple[int, int]


def read_coco_truth(path: Path, size: Size, photo_name: str = "") -> LabelMap:
    """Read the annotations of one photo; where objects overlap, the smaller one is in front.

    What nobody annotated is other; crowds are not known. Classes are numbered in the order of their category
    ids, objects in the order of the file.

    Args:
        path: COCO JSON with polygons, run lengths or compressed run lengths.
        size: (H, W) of the photo.
        photo_name: its file name without the end, for files about several photos.

    Raises:
        ValueError: one sentence, if the file is none of that kind or not about this photo.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
        image = _image(content["images"], path.name, photo_name)
        categories = sorted(content["categories"], key=lambda category: int(category["id"]))
        label_of = {int(category["id"]): label for label, category in enumerate(categories, start=1)}
        names = [str(category["name"]) for category in categories]
        annotations = [entry for entry in content["annotations"] if entry["image_id"] == image["id"]]
        if (int(image["height"]), int(image["width"])) != size:
            raise ValueError(
                f"it is about a photo of {image['height']} x {image['width']} pixels, not {size}"
            )
        return _drawn_all(annotations, size, label_of, names)
    except OSError as error:
        raise ValueError(f"{path.name} cannot be read: {error.strerror or error}.") from error
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise ValueError(
            f"{path.name} cannot be read as COCO annotations of this photo: {reason}."
        ) from error


def drawn(segmentation: Any, size: Size) -> NDArray[np.bool_]:
    """Pixels (H, W) of an annotation: polygons of x, y in pixels, or run lengths down the columns.

    A polygon holds the pixels whose centres it holds, by the even-odd rule.

    Raises:
        ValueError: if the run lengths are of another size.
    """
    if isinstance(segmentation, Mapping):
        counts = segmentation["counts"]
        lengths = _uncompressed(counts) if isinstance(counts, str) else [int(count) for count in counts]
        if sum(lengths) != size[0] * size[1] or min(lengths, default=0) < 0:
            raise ValueError(f"run lengths of {sum(lengths)} pixels do not fill {size}")
        return np.repeat(np.arange(len(lengths)) % 2 == 1, lengths).reshape(size[1], size[0]).T
    inside = np.zeros(size, bool)
    for polygon in segmentation:
        inside |= _filled(np.asarray(polygon, np.float64).reshape(-1, 2), size)
    return inside


def _image(images: Sequence[Mapping[str, Any]], file_name: str, photo_name: str) -> Mapping[str, Any]:
    """The entry of the photo: the only one, or the one of its name."""
    if len(images) == 1:
        return images[0]
    named = [image for image in images if Path(str(image["file_name"])).stem == photo_name]
    if len(named) != 1:
        raise ValueError(f"it is about {len(images)} photos, {len(named)} of them called {photo_name!r}")
    return named[0]


def _drawn_all(
    annotations: Sequence[Mapping[str, Any]], size: Size, label_of: Mapping[int, int], names: Sequence[str]
) -> LabelMap:
    """Every annotation on one label map, large ones first."""
    labels, instances, known = np.zeros(size, np.uint16), np.zeros(size, np.uint16), np.ones(size, bool)
    areas = [float(entry.get("area") or drawn(entry["segmentation"], size).sum()) for entry in annotations]
    for place in sorted(range(len(areas)), key=lambda place: -areas[place]):
        entry = annotations[place]
        inside = drawn(entry["segmentation"], size)
        known[inside] = not entry.get("iscrowd", 0)
        labels[inside] = label_of[int(entry["category_id"])]
        instances[inside] = place + 1
    labels[~known], instances[~known] = 0, 0
    colors = colors_for(names)
    classes = tuple(LabelClass(label, (name,), colors[label]) for label, name in enumerate(names, start=1))
    return LabelMap(labels, classes, known, instances)


def _filled(points: NDArray[np.float64], size: Size) -> NDArray[np.bool_]:
    """Pixels (H, W) whose centres a polygon (N, 2) of x, y holds.

    Every border turns inside and outside round for all pixels on its right: an exclusive or along the row.
    """
    height, width = size
    turns = np.zeros((height, width + 1), bool)
    for (x0, y0), (x1, y1) in zip(points, np.roll(points, -1, axis=0), strict=True):
        first, last = (int(np.clip(np.ceil(y - 0.5), 0, height)) for y in sorted((y0, y1)))
        if first == last:
            continue
        rows = np.arange(first, last)
        across = x0 + (rows + 0.5 - y0) * (x1 - x0) / (y1 - y0)
        turns[rows, np.clip(np.ceil(across - 0.5), 0, width).astype(int)] ^= True
    return np.logical_xor.accumulate(turns[:, :width], axis=1)


def _uncompressed(text: str) -> list[int]:
    """Run lengths of the text that COCO calls compressed; `ovs_core.export.coco.compressed` says how."""
    lengths: list[int] = []
    value = shift = 0
    for letter in text:
        bits = ord(letter) - 48
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            value -= (1 << shift) if bits & 16 else 0
            lengths.append(value + (lengths[-2] if len(lengths) > 2 else 0))
            value = shift = 0
    return lengths
