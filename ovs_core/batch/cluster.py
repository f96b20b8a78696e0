"""Rows made on a Ray cluster: every actor makes whole files, as `local` does, in threads of its own.

Ray Data hands out work, restarts what dies and waits for machines; pixels never travel between processes. One
block of paths becomes one file, whose name is made of its photos' ids. So a block that is done twice, after a
machine was lost, is still one file, and the files are all that a later run must read to go on.
"""

from __future__ import annotations

import json
import logging
import socket
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from numpy.typing import NDArray

from ovs_core.batch.local import GPU_WORKERS, ROWS_PER_FILE, answerers, rows_of
from ovs_core.batch.plan import Answerer, BatchPlan, Prepare, prepare
from ovs_core.batch.rows import check_same_run
from ovs_core.batch.sources import Source
from ovs_core.batch.tables import read_header, row_files, write_rows

CORES = 2
"""Cores of an actor without a GPU."""

_KNOCK_SECONDS = 10


@dataclass(frozen=True)
class Cluster:
    """Where a run happens.

    Attributes:
        address: of a Ray cluster, such as "auto" or "ray://head:10001"; "local" starts one on this machine.
        gpus: of one actor, such as 0.5; None takes one where the cluster has any.
        workers: threads and cores of one actor; None takes `GPU_WORKERS` beside a GPU, else `CORES`.
        actors: at most; None takes as many as fit.
    """

    address: str = "local"
    gpus: float | None = None
    workers: int | None = None
    actors: int | None = None


@dataclass(frozen=True)
class WrittenFile:
    """One file of rows that is done.

    Attributes:
        name: of the file.
        rows: photos in it.
        errors: id and sentence of those without an answer.
    """

    name: str
    rows: int
    errors: tuple[tuple[str, str], ...]


class FileMaker:
    """An actor: makes one file of rows of a block of paths.

    What is wrong comes back as a sentence: what an actor raises reaches the driver among pages of Ray's own.

    Args:
        plan: what is asked.
        out: folder or URI that every machine can write into.
        workers: threads and cores.
        make: makes what is asked, on the first call.
    """

    def __init__(self, plan: BatchPlan, out: str, workers: int, make: Prepare) -> None:
        self._plan = plan
        self._out = out
        self._workers = workers
        self._make = make
        self._ready: tuple[Answerer, ...] = ()

    def __call__(self, block: Mapping[str, NDArray[Any]]) -> dict[str, list[Any]]:
        """Make the file of a block with columns `id` and `path`; gives the fields of `WrittenFile`."""
        try:
            rows = list(rows_of(_sources(block), self._answerers(), self._workers))
            name = write_rows(self._out, rows, dict(self._ready[0].header))
        except ValueError as error:
            return {"name": [""], "rows": [0], "errors": ["[]"], "stopped": [str(error)]}
        errors = [(row.id, row.error) for row in rows if row.error is not None]
        return {"name": [name], "rows": [len(rows)], "errors": [json.dumps(errors)], "stopped": [""]}

    def _answerers(self) -> tuple[Answerer, ...]:
        if not self._ready:
            self._ready = answerers(self._plan, self._workers, self._make)
            for name in row_files(self._out)[:1]:
                check_same_run(read_header(self._out, name), self._ready[0].header)
        return self._ready


def _sources(block: Mapping[str, NDArray[Any]]) -> list[Source]:
    return [Source(str(number), str(path)) for number, path in zip(block["id"], block["path"], strict=True)]


def label_on_ray(
    sources: Sequence[Source],
    plan: BatchPlan,
    out: str,
    cluster: Cluster,
    rows_per_file: int = ROWS_PER_FILE,
    make: Prepare = prepare,
) -> Iterator[WrittenFile]:
    """Ask about every photo on a cluster and write the rows; files are told as they are done.

    Args:
        sources: photos, their paths as every machine of the cluster sees them.
        plan: what is asked.
        out: folder or URI that every machine can write into.
        cluster: where.
        rows_per_file: photos of one file, done again at most for each actor if a run is killed.
        make: makes what is asked.

    Raises:
        ValueError: without Ray, for a cluster that cannot be reached, as `prepare`, or where a run fails; one
            sentence.
    """
    ray = _ray()
    make(replace(plan, device="auto"))  # what is wrong is told here, not by every actor
    try:
        _check_reachable(cluster.address)
        if not ray.is_initialized():
            ray.init(cluster.address, log_to_driver=False, logging_level=logging.ERROR)
        yield from _files(ray, _blocks(sources, rows_per_file), plan, out, cluster, make)
    except (ray.exceptions.RayError, OSError, RuntimeError) as error:
        lines = [line for line in str(error).splitlines() if line.strip()]
        raise ValueError(f"The run on Ray ended: {lines[-1] if lines else type(error).__name__}") from error
    finally:
        if cluster.address == "local":
            ray.shutdown()


def _files(
    ray: Any,
    blocks: list[Any],
    plan: BatchPlan,
    out: str,
    cluster: Cluster,
    make: Prepare,
) -> Iterator[WrittenFile]:
    resources = ray.cluster_resources()
    gpus = cluster.gpus if cluster.gpus is not None else float(resources.get("GPU", 0) >= 1)
    workers = cluster.workers or (GPU_WORKERS if gpus else min(CORES, int(resources["CPU"])))
    fit = resources.get("GPU", 0) / gpus if gpus else resources["CPU"] / workers
    actors = min(cluster.actors or max(1, int(fit)), len(blocks))
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    done = ray.data.from_arrow(blocks).map_batches(
        FileMaker,
        fn_constructor_args=(plan, out, workers, make),
        batch_size=None,  # a block is a file
        batch_format="numpy",
        num_cpus=workers,
        num_gpus=gpus or None,
        compute=ray.data.ActorPoolStrategy(min_size=1, max_size=actors),
    )
    for row in done.iter_rows():
        if row["stopped"]:
            raise ValueError(row["stopped"])
        errors = tuple((photo, sentence) for photo, sentence in json.loads(row["errors"]))
        yield WrittenFile(row["name"], int(row["rows"]), errors)


def _blocks(sources: Sequence[Source], rows_per_file: int) -> list[Any]:
    """Tables of paths, one for each file to come."""
    import pyarrow as arrow

    parts = (sources[start : start + rows_per_file] for start in range(0, len(sources), rows_per_file))
    return [
        arrow.table({"id": [source.id for source in part], "path": [source.path for source in part]})
        for part in parts
    ]


def _check_reachable(address: str) -> None:
    """Knock at HOST:PORT, where there is one: Ray itself would go on trying for many minutes.

    Raises:
        OSError: if nobody answers.
    """
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if colon and port.isdecimal():
        with socket.create_connection((host, int(port)), _KNOCK_SECONDS):
            pass


def _ray() -> Any:
    """Ray with its data library.

    Raises:
        ValueError: if it is not installed; the sentence says how to.
    """
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise ValueError('A cluster needs Ray: pip install "ovs-lens[ray]".') from error
    return ray
