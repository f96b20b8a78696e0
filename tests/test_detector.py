"""The stem's detector: shapes, what reaches the token grid, and how a saved NanoDet becomes one."""

import json

import pytest
import torch
import torch.nn.functional as F
from training_toys import CONFIG, make_detector

from ovs_core.checkpoints import CheckpointError
from ovs_core.encoders.detector import CspStage, Detected, Detector, at_sixteenth
from ovs_core.encoders.mini import ConvStem, build_mini, fitting
from ovs_core.encoders.mini_pyramid import pyramid_channels, stem_maps
from recipes.mini.image import DETECTOR_TRUST, join_detector
from recipes.mini.teachers import DETECTOR_MEAN, DETECTOR_STD, start_detector

WITH_DETECTOR = {**CONFIG, "stem": {**CONFIG["stem"], "detector_names": 3}}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A folder with a saved network of random weights, and those weights in the order of its convolutions."""
    folder = tmp_path_factory.mktemp("detector")
    return folder, make_detector(folder)


@pytest.mark.parametrize(
    ("height", "width", "grids"),
    [
        (64, 96, [(8, 12), (4, 6), (2, 3)]),
        (48, 80, [(6, 10), (3, 5), (2, 3)]),
        (33, 17, [(5, 3), (3, 2), (2, 1)]),
    ],
)
def test_heads_stand_at_three_strides(height, width, grids):
    found = Detector(5).eval()(torch.rand(2, 3, height, width) * 2 - 1)
    assert [tuple(one.shape) for one in found.hidden] == [(2, 128, *grid) for grid in grids]
    assert [tuple(one.shape) for one in found.logits] == [(2, 5, *grid) for grid in grids]


def test_a_stage_by_hand():
    """Every convolution passes on the mean of its inputs' middle pixels: constants go through unchanged."""
    stage = CspStage(4, 4, 2, 2)
    with torch.no_grad():
        for part in stage.modules():
            if isinstance(part, torch.nn.Conv2d):
                part.weight.zero_()
                part.weight[:, :, 1, 1] = 1 / part.in_channels
                part.bias.fill_(1.0)
        found = stage(torch.full((1, 4, 6, 8), 2.0))
    # first: 3; each block's two halves (x + 1 and x + 2): 4 and 5, mean 4.5 -> 5.5 and 6.5; last: 6 + 1.
    assert found.shape == (1, 8, 3, 4)
    torch.testing.assert_close(found[0, :4], torch.full((4, 3, 4), 7.0))
    torch.testing.assert_close(found[0, 4:], torch.full((4, 3, 4), 3.0))


def test_the_surest_stride_counts_and_features_of_all_stand_side_by_side():
    fine, middle, coarse = (
        torch.full((1, 2, 4, 4), -9.0),
        torch.full((1, 2, 2, 2), -9.0),
        torch.full((1, 2, 1, 1), -9.0),
    )
    fine[0, 0, 3, 2], middle[0, 1, 0, 1], coarse[0, 1] = 2.0, 1.0, -1.0
    hidden = tuple(torch.full((1, 128, side, side), float(side)) for side in (4, 2, 1))
    features, belief = at_sixteenth(Detected(hidden, (fine, middle, coarse)))
    assert features.shape == (1, 384, 2, 2)
    assert features[0, ::128, 0, 0].tolist() == [4.0, 2.0, 1.0]
    expected = torch.tensor([[[-9.0, -9], [-9, 2]], [[-1, 1], [-1, -1]]]).sigmoid()
    torch.testing.assert_close(belief[0], expected)


def test_a_saved_network_starts_the_detector(saved):
    folder, weights = saved
    detector = Detector(3).eval()
    start_detector(detector, folder)
    assert torch.equal(detector.stages[1].blocks[1][0].weight, weights[8][0])
    assert torch.equal(detector.lateral[2].bias, weights[27][1])
    assert torch.equal(detector.classifiers[1].weight, weights[31][0][:3])  # boxes come after the names
    # Pixels in [-1, 1] give what scaled blue, green and red gave the network; its own padding is another.
    pixels = torch.randint(0, 256, (1, 3, 12, 16)).float()
    mean, std = (torch.tensor(one).view(1, 3, 1, 1) for one in (DETECTOR_MEAN, DETECTOR_STD))
    expected = F.conv2d((pixels.flip(1) - mean) / std, *weights[0], stride=2, padding=1)
    found = detector.stem(pixels / 127.5 - 1)
    torch.testing.assert_close(found[..., 1:, 1:], expected[..., 1:, 1:], atol=1e-4, rtol=1e-4)


def test_another_network_is_refused_in_one_sentence(saved, tmp_path):
    folder, _ = saved
    for name in ("nanodet.json", "nanodet.bin"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    graph = json.loads((tmp_path / "nanodet.json").read_text())
    graph["modelTopology"]["node"] = [
        node for node in graph["modelTopology"]["node"] if node["name"] != "convolution_33"
    ]
    (tmp_path / "nanodet.json").write_text(json.dumps(graph))
    with pytest.raises(CheckpointError, match="33 convolutions, must have 34"):
        start_detector(Detector(3), tmp_path)
    (tmp_path / "nanodet.bin").write_bytes(b"short")
    with pytest.raises(CheckpointError, match="cannot be read as a saved NanoDet"):
        start_detector(Detector(3), tmp_path)


def test_joining_keeps_what_was_learnt_and_adds_the_detectors_words(saved):
    folder, _ = saved
    torch.manual_seed(1)
    before, after = build_mini(CONFIG).eval(), build_mini(WITH_DETECTOR).eval()
    names = F.normalize(torch.randn(3, CONFIG["embed_dim"]), dim=1)
    join_detector(after, before.state_dict(), folder, names, "toy")
    pixels = torch.rand(1, 3, 64, 96) * 2 - 1
    with torch.no_grad():
        old, new = before.visual.conv1(pixels), after.visual.conv1(pixels)
        _, belief = at_sixteenth(after.visual.conv1.detector(pixels))
    added = DETECTOR_TRUST * torch.einsum("kd,bkhw->bdhw", names, belief)
    text = names.shape[1]
    torch.testing.assert_close(new[:, :text] - old[:, :text], added, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(new[:, text:], old[:, text:], atol=1e-4, rtol=1e-4)
    with pytest.raises(ValueError, match="must have a detector"):
        join_detector(before, before.state_dict(), folder, names, "toy")


def test_the_pyramid_holds_the_detectors_maps():
    visual = build_mini(WITH_DETECTOR).visual.eval()
    with torch.no_grad():
        maps, _ = stem_maps(visual, torch.rand(1, 3, 64, 96) * 2 - 1)
    assert tuple(one.shape[1] for one in maps) == pyramid_channels(visual) == (48, 192, 1040, 1040)
    assert [tuple(one.shape[2:]) for one in maps] == [(16, 24), (8, 12), (4, 6), (2, 3)]


def test_upsampling_weights_do_not_read_the_detector():
    torch.manual_seed(2)
    stem = ConvStem(16, 8, 3, 3, upsampling=True, detector_names=2).eval()
    pixels = torch.rand(1, 3, 32, 48) * 2 - 1
    with torch.no_grad():
        stem.mix.weight[:, -(8 + 384) :] = 0  # tokens, which these weights read, do not hear of it either
        _, before = stem.with_upsampling(pixels)
        for part in stem.detector.parameters():
            part.mul_(0.5)
        _, after = stem.with_upsampling(pixels)
    assert torch.equal(before, after)


def test_a_state_without_a_detector_is_for_a_model_without_one():
    with_one, without = build_mini(WITH_DETECTOR).state_dict(), build_mini(CONFIG).state_dict()
    assert fitting(WITH_DETECTOR, with_one)["stem"]["detector_names"] == 3
    none = {"detector_names": 0, "material_names": 0}
    assert fitting(WITH_DETECTOR, without)["stem"] == {**CONFIG["stem"], **none}
    build_mini(fitting(WITH_DETECTOR, without)).load_state_dict(without)
