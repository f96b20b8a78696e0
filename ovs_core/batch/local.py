"""Rows made on this machine: several threads, so that reading, looking, asking and packing overlap."""

from __future__ import annotations

import contextlib
import os
import queue
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import torch

from ovs_core.batch.plan import Answerer, BatchPlan, Prepare, prepare
from ovs_core.batch.rows import Row, error_row
from ovs_core.batch.sources import Source, read_bytes
from ovs_core.batch.tables import write_rows
from ovs_core.engine import NotEnoughMemory
from ovs_core.image import ImageError, Photo, read_photo

ROWS_PER_FILE = 256
"""What a run that is killed does again at most: a minute and a half of a small CPU, seconds of a GPU."""

GPU_WORKERS = 4
"""Threads that share one GPU: one looks and asks, the others read and pack."""

MOST_SURPRISES = 20
"""A run ends when so many photos after each other fail for a reason that is not theirs."""

_AHEAD = 2  # photos under way for each thread
_SURPRISES = (RuntimeError, ValueError, OSError, MemoryError, ArithmeticError, LookupError, TypeError)

In = TypeVar("In")
Out = TypeVar("Out")


def answerers(plan: BatchPlan, workers: int | None, make: Prepare = prepare) -> tuple[Answerer, ...]:
    """One for each thread: on a GPU the same one, on a CPU each its own with its part of the cores.

    Args:
        plan: what is asked.
        workers: threads; None takes `GPU_WORKERS` on a GPU, and on a CPU one for every core.
        make: makes one.

    Raises:
        ValueError: as `prepare`.
    """
    first = make(plan)
    number = workers or (GPU_WORKERS if first.on_gpu else cpu_count())
    if first.on_gpu:
        return (first,) * number
    return (first, *(make(plan) for _ in range(number - 1)))


def rows_of(
    sources: Iterable[Source], ready: Sequence[Answerer], cores: int | None = None
) -> Generator[Row, None, None]:
    """A row for every photo, in order; one that cannot be read or answered has an error.

    Args:
        sources: photos.
        ready: one for each thread; the same one may stand there several times.
        cores: for all of them together; None takes those of the machine.

    Raises:
        ValueError: if `MOST_SURPRISES` photos after each other fail for a reason that is not theirs.
    """
    free: queue.SimpleQueue[Answerer] = queue.SimpleQueue()
    for answerer in ready:
        free.put(answerer)
    threads = max(1, (cores or cpu_count()) // len(ready))

    def work(source: Source) -> tuple[Row, bool]:
        answerer = free.get()
        try:
            return _row(source, answerer)
        finally:
            free.put(answerer)

    surprises = 0
    with contextlib.nullcontext() if ready[0].on_gpu else threads_each(threads):
        for row, surprise in in_parallel(work, sources, len(ready)):
            surprises = surprises + 1 if surprise else 0
            if surprises == MOST_SURPRISES:
                raise ValueError(f"{surprises} photos after each other failed, the last one so: {row.error}")
            yield row


@contextlib.contextmanager
def threads_each(count: int) -> Iterator[None]:
    """Threads that start inside compute with so many threads each; afterwards all is as it was.

    Set from the outside: a thread that set it for itself would set it for MKL in the whole process and for
    good, and the same question would be answered by sums in another order.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def write_in_files(
    rows: Iterable[Row], out: str, header: dict[str, Any], rows_per_file: int = ROWS_PER_FILE
) -> Iterator[Row]:
    """Write rows as they come, file by file, and hand each on once it is on its way.

    What is there is written too when rows end early, be it by Ctrl-C.

    Args:
        rows: in the order of the files.
        out: folder or URI.
        header: what every file says once.
        rows_per_file: rows of a file.

    Raises:
        ValueError: if the folder cannot be written.
    """
    waiting: list[Row] = []
    try:
        for row in rows:
            waiting.append(row)
            if len(waiting) >= rows_per_file:
                write_rows(out, waiting, header)
                waiting = []
            yield row
    finally:
        if waiting:
            write_rows(out, waiting, header)


def in_parallel(function: Callable[[In], Out], items: Iterable[In], workers: int) -> Iterator[Out]:
    """What a function makes of each item, in order, made by several threads a few items ahead."""
    left = iter(items)
    with ThreadPoolExecutor(workers) as pool:
        running: deque[Future[Out]] = deque()
        try:
            for item in islice(left, workers * _AHEAD):
                running.append(pool.submit(function, item))
            while running:
                answer = running.popleft().result()
                for item in islice(left, 1):
                    running.append(pool.submit(function, item))
                yield answer
        finally:
            for future in running:
                future.cancel()


def label_here(
    sources: Iterable[Source], ready: Sequence[Answerer], out: str, rows_per_file: int = ROWS_PER_FILE
) -> Iterator[Row]:
    """Ask about every photo and write the rows; each is handed on once it is on its way."""
    with closing(rows_of(sources, ready)) as rows:
        yield from write_in_files(rows, out, dict(ready[0].header), rows_per_file)


def cpu_count() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _row(source: Source, answerer: Answerer) -> tuple[Row, bool]:
    """The row of one photo, and whether it failed for a reason that is not the photo's."""
    started = time.perf_counter()
    surprise = False
    try:
        photo = _photo(source.path)
        row = answerer.row(photo, source.id, source.path)
        row = replace(row, notes=(*photo.notes, *row.notes))
    except (ImageError, NotEnoughMemory, FileNotFoundError, PermissionError) as error:
        row = error_row(source.id, source.path, str(error))
    except _SURPRISES as error:
        row = error_row(source.id, source.path, f"{type(error).__name__}: {error}")
        surprise = True
    return replace(row, seconds=time.perf_counter() - started), surprise


def _photo(path: str) -> Photo:
    return read_photo(read_bytes(path) if "://" in path else Path(path))
