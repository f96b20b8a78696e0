"""Route attention: equal to official BiFormer; to full attention where all windows are read; for any size."""

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from zegclip_tensors import DATA, close, weights

from ovs_core.decoders.route_attention import (
    RouteAttention,
    RouteConfig,
    merge_windows,
    real_tokens,
    route,
    split_windows,
)


def biformer(case, tensors):
    """Route attention with the weights of a case of the reference, which keeps q, k and v in one matrix."""
    state = weights(tensors, f"w.{case}.")
    module = RouteAttention(32, 4, RouteConfig(4, 3, scale="full", padding="counted", lepe=case == "lepe3"))
    renamed = {}
    for kind in ("weight", "bias"):
        for name, part in zip("qkv", state[f"qkv.qkv.{kind}"].chunk(3), strict=True):
            renamed[f"{name}.{kind}"] = part
        renamed[f"proj.{kind}"] = state[f"wo.{kind}"]
        if case == "lepe3":
            renamed[f"lepe.{kind}"] = state[f"lepe.{kind}"]
    module.load_state_dict(renamed)
    return module.eval().requires_grad_(False)


@pytest.mark.parametrize("case", ["nolepe", "lepe3", "pad"])
def test_route_attention_equals_biformers(case):
    tensors = load_file(DATA / "parity_biformer.safetensors")
    found = biformer(case, tensors)(tensors[f"in.{case}.x"], weights=True)
    assert torch.equal(found.routes.chosen, tensors[f"out.{case}.route_idx"].long())
    kept = found.routes.affinity.gather(2, found.routes.chosen).softmax(dim=2)
    close(kept, tensors[f"out.{case}.route_weight"])
    close(found.weights, tensors[f"out.{case}.attn"])
    close(found.output, tensors[f"out.{case}.y"])


def module(windows=4, k_top=3, width=32, heads=4, seed=0, **settings):
    torch.manual_seed(seed)
    made = RouteAttention(width, heads, RouteConfig(windows, k_top, **settings)).eval()
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return made.requires_grad_(False)


def image(height, width, batch=2, channels=32, seed=0):
    return torch.randn(batch, height, width, channels, generator=torch.Generator().manual_seed(seed))


def full_attention(made, x):
    """Plain multi-head attention with the same weights, the long way."""
    q, k, v = (linear(x).flatten(1, 2) for linear in (made.q, made.k, made.v))
    heads = []
    for one in range(made.heads):
        part = slice(one * 8, one * 8 + 8)
        logits = q[..., part] @ k[..., part].transpose(1, 2) / 8**0.5
        heads.append(logits.softmax(dim=2) @ v[..., part])
    return made.proj(torch.cat(heads, dim=2)).reshape(x.shape)


@pytest.mark.parametrize("size", [(8, 12), (7, 10), (3, 5), (1, 1), (4, 9)])
def test_reading_all_windows_is_full_attention(size):
    made, x = module(k_top=16), image(*size)
    expected = full_attention(made, x)
    assert expected.std() > 0.1
    close(made(x).output, expected)
    close(made(x, everywhere=True).output, expected)


def test_reading_few_windows_is_not():
    made, x = module(k_top=3), image(8, 12)
    found = made(x)
    assert (found.output - full_attention(made, x)).abs().max() > 0.01
    assert found.routes.chosen.shape == (2, 16, 3)
    assert found.routes.window == (2, 3)
    assert made(x, everywhere=True).routes is None


def test_a_window_reads_the_chosen_windows_and_nothing_else():
    made, x = module(k_top=3), image(8, 12, batch=1)
    chosen = made(x).routes.chosen[0, 5].tolist()
    other = next(window for window in range(16) if window not in {*chosen, 5})
    changed = split_windows(x.clone(), 4)
    # Values of a window nobody chose: shifted tokens leave the mean of what is routed nearly alone.
    changed[0, other] += 1e-3 * torch.randn(6, 32, generator=torch.Generator().manual_seed(1))
    changed = merge_windows(changed, 4, (8, 12))
    found, before = split_windows(made(changed).output, 4)[0, 5], split_windows(made(x).output, 4)[0, 5]
    assert made(changed).routes.chosen[0, 5].tolist() == chosen
    assert torch.equal(found, before)
    inside = split_windows(x.clone(), 4)
    inside[0, chosen[0]] += 1e-3
    found = split_windows(made(merge_windows(inside, 4, (8, 12))).output, 4)[0, 5]
    assert not torch.equal(found, before)


def test_the_order_of_windows_changes_nothing():
    made, x = module(), image(8, 12)
    q, k, v = (split_windows(linear(x), 4) for linear in (made.q, made.k, made.v))
    chosen = route(q, k, 3)[1]
    ahead, _ = made._attend(q, k, v, chosen, None, False)
    back, _ = made._attend(q, k, v, chosen.flip(2), None, False)
    close(ahead, back)


@pytest.mark.parametrize("size", [(7, 10), (5, 3), (1, 6)])
def test_padding_is_nobodys_key(size):
    made, x = module(k_top=5), image(*size)
    found = made(x, weights=True)
    padded = tuple(-(-side // 4) * 4 for side in size)
    real = real_tokens(size, padded, 4, x.device)
    windows = real.any(dim=1)
    keys = real[found.routes.chosen].reshape(2 * 16, 1, 1, -1)
    assert not keys.all()
    assert (found.weights * ~keys == 0).all()
    torch.testing.assert_close(found.weights.sum(dim=3), torch.ones(found.weights.shape[:3]))
    assert (found.routes.affinity[:, :, ~windows] == float("-inf")).all()
    first = found.routes.chosen[:, :, : min(5, int(windows.sum()))]
    assert windows[first].all()


def test_padding_changes_no_mean_and_no_answer():
    # 6 x 7 in 2 x 2 windows of 3 x 4: the same tokens on a map that is padded by hand with noise.
    made, x = module(windows=2, k_top=2), image(6, 7)
    found = made(x)
    q, k = (linear(x) for linear in (made.q, made.k))
    boxes = [(slice(0, 3), slice(0, 4)), (slice(0, 3), slice(4, 7)), (slice(3, 6), slice(0, 4))]
    boxes.append((slice(3, 6), slice(4, 7)))
    means = [torch.stack([one[:, r, c].mean(dim=(1, 2)) for r, c in boxes], dim=1) for one in (q, k)]
    close(found.routes.affinity, means[0] @ means[1].transpose(1, 2) / 32**0.5)
    for number, (rows, columns) in enumerate(boxes):
        for picture in range(2):
            keys = [boxes[i] for i in found.routes.chosen[picture, number].tolist()]
            tokens = torch.cat([x[picture, r, c].reshape(-1, 32) for r, c in keys])
            own = x[picture, rows, columns].reshape(-1, 32)
            head = [
                linear(one).reshape(-1, 4, 8).transpose(0, 1)
                for linear, one in ((made.q, own), (made.k, tokens), (made.v, tokens))
            ]
            expected = F.scaled_dot_product_attention(*head).transpose(0, 1).reshape(-1, 32)
            close(found.output[picture, rows, columns].reshape(-1, 32), made.proj(expected))


def test_counted_padding_is_a_quirk_of_its_own():
    x = image(7, 10)
    masked, counted = module(), module(padding="counted")
    assert (masked(x).output - counted(x).output).abs().max() > 1e-3
    close(masked(x[:, :4, :8]).output, counted(x[:, :4, :8]).output)  # nothing to pad


def test_lepe_reads_neighbours_on_the_map_not_in_the_window():
    made, x = module(k_top=16, lepe=True), image(7, 10)
    plain = made.proj(torch.zeros(1)[:, None].expand(1, 32))  # its bias
    local = made.lepe(made.v(x).permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
    without = module(k_top=16)
    without.load_state_dict({name: value for name, value in made.state_dict().items() if "lepe" not in name})
    close(made(x).output, without(x).output + made.proj(local) - plain)
    close(made(x, everywhere=True).output, made(x).output)


def test_no_gradient_goes_through_the_choice():
    made, x = module(), image(8, 12).requires_grad_()
    found = made(x)
    assert not found.routes.affinity.requires_grad
    found.output.sum().backward()
    assert torch.isfinite(x.grad).all()


def test_answers_of_a_batch_are_those_of_each_picture():
    made, x = module(), image(7, 10, batch=3)
    whole = made(x).output
    for number in range(3):
        torch.testing.assert_close(made(x[number : number + 1]).output[0], whole[number], atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"windows": 4, "k_top": 17}, r"k_top must lie in 1..16, the number of windows, got 17"),
        ({"windows": 4, "k_top": 0}, "k_top must lie in"),
        ({"windows": 0, "k_top": 1}, "windows must be at least 1"),
    ],
)
def test_routes_that_cannot_be_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        RouteConfig(**settings)
