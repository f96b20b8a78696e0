"""Rows of text embeddings that are kept: what one depends on, in memory, on disk one checked file each."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import threading
from collections.abc import Hashable
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

logger = logging.getLogger(__name__)

DIGEST_BYTES = 32  # SHA-256


def row_key(identity: str, templates: tuple[str, ...], name: str) -> str:
    """SHA-256 hex of everything a row depends on."""
    return hashlib.sha256(json.dumps([identity, templates, name]).encode()).hexdigest()


class RowMemory(Protocol):
    """What keeps rows in memory; `ovs_core.engine.cache.ByteCache` does, within the engine's budget."""

    def get(self, kind: str, key: Hashable) -> Any | None:
        """The row kept under `key`, or None."""
        ...

    def put(self, kind: str, key: Hashable, value: Any, nbytes: int) -> None:
        """Keep a row of `nbytes`."""
        ...


class Rows:
    """Every row that was put in: for programs that ask few names and then end, as recipes do."""

    def __init__(self) -> None:
        self._rows: dict[tuple[str, Hashable], Any] = {}

    def get(self, kind: str, key: Hashable) -> Any | None:
        """The row kept under `key`, or None."""
        return self._rows.get((kind, key))

    def put(self, kind: str, key: Hashable, value: Any, nbytes: int) -> None:
        """Keep a row."""
        self._rows[kind, key] = value


class RowFiles:
    """Rows on disk, one small file each: little-endian float32 numbers, then the SHA-256 of those bytes.

    Never the reason why an answer fails: trouble is logged and the row made anew.

    Args:
        folder: made when the first row is written.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._writable = True

    def read(self, key: str) -> Tensor | None:
        """Row (D,) kept under `key`; None if there is none or its file is not what was written."""
        path = self._path(key)
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            logger.warning("The text cache file %s cannot be read: %s", path, error)
            return None
        numbers, digest = content[:-DIGEST_BYTES], content[-DIGEST_BYTES:]
        if hashlib.sha256(numbers).digest() != digest:
            logger.warning("The text cache file %s is damaged; its embedding is made anew", path)
            return None
        return torch.from_numpy(np.frombuffer(numbers, dtype="<f4").astype(np.float32))

    def write(self, key: str, row: Tensor) -> None:
        """Keep a row (D,); after the first failure this object writes no more."""
        if not self._writable:
            return
        path = self._path(key)
        partial = path.with_suffix(f".{os.getpid()}-{threading.get_ident()}.part")
        numbers = row.numpy().astype("<f4").tobytes()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            partial.write_bytes(numbers + hashlib.sha256(numbers).digest())
            partial.replace(path)
        except OSError as error:
            self._writable = False
            logger.warning("Text embeddings are not kept on disk: %s", error)
            with contextlib.suppress(OSError):
                partial.unlink()

    def _path(self, key: str) -> Path:
        return self._folder / f"{key}.row"
