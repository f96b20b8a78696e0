"""Text embeddings on disk: what a row depends on, and one small checked file per row."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import threading
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

logger = logging.getLogger(__name__)

DIGEST_BYTES = 32  # SHA-256


def row_key(identity: str, templates: tuple[str, ...], name: str) -> str:
    """SHA-256 hex of everything a row depends on."""
    return hashlib.sha256(json.dumps([identity, templates, name]).encode()).hexdigest()


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
