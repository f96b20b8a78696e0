"""What Pillow loses of PNG files: whole pictures to their metadata, and the low bytes of 16-bit colours."""

from __future__ import annotations

import struct
from typing import IO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

PNG_START = b"\x89PNG\r\n\x1a\n"
# What the pixels are made of; the rest is about them (PNG specification, third edition, section 5.6).
_PIXEL_CHUNKS = frozenset((b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS"))
_LARGEST_EXIF = 65536
_SHALLOW = 64  # of 255: high bytes that stay below come from 14 bits or fewer

# Colour type -> Pillow's mode and raw mode that give the high and the low byte of each channel.
_BYTES = {
    2: (("RGB", "RGB;16B"), ("RGB", "RGB;16L")),
    4: (("RGBA", "RGBA"), ("RGBA", "RGBA")),  # grey and alpha, each of two bytes: high, low, high, low
    6: (("RGBA", "RGBA;16B"), ("RGBA", "RGBA;16L")),
}.items()


def without_metadata(data: bytes) -> bytes:
    """The same picture without comments, profiles and the like; as far as the file goes."""
    kept = [data[: len(PNG_START)]]
    place = len(PNG_START)
    while place + 8 <= len(data):
        length, kind = struct.unpack(">I4s", data[place : place + 8])
        if kind in _PIXEL_CHUNKS or (kind == b"eXIf" and length <= _LARGEST_EXIF):
            kept.append(data[place : place + 12 + length])
        place += 12 + length
    return b"".join(kept)


def shallow_colors(stream: IO[bytes], head: bytes) -> NDArray[np.uint16] | None:
    """Values (H, W, 3) or (H, W, 4) of a PNG of 16-bit colours that use the low end of them only; else None.

    Pillow keeps the high byte alone, of which 12 bits in 16 fill four bits. Unpacking errors are Pillow's.

    Args:
        stream: the file.
        head: its first bytes.
    """
    modes = dict(_BYTES).get(head[25]) if head.startswith(PNG_START) and head[24:25] == b"\x10" else None
    if modes is None:
        return None
    high = _channels(stream, *modes[0])
    if head[25] == 4:
        values = high.astype(np.uint16)
        grey, alpha = values[..., 0] * 256 + values[..., 1], values[..., 2] * 256 + values[..., 3]
        return np.stack([grey, grey, grey, alpha], axis=-1) if high[..., 0].max() < _SHALLOW else None
    if high[..., :3].max() >= _SHALLOW:
        return None
    return high.astype(np.uint16) * 256 + _channels(stream, *modes[1])


def _channels(stream: IO[bytes], mode: str, raw: str) -> NDArray[np.uint8]:
    """Unpack a PNG in a raw mode of one's own choice, (H, W, channels)."""
    stream.seek(0)
    with Image.open(stream, formats=["PNG"]) as image:
        codec, box, offset, _ = image.tile[0]
        image._mode = mode
        image.tile = [(codec, box, offset, raw)]  # type: ignore[list-item]  # a tuple with names
        return np.array(image)
