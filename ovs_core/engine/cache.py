"""A least-recently-used store with a budget in bytes: what the engine remembers between questions."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass
from threading import Lock
from typing import Any


@dataclass(frozen=True)
class CacheStats:
    """How often one kind of entry was found, missed or pushed out since the cache was made.

    Attributes:
        hits, misses: answers of `ByteCache.get`.
        evictions: entries pushed out by newer ones.
        nbytes: bytes held now by this kind.
    """

    hits: int
    misses: int
    evictions: int
    nbytes: int


@dataclass(frozen=True)
class _Entry:
    value: Any
    nbytes: int


class ByteCache:
    """Least-recently-used values of several kinds ("features", "text", "scores") under one byte budget.

    Safe to use from several threads. A value larger than the whole budget is not kept: the caller still has
    it, and everything that was worth keeping stays.

    Args:
        budget: bytes held at most; 0 keeps nothing.
    """

    def __init__(self, budget: int) -> None:
        if budget < 0:
            raise ValueError(f"cache_bytes must be 0 or more, got {budget}")
        self.budget = budget
        self._entries: OrderedDict[tuple[str, Hashable], _Entry] = OrderedDict()
        self._nbytes = 0
        self._counts: Counter[tuple[str, str]] = Counter()
        self._lock = Lock()

    @property
    def nbytes(self) -> int:
        """Bytes held now; never above `budget`."""
        return self._nbytes

    def get(self, kind: str, key: Hashable, *others: Hashable) -> Any | None:
        """Value kept under (kind, key), now the most recently used one; None if it is not there.

        `others` are keys of values that do as well, looked at in this order.
        """
        with self._lock:
            for known in ((kind, one) for one in (key, *others)):
                if known in self._entries:
                    self._counts[kind, "hits"] += 1
                    self._entries.move_to_end(known)
                    return self._entries[known].value
            self._counts[kind, "misses"] += 1
            return None

    def put(self, kind: str, key: Hashable, value: Any, nbytes: int) -> None:
        """Keep `value`, which holds `nbytes`; the least recently used entries beyond the budget go."""
        with self._lock:
            self._remove((kind, key))
            if nbytes > self.budget:
                return
            while self._nbytes + nbytes > self.budget:
                oldest = next(iter(self._entries))
                self._remove(oldest)
                self._counts[oldest[0], "evictions"] += 1
            self._entries[kind, key] = _Entry(value, nbytes)
            self._nbytes += nbytes

    def drop(self, kind: str) -> None:
        """Forget every entry of one kind."""
        with self._lock:
            for key in [key for key in self._entries if key[0] == kind]:
                self._remove(key)

    def stats(self, kind: str) -> CacheStats:
        """Counts for one kind; all zero for a kind that was never used."""
        with self._lock:
            return CacheStats(
                hits=self._counts[kind, "hits"],
                misses=self._counts[kind, "misses"],
                evictions=self._counts[kind, "evictions"],
                nbytes=sum(entry.nbytes for key, entry in self._entries.items() if key[0] == kind),
            )

    def _remove(self, key: tuple[str, Hashable]) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._nbytes -= entry.nbytes
