"""Boxes that a visitor drew or sent, and the exemplars that they become. No gradio here."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path, PurePath
from typing import Any
from urllib.parse import quote

from ovs_core.image import MAX_PIXELS, Photo, display_copy, read_photo
from ovs_core.ui.pictures import MOST_BYTES, store, store_png
from ovs_core.ui.view_html import FILE_ROUTE
from ovs_core.vocabulary.boxes import Box, check_box
from ovs_core.vocabulary.exemplars import MAX_EXEMPLARS, OTHER_NAME, Exemplar

NO_SOURCE = "Choose a photo to draw on first."
SOURCE_GONE = "The photo of a box was not uploaded here by you, or is no longer kept: remove the box."
THUMB_SIDE = 72  # longer side of a box's picture in the list, in pixels
_NUMBERS = 4  # of a box
_FIELDS = ("image", "box", "name")
_EXPECTED = (
    'each exemplar must be {"box": [left, top, right, bottom]} with a "name" and an "image" or without'
)


@dataclass(frozen=True)
class DrawnBox:
    """A box on a photo, as a browser tab remembers it.

    Attributes:
        photo: path of the visitor's upload; never one that came back from a browser. "" for one that may not
            be opened.
        box: in pixels of that photo.
        name: of the class, "" for none, "other" for what is not meant.
        picture: path of a small picture of what it holds, "" for none.
    """

    photo: str
    box: Box
    name: str = ""
    picture: str = ""

    @property
    def negative(self) -> bool:
        """Whether it shows what is not meant."""
        return self.name.strip().casefold() == OTHER_NAME


def read_corners(text: str | None) -> Box:
    """A box as the page writes it: four numbers, left, top, right, bottom.

    Raises:
        ValueError: for anything else; one sentence.
    """
    parts = (text or "").replace(",", " ").split()
    try:
        left, top, right, bottom = (float(part) for part in parts)
    except ValueError as error:
        raise ValueError("Draw a box first, or write its left, top, right and bottom in pixels.") from error
    return left, top, right, bottom


def drawn_box(photo: str | None, box: Box, name: str) -> DrawnBox:
    """A box to be remembered, with its picture.

    Raises:
        ValueError: without a photo that can be read, or for a box of no area or out of it; one sentence.
    """
    if not photo or not Path(photo).exists():
        raise ValueError(NO_SOURCE)
    pixels = read_photo(photo).pixels
    check_box(box, pixels.shape[:2])
    left, top = int(box[0]), int(box[1])
    right, bottom = max(left + 1, round(box[2])), max(top + 1, round(box[3]))
    inside = display_copy(pixels[top:bottom, left:right], THUMB_SIDE)
    return DrawnBox(photo, box, " ".join(name.split()), store_png(inside, "box.png"))


def with_box(boxes: Sequence[DrawnBox], new: DrawnBox) -> tuple[DrawnBox, ...]:
    """The boxes with one more.

    Raises:
        ValueError: for one that is there already, or too many.
    """
    if any((box.photo, box.box, box.name) == (new.photo, new.box, new.name) for box in boxes):
        raise ValueError("This box is in the list already.")
    if len(boxes) >= MAX_EXEMPLARS:
        raise ValueError(f"Up to {MAX_EXEMPLARS} boxes can be asked at once; remove one first.")
    return (*boxes, new)


def kept_photo(path: str) -> Photo:
    """Read an upload that is still kept.

    Raises:
        ValueError: for one that is gone or cannot be read.
    """
    if not path or not Path(path).exists():
        raise ValueError(SOURCE_GONE)
    return read_photo(path)


def exemplars_of(
    boxes: Sequence[DrawnBox], read: Callable[[str], Photo] = kept_photo
) -> tuple[Exemplar, ...]:
    """Read the photos of boxes, each once.

    Args:
        boxes: drawn or sent.
        read: photo behind the name that a box has for it.

    Raises:
        ValueError: for a photo that is gone or cannot be read, photos that hold more than `MAX_PIXELS`
            together, or a box that does not lie on its photo.
    """
    photos: dict[str, Photo] = {}
    for name in dict.fromkeys(box.photo for box in boxes):
        photos[name] = read(name)
        if sum(photo.size[0] * photo.size[1] for photo in photos.values()) > MAX_PIXELS:
            raise ValueError(
                f"Photos of boxes may hold {MAX_PIXELS // 1_000_000} megapixels together; make them smaller."
            )
    return tuple(Exemplar(photos[box.photo], box.box, box.name) for box in boxes)


def sent_boxes(
    value: object, photo: str | None, source: Callable[[Any], str] | None = None
) -> tuple[DrawnBox, ...]:
    """The argument `exemplars` of a request; None stands for none.

    Args:
        value: a list of {"box": [left, top, right, bottom], "name": text, "image": file}; name and image may
            be left out.
        photo: path or name of the photo that is asked about: where a box without an image lies.
        source: path or name of the photo that an image stands for; None reads what passed the guard: an
            upload, or the bytes as a data URL.

    Raises:
        ValueError: for anything else; one sentence.
    """
    if value is None:
        return ()
    if not isinstance(value, list):
        raise ValueError("exemplars must be a list of boxes.")  # noqa: TRY004 - a visitor's request
    if len(value) > MAX_EXEMPLARS:
        raise ValueError(f"exemplars must be at most {MAX_EXEMPLARS} boxes; these are {len(value)}.")
    return tuple(_sent_box(entry, photo, source or _sent_image) for entry in value)


def _sent_box(entry: object, photo: str | None, source: Callable[[Any], str]) -> DrawnBox:
    if not isinstance(entry, Mapping) or set(entry) - set(_FIELDS):
        raise ValueError(f"{_EXPECTED}.")
    box, name, image = entry.get("box"), entry.get("name"), entry.get("image")
    numbers = isinstance(box, list) and len(box) == _NUMBERS and all(map(_is_number, box))
    if not numbers or not (name is None or isinstance(name, str)):
        raise ValueError(f"{_EXPECTED}.")
    left, top, right, bottom = (float(number) for number in box)  # type: ignore[union-attr]
    return DrawnBox((photo or "") if image is None else source(image), (left, top, right, bottom), name or "")


def _sent_image(image: Any) -> str:
    """Path of a photo in a request; "" for one that may not be opened."""
    if isinstance(image, Mapping) and isinstance(image.get("path"), str):
        return image["path"]  # the guard left only the visitor's own
    url = image.get("url") if isinstance(image, Mapping) else image
    start, _, text = url.partition(",") if isinstance(url, str) else ("", "", "")
    if not start.startswith("data:") or not start.endswith(";base64"):
        return ""
    try:
        content = base64.b64decode(text, validate=True)
    except ValueError:
        return ""
    return store(content, "photo") if 0 < len(content) <= MOST_BYTES else ""


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def boxes_html(boxes: Sequence[DrawnBox], photo: str | None) -> str:
    """The list of boxes with a button each to remove it; a sentence where there is none.

    Args:
        boxes: in the order they were drawn.
        photo: path of the photo that is asked about.
    """
    if not boxes:
        return '<p class="ovs-note">No boxes yet.</p>'
    return f'<ul class="ovs-boxes">{"".join(_entry(n, box, photo) for n, box in enumerate(boxes, 1))}</ul>'


def _entry(number: int, box: DrawnBox, photo: str | None) -> str:
    name = "not this" if box.negative else box.name or f"box {number}"
    where = "this photo" if box.photo == photo else PurePath(box.photo).name
    label = f"Remove {escape(name)}"
    return (
        f"<li{' class=avoid' if box.negative else ''}>"
        f'<img src="{FILE_ROUTE}{quote(box.picture)}" alt="">'
        f"<span><b>{escape(name)}</b><br>{escape(where)}, {', '.join(f'{n:g}' for n in box.box)}</span>"
        f'<button type="button" data-remove="{number}" aria-label="{label}">Remove</button></li>'
    )
