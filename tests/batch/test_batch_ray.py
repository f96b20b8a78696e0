"""The same rows from a Ray cluster: two nodes on this machine, a run that is killed and one that goes on."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pytest
from batch_toys import PLAN, answer_by_brightness, make_photos, noted, run_on_ray

from ovs_core.batch.cluster import Cluster, label_on_ray
from ovs_core.batch.rows import error_row
from ovs_core.batch.sources import Source
from ovs_core.batch.tables import done_ids, read_rows, row_files, write_rows

ray = pytest.importorskip("ray")
cluster_utils = pytest.importorskip("ray.cluster_utils")

pytestmark = pytest.mark.slow
SUPPORT = Path(__file__).parents[1] / "support"
PATIENCE_SECONDS = 300  # of a machine that does much else; an idle one takes ten
ROWS_PER_FILE = 3  # of `run_on_ray`


@pytest.fixture(scope="module")
def address():
    """Two nodes with one core each, on this machine."""
    with pytest.MonkeyPatch.context() as patch:
        places = [str(SUPPORT), str(SUPPORT.parents[1])]
        patch.setenv("PYTHONPATH", os.pathsep.join(places))
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        store = {"num_cpus": 1, "object_store_memory": 100 << 20}
        cluster = cluster_utils.Cluster(initialize_head=True, head_node_args=store)
        cluster.add_node(**store)
        yield cluster.address
        ray.shutdown()
        cluster.shutdown()


def wait_for(condition):
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "it took too long"
        threading.Event().wait(0.05)


def test_a_killed_run_goes_on_and_loses_nothing(address, tmp_path):
    make_photos(tmp_path / "photos", 30)
    (tmp_path / "photos" / "photo-004.png").write_bytes(b"not a picture")
    command = [
        sys.executable,
        str(SUPPORT / "batch_toys.py"),
        address,
        str(tmp_path),
        "photo-017.png",
    ]
    with (tmp_path / "log").open("w") as log:
        killed = subprocess.Popen(command, stdout=log, stderr=log)
    out = str(tmp_path / "out")
    try:
        wait_for(
            lambda: (
                killed.poll() is not None
                or ((tmp_path / "first").is_dir() and "photo-017.png" in noted(tmp_path / "first"))
            )
        )
        wait_for(lambda: killed.poll() is not None or len(row_files(out)) >= 2)
        assert killed.poll() is None, (tmp_path / "log").read_text()
    finally:
        killed.send_signal(signal.SIGKILL)
        killed.wait()

    done_before = done_ids(out)
    assert 0 < len(done_before) < 30
    run_on_ray(address, tmp_path)

    ids = Counter(row.id for row in read_rows(out))
    assert ids == Counter(f"photo-{number:03}.png" for number in range(30))
    errors = {row.id: row.error for row in read_rows(out) if row.error is not None}
    assert errors == {
        "photo-004.png": '"photo-004.png" is not a picture that can be read; save it as JPEG or PNG.'
    }
    first, second = Counter(noted(tmp_path / "first")), Counter(noted(tmp_path / "second"))
    assert not set(second) & done_before
    assert sum((first & second).values()) <= 2 * ROWS_PER_FILE  # one file of each of two actors


def test_a_run_that_cannot_go_on_is_one_sentence(address, tmp_path):
    make_photos(tmp_path, 25, size=(5, 13))  # of a width on which the model breaks
    sources = [Source(path.name, str(path)) for path in sorted(tmp_path.glob("*.png"))]
    run = label_on_ray(
        sources, PLAN, str(tmp_path / "out"), Cluster(address, workers=1), make=answer_by_brightness
    )
    with pytest.raises(ValueError, match=r"^20 photos after each other failed"):
        list(run)


def test_rows_of_another_question_are_left_alone(address, tmp_path):
    make_photos(tmp_path / "photos", 1)
    header = answer_by_brightness(PLAN).header
    row = error_row("a", "a", "empty")
    write_rows(str(tmp_path / "out"), [row], {**header, "weights": {"mini.safetensors": "cd" * 32}})
    sources = [Source("b", str(tmp_path / "photos" / "photo-000.png"))]
    run = label_on_ray(
        sources, PLAN, str(tmp_path / "out"), Cluster(address, workers=1), make=answer_by_brightness
    )
    with pytest.raises(ValueError, match="The rows that are there were made otherwise"):
        list(run)


def test_a_cluster_that_is_not_there_is_one_sentence(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
        run = label_on_ray(
            [Source("a", "a")], PLAN, str(tmp_path), Cluster(address), make=answer_by_brightness
        )
        with pytest.raises(ValueError, match=r"The run on Ray ended: .*refused"):
            list(run)
