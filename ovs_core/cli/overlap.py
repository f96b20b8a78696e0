"""Photos under way at the same time: while one is looked at, others are read, labelled and written.

Every thread takes a photo from its file to the files of its answer, so there are never more photos in memory
than threads; what takes the device waits for it inside the engine. Nothing here sets the number of threads
that torch uses: a thread that set it for itself would change MKL's for the whole process, and sums would come
out in another order.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from typing import TypeVar

_AHEAD = 2  # items for each thread that are taken before the first of them is finished

In = TypeVar("In")
Out = TypeVar("Out")


def in_order(
    work: Callable[[In], Out], items: Iterable[In], finish: Callable[[Out], None], threads: int
) -> None:
    """Do work in several threads, and finish it here, in the order of the items.

    What is under way when this ends early, by Ctrl-C or an error, is finished too; nothing new is begun.

    Args:
        work: done in a thread; what it gives should be small, a few of them wait for their turn.
        items: taken a few at a time.
        finish: done in the caller's thread.
        threads: at least 1.
    """
    left = iter(items)
    with ThreadPoolExecutor(threads) as pool:
        under_way = deque(pool.submit(work, item) for item in islice(left, threads * _AHEAD))
        try:
            while under_way:
                outcome = under_way[0].result()  # stays there until it is known: Ctrl-C may come here
                under_way.popleft()
                under_way.extend(pool.submit(work, item) for item in islice(left, 1))
                finish(outcome)
        except BaseException:
            _finish_the_rest(under_way, finish)
            raise


def _finish_the_rest(under_way: Iterable[Future[Out]], finish: Callable[[Out], None]) -> None:
    """Finish what has begun and ends well."""
    futures = list(under_way)
    for future in futures:
        future.cancel()
    for future in futures:
        if not future.cancelled() and future.exception() is None:
            finish(future.result())


class PixelBudget:
    """How many pixels may be labelled at the same time.

    Args:
        pixels: in all; a photo of more waits until it is alone.
    """

    def __init__(self, pixels: int) -> None:
        self._all = self._free = pixels
        self._changed = threading.Condition()

    @contextmanager
    def hold(self, pixels: int) -> Iterator[None]:
        """Take pixels for the length of a `with` block, as soon as there are enough."""
        wanted = min(pixels, self._all)
        with self._changed:
            self._changed.wait_for(lambda: self._free >= wanted)
            self._free -= wanted
        try:
            yield
        finally:
            with self._changed:
                self._free += wanted
                self._changed.notify_all()
