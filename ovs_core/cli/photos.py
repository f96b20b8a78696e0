"""Which photos a command was given: files, folders, and what is left out of them, each with a name."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ovs_core.cli.journal import NAME as JOURNAL
from ovs_core.export.names import photo_stem
from ovs_core.image.picture_kinds import HEAD_BYTES, PICTURE_ENDINGS, looks_like_picture

_OWN_PICTURE = re.compile(
    r".+\.[\w-]+\.(?:labels|ids|overlay|panoptic|panoptic\.overlay|instances\.overlay|mask\.\d+-.*)\.png"
)
_OWN_FILE = re.compile(r".+\.[\w-]+\.(?:(?:coco|coco-polygons|panoptic|instances)\.json|yolo\.names\.txt)")
_OWN_BESIDE_LABELS = frozenset({".json", ".npz"})
_JUNK = frozenset({".DS_Store", "Thumbs.db", "desktop.ini", "ehthumbs.db"})
_STEM_BYTES = 110
_NAMED = 5


@dataclass(frozen=True)
class Source:
    """One photo to do: where it is, what its files begin with, what the report calls it."""

    path: Path
    stem: str
    title: str


@dataclass(frozen=True)
class Collected:
    """Photos in the order they were given, folders by name, and sentences on what was left out."""

    sources: tuple[Source, ...]
    notes: tuple[str, ...]


@dataclass
class _LeftOut:
    """What a folder holds that is not taken, by reason."""

    no_pictures: list[str] = field(default_factory=list)
    written_here: list[str] = field(default_factory=list)
    hidden: list[str] = field(default_factory=list)
    named_twice: list[str] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    closed: list[str] = field(default_factory=list)

    def sentence(self) -> str:
        """All of it in one sentence; "" if there is nothing."""
        parts = (
            _counted(self.no_pictures, "file that is no picture", "files that are no pictures"),
            _counted(self.written_here, "file that this program wrote", "files that this program wrote"),
            _counted(self.hidden, "hidden file", "hidden files"),
            _counted(
                self.named_twice, "other name of a photo given here", "other names of photos given here"
            ),
            _counted(
                self.folders, "folder, which --recursive looks into", "folders, which --recursive looks into"
            ),
            _counted(self.closed, "folder that cannot be opened", "folders that cannot be opened"),
        )
        return "; ".join(filter(None, parts))


def collect_photos(paths: Sequence[Path], recursive: bool) -> Collected:
    """Find every photo once, with a stem of its own.

    In folders, everything that is a picture by its name or its first bytes is taken, those of kinds that
    cannot be read, too: reading them says why. What this program wrote is not taken. A stem that is taken
    gets the folder's name in front, and a number where even that is taken.

    Args:
        paths: files and folders.
        recursive: look into folders within folders.

    Raises:
        ValueError: a path that does not exist, or a folder without photos; one sentence.
    """
    seen: set[Path] = set()
    stems: set[str] = set()
    sources: list[Source] = []
    notes = []
    for path in paths:
        left_out = _LeftOut()
        for file, title in _photos(path, recursive, left_out):
            place = _place(file)
            if place in seen:
                if file.is_symlink():
                    left_out.named_twice.append(title)
                continue
            seen.add(place)
            stem = _free_stem(file, stems)
            stems.add(stem.casefold())
            sources.append(Source(file, stem, title))
        if sentence := left_out.sentence():
            notes.append(f"Left out of {path}: {sentence}.")
    return Collected(tuple(sources), tuple(notes))


def _photos(path: Path, recursive: bool, left_out: _LeftOut) -> Iterator[tuple[Path, str]]:
    """A file as it is, or the pictures of a folder by name; with each its name for the report."""
    try:
        if not path.is_dir():
            if not path.exists():
                raise ValueError(f'There is no file or folder "{path}"{_web_hint(path)}.')
            yield path, path.name
            return
        files = sorted(_files(path, recursive, left_out))
    except OSError as error:
        raise ValueError(f'"{path}" cannot be opened: {error.strerror or error}.') from error
    names = frozenset(files)
    photos = [file for file in files if _taken(file, path, names, left_out)]
    if not photos:
        about = left_out.sentence()
        raise ValueError(f'There is no photo in the folder "{path}"{f" ({about})" if about else ""}.')
    yield from ((file, file.relative_to(path).as_posix()) for file in photos)


def _web_hint(path: Path) -> str:
    return "; photos on the web must be downloaded first" if re.match("https?:/", str(path)) else ""


def _files(folder: Path, recursive: bool, left_out: _LeftOut) -> Iterator[Path]:
    """Everything in a folder that is no folder."""

    def closed(error: OSError) -> None:
        if error.filename == str(folder):
            raise error
        left_out.closed.append(os.path.relpath(error.filename or "?", folder))

    for place, folders, files in os.walk(folder, onerror=closed):
        yield from (Path(place, name) for name in files)
        inside = [name for name in folders if not name.startswith(".")]
        linked = [name for name in inside if Path(place, name).is_symlink()]
        if not recursive:
            left_out.folders += sorted(name for name in inside if not name.endswith(".yolo"))
            return
        left_out.folders += sorted(linked)
        folders[:] = sorted(name for name in inside if name not in linked)


def _taken(file: Path, folder: Path, names: frozenset[Path], left_out: _LeftOut) -> bool:
    """Whether a file of a folder is a photo to do; where it is not, it is written down why."""
    name = file.name
    if name in _JUNK or name.startswith("._"):
        return False
    title = file.relative_to(folder).as_posix()
    if name == JOURNAL or _is_own(file, names):
        left_out.written_here.append(title)
    elif name.startswith("."):
        left_out.hidden.append(title)
    elif file.suffix.lower() in PICTURE_ENDINGS or looks_like_picture(_head(file)):
        return True
    else:
        left_out.no_pictures.append(title)
    return False


def _is_own(file: Path, names: frozenset[Path]) -> bool:
    """Whether this program wrote a file, by its name."""
    if _OWN_PICTURE.fullmatch(file.name) or _OWN_FILE.fullmatch(file.name) or file.parent.suffix == ".yolo":
        return True
    return file.suffix in _OWN_BESIDE_LABELS and file.with_suffix(".labels.png") in names


def _head(file: Path) -> bytes:
    """The first bytes of an ordinary file; nothing of any other."""
    try:
        if not file.is_file():
            return b""
        with file.open("rb") as stream:
            return stream.read(HEAD_BYTES)
    except OSError:
        return b""


def _place(file: Path) -> Path:
    """Where a file is in the end; itself, where links lead in a circle."""
    try:
        return file.resolve()
    except (OSError, RuntimeError):
        return file.absolute()


def _free_stem(file: Path, taken: Iterable[str]) -> str:
    """The first stem that no photo before has, upper and lower case being one."""
    plain = photo_stem(file.stem, _STEM_BYTES)
    long = photo_stem(f"{file.absolute().parent.name}-{file.stem}", _STEM_BYTES)
    stem, number = plain, 1
    while stem.casefold() in taken:
        stem = long if number == 1 else f"{long}-{number}"
        number += 1
    return stem


def _counted(titles: Sequence[str], singular: str, plural: str) -> str:
    """How many there are, and the first few by name."""
    if not titles:
        return ""
    more = f" and {len(titles) - _NAMED} more" if len(titles) > _NAMED else ""
    return f"{len(titles)} {singular if len(titles) == 1 else plural} ({', '.join(titles[:_NAMED])}{more})"
