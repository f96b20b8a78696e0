"""Files that somebody damaged: bytes changed, cut off, repeated, numbers blown up."""

import io
import struct
from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import strategies as st
from PIL import Image

SIZE = (12, 17)  # H, W
HUGE = (0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF)
LETTERS = st.text(max_size=60)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | LETTERS,
    lambda parts: st.lists(parts, max_size=4) | st.dictionaries(LETTERS, parts, max_size=4),
    max_leaves=12,
)


def refusal(kind: type[Exception], call: Callable[..., Any], *given: Any) -> str | None:
    """The message with which a call is refused; None where it is answered. Other errors are not caught."""
    try:
        call(*given)
    except kind as error:
        return str(error)
    return None


def is_one_sentence(said: str) -> bool:
    """Short, one line, for people."""
    return 0 < len(said) < 600 and "\n" not in said and "Traceback" not in said


@st.composite
def damaged(draw: st.DrawFn, whole: bytes) -> bytes:
    """The bytes of a file after one to six misfortunes."""
    data = bytearray(whole)
    for _ in range(draw(st.integers(1, 6))):
        place = draw(st.integers(0, max(0, min(len(data), draw(st.sampled_from((64, 512, 1 << 20)))) - 1)))
        kind = draw(st.sampled_from(("byte", "number", "cut", "drop", "repeat", "insert")))
        length = draw(st.integers(1, 40))
        if kind == "byte" and data:
            data[place] = draw(st.integers(0, 255))
        elif kind == "number":
            form = draw(st.sampled_from((">H", "<H", ">I", "<I")))
            value = draw(st.sampled_from(HUGE)) & (0xFFFF if form[1] == "H" else 0xFFFFFFFF)
            data[place : place + struct.calcsize(form)] = struct.pack(form, value)
        elif kind == "cut":
            del data[place:]
        elif kind == "drop":
            del data[place : place + length]
        elif kind == "repeat":
            data[place:place] = data[place : place + length]
        else:
            data[place:place] = draw(st.binary(max_size=40))
    return bytes(data)


def picture_files() -> dict[str, bytes]:
    """A small picture in every format and kind that is written here."""
    random = np.random.default_rng(0)
    color = random.integers(0, 256, (*SIZE, 3), np.uint8)
    alpha = random.integers(0, 256, (*SIZE, 4), np.uint8)
    rgb, rgba, grey = Image.fromarray(color), Image.fromarray(alpha), Image.fromarray(color[..., 0])
    wide = Image.fromarray(random.integers(0, 65536, SIZE, np.uint16))
    real = Image.fromarray(random.random(SIZE, np.float32))
    exif = Image.Exif()
    exif[0x0112] = 6
    kinds: dict[str, tuple[Image.Image, str, dict[str, Any]]] = {
        "png": (rgb, "PNG", {}),
        "png with alpha": (rgba, "PNG", {}),
        "png of 16 bits": (wide, "PNG", {}),
        "png with a palette": (rgb.quantize(8), "PNG", {"transparency": 1}),
        "png with two pictures": (rgb, "PNG", {"save_all": True, "append_images": [rgb.rotate(90)]}),
        "jpeg": (rgb, "JPEG", {"exif": exif, "comment": b"hello"}),
        "jpeg of ink": (rgb.convert("CMYK"), "JPEG", {}),
        "jpeg in steps": (grey, "JPEG", {"progressive": True}),
        "gif": (rgb.quantize(16), "GIF", {"save_all": True, "append_images": [grey.quantize(4)]}),
        "webp": (rgba, "WEBP", {"lossless": True}),
        "bmp": (rgb, "BMP", {}),
        "dib": (grey, "DIB", {}),
        "ico": (rgba.resize((16, 16)), "ICO", {}),
        "ppm": (rgb, "PPM", {}),
        "tiff": (rgb, "TIFF", {"compression": "tiff_lzw"}),
        "tiff of 16 bits": (wide, "TIFF", {"compression": "tiff_deflate"}),
        "tiff of numbers": (real, "TIFF", {}),
        "tiff with alpha": (rgba, "TIFF", {"compression": "packbits"}),
        "jpeg 2000": (rgb, "JPEG2000", {}),
        "avif": (rgb, "AVIF", {}),
        "mpo": (rgb, "MPO", {"save_all": True, "append_images": [rgb]}),
    }
    files = {}
    Image.init()
    for name, (picture, form, options) in kinds.items():
        if form in Image.SAVE:
            buffer = io.BytesIO()
            picture.save(buffer, form, **options)
            files[name] = buffer.getvalue()
    return files
