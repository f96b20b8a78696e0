"""Rows in Parquet files: written whole or not at all, read back, and told apart by what they hold.

pyarrow is an extra, so it is looked for when it is needed.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from ovs_core.batch.rows import SCHEMA, ClassArea, InstanceMask, Row

HEADER_KEY = b"ovs_lens"
"""Key of a file's schema metadata under which its header stands, as JSON."""

_ROWS_AT_ONCE = 64
_HEX_DIGITS = 16


def filesystem_of(place: str) -> tuple[Any, str]:
    """Pyarrow's file system for a path or a URI, and the path in it.

    Raises:
        ValueError: without pyarrow, or for a URI that it does not know.
    """
    arrow = _arrow()
    if "://" not in place:
        return arrow.fs.LocalFileSystem(), str(Path(place).absolute())
    try:
        system, path = arrow.fs.FileSystem.from_uri(place)
    except (arrow.ArrowException, OSError, ValueError) as error:
        raise ValueError(f"{place} cannot be reached: {error}.") from error
    return system, path


def write_rows(folder: str, rows: Sequence[Row], header: dict[str, Any]) -> str:
    """Write one file of rows; returns its name.

    The name is made of the photos' ids: the same rows made twice, as a cluster does after a failure, are one
    file. It appears under its name only when it is complete.

    Args:
        folder: path or URI, made if missing.
        rows: at least one.
        header: what the file says once (`header_of`).

    Raises:
        ValueError: if the folder cannot be written.
    """
    arrow = _arrow()
    digest = hashlib.sha256("\0".join(row.id for row in rows).encode("utf-8", "backslashreplace"))
    name = f"rows-{digest.hexdigest()[:_HEX_DIGITS]}.parquet"
    table = arrow.Table.from_pylist([asdict(row) for row in rows], _schema(header))
    buffer = io.BytesIO()
    arrow.parquet.write_table(table, buffer, compression="zstd")
    system, path = filesystem_of(folder)
    try:
        system.create_dir(path, recursive=True)
        with system.open_output_stream(f"{path}/.{name}.part") as stream:
            stream.write(buffer.getbuffer())
        system.move(f"{path}/.{name}.part", f"{path}/{name}")
    except OSError as error:
        raise ValueError(f"Cannot write into {folder}: {error}.") from error
    return name


def row_files(folder: str) -> tuple[str, ...]:
    """Files of rows in a folder, by name; none where there is no folder."""
    system, path = filesystem_of(folder)
    selector = _arrow().fs.FileSelector(path, allow_not_found=True)
    names = (info.base_name for info in system.get_file_info(selector) if info.is_file)
    return tuple(sorted(name for name in names if name.endswith(".parquet") and not name.startswith(".")))


def read_header(folder: str, name: str) -> dict[str, Any]:
    """What a file of rows says once.

    Raises:
        ValueError: if it is damaged or holds something else.
    """
    metadata = _open(f"{folder}/{name}").schema_arrow.metadata or {}
    try:
        header: dict[str, Any] = json.loads(metadata[HEADER_KEY])
    except (KeyError, ValueError) as error:
        raise ValueError(f"{folder}/{name} holds no rows of this program.") from error
    if header.get("schema") != SCHEMA:
        raise ValueError(f"{folder}/{name} has rows of another kind ({header.get('schema')}, not {SCHEMA}).")
    return header


def done_ids(folder: str) -> frozenset[str]:
    """Ids of all photos that have a row in a folder, those with an error too.

    Raises:
        ValueError: if a file is damaged or holds something else.
    """
    return frozenset(
        entry["id"] for name in row_files(folder) for entry in read_columns(f"{folder}/{name}", ("id",))
    )


def read_rows(folder: str, columns: Sequence[str] | None = None) -> Iterator[Row]:
    """Every row of a folder, file by file, a few in memory at a time.

    Args:
        folder: path or URI.
        columns: those to read; others are None, or empty. None reads all.

    Raises:
        ValueError: if a file is damaged or holds something else.
    """
    empty = dict.fromkeys((field.name for field in fields(Row)), None) | {"classes": (), "notes": ()}
    for name in row_files(folder):
        read_header(folder, name)
        for entry in read_columns(f"{folder}/{name}", tuple(columns or empty), needed=("id",)):
            yield _row({**empty, **entry})


def read_columns(file: str, columns: Sequence[str], needed: Sequence[str] = ()) -> Iterator[dict[str, Any]]:
    """Values of those columns that a Parquet file has, row by row.

    Raises:
        ValueError: if it cannot be read, or a column of `needed` is not there.
    """
    arrow = _arrow()
    table = _open(file)
    there = [column for column in columns if column in table.schema_arrow.names]
    missing = [column for column in needed if column not in there]
    if missing:
        raise ValueError(f"{file} has no column {missing[0]!r}.")
    try:
        for batch in table.iter_batches(batch_size=_ROWS_AT_ONCE, columns=there):
            yield from batch.to_pylist()
    except (arrow.ArrowException, OSError) as error:
        raise ValueError(f"{file} is damaged: {error}.") from error


def _row(entry: dict[str, Any]) -> Row:
    instances = entry["instances"]
    return Row(
        **{
            **entry,
            "classes": tuple(ClassArea(**area) for area in entry["classes"]),
            "instances": instances
            if instances is None
            else tuple(InstanceMask(**{**mask, "bbox": tuple(mask["bbox"])}) for mask in instances),
            "notes": tuple(entry["notes"]),
        }
    )


def _open(file: str) -> Any:
    arrow = _arrow()
    system, path = filesystem_of(file)
    try:
        return arrow.parquet.ParquetFile(path, filesystem=system)
    except (arrow.ArrowException, OSError) as error:
        raise ValueError(f"{file} is not a Parquet file that can be read: {error}.") from error


def _schema(header: dict[str, Any]) -> Any:
    """Columns of a file of rows, and its header."""
    arrow = _arrow()
    area = [("label", arrow.int32()), ("name", arrow.string()), ("area", arrow.int64())]
    instance = [
        ("label", arrow.int32()),
        ("score", arrow.float64()),
        ("area", arrow.int64()),
        ("bbox", arrow.list_(arrow.int32())),
        ("counts", arrow.string()),
    ]
    columns = [
        ("id", arrow.string()),
        ("path", arrow.string()),
        ("width", arrow.int32()),
        ("height", arrow.int32()),
        ("labels", arrow.binary()),
        ("classes", arrow.list_(arrow.struct([*area, ("mean_score", arrow.float64())]))),
        ("instances", arrow.list_(arrow.struct(instance))),
        ("notes", arrow.list_(arrow.string())),
        ("error", arrow.string()),
        ("seconds", arrow.float64()),
    ]
    return arrow.schema(columns, metadata={HEADER_KEY: json.dumps(header, ensure_ascii=False).encode()})


def _arrow() -> Any:
    """Pyarrow with the parts that are used here.

    Raises:
        ValueError: if it is not installed; the sentence says how to.
    """
    try:
        import pyarrow as arrow
        import pyarrow.fs
        import pyarrow.parquet
    except ImportError as error:
        raise ValueError('Parquet files need pyarrow: pip install "ovs-lens[parquet]".') from error
    return arrow
