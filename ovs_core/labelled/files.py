"""Files of a folder by key: the path below it without the end, whatever the end's case."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

PHOTO_ENDS = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")
MASK_ENDS = (".png", ".tif", ".tiff", ".bmp")
# What people write for one and the same kind of file.
_ALSO = ((".jpg", ".jpeg"), (".tif", ".tiff"))


@dataclass(frozen=True)
class Example:
    """One labelled photo: its key, unique in its dataset, and its two files, which may be missing."""

    key: str
    photo: Path
    mask: Path


def keyed_files(folder: Path, ends: Sequence[str]) -> dict[str, tuple[Path, ...]]:
    """Key -> files of a folder and the folders in it that end so; of several the first end comes first.

    Hidden files are left out. Nothing if there is no such folder.
    """
    files: dict[str, list[tuple[int, Path]]] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        lower = name.lower()
        rank = next((rank for rank, end in enumerate(ends) if lower.endswith(end.lower())), None)
        if rank is not None and not path.name.startswith(".") and path.is_file():
            files.setdefault(name[: -len(ends[rank])], []).append((rank, path))
    return {key: tuple(path for _, path in sorted(paths)) for key, paths in files.items()}


def file_of(folder: Path, key: str, ends: Sequence[str]) -> Path:
    """The file of one key; where there is none, the name it should have."""
    usual = folder / f"{key}{ends[0]}"
    return usual if usual.is_file() else keyed_files(usual.parent, ends).get(usual.stem, (usual,))[0]


def spellings(end: str) -> tuple[str, ...]:
    """An end of file names and the other ways to write it: "_x.jpg" also as "_x.jpeg"."""
    others = (end.removesuffix(usual) + other for usual, other in _ALSO if end.endswith(usual))
    return (end, *others)


def digest(paths: Sequence[Path]) -> str:
    """SHA-256 (hex) of the contents of files one after the other; "" if one cannot be read."""
    total = hashlib.sha256()
    try:
        for path in paths:
            content = path.read_bytes()
            total.update(f"{len(content)}:".encode())
            total.update(content)
    except OSError:
        return ""
    return total.hexdigest()
