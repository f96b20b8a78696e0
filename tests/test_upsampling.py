"""Sharpening evidence: bilinear where nothing is known, neighbours by hand, edges that follow the photo."""

import pytest
import torch
import torch.nn.functional as F
from training_toys import CONFIG

from ovs_core.encoders.clip_vit import VisionEncoder
from ovs_core.encoders.mini import build_mini
from ovs_core.encoders.upsampling import NeighbourWeights, bilinear_weights, neighbours, sharpen
from ovs_core.options import Preset


def test_neighbours_by_hand():
    rows = torch.tensor([[[1.0, 2, 3], [4, 5, 6]]])
    near = neighbours(rows)
    assert near.shape == (1, 9, 2, 3)
    assert near[0, :, 1, 1].tolist() == [1, 2, 3, 4, 5, 6, 4, 5, 6]  # below the frame its last row goes on
    assert near[0, :, 0, 0].tolist() == [1, 1, 2, 1, 1, 2, 4, 4, 5]


def test_bilinear_weights_by_hand():
    weights = bilinear_weights()
    torch.testing.assert_close(weights.sum(dim=0), torch.ones(4, 4))
    # The first of four positions lies 3/8 of a token up and left of the middle: 3/8 x 3/8 of that corner.
    exact = torch.tensor([9, 15, 0, 15, 25, 0, 0, 0, 0]) / 64
    torch.testing.assert_close(weights[:, 0, 0], (exact + 0.02) / 1.18)


def test_bilinear_weights_without_the_far_ones_are_torchs_interpolation():
    evidence = torch.randn(3, 4, 5)
    exact = bilinear_weights() * 1.18 - 0.02
    found = sharpen(evidence, exact.repeat(1, 4, 5))
    expected = F.interpolate(evidence[None], scale_factor=4, mode="bilinear", align_corners=False)[0]
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_one_weight_picks_one_neighbour():
    weights = torch.zeros(9, 8, 12)
    weights[3] = 1  # the token to the left
    evidence = torch.arange(6.0).reshape(1, 2, 3)
    found = sharpen(evidence, weights)
    assert found[0, ::4, ::4].tolist() == [[0, 0, 1], [3, 3, 4]]


def test_weights_of_another_grid_are_refused():
    with pytest.raises(
        ValueError, match=r"upsampling weights must be \(9, 8, 12\) for a grid of 2 x 3, got \(9, 8, 8\)"
    ):
        sharpen(torch.zeros(1, 2, 3), torch.zeros(9, 8, 8))


def test_learns_to_put_an_edge_inside_a_token():
    """Left of column 6 dark, right of it bright: tokens 0 and 2 are pure, the edge cuts token 1."""
    torch.manual_seed(0)
    layer = NeighbourWeights(1, 1, 2, width=8)
    dark = (torch.arange(12) < 6).float()
    quarter = dark.expand(1, 1, 12, 12)
    eighth, share = F.avg_pool2d(quarter, 2), F.avg_pool2d(quarter, 4)
    tokens = torch.cat([share, 1 - share], dim=1)
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.03)
    for _ in range(120):
        evidence = sharpen(4 * tokens[0], layer(quarter, eighth, tokens)[0])
        loss = F.cross_entropy(10 * evidence[None], (1 - dark).long().expand(1, 12, 12))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert (evidence[0] > evidence[1]).tolist() == (dark > 0).expand(12, 12).tolist()
    blurred = sharpen(4 * tokens[0], bilinear_weights().repeat(1, 3, 3))
    sharp, soft = (found[0, 0, 5] - found[0, 0, 6] for found in (evidence, blurred))
    assert sharp > 2 * soft


def test_windows_are_put_together_to_whole_weights():
    visual, middle = build_mini(CONFIG).visual, (0.5, 0.5, 0.5)
    cpu = torch.device("cpu")
    encoder = VisionEncoder("mini", "mini:0:float32", visual, middle, middle, 16, cpu, torch.float32)
    pixels = torch.randint(0, 255, (32, 80, 3), dtype=torch.uint8).numpy()
    features = encoder.encode(pixels, Preset(20, 0.3, 32, 32, 16, "single1"))
    assert [window.left for window in features.windows] == [0, 1, 2, 3]
    assert features.upsampling_weights.shape == (9, 8, 20)
    torch.testing.assert_close(features.upsampling_weights.sum(dim=0), torch.ones(8, 20))
    assert features.nbytes > features.upsampling_weights.nbytes
    whole = encoder.encode(pixels, Preset(20, 0.3, 32, None, 0, "single1"))
    assert whole.upsampling_weights.shape == (9, 8, 20)
