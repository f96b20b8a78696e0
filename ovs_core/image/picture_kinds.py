"""What a file is, by its first bytes and its name: a picture that is read, another picture, or none."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

HEAD_BYTES = 512

READ_ENDINGS = frozenset(
    {
        *(".apng", ".avif", ".bmp", ".dib", ".gif", ".ico", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg", ".mpo"),
        *(".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp", ".heic", ".heif", ".hif"),
    }
)
"""Endings of pictures that are read (HEIC with a package of its own)."""

_RAW_ENDINGS = frozenset(
    {
        *(
            ".3fr",
            ".arw",
            ".cr2",
            ".cr3",
            ".crw",
            ".dng",
            ".erf",
            ".kdc",
            ".mef",
            ".mos",
            ".mrw",
            ".nef",
            ".nrw",
        ),
        *(".orf", ".pef", ".raf", ".raw", ".rw2", ".rwl", ".sr2", ".srf", ".srw", ".x3f"),
    }
)
_OTHER_PICTURES: Mapping[str, str] = MappingProxyType(
    {
        **dict.fromkeys(_RAW_ENDINGS, "a camera's raw file"),
        ".jxl": "a JPEG XL picture",
        ".psd": "a Photoshop file",
        ".psb": "a Photoshop file",
        ".svg": "an SVG drawing",
        ".svgz": "an SVG drawing",
        ".eps": "a PostScript drawing",
        ".tga": "a TGA picture",
        ".exr": "an OpenEXR picture",
        ".hdr": "a Radiance picture",
        ".dds": "a DDS texture",
        ".xcf": "a GIMP file",
        ".jxr": "a JPEG XR picture",
        ".wdp": "a JPEG XR picture",
        ".djvu": "a DjVu document",
        ".ai": "an Illustrator file",
        ".icns": "an icon",
        ".pcx": "a PCX picture",
    }
)
PICTURE_ENDINGS = READ_ENDINGS | frozenset(_OTHER_PICTURES)
"""Endings of pictures, read or not."""

_HEIC_BRANDS = frozenset((b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1"))
_READ_STARTS = (
    *(
        b"\xff\xd8\xff",
        b"\x89PNG\r\n\x1a\n",
        b"GIF87a",
        b"GIF89a",
        b"II*\x00",
        b"MM\x00*",
        b"II+\x00",
        b"MM\x00+",
    ),
    b"\x00\x00\x00\x0cjP  \r\n\x87\n",
)
_OTHER_STARTS: tuple[tuple[bytes, str], ...] = (
    (b"%PDF-", "a PDF document"),
    (b"%!PS", "a PostScript drawing"),
    (b"8BPS", "a Photoshop file"),
    (b"gimp xcf", "a GIMP file"),
    (b"\xff\x0a", "a JPEG XL picture"),
    (b"\x00\x00\x00\x0cJXL ", "a JPEG XL picture"),
    (b"II\xbc", "a JPEG XR picture"),
    (b"v/1\x01", "an OpenEXR picture"),
    (b"#?RADIANCE", "a Radiance picture"),
    (b"DDS ", "a DDS texture"),
    (b"FUJIFILMCCD-RAW", "a camera's raw file"),
    (b"PK\x03\x04", "a ZIP archive or an Office document"),
    (b"\x1f\x8b", "a compressed file"),
    (b"7z\xbc\xaf", "an archive"),
    (b"Rar!", "an archive"),
    (b"\x1aE\xdf\xa3", "a video"),
    (b"\x00\x00\x01\xba", "a video"),
    (b"version https://git-lfs", "a pointer of Git LFS: fetch the file itself (git lfs pull)"),
)


def is_heic(head: bytes) -> bool:
    """Whether a file begins as HEIC or HEIF does."""
    return head[4:8] == b"ftyp" and (head[8:12] in _HEIC_BRANDS)


def looks_like_picture(head: bytes) -> bool:
    """Whether a file begins as a picture that is read does, whatever it is called."""
    webp = head[:4] == b"RIFF" and head[8:12] == b"WEBP"
    avif = head[4:12] in (b"ftypavif", b"ftypavis")
    return head.startswith(_READ_STARTS) or webp or avif or is_heic(head)


def other_kind(head: bytes, name: str = "") -> str:
    """What a file is that is no picture for us, with its article; "" if nothing tells.

    Args:
        head: its first `HEAD_BYTES` bytes.
        name: of the file.
    """
    for start, kind in _OTHER_STARTS:
        if head.startswith(start):
            return kind
    if head[4:8] == b"ftyp" and not looks_like_picture(head):
        return "a camera's raw file" if head[8:12] == b"crx " else "a video"
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if b"<svg" in text and text.startswith(b"<"):
        return "an SVG drawing"
    if text.startswith((b"<!doctype html", b"<html")):
        return "a web page: what was saved may be the page around the photo"
    return _OTHER_PICTURES.get(Path(name).suffix.lower(), "")


def is_raw(name: str) -> bool:
    """Whether a file is called as cameras call what their sensors saw."""
    return Path(name).suffix.lower() in _RAW_ENDINGS
