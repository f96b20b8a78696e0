"""Training shared by processes: who takes what, and two real processes that learn what one learns."""

import importlib.util
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import shared_training
import torch
from shared_training import heads, line, make_sources, make_start
from torch import nn

from ovs_core.checkpoints import read_state, read_training_state
from ovs_core.cli import train
from ovs_core.methods.gkc.head_file import load_gkc_head
from ovs_core.training.losses import BatchPart, draw_points
from ovs_core.training.processes import SINGLE_PROCESS, Mean, Processes, all_reduce, parts_of, started

REPOSITORY = Path(__file__).resolve().parents[1]
PATIENCE = 100  # seconds


def other(*said):
    """Add what the other process of two says, in turn."""
    left = iter(said)
    return lambda tensor: tensor + torch.tensor(next(left))


def test_each_sample_has_one_process():
    shards = [Processes(rank, 3).shard(range(8)) for rank in range(3)]
    assert [list(shard) for shard in shards] == [[0, 3, 6], [1, 4, 7], [2, 5]]
    assert SINGLE_PROCESS.shard("abc") == "abc"
    with pytest.raises(ValueError, match="a step of 2 crops cannot be shared by 3 processes"):
        Processes(0, 3).shard([1, 2])


def test_parts_weigh_what_is_in_them():
    """A mean of 4 over 3 units here and one over 1 unit there; nothing counts for the other loss."""
    here = Processes(0, 2, other([1.0, 0.0]))
    means = {"a": Mean(torch.tensor(4.0), torch.tensor(3)), "b": Mean(torch.tensor(0.0), torch.tensor(0))}
    assert {name: float(part) for name, part in parts_of(means, here).items()} == {"a": 3.0, "b": 0.0}
    assert parts_of(means, SINGLE_PROCESS)["a"] is means["a"].value


def test_gradients_and_losses_are_added_up():
    first, second, third = (nn.Parameter(torch.zeros(2)) for _ in range(3))
    first.grad = torch.tensor([1.0, 2.0])
    # The other process has a gradient for the second tensor alone; nobody has one for the third.
    said = [0.0, 0.0, 5.0, 6.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.25]
    losses = all_reduce([first, second, third], {"loss": torch.tensor(0.5)}, Processes(0, 2, other(said)))
    assert first.grad.tolist() == [1.0, 2.0]
    assert second.grad.tolist() == [5.0, 6.0]
    assert third.grad is None
    assert losses["loss"].item() == 0.75


def test_points_of_a_picture_do_not_depend_on_who_has_it():
    def points(own):
        torch.manual_seed(0)
        return draw_points(BatchPart((2, 0, 5), own), 3, 8, torch.rand)

    whole, here, there = points((0, 1, 2)), points((0, 2)), points((1,))
    assert whole.seen.shape == (2 + 3, 24, 2)  # five true masks share three queries
    assert whole.others.shape == (2 + 3, 2, 2)
    assert torch.equal(here.seen, whole.seen)
    assert there.seen.shape == (0, 24, 2)
    assert torch.equal(torch.cat([*here.matching[:1], *there.matching]), torch.cat(whole.matching[:2]))
    last = points((2,))
    assert torch.equal(last.seen, whole.seen[2:])
    assert torch.equal(last.others, whole.others[2:])


def test_one_process_needs_no_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "accelerate", None)
    with started("cpu", {}) as (processes, device):
        assert processes == SINGLE_PROCESS
        assert device == torch.device("cpu")
    with (
        pytest.raises(ModuleNotFoundError, match="several processes need accelerate"),
        started("cpu", {"WORLD_SIZE": "2"}),
    ):
        pass


@pytest.mark.parametrize("options", [["--device", "cuda"], []])
def test_recipes_for_one_cpu_say_so(tmp_path, monkeypatch, capsys, options):
    if not options:
        monkeypatch.setenv("WORLD_SIZE", "2")
    data = [f"--data=coco_mini={tmp_path}"]
    assert train.main(["mvp-seg", *data, *options, "--out", str(tmp_path / "out")]) == 2
    said = "mvp-seg trains on the CPU in one process; only fc-clip"
    assert said in capsys.readouterr().err


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_device_that_is_not_there_is_one_line(tmp_path, capsys):
    arguments = ["fc-clip", f"--data=coco={tmp_path}", "--device", "cuda", "--out", str(tmp_path / "out")]
    assert train.main(arguments) == 2
    assert "device 'cuda' is not available" in capsys.readouterr().err


def test_a_step_must_reach_all_processes(tmp_path):
    with pytest.raises(ValueError, match="a step of 5 crops cannot be shared by 6 processes"):
        heads(make_sources(tmp_path), tmp_path, tmp_path / "out", Processes(0, 6))


def run_two(root: Path) -> list[tuple[int, str]]:
    """Start both processes of `shared_training`; exit code and stderr of each."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {
        **os.environ,
        "WORLD_SIZE": "2",
        "LOCAL_WORLD_SIZE": "2",
        "OMP_NUM_THREADS": "1",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    running = [
        subprocess.Popen(
            [sys.executable, shared_training.__file__, str(root)],
            env={**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            cwd=REPOSITORY,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        return [
            (*reversed((process.communicate(timeout=PATIENCE)[1], process.returncode)),)
            for process in running
        ]
    finally:
        for process in running:
            process.kill()


def log_of(out):
    return [json.loads(text) for text in (out / "log.jsonl").read_text().splitlines()]


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("accelerate") is None, reason="accelerate is not installed")
def test_two_processes_learn_what_one_learns(tmp_path):
    """Five samples a step, three for one process and two for the other, with unequal numbers of masks."""
    two, one = tmp_path / "two", tmp_path / "one"
    sources = make_sources(two)
    start = make_start(sources, two / "start")
    for code, said in run_two(two):
        assert code == 0, said
    alone = line(one / "line").state_dict()
    for name, value in read_training_state(two / "line.pt").items():
        torch.testing.assert_close(value, alone[name], atol=1e-6, rtol=1e-5)
    assert not (two / "line" / "state.pt").exists()
    for path in heads(sources, start, one):  # files hold halves
        mine, shared = read_state(path), read_state(two / path.relative_to(one))
        for name, value in shared.items():
            torch.testing.assert_close(value, mine[name], atol=1e-4, rtol=1e-3)
    assert load_gkc_head(
        two / "photos" / "gkc.safetensors", None
    ).tuned  # both checked that they learnt alike
    for name, close in (("line", 1e-4), ("fc/fc_clip", 1e-3), ("maft/maft_plus", 1e-3), ("gkc/gkc", 1e-3)):
        for mine, shared in zip(*(log_of(root / name) for root in (one, two)), strict=True):
            assert {**shared, "seconds": 0} == pytest.approx({**mine, "seconds": 0}, rel=close, abs=2e-4)
