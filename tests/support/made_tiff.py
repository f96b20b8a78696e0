"""TIFF files of any bands, written by the specification alone."""

import io
import struct
import zlib

import numpy as np
from PIL import Image


def made_tiff(
    bands,
    *,
    apart=False,
    rgb=False,
    packing=1,
    extra=(),
    rows=None,
    tile=None,
    differences=False,
    order="<",
    big=False,
    tags=(),
    following=0,
):
    """Bytes of a TIFF of `bands` (H, W, B), of uint8, uint16, int16, int32 or float32.

    Args:
        bands: samples.
        apart: each band has strips of its own.
        rgb: the first three are said to be red, green and blue.
        packing: 1 none, 5 LZW, 8 deflate, 32773 PackBits.
        extra: what the bands after the colours are said to be.
        rows: of a strip; all if None.
        tile: (height, width) of tiles instead of strips.
        differences: horizontal differencing.
        order: "<" or ">".
        big: BigTIFF.
        tags: more of (tag, values).
        following: offset of a next directory.
    """
    height, width, count = bands.shape
    kind = {"u": 1, "i": 2, "f": 3}[bands.dtype.kind]
    chunk = tile or (rows or height, width)
    planes = [bands[..., k : k + 1] for k in range(count)] if apart else [bands]
    chunks = [
        _packed(_cut(plane, top, left, chunk, tile), packing, differences, order)
        for plane in planes
        for top in range(0, height, chunk[0])
        for left in range(0, width, chunk[1])
    ]
    entries = {
        256: [width],
        257: [height],
        258: [bands.dtype.itemsize * 8] * count,
        259: [packing],
        262: [2 if rgb else 1],
        277: [count],
        284: [2 if apart else 1],
        339: [kind] * count,
        **({322: [tile[1]], 323: [tile[0]]} if tile else {278: [chunk[0]]}),
        **({317: [2]} if differences else {}),
        **({338: list(extra)} if extra else {}),
        **dict(tags),
    }
    head = 16 if big else 8
    content = bytearray(b"".join(chunks))
    starts = np.cumsum([head, *map(len, chunks)])[:-1].tolist()
    entries[324 if tile else 273] = starts
    entries[325 if tile else 279] = [len(part) for part in chunks]
    body, start = _directory(entries, content, head, order, big, following)
    letters = b"II" if order == "<" else b"MM"
    if big:
        return letters + struct.pack(f"{order}HHHQ", 43, 8, 0, start) + body
    return letters + struct.pack(f"{order}HI", 42, start) + body


def _cut(plane, top, left, chunk, tile):
    part = plane[top : top + chunk[0], left : left + chunk[1]]
    if not tile:
        return part
    full = np.zeros((*chunk, plane.shape[2]), plane.dtype)
    full[: part.shape[0], : part.shape[1]] = part
    return full


def _packed(part, packing, differences, order):
    if differences:
        part = np.concatenate([part[:, :1], part[:, 1:] - part[:, :-1]], axis=1)
    data = part.astype(part.dtype.newbyteorder(order)).tobytes()
    if packing == 1:
        return data
    if packing in (8, 32946):
        return zlib.compress(data)
    # Pillow packs a grey picture of the same bytes into one strip.
    stream = io.BytesIO()
    grey = Image.frombytes("L", (len(data) // part.shape[0], part.shape[0]), data)
    name = {5: "tiff_lzw", 32773: "packbits"}[packing]
    grey.save(stream, "TIFF", compression=name, tiffinfo={278: part.shape[0]})
    with Image.open(stream) as image:
        (start,), (length,) = image.tag_v2[273], image.tag_v2[279]
    return stream.getvalue()[start : start + length]


def _directory(entries, content, head, order, big, following):
    size, word = (8, "Q") if big else (4, "I")
    rows = b""
    for tag, values in sorted(entries.items()):
        data = struct.pack(f"{order}{len(values)}{word}", *values)
        kind = 16 if big else 4
        if len(data) > size:
            content += bytes(len(content) % 2)
            data, place = struct.pack(f"{order}{word}", head + len(content)), data
            content += place
        rows += struct.pack(f"{order}HH{word}", tag, kind, len(values)) + data
    content += bytes(len(content) % 2)
    start = head + len(content)
    count = struct.pack(f"{order}{'Q' if big else 'H'}", len(entries))
    return bytes(content) + count + rows + struct.pack(f"{order}{word}", following), start
