"""Long work as a generator: a thread works and reports, the caller takes what is there and may leave."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from queue import Empty, SimpleQueue
from typing import TypeVar

from ovs_core.devices import stop_if_cancelled

Item = TypeVar("Item")

_POLL_SECONDS = 0.05


def stream(
    work: Callable[[Callable[[Item], None], threading.Event], None], cancel: threading.Event | None = None
) -> Generator[Item, None, None]:
    """Yield what `work` reports, as it reports it.

    The work never waits for the caller, so it holds no lock while a caller looks at a partial answer. A
    caller that closes the generator stops the work at its next look at the event, and gets the thread back
    before `close` returns.

    Args:
        work: called in its own thread with (report, stop); returns when done or soon after `stop` is set.
        cancel: set it to end with Cancelled; nothing is yielded after that.

    Raises:
        Cancelled: if `cancel` was set before the work was done.
        BaseException: what `work` raised.
    """
    items: SimpleQueue[Item | None] = SimpleQueue()
    stop = threading.Event()
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="ovs-work") as pool:
        try:
            stop_if_cancelled(cancel)
            future = pool.submit(work, items.put, stop)
            future.add_done_callback(lambda _: items.put(None))
            while True:
                stop_if_cancelled(cancel)
                try:
                    item = items.get(timeout=_POLL_SECONDS)
                except Empty:
                    continue
                if item is None:
                    break
                yield item
            future.result()
        finally:
            stop.set()
