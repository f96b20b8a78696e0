"""Which photos a run is about, and which of them are left to do."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from ovs_core.batch.tables import filesystem_of, read_columns

Item = TypeVar("Item")


@dataclass(frozen=True)
class Source:
    """One photo.

    Attributes:
        id: unique in a run.
        path: file, or a URI such as "s3://bucket/photo.jpg".
    """

    id: str
    path: str


def listed_sources(table: str) -> tuple[Source, ...]:
    """The photos that a Parquet table lists.

    Args:
        table: file, or a URI of one, with a column `path` and, if ids are not to be the paths, a column `id`.
            A path that is not absolute starts at the table's folder.

    Raises:
        ValueError: if it cannot be read, lists no photo, or has an id twice; one sentence.
    """
    folder = None if "://" in table else Path(table).absolute().parent
    sources: dict[str, Source] = {}
    for entry in read_columns(table, ("path", "id"), needed=("path",)):
        path = str(entry["path"])
        place = path if folder is None or "://" in path else str(folder / path)
        source = Source(str(entry.get("id", path)), place)
        if source.id in sources:
            raise ValueError(f"The id {source.id!r} stands twice in {table}; every photo needs its own.")
        sources[source.id] = source
    if not sources:
        raise ValueError(f"There is no photo in {table}.")
    return tuple(sources.values())


def shard_of(sources: Sequence[Item], shard: str) -> tuple[Item, ...]:
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


def without(sources: Iterable[Source], done: frozenset[str]) -> tuple[Source, ...]:
    """Photos whose ids are not done yet."""
    return tuple(source for source in sources if source.id not in done)
