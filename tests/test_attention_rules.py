"""Last-block rules: numbers worked by hand, tensors of the official code, and what must hold on any tower."""

import inspect
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from open_clip.transformer import ResidualAttentionBlock
from safetensors.torch import load_file
from tiny_clip import DATA, make_visual, maskclip_tower, naclip_tower
from torch import nn

from ovs_core.encoders.clip_vit import to_joint_space, tokens_before_last_block
from ovs_core.methods.training_free import attention_rules
from ovs_core.methods.training_free.attention_rules import (
    RULES,
    Rule,
    attention_weights,
    gaussian_kernel,
    key_smoothing,
    leave_last_block,
    maskclip_value_path,
    prompt_denoising,
)

OFFICIAL = {**RULES, "naclip_std2": replace(RULES["naclip"], kernel_std=2.0)}


def hand_block():
    """One head of width 2 to read off: q = x, k = (2 x2, x1), v = 2 x, and the MLP adds 0.5 relu(x)."""
    block = ResidualAttentionBlock(2, 1, mlp_ratio=1.0, act_layer=nn.ReLU).eval().requires_grad_(False)
    block.ln_1, block.ln_2 = nn.Identity(), nn.Identity()
    eye = torch.eye(2)
    block.attn.in_proj_weight.copy_(torch.cat([eye, torch.tensor([[0.0, 2.0], [1.0, 0.0]]), 2 * eye]))
    block.attn.out_proj.weight.copy_(eye)
    block.mlp.c_fc.weight.copy_(eye)
    block.mlp.c_proj.weight.copy_(eye / 2)
    for bias in (
        block.attn.in_proj_bias,
        block.attn.out_proj.bias,
        block.mlp.c_fc.bias,
        block.mlp.c_proj.bias,
    ):
        bias.zero_()
    return block


HAND_X = torch.tensor([[[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]])  # class token and two patches: grid (1, 2)

# Scores are dots / sqrt(2). First patch, qk: dots (1, 0, 1), weights (e, 1, e) / (2 e + 1), e = exp(0.7071);
# qq: dots (0, 1, 1); kk: dots (0, 4, 4), for naclip plus (0, 1, exp(-1/50)). Kept rest: 1.5 (x + mixed).
HAND_OUTPUTS = {
    "clip": [[2.406673, 3.296664], [3.648014, 4.079912]],
    "maskclip": [[0.0, 2.0], [2.0, 2.0]],
    "sclip": [[3.339721, 6.820559], [5.802245, 6.640997]],
    "clearclip": [[1.197776, 1.604448], [1.503490, 1.503490]],
    "naclip": [[1.001067, 1.978279], [1.357668, 1.971107]],
    "kk_reduced": [[1.028705, 1.942591], [1.364674, 1.923841]],
}
HAND_WEIGHTS = {  # of the first patch
    "clip": [0.401112, 0.197776, 0.401112],
    "maskclip": [0.0, 1.0, 0.0],
    "sclip": [0.226480, 0.886760, 0.886760],
    "clearclip": [0.197776, 0.401112, 0.401112],
    "naclip": [0.010860, 0.499466, 0.489673],
    "kk_reduced": [0.028705, 0.485648, 0.485648],
}


def test_every_rule_has_numbers_worked_by_hand():
    assert set(RULES) == set(HAND_OUTPUTS) == set(HAND_WEIGHTS)


@pytest.mark.parametrize("name", RULES)
def test_what_leaves_the_block_by_hand(name):
    out = leave_last_block(RULES[name], hand_block(), HAND_X, (1, 2))
    torch.testing.assert_close(out[0, 1:], torch.tensor(HAND_OUTPUTS[name]), atol=2e-6, rtol=0)


@pytest.mark.parametrize("name", RULES)
def test_attention_weights_by_hand(name):
    weights = attention_weights(RULES[name], hand_block(), HAND_X[0], (1, 2), torch.tensor([1]))
    torch.testing.assert_close(weights[0], torch.tensor(HAND_WEIGHTS[name]), atol=2e-6, rtol=0)


def test_the_kernel_by_hand():
    # Patches of a 1 x 3 row, std 1: exp(-0.5) one step away, exp(-2) two; the class token has none.
    near, far = 0.606531, 0.135335
    expected = torch.tensor([[0, 0, 0, 0], [0, 1, near, far], [0, near, 1, near], [0, far, near, 1]])
    torch.testing.assert_close(gaussian_kernel((1, 3), 1.0, like=torch.zeros(1)), expected)
    square = gaussian_kernel((2, 2), 1.0, like=torch.zeros(1))
    assert square[1, 4].item() == pytest.approx(0.367879, abs=1e-6)  # a diagonal step: exp(-1)


def test_the_kernel_knows_rows_from_columns():
    kernel = gaussian_kernel((2, 3), 5.0, like=torch.zeros(1))
    # From patch (0, 0): (0, 2) is index 3 and two steps away, (1, 0) is index 4 and one step away.
    torch.testing.assert_close(kernel[1, 3], torch.tensor(-4 / 50).exp())
    torch.testing.assert_close(kernel[1, 4], torch.tensor(-1 / 50).exp())
    assert torch.equal(kernel, kernel.T)


@pytest.mark.parametrize("image", [0, 1])
@pytest.mark.parametrize("name", ["clip", "sclip", "naclip", "naclip_std2", "kk_reduced"])
def test_official_naclip_code_gives_the_same_tokens(name, image):
    visual, tensors = naclip_tower()
    pixels = tensors[f"in.image{image}"]
    grid = (pixels.shape[2] // 16, pixels.shape[3] // 16)
    x = tokens_before_last_block(visual, pixels, naclip_scale_factor=True)
    out = to_joint_space(visual, leave_last_block(OFFICIAL[name], visual.transformer.resblocks[-1], x, grid))
    torch.testing.assert_close(out, tensors[f"out.{name}.tokens{image}"], atol=1e-5, rtol=0)


@pytest.mark.parametrize("shape", ["sq", "rect"])
def test_official_maskclip_code_gives_the_same_last_layer(shape):
    visual, tensors = maskclip_tower()
    pixels = tensors[f"in.img_{shape}"]
    grid = (pixels.shape[2] // 16, pixels.shape[3] // 16)
    x = tokens_before_last_block(visual, pixels)
    block = visual.transformer.resblocks[-1]
    path = maskclip_value_path(block, x)
    values = to_joint_space(visual, path.values)[:, 1:]
    plain = to_joint_space(visual, leave_last_block(RULES["clip"], block, x, grid))[:, 1:]
    for ours, theirs in ((values, "v"), (plain, "x")):
        expected = tensors[f"out.{theirs}_{shape}"].flatten(2).transpose(1, 2)  # (B, h*w, C)
        torch.testing.assert_close(ours, expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(path.queries[:, 1:], tensors[f"out.q_{shape}"], atol=1e-5, rtol=0)
    torch.testing.assert_close(path.keys[:, 1:], tensors[f"out.k_{shape}"], atol=1e-5, rtol=0)


@pytest.mark.parametrize("one", [0, 1])
def test_official_maskclip_code_gives_the_same_scores(one):
    tensors = load_file(DATA / "parity_maskclip_head.safetensors")
    dense = torch.einsum("dc,chw->dhw", tensors["w.proj.weight"][:, :, 0, 0], tensors["in.v"][one])
    plain = torch.einsum("sd,dhw->shw", tensors["w.text_embeddings"], F.normalize(dense, dim=0))
    keys = tensors["in.k"][one]
    denoised = prompt_denoising(plain, 0.5)
    ours = {
        "plain": plain,
        "pd": denoised,
        "ks": key_smoothing(plain, keys, 1.0),
        "kspd": key_smoothing(denoised, keys, 1.0),
        "ks_partial": key_smoothing(plain, keys, 0.9),
    }
    assert not torch.equal(denoised, plain)
    for name, scores in ours.items():
        torch.testing.assert_close(scores, tensors[f"out.logits_{name}"][one], atol=1e-5, rtol=0)


def test_prompt_denoising_by_hand():
    # Shares softmax(100 s): first patch sigmoid(1) = 0.731 and 0.269, second sigmoid(-8) = 0.0003 and 0.9997.
    scores = torch.tensor([[[0.30, 0.20]], [[0.29, 0.28]]])
    denoised = prompt_denoising(scores, 0.75)  # the first name never reaches 0.75
    torch.testing.assert_close(denoised, torch.tensor([[[-100.0, -100.0]], [[0.29, 0.28]]]))
    assert torch.equal(prompt_denoising(scores, 0.7), scores)


def test_key_smoothing_by_hand():
    # Keys 3 and 4 normalised over the patches: 0.6 and 0.8; similarities 0.36, 0.48, 0.64.
    scores = torch.tensor([[[0.30, 0.20]], [[0.29, 0.28]]])
    keys = torch.tensor([[3.0], [4.0]])
    everywhere = torch.tensor([[[0.263342, 0.351123]], [[0.576658, 0.768877]]])
    torch.testing.assert_close(key_smoothing(scores, keys, 1.0), everywhere, atol=1e-5, rtol=0)
    unsure_only = torch.tensor([[[0.263342, 0.000335]], [[0.576658, 0.999665]]])  # second patch: 0.9997 > 0.9
    torch.testing.assert_close(key_smoothing(scores, keys, 0.9), unsure_only, atol=1e-5, rtol=0)


def test_maskclip_value_path_by_hand():
    path = maskclip_value_path(hand_block(), HAND_X)
    torch.testing.assert_close(path.values, 1.5 * (HAND_X + 2 * HAND_X))  # residual, then MLP
    torch.testing.assert_close(path.queries, HAND_X)
    torch.testing.assert_close(path.keys, torch.tensor([[[0.0, 1.0], [2.0, 0.0], [2.0, 1.0]]]))


@pytest.mark.parametrize("name", RULES)
def test_weights_and_output_tell_the_same_story(name):
    """With one head, weights x values through the output projection is the branch that leaves the block."""
    visual = make_visual(5, heads=1, ls_init_value=0.5)
    block = visual.transformer.resblocks[-1]
    x = tokens_before_last_block(
        visual, torch.randn(1, 3, 48, 80, generator=torch.Generator().manual_seed(1))
    )
    weights = attention_weights(RULES[name], block, x[0], (3, 5))
    assert weights.shape == (16, 16)
    torch.testing.assert_close(
        weights.sum(dim=1), torch.full((16,), float(max(1, len(RULES[name].comparisons))))
    )
    values = attention_rules.project_qkv(block, x)[2]
    branch = block.ls_1(attention_rules.merge_heads(block, weights @ values))
    expected = (
        attention_rules.finish_block(block, x + branch) if RULES[name].keep_residual_and_mlp else branch
    )
    torch.testing.assert_close(leave_last_block(RULES[name], block, x, (3, 5)), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", RULES)
def test_asked_rows_are_rows_of_the_whole_map(name):
    visual = make_visual(2)
    x = tokens_before_last_block(visual, torch.randn(1, 3, 32, 64))[0]
    block = visual.transformer.resblocks[-1]
    whole = attention_weights(RULES[name], block, x, (2, 4))
    rows = torch.tensor([0, 5, 8])
    torch.testing.assert_close(attention_weights(RULES[name], block, x, (2, 4), rows), whole[rows])


@pytest.mark.parametrize("name", RULES)
def test_images_of_a_batch_do_not_see_each_other(name):
    visual = make_visual(3)
    x = tokens_before_last_block(visual, torch.randn(3, 3, 32, 48))
    block = visual.transformer.resblocks[-1]
    together = leave_last_block(RULES[name], block, x, (2, 3))
    alone = torch.cat([leave_last_block(RULES[name], block, one[None], (2, 3)) for one in x])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", RULES)
def test_a_grid_of_one_token(name):
    visual = make_visual(4)
    x = tokens_before_last_block(visual, torch.randn(1, 3, 16, 16))
    out = leave_last_block(RULES[name], visual.transformer.resblocks[-1], x, (1, 1))
    assert out.shape == (1, 2, 32)
    assert torch.isfinite(out).all()


def test_without_a_near_preference_naclip_is_kk_reduced():
    visual = make_visual(6)
    x = tokens_before_last_block(visual, torch.randn(1, 3, 32, 48))
    block = visual.transformer.resblocks[-1]
    flat = replace(RULES["naclip"], kernel_std=None)
    reduced = leave_last_block(RULES["kk_reduced"], block, x, (2, 3))
    assert torch.equal(leave_last_block(flat, block, x, (2, 3)), reduced)
    assert not torch.allclose(leave_last_block(RULES["naclip"], block, x, (2, 3)), reduced, atol=1e-3)


def test_weights_of_a_half_precision_tower_are_float32():
    visual = make_visual(7).to(torch.bfloat16)
    x = tokens_before_last_block(visual, torch.randn(1, 3, 32, 48, dtype=torch.bfloat16))[0]
    block = visual.transformer.resblocks[-1]
    for rule in RULES.values():
        weights = attention_weights(rule, block, x, (2, 3))
        assert weights.dtype == torch.float32
        torch.testing.assert_close(weights.sum(dim=1), torch.full((7,), float(max(1, len(rule.comparisons)))))


def test_a_block_is_only_read():
    block = make_visual(8).transformer.resblocks[-1]
    before = {name: value.clone() for name, value in block.state_dict().items()}
    x = torch.randn(1, 7, 32)
    kept = x.clone()
    for rule in RULES.values():
        leave_last_block(rule, block, x, (2, 3))
    maskclip_value_path(block, x)
    assert torch.equal(x, kept)
    assert all(torch.equal(value, before[name]) for name, value in block.state_dict().items())
    assert not any(module._forward_hooks for module in block.modules())


def test_a_kernel_needs_a_width():
    with pytest.raises(ValueError, match="kernel_std must be above 0"):
        Rule("no width", ("kk",), kernel_std=0.0)


def test_rules_can_not_be_changed_by_anyone():
    with pytest.raises(TypeError):
        RULES["mine"] = RULES["clip"]
    assert all(rule.description and "\n" not in rule.description for rule in RULES.values())
    assert "hook" not in inspect.getsource(attention_rules)
