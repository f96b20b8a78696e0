"""Long work as a generator: a thread works and reports, the caller takes what is there and may leave."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from queue import Empty, SimpleQueue
from typing import TypeVar

from ovs_core.devices import stop_if_cancelled

Item = TypeVar("Item")

_POLL_SECONDS = 0.05


def stream(
    work: Callable[[Callable[[Item], None], threading.Event], None],
    cancel: threading.Event | None = None,
    replaces: Callable[[Item, Item], bool] = lambda new, old: False,
) -> Generator[Item, None, None]:
    """Yield what `work` reports, as it reports it.

    The work never waits for the caller, so it holds no lock while a caller looks at a partial answer. A
    caller that closes the generator stops the work at its next look at the event, and gets the thread back
    before `close` returns.

    Args:
        work: called in its own thread with (report, stop); returns when done or soon after `stop` is set.
        cancel: set it to end with Cancelled; nothing is yielded after that.
        replaces: called with (new, old) reports that both wait for the caller: whether the old one may be
            left out. What matters then does not wait behind news that are none any more.

    Raises:
        Cancelled: if `cancel` was set before the work was done.
        BaseException: what `work` raised.
    """
    items: SimpleQueue[Item | None] = SimpleQueue()
    waiting: deque[Item | None] = deque()
    stop = threading.Event()
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="ovs-work") as pool:
        try:
            stop_if_cancelled(cancel)
            future = pool.submit(work, items.put, stop)
            future.add_done_callback(lambda _: items.put(None))
            while True:
                stop_if_cancelled(cancel)
                while not (items.empty() and waiting):
                    try:
                        waiting.append(items.get(timeout=_POLL_SECONDS))
                    except Empty:
                        break
                if not waiting:
                    continue
                item = waiting.popleft()
                if item is None:
                    break
                if not waiting or waiting[0] is None or not replaces(waiting[0], item):
                    yield item
            future.result()
        finally:
            stop.set()
