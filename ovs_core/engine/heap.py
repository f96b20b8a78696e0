"""Memory that the C library keeps although nobody uses it any more, given back to the system.

glibc cuts tensors up to 32 MB out of one heap and gives free pages back at its end only; small things that
stay, such as what is remembered of a photo, lie in between. After 120 photos of different sizes a process of
0.8 GB held another 1.0 GB that way. The next photo pays for what is given back, as its pages are new: 13 % of
its time were measured. So it happens only once much has come together.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable
from pathlib import Path

MUCH = 300_000_000
"""Bytes above what was held after the last time: what some thirty photos of 640 x 480 leave."""
_PAGES = Path("/proc/self/statm")  # the second number: pages in memory


class Heap:
    """When to give memory back. Threads may share it: to do it twice harms nobody.

    Args:
        held: bytes of this process that are in memory.
        give_back: gives back what nobody uses.
        much: bytes above the least that was held since the last time.
    """

    def __init__(
        self,
        held: Callable[[], int] | None = None,
        give_back: Callable[[], None] | None = None,
        much: int = MUCH,
    ) -> None:
        self._held, self._give_back = held or bytes_held, give_back or trim
        self._much = much
        self._least = self._held()

    def tidy(self) -> None:
        """Give back what nobody uses, if it may be much; call it when an answer is done."""
        now = self._held()
        self._least = min(self._least, now)
        if now - self._least >= self._much:
            self._give_back()
            self._least = self._held()


def bytes_held() -> int:
    """Bytes of this process in memory; 0 on systems other than Linux."""
    if not _PAGES.is_file():
        return 0
    return int(_PAGES.read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")


def trim() -> None:
    """Give back what the C library keeps and nobody uses; nothing where it is not glibc."""
    if sys.platform == "linux" and (trimmed := getattr(ctypes.CDLL(None), "malloc_trim", None)):
        trimmed(0)
