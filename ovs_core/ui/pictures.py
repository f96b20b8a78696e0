"""The photo field, the labelled overlay and the files behind them."""

from __future__ import annotations

import base64
import io
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import gradio as gr
import numpy as np
from gradio.components.annotated_image import AnnotatedImageData, Annotation
from gradio.data_classes import FileData, ImageData
from gradio.processing_utils import hash_bytes
from gradio.utils import get_upload_folder
from numpy.typing import NDArray
from PIL import Image
from pydantic import model_validator

from ovs_core.engine import Result
from ovs_core.evidence.segments import Panoptic
from ovs_core.image import display_copy, fitted
from ovs_core.render.legend import percent
from ovs_core.render.overlay import borders
from ovs_core.types import ClassSummary
from ovs_core.ui.guard import NO_FILE
from ovs_core.ui.words import hex_color, shown_name

Scalar = TypeVar("Scalar", bound=np.generic)

Field = TypeVar("Field", gr.Image, gr.File)

MOST_BYTES = 50_000_000  # of a photo that is sent
DISPLAY_SIDE = 1024  # longer side of every picture sent to the page, in pixels
SLIDER_SIDE = 640  # longer side of the masks while a slider moves; the browser stretches them
SMALLEST_SIDE = 384  # a smaller photo is enlarged for the page, so that a 1 x 1 image can be seen
SHOWN_QUALITY = 88  # of pictures that are only looked at: off by 1 to 4 of 255 on average, nothing to see
FILL_ALPHA = 190  # inside a region; its outline is opaque, so borders stay visible at any overlay opacity


def photo_field(**settings: Any) -> gr.Image:
    """Lay out an image field that hands over the uploaded file untouched, so that one reader judges it.

    Left to itself, the field decodes the file and turns a damaged one into an unexplained error. (A subclass
    would say the same, but gradio writes a stub file beside the module of every subclass.)
    """
    return sent_file(gr.Image(type="filepath", **settings))


def sent_file(field: Field) -> Field:
    """Let a field hand over the path of what the visitor sent; "" for a file that may not be opened."""
    field.data_model = SentPhoto
    field.preprocess = _uploaded_path  # type: ignore[method-assign, assignment]
    return field


class SentPhoto(ImageData):
    """What a request holds where a photo or a clip belongs: an upload, or the bytes as a data URL.

    Anything else counts as a file that may not be opened, so that it gets the same sentence.
    """

    @model_validator(mode="before")
    @classmethod
    def _sorted(cls, value: Any) -> dict[str, Any]:
        if isinstance(value, ImageData):
            return value.model_dump()
        parts: dict[str, Any] = value if isinstance(value, dict) else {"url": value}
        path, url = parts.get("path"), parts.get("url")
        if path is None and isinstance(url, str) and url.startswith("data:"):
            return {"url": url}
        if isinstance(path, str) and path:
            return {"path": path}
        nothing = all(part is None for part in parts.values())
        return {} if nothing else {"path": NO_FILE}


def _uploaded_path(payload: ImageData | None) -> str | None:
    """Path of the photo to read, None if there is none, "" for one that may not be opened."""
    if payload is None or payload.url is None:
        return None if payload is None else payload.path
    start, _, text = payload.url.partition(",")
    try:
        content = base64.b64decode(text, validate=True) if start.endswith(";base64") else b""
    except ValueError:
        content = b""
    return store(content, "photo") if 0 < len(content) <= MOST_BYTES else NO_FILE


@dataclass(frozen=True, eq=False)
class LabelledPicture:
    """What the overlay shows.

    Attributes:
        base: path of the display copy of the photo.
        labels: (h, w) label map at any size with the photo's shape.
        names: label -> text shown in the legend, for the labels to be drawn.
        colors: label -> "#rrggbb".
        legend: whether they stand below the picture.
    """

    base: str
    labels: NDArray[np.integer]
    names: Mapping[int, str]
    colors: Mapping[int, str]
    legend: bool = True

    @property
    def color_map(self) -> dict[str, str]:
        """Colours by legend text, as the component wants them."""
        return {name: self.colors[label] for label, name in self.names.items()}


def overlay_update(picture: LabelledPicture) -> dict[str, Any]:
    """Give new settings for an `AnnotatedImage`, for events with `postprocess=False`.

    Gradio's own postprocessing writes one 8-bit RGBA file per class; two-bit palette files are about ten
    times quicker, which is what lets a slider answer at once.
    """
    outline = borders(picture.labels, growth=1)
    sections = []
    for label, name in picture.names.items():
        mask = mask_png(picture.labels == label, outline, picture.colors[label])
        sections.append(Annotation(image=FileData(path=store(mask, "mask.png")), label=name))
    value = AnnotatedImageData(image=FileData(path=picture.base), annotations=sections)
    shown = gr.update(value=value.model_dump(), color_map=picture.color_map, show_legend=picture.legend)
    return dict(shown)


def store(content: bytes, name: str) -> str:
    """Keep bytes as a file of the app's own cache and give its path.

    Its folder is named by what is in it and by gradio's secret: who does not know the path cannot guess it,
    even who knows the content.
    """
    folder = Path(get_upload_folder()) / hash_bytes(content)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    if not path.exists():
        part = folder / f"{secrets.token_hex(8)}.part"  # nobody may see half a file
        part.write_bytes(content)
        part.replace(path)
    return str(path)


def mask_png(mask: NDArray[np.bool_], outline: NDArray[np.bool_], color: str) -> bytes:
    """Write a mask (h, w) as a two-bit PNG: 0 clear, 1 filled, 2 outline."""
    index = mask.astype(np.uint8)
    index[mask & outline] = 2
    picture = Image.fromarray(index)
    picture.putpalette([0, 0, 0, *bytes.fromhex(color[1:]) * 2])
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", bits=2, transparency=bytes((0, FILL_ALPHA, 255)), compress_level=1)
    return buffer.getvalue()


def shown_copy(pixels: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """The copy of a photo (H, W, 3) that the page shows: at most `side` pixels long, and never too small."""
    picture = display_copy(pixels, side)
    longest = max(picture.shape[:2])
    if longest >= SMALLEST_SIDE:
        return picture
    height, width = (max(1, round(length * SMALLEST_SIDE / longest)) for length in picture.shape[:2])
    return np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.NEAREST))


def base_picture(pixels: NDArray[np.uint8]) -> str:
    """Keep the copy of a photo (H, W, 3) that the page shows and give its path."""
    return store_shown(shown_copy(pixels, DISPLAY_SIDE), "photo")


def store_shown(pixels: NDArray[np.uint8], stem: str) -> str:
    """Keep a picture (H, W, 3) that is only looked at and give its path: a JPEG file, colours at full size.

    A quarter of a PNG file's bytes in a tenth of the time; what people take away is a PNG (`store_png`).
    """
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=SHOWN_QUALITY, subsampling=0)
    return store(buffer.getvalue(), f"{stem}.jpg")


def store_png(pixels: NDArray[np.uint8], name: str) -> str:
    """Keep a picture (H, W, 3) as a PNG file of the app's own cache and give its path."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=1)
    return store(buffer.getvalue(), name)


def resampled_labels(labels: NDArray[Scalar], size: tuple[int, int]) -> NDArray[Scalar]:
    """Pick the nearest value for every pixel of a smaller (h, w) copy of a map (H, W)."""
    rows = (np.arange(size[0]) + 0.5) * labels.shape[0] / size[0]
    columns = (np.arange(size[1]) + 0.5) * labels.shape[1] / size[1]
    return labels[rows.astype(int)[:, None], columns.astype(int)[None, :]]  # (h, w)


def at_size(result: Result, image: NDArray[np.uint8]) -> Result:
    """A result on a smaller copy (h, w, 3) of its photo alone; areas and scores stay those of the result."""
    size = image.shape[:2]
    label_map = replace(result.label_map, labels=resampled_labels(result.labels, size))
    confidence = resampled_labels(result.confidence, size)
    return replace(result, image=image, photo=None, label_map=label_map, confidence=confidence)


def labelled_picture(base: str, result: Result, side: int = DISPLAY_SIDE) -> LabelledPicture:
    """Prepare a result for the overlay: typed classes that won pixels; chips are its legend."""
    shown: list[ClassSummary] = [c for c in result.classes if c.label and c.area_share > 0]
    return LabelledPicture(
        base=base,
        labels=resampled_labels(result.labels, fitted(result.labels.shape, side)),
        names={c.label: f"{shown_name(c)} · {percent(c.area_share)}" for c in shown},
        colors={c.label: hex_color(c.color) for c in shown},
        legend=False,
    )


def region_picture(
    base: str, segments: Panoptic, names: Mapping[int, str], colors: NDArray[np.uint8]
) -> LabelledPicture:
    """Prepare a map of segments for the overlay: each with its name and share of the photo.

    Args:
        base: path of the display copy of the photo.
        segments: at any size.
        names: number of each segment -> what it is called.
        colors: (n + 1, 3), one row per number.
    """
    pixels = segments.numbers.size
    return LabelledPicture(
        base=base,
        labels=segments.numbers,
        names={s.number: f"{names[s.number]} · {percent(s.area / pixels)}" for s in segments.segments},
        colors={s.number: hex_color(colors[s.number].tolist()) for s in segments.segments},
    )
