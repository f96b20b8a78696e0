"""Matrices in 8 bits: what is kept, to half a step of its row, and what is left alone."""

import pytest
import torch

from ovs_core.encoders.eight_bits import in_eight_bits, in_full


def make_state():
    torch.manual_seed(0)
    scale = torch.tensor([1.0, 10, 0.1, 0])[:, None]
    return {
        "token_embedding.weight": torch.randn(4, 2048) * scale,
        "conv.weight": torch.randn(8, 64, 3, 3),
        "attn.in_proj_weight": torch.randn(96, 64).half(),
        "small.weight": torch.randn(8, 8),
        "ln.bias": torch.ones(5000),
        "count": torch.arange(8192).reshape(2, 4096),
    }


def test_large_matrices_come_back_to_half_a_step_of_their_row():
    state = make_state()
    small = in_eight_bits(state)
    whole = in_full(small)
    assert whole.keys() == state.keys()
    for name in ("token_embedding.weight", "conv.weight", "attn.in_proj_weight"):
        assert small[name].dtype == torch.int8
        assert small[name].shape == whole[name].shape == state[name].shape
        value = state[name].float().flatten(1)
        error = (whole[name].flatten(1) - value).abs()
        assert (error <= value.abs().amax(dim=1, keepdim=True) / 253 + 1e-7).all(), name
    assert {name for name in small if name.endswith(".steps")} == {
        *("token_embedding.steps", "conv.steps", "attn.in_proj_weight.steps")
    }


@pytest.mark.parametrize("name", ["small.weight", "ln.bias", "count"])
def test_the_others_are_left_alone(name):
    state = make_state()
    assert in_eight_bits(state)[name] is state[name]
    assert in_full(state)[name] is state[name]


def test_one_row_by_hand():
    row = torch.full((1, 4096), 100.0)
    row[0, :4] = torch.tensor([254.0, -254.0, 3.0, 0.9])
    small = in_eight_bits({"w": row})
    assert small["w.steps"].tolist() == [2.0]
    assert small["w"][0, :5].tolist() == [127, -127, 2, 0, 50]  # 1.5 is rounded to even
    assert in_full(small)["w"][0, :5].tolist() == [254.0, -254.0, 4.0, 0.0, 100.0]


def test_what_must_stay_whole_does():
    state = make_state()
    small = in_eight_bits(state, ("conv.", "attn."))
    assert small["conv.weight"] is state["conv.weight"]
    assert small["attn.in_proj_weight"] is state["attn.in_proj_weight"]
    assert small["token_embedding.weight"].dtype == torch.int8


def test_what_was_learnt_beside_an_identity_is_not_rounded_away():
    torch.manual_seed(1)
    learnt = torch.eye(96) + 0.002 * torch.randn(96, 96)
    assert in_eight_bits({"proj": learnt})["proj"] is learnt


def test_files_with_a_small_table_alone_are_read_too():
    """Shipped before all matrices were small: the steps of the table stand in a column."""
    state = {"token_embedding.weight": torch.tensor([[2, -4], [1, 0]], dtype=torch.int8)}
    state["token_embedding.steps"] = torch.tensor([[0.5], [3.0]])
    assert in_full(state)["token_embedding.weight"].tolist() == [[1.0, -2.0], [3.0, 0.0]]
