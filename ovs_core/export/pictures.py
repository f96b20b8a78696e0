"""Label maps and masks as PNG."""

from __future__ import annotations

import io
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ovs_core.export.names import safe_name
from ovs_core.types import Labelled


def png(pixels: NDArray[np.uint8] | NDArray[np.uint16]) -> bytes:
    """A picture (H, W) or (H, W, 3) as a PNG file."""
    return _encoded(Image.fromarray(pixels))


def label_png(result: Labelled) -> bytes:
    """The label map as a PNG file whose pixel values are the labels: 0 = other, k = k-th class as typed.

    Up to 255 classes: 8 bits, indexed, the class colours in its palette. More: 16 bits, grey.
    """
    colors = result.label_map.color_table
    if len(colors) > 256:
        return png(result.labels.astype(np.uint16))
    picture = Image.fromarray(result.labels.astype(np.uint8), "P")
    picture.putpalette(colors.tobytes())
    return _encoded(picture, bits=8)  # left to itself, Pillow packs 16 labels and fewer into 4 bits and less


def mask_pngs(result: Labelled) -> Iterator[tuple[str, bytes]]:
    """End of a file name, like "02-dog.png", and PNG of each class as typed, white where the class is."""
    digits = max(2, len(str(len(result.vocabulary.classes))))
    for k, name in enumerate(result.vocabulary.names, start=1):
        mask = (result.labels == k).astype(np.uint8) * np.uint8(255)
        yield f"{k:0{digits}d}-{safe_name(name, 60)}.png", png(mask)


def _encoded(picture: Image.Image, **options: int) -> bytes:
    """PNG bytes at a middle level of compression: twice as fast as the usual one for a few per cent more."""
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", compress_level=4, **options)
    return buffer.getvalue()
