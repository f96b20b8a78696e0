"""SC-CLIP and SFP: steps worked by hand, whole rules against plain loops, and what must hold on any tower."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny_clip import make_visual
from towers import random_photo

from ovs_core.encoders.clip_vit import VisionEncoder
from ovs_core.methods.training_free.blocks import at_depth, block_outputs, deeper
from ovs_core.methods.training_free.calibrated import (
    CALIBRATIONS,
    affinity_attention,
    attended_outliers,
    averaged,
    cosines,
    local_outliers,
    repaired,
    without_low,
)
from ovs_core.options import Preset
from ovs_core.types import Window

EACH = pytest.mark.parametrize("name", CALIBRATIONS)
ALIKE = torch.tensor([[1.0, 0.5, 0.0], [0.5, 1.0, 0.2], [0.0, 0.2, 1.0]])


def look(visual, size=(64, 96), tapped=True):
    """The one window of a random photo, in a tower with all its blocks or only the last one's tokens."""
    encoder = VisionEncoder(
        "tiny", "tiny", visual, (0.5,) * 3, (0.5,) * 3, 16, torch.device("cpu"), torch.float32
    )
    encoder = deeper(encoder) if tapped else encoder
    preset = Preset(40, 0.0, min(size), None, 0, "single1")
    return encoder.encode(random_photo(*size).pixels, preset).windows[0]


def test_the_patch_that_is_far_for_where_it_is():
    # Squared distances to the nearest one: 1, 1, 1, 64; factors 1, 1, 1, 64; quantile 0.75 is 16.75.
    line = torch.tensor([[0.0], [1.0], [2.0], [10.0]])
    assert local_outliers(line, neighbours=1, share=0.25).tolist() == [False, False, False, True]
    # Sparse but even: nothing is out of place, however far apart.
    assert not local_outliers(100 * torch.arange(6.0)[:, None], neighbours=1, share=0.25).any()
    assert not local_outliers(line[:1]).any()


def test_what_the_class_token_dwells_on():
    weights = torch.full((4, 4), 0.1)
    weights[0] = torch.tensor([0.4, 0.3, 0.2, 0.1])  # what the class token attends to
    weights[1, 1], weights[2, 2], weights[3, 3] = 0.5, 0.2, 0.3  # what patches attend to themselves
    assert attended_outliers(weights).tolist() == [False, True, False]  # 0.45, 0.30, 0.15
    assert attended_outliers(weights, gain=2).tolist() == [True, True, False]  # 0.6, 0.4, 0.2
    assert attended_outliers(weights, gain=2, most=1).tolist() == [True, False, False]


def test_repaired_patches_are_the_mean_of_their_normal_neighbours():
    patches, odd = torch.arange(1.0, 7.0)[:, None], torch.tensor([True, True, False, False, False, False])
    # The grid is 1 2 3 / 4 5 6: round 1 lie 4 and 5; round 2 lie 3, 4, 5 and 6; 1 and 2 do not count.
    mended = repaired(torch.cat([patches, -patches], dim=1), odd, (2, 3))
    assert mended[:, 0].tolist() == [4.5, 4.5, 3.0, 4.0, 5.0, 6.0]
    assert torch.equal(mended[:, 1], -mended[:, 0])
    assert torch.equal(repaired(patches[:2], odd[:2], (1, 2)), patches[:2])  # nothing normal is near


def test_cosines_become_means_and_attention():
    x = torch.tensor([[3.0], [6.0], [9.0]])
    # [S]: 0.2 is cut. (3 + 0.5 * 6) / 1.5, (0.5 * 3 + 6) / 1.5, 9.
    torch.testing.assert_close(averaged(x, without_low(ALIKE)), torch.tensor([[4.0], [5.0], [9.0]]))
    # The mean of S is 4.4 / 9 = 0.489: of 1 and 0.5 the soft-max is 1 / (1 + exp(-1.5)); 0 and 0.2 are out.
    a, b = 0.817574, 0.182426
    expected = torch.tensor([[a, b, 0.0], [b, a, 0.0], [0.0, 0.0, 1.0]])
    torch.testing.assert_close(affinity_attention(ALIKE), expected, atol=1e-6, rtol=0)
    same = affinity_attention(cosines(torch.full((7, 3), 0.1)))
    torch.testing.assert_close(same.sum(dim=1), torch.ones(7))


def test_depths_are_those_of_the_papers_tower():
    assert [at_depth(n, 12) for n in (4, 9, 10, 11)] == [4, 9, 10, 11]
    assert [at_depth(n, 24) for n in (4, 9, 10, 11)] == [8, 18, 20, 22]
    assert [at_depth(n, 4) for n in (4, 9, 10, 11)] == [1, 3, 3, 3]  # the embedded tower


def by_the_book(visual, window, name):
    """The rule in plain loops on float64, from the formulas; abnormal patches are taken as found."""
    outputs = [one.double().numpy() for one in block_outputs(visual, window)]
    blocks, grid, block = len(outputs) + 1, window.grid, visual.transformer.resblocks[-1]
    odd = CALIBRATIONS[name].abnormal_patches(visual, window).numpy()

    def mend(patches):
        mended = patches.copy()
        for i in np.flatnonzero(odd):
            row, column = divmod(i, grid[1])
            near = [
                patches[r * grid[1] + c]
                for r in range(max(0, row - 1), min(grid[0], row + 2))
                for c in range(max(0, column - 1), min(grid[1], column + 2))
                if not odd[r * grid[1] + c]
            ]
            mended[i] = np.mean(near, axis=0) if near else patches[i]
        return mended

    def alike(patches):
        units = patches / np.linalg.norm(patches, axis=1, keepdims=True)
        return units @ units.T

    def mean(patches, weights):
        return np.stack([(row[:, None] * patches).sum(axis=0) / row.sum() for row in weights])

    def softmax(scores):
        powers = np.exp(scores - scores.max(axis=1, keepdims=True))
        return powers / powers.sum(axis=1, keepdims=True)

    s9, s4 = alike(mend(outputs[at_depth(9, blocks) - 1][1:])), alike(outputs[at_depth(4, blocks) - 1][1:])
    cut9, cut4 = np.where(s9 < 0.4, 0, s9), np.where(s4 < 0.4, 0, s4)
    used = cut9 if name == "sfp" else s9
    semantic = softmax(np.where(used < used.mean(), -np.inf, 3 * (used - used.mean())))

    def attend(x, class_token, maps):
        with torch.no_grad():
            normal = block.ln_1(torch.from_numpy(x).float()).double()
            weight, bias = block.attn.in_proj_weight.double(), block.attn.in_proj_bias.double()
            q, k, v = (normal @ weight.T + bias).chunk(3, dim=1)
        heads = []
        for part in torch.arange(q.shape[1]).chunk(block.attn.num_heads):
            own = {"qq": q[:, part], "kk": k[:, part]}
            every = [softmax((own[one] @ own[one].T / len(part) ** 0.5).numpy()) for one in maps]
            heads.append(np.mean([*every, semantic], axis=0) @ v[:, part].numpy())
        projection = block.attn.out_proj
        left = np.concatenate(heads, axis=1) @ projection.weight.double().numpy().T
        return mean(left + projection.bias.double().numpy() + 0.3 * class_token, cut4)

    total = sum(outputs[at_depth(4, blocks) - 1 : at_depth(10, blocks)])
    first, second = {"sc_clip": (["kk"], ["kk"]), "sfp": (["qq", "kk"], [])}[name]
    entering = outputs[-1]
    left = attend(mean(mend(entering[1:]), cut9), entering[0], first)
    return left + attend(total[1:], total[0], second)


@EACH
@pytest.mark.parametrize("layers", [3, 4, 12])
def test_the_rule_is_what_its_formulas_say(name, layers):
    visual = make_visual(3, layers=layers)
    window = look(visual)
    found = CALIBRATIONS[name].leave(visual, window, {})
    assert torch.equal(found[0], window.tokens[0])
    expected = torch.from_numpy(by_the_book(visual, window, name)).float()
    torch.testing.assert_close(found[1:], expected, atol=2e-4, rtol=1e-4)


def test_the_two_settings_differ_and_both_find_abnormal_patches():
    visual = make_visual(3, layers=4)
    window = look(visual, (160, 160))
    odd = {name: rule.abnormal_patches(visual, window) for name, rule in CALIBRATIONS.items()}
    assert odd["sc_clip"].sum() == 5  # 5 % of 10 x 10
    assert 0 < odd["sfp"].sum() <= 10
    left = [rule.leave(visual, window, {}) for rule in CALIBRATIONS.values()]
    assert not torch.allclose(*left, atol=1e-2)


@EACH
def test_heads_give_rows_of_attention(name):
    visual = make_visual(5)
    window = look(visual, (48, 80))
    heads = list(CALIBRATIONS[name].heads(visual, window, torch.tensor([0, 3, 15]), {}))
    assert len(heads) == 4
    for weights in heads:
        torch.testing.assert_close(weights.sum(dim=1), torch.ones(3))
        assert weights[0, 0] == 1
        assert (weights[1:, 0] == 0).all()
    assert not torch.equal(heads[0], heads[1])


@EACH
@pytest.mark.parametrize("size", [(16, 16), (16, 112), (33, 70)])
def test_any_grid(name, size):
    visual = make_visual(6)
    window = look(visual, size)
    left = CALIBRATIONS[name].leave(visual, window, {})
    assert left.shape == window.tokens.shape
    assert torch.isfinite(left).all()


def test_a_deeper_look_changes_no_token_and_only_carries_more():
    visual = make_visual(7, layers=5)
    plain, full = look(visual, tapped=False), look(visual)
    assert torch.equal(plain.tokens, full.tokens)
    outputs = block_outputs(visual, full)
    assert len(outputs) == 4
    with torch.no_grad():
        for number in range(1, 4):  # what leaves a block is what the next one reads
            again = visual.transformer.resblocks[number](outputs[number - 1][None])[0]
            torch.testing.assert_close(again, outputs[number], atol=1e-5, rtol=1e-5)
    with pytest.raises(ValueError, match="must carry what leaves the first 3 blocks, got 0"):
        block_outputs(visual, plain)


@EACH
def test_patches_all_alike_stay_finite(name):
    visual = make_visual(8)
    token = torch.randn(1, 32, generator=torch.Generator().manual_seed(0))
    tokens = token.expand(13, 32).contiguous()
    window = Window(0, 0, (3, 4), tokens, (tokens,))
    left = CALIBRATIONS[name].leave(visual, window, {})
    assert torch.isfinite(left).all()
    torch.testing.assert_close(left[1:], left[1:2].expand(12, 32), atol=1e-4, rtol=1e-4)


def test_settings_can_be_varied():
    rule = replace(CALIBRATIONS["sc_clip"], comparisons=("qq", "kk"))
    visual = make_visual(9)
    window = look(visual)
    assert not torch.equal(rule.leave(visual, window, {}), CALIBRATIONS["sc_clip"].leave(visual, window, {}))
