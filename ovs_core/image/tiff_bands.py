"""TIFF files with bands that Pillow has no mode for: multispectral pictures, and colours of 16 bits.

TIFF 6.0: https://www.itu.int/itudoc/itu-t/com16/tiff-fx/docs/tiff6.pdf, sections 2 (structure), 14
(differencing) and 15 (tiles). Every strip or tile is handed to Pillow as a grey picture as wide as its
samples, so that all of libtiff's lossless packings can be read.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import IO, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

MOST_BANDS = 1024
MOST_BYTES = 1 << 30
"""Of unpacked samples; larger ones are left to other programs."""

_TYPES: Mapping[int, str] = MappingProxyType({1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"})
_LOSSLESS = frozenset({1, 5, 8, 32773, 32946, 34925, 50000})
_MOST_ENTRIES = 4096
_WIDTH, _LENGTH, _BITS, _COMPRESSION, _PHOTOMETRIC = 256, 257, 258, 259, 262
_OFFSETS, _SAMPLES, _ROWS, _COUNTS, _PLANAR, _PREDICTOR = 273, 277, 278, 279, 284, 317
_TILE_WIDTH, _TILE_LENGTH, _TILE_OFFSETS, _TILE_COUNTS = 322, 323, 324, 325
_EXTRA, _FORMAT, _ORIENTATION = 338, 339, 274
_PREVIEW, _PARTS, _DNG_VERSION = 254, 330, 50706
_RGB = 2
_USED = frozenset(
    {
        *(_WIDTH, _LENGTH, _BITS, _COMPRESSION, _PHOTOMETRIC, _OFFSETS, _SAMPLES, _ROWS, _COUNTS, _PLANAR),
        *(_PREDICTOR, _TILE_WIDTH, _TILE_LENGTH, _TILE_OFFSETS, _TILE_COUNTS, _EXTRA, _FORMAT),
        *(_ORIENTATION, _PREVIEW, _PARTS, _DNG_VERSION),
    }
)
_MOST_VALUES = 1 << 21  # of one tag: chunks of a large picture, each band apart
_BOMBS = (Image.DecompressionBombError, Image.DecompressionBombWarning)


class TiffError(ValueError):
    """No TIFF that is read here."""


@dataclass(frozen=True)
class _Layout:
    """What the first directory of a file says.

    Attributes:
        order: "<" or ">".
        height, width: in pixels.
        samples: per pixel.
        dtype: of one sample, in the file's order.
        packing: number of the compression.
        differences: samples are differences to the pixel before.
        apart: each band has chunks of its own.
        chunk: (height, width) of a strip or tile.
        tiled: chunks are tiles.
        offsets, counts: where chunks are, and how long.
        alpha: 1 premultiplied, 2 straight; 0 if the last colour band is followed by no alpha.
        colored: the first three bands are red, green and blue.
        orientation: 1 to 8, as in EXIF.
        more: other pictures follow.
    """

    order: Literal["<", ">"]
    height: int
    width: int
    samples: int
    dtype: np.dtype[np.generic]
    packing: int
    differences: bool
    apart: bool
    chunk: tuple[int, int]
    tiled: bool
    offsets: tuple[int, ...]
    counts: tuple[int, ...]
    alpha: int
    colored: bool
    orientation: int
    more: bool


@dataclass(frozen=True, eq=False)
class Bands:
    """Bands of a file.

    Attributes:
        values: (H, W, B), B = 1, 3 or 4; the fourth is straight alpha.
        bands: how many the file has, alpha among them.
        colored: they are red, green and blue by the file's own word.
        orientation: 1 to 8, as in EXIF.
        more: other pictures follow in the file.
    """

    values: NDArray[np.generic]
    bands: int
    colored: bool
    orientation: int
    more: bool


def tiff_size(stream: IO[bytes]) -> tuple[int, int, int, int]:
    """Height, width, samples per pixel and bits per sample of the first picture of a file.

    Raises:
        TiffError: if it is no TIFF that `read_bands` reads.
    """
    layout = _layout(stream)
    return layout.height, layout.width, layout.samples, layout.dtype.itemsize * 8


def is_camera_raw(stream: IO[bytes]) -> bool:
    """Whether a TIFF is a camera's raw file, whose first picture is only a preview."""
    stream.seek(0)
    canon = stream.read(10)[8:] == b"CR"
    try:
        _, tags, _ = _directory(stream)
    except (TiffError, struct.error, OSError, OverflowError):
        return False
    finally:
        stream.seek(0)
    return canon or _DNG_VERSION in tags or bool(_value(tags, _PREVIEW, 0) & 1 and _PARTS in tags)


def read_bands(stream: IO[bytes]) -> Bands:
    """Read the bands to be shown: the first three, or the first one of two; and alpha where it is said to be.

    Raises:
        TiffError: for what is not read here, or is damaged.
    """
    layout = _layout(stream)
    shown = 3 if layout.samples >= 3 else 1
    with_alpha = layout.alpha and layout.samples in (2, 4)
    take = [*range(shown), *([layout.samples - 1] if with_alpha else [])]
    values = np.zeros((layout.height, layout.width, len(take)), layout.dtype.newbyteorder("="))
    for band, top, left, height, place in _chunks(layout):
        if band is not None and band not in take:
            continue
        block = _unpacked(stream, layout, place, height, 1 if band is not None else layout.samples)
        rows, columns = min(height, layout.height - top), min(layout.chunk[1], layout.width - left)
        target = values[top : top + rows, left : left + columns]
        if band is None:
            target[..., :shown] = block[:rows, :columns, :shown]
            if with_alpha:
                target[..., -1] = block[:rows, :columns, -1]
        else:
            target[..., take.index(band)] = block[:rows, :columns, 0]
    if with_alpha:
        values = _straight(values) if layout.alpha == 1 else values
        if shown == 1:
            values = values[..., [0, 0, 0, 1]]
    return Bands(values, layout.samples, layout.colored, layout.orientation, layout.more)


def _straight(values: NDArray[np.generic]) -> NDArray[np.generic]:
    """Colours of which alpha was taken, as they were before."""
    if values.dtype not in (np.uint8, np.uint16):
        return values
    alpha = np.maximum(values[..., -1:].astype(np.float32), 1)
    most = 255 if values.dtype == np.uint8 else 65535
    plain = values.copy()
    colors = values[..., :-1].astype(np.float32) * (most / alpha)
    plain[..., :-1] = np.minimum(colors + 0.5, most).astype(values.dtype)
    return plain


def _layout(stream: IO[bytes]) -> _Layout:
    """Read and check the first directory."""
    try:
        order, tags, more = _directory(stream)
    except (struct.error, OSError, OverflowError) as error:
        raise TiffError("damaged directory") from error
    bits, samples = _values(tags, _BITS, (1,)), _value(tags, _SAMPLES, 1)
    kinds = _values(tags, _FORMAT, (1,))
    if len(set(bits)) != 1 or len(set(kinds)) != 1 or not 2 <= samples <= MOST_BANDS:
        raise TiffError("bands of several kinds, or one band")
    dtype = {(8, 1): "u1", (16, 1): "u2", (32, 1): "u4", (16, 2): "i2", (32, 2): "i4", (32, 3): "f4"}.get(
        (bits[0], kinds[0])
    )
    photometric, packing = _value(tags, _PHOTOMETRIC, 1), _value(tags, _COMPRESSION, 1)
    predictor = _value(tags, _PREDICTOR, 1)
    if dtype is None or packing not in _LOSSLESS or photometric not in (0, 1, 2) or predictor not in (1, 2):
        raise TiffError("unknown samples")
    height, width = _value(tags, _LENGTH, 0), _value(tags, _WIDTH, 0)
    tiled = _TILE_OFFSETS in tags
    rows = min(_value(tags, _ROWS, height), height)
    chunk = (_value(tags, _TILE_LENGTH, 0), _value(tags, _TILE_WIDTH, 0)) if tiled else (rows, width)
    apart = _value(tags, _PLANAR, 1) == 2
    if min(height, width, *chunk) < 1 or height * width * samples * int(dtype[1]) > MOST_BYTES:
        raise TiffError("no pixels or too many")
    if chunk[0] * chunk[1] * samples * int(dtype[1]) > MOST_BYTES:
        raise TiffError("too large tiles")
    offsets = _values(tags, _TILE_OFFSETS if tiled else _OFFSETS, ())
    counts = _values(tags, _TILE_COUNTS if tiled else _COUNTS, ())
    expected = -(-height // chunk[0]) * -(-width // chunk[1]) * (samples if apart else 1)
    if len(offsets) < expected or len(counts) < expected:
        raise TiffError("chunks are missing")
    extra, orientation = _values(tags, _EXTRA, ()), _value(tags, _ORIENTATION, 1)
    alpha = extra[0] if extra and extra[0] in (1, 2) else 0
    return _Layout(
        order,
        height,
        width,
        samples,
        np.dtype(dtype).newbyteorder(order),
        packing,
        predictor == 2,
        apart,
        chunk,
        tiled,
        offsets,
        counts,
        alpha,
        photometric == _RGB,
        orientation if 1 <= orientation <= 8 else 1,
        more,
    )


def _directory(stream: IO[bytes]) -> tuple[Literal["<", ">"], dict[int, tuple[int, ...]], bool]:
    """Byte order and tags of the first directory of classic TIFF or BigTIFF, and whether another follows."""
    stream.seek(0)
    head = stream.read(16)
    order: Literal["<", ">"] = ">" if head[:2] == b"MM" else "<"
    version = struct.unpack(f"{order}H", head[2:4])[0]
    if version not in (42, 43):
        raise TiffError("no TIFF")
    big = version == 43
    start = struct.unpack(f"{order}Q", head[8:16])[0] if big else struct.unpack(f"{order}I", head[4:8])[0]
    stream.seek(start)
    count = struct.unpack(f"{order}{'Q' if big else 'H'}", stream.read(8 if big else 2))[0]
    if count > _MOST_ENTRIES:
        raise TiffError("too many tags")
    size, inline, form = (20, 8, "HHQ") if big else (12, 4, "HHI")
    entries = stream.read(size * count)
    following = stream.read(inline)
    tags = {}
    for place in range(0, size * count, size):
        tag, kind, number = struct.unpack(f"{order}{form}", entries[place : place + size - inline])
        letter = _TYPES.get(kind)
        if letter is None or tag not in _USED or number > _MOST_VALUES:
            continue
        length = number * struct.calcsize(letter)
        data = entries[place + size - inline : place + size]
        if length > inline:
            stream.seek(struct.unpack(f"{order}{'Q' if big else 'I'}", data)[0])
            data = stream.read(length)
        tags[tag] = struct.unpack(f"{order}{number}{letter}", data[:length])
    return order, tags, any(following)


def _values(tags: Mapping[int, tuple[int, ...]], tag: int, default: tuple[int, ...]) -> tuple[int, ...]:
    return tags.get(tag) or default


def _value(tags: Mapping[int, tuple[int, ...]], tag: int, default: int) -> int:
    return _values(tags, tag, (default,))[0]


def _chunks(layout: _Layout) -> Iterator[tuple[int | None, int, int, int, int]]:
    """Band (None: all), top, left, height and number of every chunk, as the file has them."""
    place = 0
    for band in range(layout.samples) if layout.apart else (None,):
        for top in range(0, layout.height, layout.chunk[0]):
            height = layout.chunk[0] if layout.tiled else min(layout.chunk[0], layout.height - top)
            for left in range(0, layout.width, layout.chunk[1]):
                yield band, top, left, height, place
                place += 1


def _unpacked(
    stream: IO[bytes], layout: _Layout, place: int, height: int, samples: int
) -> NDArray[np.generic]:
    """Samples (height, width, samples) of one chunk."""
    width = layout.chunk[1]
    size = height * width * samples * layout.dtype.itemsize
    try:
        stream.seek(layout.offsets[place])
        data = stream.read(min(layout.counts[place], 2 * size + 65536))
        raw = data if layout.packing == 1 else _grey_file_pixels(data, layout, height, width * samples)
        block = np.frombuffer(raw[:size], layout.dtype).reshape(height, width, samples)
    except (*_BOMBS, OSError, ValueError, OverflowError, SyntaxError, struct.error, MemoryError) as error:
        raise TiffError("damaged data") from error
    values = block.astype(layout.dtype.newbyteorder("="))
    return np.cumsum(values, axis=1, dtype=values.dtype) if layout.differences else values


def _grey_file_pixels(data: bytes, layout: _Layout, height: int, width: int) -> bytes:
    """Unpack a chunk by way of a TIFF file that holds nothing else; bytes in the order of `layout.dtype`."""
    # Samples as bytes: so no step on the way takes them for numbers and turns their order.
    width *= layout.dtype.itemsize
    order, many = layout.order, 9
    start = 8 + 2 + 12 * many + 4
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}IH", 8, many)
    for tag, value in ((_WIDTH, width), (_LENGTH, height)):
        head += struct.pack(f"{order}HHII", tag, 4, 1, value)
    for tag, value in ((_BITS, 8), (_COMPRESSION, layout.packing), (_PHOTOMETRIC, 1)):
        head += struct.pack(f"{order}HHIHH", tag, 3, 1, value, 0)
    head += struct.pack(f"{order}HHII", _OFFSETS, 4, 1, start)
    head += struct.pack(f"{order}HHIHH", _SAMPLES, 3, 1, 1, 0)
    for tag, value in ((_ROWS, height), (_COUNTS, len(data))):
        head += struct.pack(f"{order}HHII", tag, 4, 1, value)
    with Image.open(io.BytesIO(head + bytes(4) + data), formats=["TIFF"]) as image:
        return image.tobytes()
