"""What `ovs-lens segment` has done in a folder: a line for each photo and method, written after their files.

A line knows contents, not names: the photo's bytes, and everything that the answer depends on. A line that a
killed run left half, or whose files are gone, counts for nothing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

NAME = ".ovs-lens.jsonl"


@dataclass(frozen=True)
class Entry:
    """One photo answered by one method.

    Attributes:
        stem: what the names of its files begin with.
        method: registry name.
        photo: SHA-256 of the photo's file.
        question: SHA-256 of everything else, see `digest`.
        files: names of its files, below the folder.
    """

    stem: str
    method: str
    photo: str
    question: str
    files: tuple[str, ...]


def read_journal(folder: Path) -> Mapping[tuple[str, str], Entry]:
    """The last entry of each stem and method; nothing where there is no journal.

    Raises:
        ValueError: for a journal that cannot be read.
    """
    try:
        lines = (folder / NAME).read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise ValueError(f"{folder / NAME} cannot be read: {error.strerror or error}.") from error
    entries = {}
    for line in lines:
        try:
            fields = json.loads(line)
            entry = Entry(**{**fields, "files": tuple(fields["files"])})
        except (ValueError, TypeError, KeyError):
            continue
        entries[entry.stem, entry.method] = entry
    return entries


def note_entry(folder: Path, entry: Entry) -> None:
    """Write down that an answer is whole.

    Raises:
        ValueError: where the folder cannot be written.
    """
    try:
        with (folder / NAME).open("a", encoding="utf-8") as journal:
            # The first line break ends what a killed run may have left.
            journal.write("\n" + json.dumps(asdict(entry)) + "\n")
    except OSError as error:
        raise ValueError(f"Cannot write into {folder}: {error.strerror or error}.") from error


def is_whole(
    journal: Mapping[tuple[str, str], Entry], folder: Path, stem: str, method: str, photo: str, question: str
) -> bool:
    """Whether the same photo was asked the same, and all of its files are there."""
    entry = journal.get((stem, method))
    if entry is None or (entry.photo, entry.question) != (photo, question):
        return False
    return all((folder / name).is_file() for name in entry.files)


def file_digest(path: Path) -> str:
    """SHA-256 of a file; "" for one that cannot be read, or is a pipe, which is said when it is tried."""
    try:
        if not path.is_file():  # a pipe would be waited for
            return ""
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return ""


def digest(question: Mapping[str, Any]) -> str:
    """SHA-256 of what an answer depends on besides the photo."""

    def plain(value: Any) -> Any:
        return sorted(value) if isinstance(value, (set, frozenset)) else repr(value)

    return hashlib.sha256(json.dumps(question, sort_keys=True, default=plain).encode()).hexdigest()


def write_failures(folder: Path, name: str, failed: Sequence[tuple[str, str]]) -> Path | None:
    """Write photos that could not be done, a tab and the reason, one a line; no file where there are none."""
    path = folder / name
    try:
        if not failed:
            path.unlink(missing_ok=True)
            return None
        folder.mkdir(parents=True, exist_ok=True)
        lines = (f"{photo}\t{' '.join(reason.split())}\n" for photo, reason in failed)
        path.write_text("".join(lines), encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise ValueError(f"Cannot write into {folder}: {error.strerror or error}.") from error
    return path
