"""The training loop on a line to fit: it learns, it resumes to the last bit, it averages."""

import json

import numpy as np
import pytest
import torch
from torch import nn

from ovs_core.checkpoints import CheckpointError
from ovs_core.training.loop import Schedule, fit, parameter_groups


class PowerCutError(Exception):
    """The run ends here."""


def line_model():
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.LayerNorm(8), nn.Linear(8, 2))


def line_loss(model, stop_at=None, seen=None):
    """Fit y = (x0 + x1, x2 - x3); torch's own generator is used too, as dropout would."""

    def step_loss(step, rng):
        if step == stop_at:
            raise PowerCutError
        x = torch.from_numpy(rng.standard_normal((16, 4)).astype(np.float32))
        if seen is not None:
            seen.append((step, float(x[0, 0])))
        y = torch.stack([x[:, 0] + x[:, 1], x[:, 2] - x[:, 3]], dim=1)
        noisy = model(x + 0.01 * torch.randn_like(x))
        return {"first": ((noisy - y)[:, 0] ** 2).mean(), "second": ((noisy - y)[:, 1] ** 2).mean()}

    return step_loss


def run(out, plan, stop_at=None):
    model = line_model()
    fit(model, [(model, 0.03)], line_loss(model, stop_at), plan, out)
    return model.state_dict()


def log_of(out):
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


def test_loss_falls(tmp_path):
    run(tmp_path, Schedule(steps=60, warmup=5, log_every=10))
    lines = log_of(tmp_path)
    assert [line["step"] for line in lines] == [10, 20, 30, 40, 50, 60]
    assert set(lines[0]) == {"step", "seconds", "grad_norm", "first", "second"}
    assert lines[-1]["first"] + lines[-1]["second"] < 0.3 * (lines[0]["first"] + lines[0]["second"])


@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_stopped_and_resumed_equals_never_stopped_to_the_last_bit(tmp_path, ema):
    plan = Schedule(steps=12, warmup=3, ema=ema, save_every=4, seed=2)
    straight = run(tmp_path / "straight", plan)
    with pytest.raises(PowerCutError):
        run(tmp_path / "cut", plan, stop_at=10)  # saved after step 8; steps 9 and 10 are done again
    assert (tmp_path / "cut" / "state.pt").exists()
    resumed = run(tmp_path / "cut", plan)
    assert all(torch.equal(value, resumed[name]) for name, value in straight.items())
    assert not (tmp_path / "cut" / "state.pt").exists()


def test_resumed_run_starts_behind_the_saved_step_with_the_same_batches(tmp_path):
    plan = Schedule(steps=6, save_every=2)
    cut, resumed = [], []
    for seen, stop in ((cut, 5), (resumed, None)):
        model = line_model()
        try:
            fit(model, [(model, 0.01)], line_loss(model, stop, seen), plan, tmp_path)
        except PowerCutError:
            continue
    assert [step for step, _ in cut] == [0, 1, 2, 3, 4]
    assert [step for step, _ in resumed] == [4, 5]
    assert resumed[0] == cut[4]


def test_damaged_resume_file_is_refused(tmp_path):
    (tmp_path / "state.pt").write_bytes(b"PK\x03\x04 no")
    with pytest.raises(CheckpointError, match=r"state\.pt"):
        run(tmp_path, Schedule(steps=2))


def constant_pull(model):
    """A loss whose gradient is 1 in every weight: Adam then moves each by its rate."""
    return lambda _step, _rng: {"sum": model.weight.sum()}


def test_rate_warms_up_then_falls_as_half_a_cosine(tmp_path):
    """Without decay Adam moves by rate x factor; factors 1/2, 1, then cosine of 0, 1/2 of the way: 1, 1/2."""
    model = nn.Linear(1, 1, bias=False)
    model.weight.data.zero_()
    plan = Schedule(steps=4, warmup=2, weight_decay=0.0)
    fit(model, [(model, 0.1)], constant_pull(model), plan, tmp_path)
    assert model.weight.item() == pytest.approx(-0.1 * (0.5 + 1 + 1 + 0.5), abs=1e-6)


def test_result_is_the_running_average(tmp_path):
    """Weights 0 -> -0.1 -> -0.2; decays 1/10 and 2/11 are below 0.9: average 0 -> -0.09 -> -0.18."""
    model = nn.Linear(1, 1, bias=False)
    model.weight.data.zero_()
    plan = Schedule(steps=2, warmup=0, weight_decay=0.0, ema=0.9)
    fit(model, [(model, 0.1)], constant_pull(model), plan, tmp_path)
    first = -0.1
    second = first - 0.1 * 0.5  # cosine half way
    average = first * 0.9
    average += (second - average) * (1 - 2 / 11)
    assert model.weight.item() == pytest.approx(average, abs=1e-6)


def test_groups_decay_matrices_only_and_leave_frozen_parts_out():
    fast, slow = nn.Linear(3, 2), nn.LayerNorm(4)
    fast.bias.requires_grad_(False)
    groups = parameter_groups([(fast, 0.5), (slow, 0.1)], 0.2)
    found = [(len(group["params"]), group["lr"], group["weight_decay"]) for group in groups]
    assert found == [(1, 0.5, 0.2), (2, 0.1, 0.0)]
