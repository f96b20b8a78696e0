"""The stem's segmenter of materials: shapes, what reaches the tokens, and that nothing changes without it."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from training_toys import CONFIG

from ovs_core.encoders.eight_bits import in_eight_bits, in_full
from ovs_core.encoders.mini import build_mini, fitting, without_materials
from ovs_core.encoders.mini_pyramid import pyramid_channels, stem_maps
from ovs_core.encoders.mosaic import Mosaic, stretched

WITH_MATERIALS = {**CONFIG, "stem": {**CONFIG["stem"], "detector_names": 3, "material_names": 4}}


@pytest.mark.parametrize(
    ("height", "width", "grids"),
    [
        (64, 96, [(4, 6), (8, 12), (16, 24)]),
        (48, 80, [(3, 5), (6, 10), (12, 20)]),
        (33, 17, [(3, 2), (5, 3), (9, 5)]),
    ],
)
def test_it_speaks_at_three_strides(height, width, grids):
    torch.manual_seed(0)
    with torch.no_grad():
        seen = Mosaic(5).eval()(torch.rand(2, 3, height, width) * 2 - 1)
    channels = (128, 64, 5)
    for found, count, grid in zip(seen, channels, grids, strict=True):
        assert found.shape == (2, count, *grid)
    assert (seen.logits >= 0).all()  # sums of two rectified paths


def test_cells_are_stretched_from_their_first_corner():
    """Cell i of the finer grid takes after cell i / 2: two rows and three columns by hand."""
    x = torch.tensor([[[[0.0, 4.0, 2.0], [8.0, 12.0, 10.0]]]])
    fine = stretched(x, 2, torch.zeros(1, 1, 4, 5))
    row = [0.0, 2.0, 4.0, 3.0, 2.0]
    expected = torch.tensor([row, [4 + v for v in row], [8 + v for v in row], [8 + v for v in row]])
    torch.testing.assert_close(fine[0, 0], expected)


def test_the_context_is_the_mean_over_windows_of_three_sizes():
    """Convolutions that pass their inputs on: a lone bright cell of 8 x 8 is seen as 1/64, 1/16 and 1/4."""
    net = Mosaic(2).eval()
    with torch.no_grad():
        for parts in (net.depthwise, net.pointwise):
            for part in parts:
                part.weight.zero_()
                part.bias.zero_()
        for part in net.depthwise:
            part.weight[..., part.kernel_size[0] // 2, part.kernel_size[1] // 2] = 1
        for part in net.pointwise:
            part.weight[0, 0] = 1
        x = torch.zeros(1, 448, 8, 8)
        x[0, [0, 224], 0, 0] = 1
        found = net.around(x)
    assert found.shape == (1, 3 * 128 + 448, 8, 8)
    for index, area in enumerate((64, 16, 4)):
        for half in (0, 64):
            assert found[0, 128 * index + half, 0, 0] == pytest.approx(1 / area)
    torch.testing.assert_close(found[:, 384:], x)


@pytest.fixture
def model():
    torch.manual_seed(1)
    return build_mini(WITH_MATERIALS).eval()


@torch.no_grad()
def test_belief_reaches_the_token_times_a_gate(model):
    stem, text = model.visual.conv1, CONFIG["embed_dim"]
    stem.mix.weight.zero_()
    stem.mix.bias.zero_()
    first = stem.mix.in_channels - 128 - text  # words, then features, come last
    stem.mix.weight[:text, first : first + text, 0, 0] = torch.eye(text)
    stem.material_gate.weight.zero_()
    stem.material_gate.bias.zero_()
    pixels = torch.rand(1, 3, 64, 96) * 2 - 1
    half = F.interpolate(pixels, (32, 48), mode="bilinear", antialias=True)  # of each side is what it sees
    fine = F.interpolate(stem.materials(half).logits.softmax(dim=1), (16, 24), mode="bilinear")
    belief = F.avg_pool2d(fine, 4)
    words = torch.einsum("dc,bchw->bdhw", stem.material_words.weight[..., 0, 0], belief)
    torch.testing.assert_close(stem(pixels)[:, :text], words)
    stem.material_gate.bias.fill_(-40.0)
    torch.testing.assert_close(stem(pixels)[:, :text], torch.zeros_like(words))
    stem.material_gate.bias.fill_(40.0)
    torch.testing.assert_close(stem(pixels)[:, :text], 2 * words)


@torch.no_grad()
def test_the_gate_is_learnt_for_each_place(model):
    """It looks at what all other heads that say where things are believe, and at the features."""
    stem = model.visual.conv1
    assert stem.material_gate.in_channels == 128 + 4 + 3 + 3  # features, materials, VOC, detector
    assert stem.material_gate.out_channels == 1


@torch.no_grad()
def test_its_maps_join_the_pyramid(model):
    maps, patches = stem_maps(model.visual, torch.rand(1, 3, 64, 96) * 2 - 1)
    assert tuple(one.shape[1] for one in maps) == pyramid_channels(model.visual)
    assert patches.shape == (1, CONFIG["vision_cfg"]["width"], 4, 6)
    plain = build_mini(without_materials(WITH_MATERIALS))
    more = [
        a - b for a, b in zip(pyramid_channels(model.visual), pyramid_channels(plain.visual), strict=True)
    ]
    assert more == [4, 64, 128, 128]


@torch.no_grad()
def test_finer_positions_see_its_finest_map(model):
    stem = model.visual.conv1
    pixels = torch.rand(1, 3, 48, 64) * 2 - 1
    before = stem.with_upsampling(pixels)[1]
    assert before.shape == (1, 9, 12, 16)
    stem.shares.quarter.weight[:, -4:] += 1
    assert not torch.equal(stem.with_upsampling(pixels)[1], before)


@pytest.mark.parametrize(("detector", "materials"), [(3, 4), (3, 0), (0, 4), (0, 0)])
def test_a_file_says_what_its_stem_holds(detector, materials):
    stem = {**CONFIG["stem"], "detector_names": detector, "material_names": materials}
    state = build_mini({**CONFIG, "stem": stem}).state_dict()
    for config in (CONFIG, WITH_MATERIALS):
        found = fitting(config, in_full(in_eight_bits(state)))
        assert found["stem"]["detector_names"] == detector
        assert found["stem"]["material_names"] == materials
        build_mini(found).load_state_dict(state)


def test_every_convolution_learns(model):
    """Nothing of the network is left out of the way to the token."""
    model.visual.conv1(torch.rand(2, 3, 64, 64) * 2 - 1).square().mean().backward()
    for name, part in model.visual.conv1.materials.named_modules():
        if isinstance(part, nn.Conv2d):
            assert part.weight.grad is not None, name
