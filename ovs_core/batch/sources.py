"""Which photos a run is about, and which of them are left to do."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ovs_core.batch.tables import filesystem_of, read_columns

PHOTO_SUFFIXES = frozenset(
    {
        *(".apng", ".avif", ".bmp", ".dib", ".gif", ".ico", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg", ".mpo"),
        *(".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp"),
    }
)


@dataclass(frozen=True)
class Source:
    """One photo.

    Attributes:
        id: unique in a run.
        path: file, or a URI such as "s3://bucket/photo.jpg".
    """

    id: str
    path: str


def find_sources(place: str, recursive: bool = False) -> tuple[Source, ...]:
    """The photos of a folder in the order of their names, or those that a Parquet table lists.

    Args:
        place: a folder, whose photos have their path below it as id; or a ".parquet" file, or a URI of one,
            with a column `path` and, if ids are not to be the paths, a column `id`. A path that is not
            absolute starts at the table's folder.
        recursive: folders within the folder too.

    Raises:
        ValueError: if it is neither, there is no photo, or an id stands twice; one sentence.
    """
    if place.endswith(".parquet"):
        sources = tuple(_listed(place))
    elif Path(place).is_dir():
        sources = tuple(_in_folder(Path(place), recursive))
    else:
        raise ValueError(f'"{place}" is neither a folder nor a .parquet table of paths.')
    if not sources:
        hint = "" if recursive or place.endswith(".parquet") else " (--recursive looks into its folders too)"
        raise ValueError(f'There is no photo in "{place}"{hint}.')
    seen: set[str] = set()
    for source in sources:
        if source.id in seen:
            raise ValueError(f"The id {source.id!r} stands twice in {place}; every photo needs its own.")
        seen.add(source.id)
    return sources


def shard_of(sources: Sequence[Source], shard: str) -> tuple[Source, ...]:
    """Every N-th photo, from the I-th on; all shards together are all photos.

    Args:
        sources: of the whole run.
        shard: "I/N", from 1/N to N/N.

    Raises:
        ValueError: for anything else.
    """
    first, slash, number = shard.partition("/")
    if not (slash and first.isdecimal() and number.isdecimal() and 1 <= int(first) <= int(number)):
        raise ValueError(f'--shard must be "I/N" with I from 1 to N, such as "2/8"; got "{shard}".')
    return tuple(sources[int(first) - 1 :: int(number)])


def read_bytes(uri: str) -> bytes:
    """What a URI such as "s3://bucket/photo.jpg" holds.

    Raises:
        OSError: if it cannot be read.
    """
    system, path = filesystem_of(uri)
    with system.open_input_stream(path) as stream:
        content: bytes = stream.read()
    return content


def _in_folder(folder: Path, recursive: bool) -> Iterator[Source]:
    for file in sorted(folder.rglob("*") if recursive else folder.iterdir()):
        if file.suffix.lower() in PHOTO_SUFFIXES and not file.name.startswith(".") and file.is_file():
            yield Source(file.relative_to(folder).as_posix(), str(file.absolute()))


def _listed(table: str) -> Iterator[Source]:
    """Rows of a table of paths."""
    folder = None if "://" in table else Path(table).absolute().parent
    for entry in read_columns(table, ("path", "id"), needed=("path",)):
        path = str(entry["path"])
        place = path if folder is None or "://" in path else str(folder / path)
        yield Source(str(entry.get("id", path)), place)


def without(sources: Iterable[Source], done: frozenset[str]) -> tuple[Source, ...]:
    """Photos whose ids are not done yet."""
    return tuple(source for source in sources if source.id not in done)
