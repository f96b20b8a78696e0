"""Mask heads on the embedded tower: its pyramid, and heads as files that only their own tower takes."""

import threading

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from instance_toys import SHA, toy_tower
from safetensors.torch import save_file

from ovs_core.checkpoints import CheckpointError
from ovs_core.decoders.mask_decoder import MaskDecoderConfig
from ovs_core.decoders.pixel_decoder import PixelDecoderConfig
from ovs_core.devices import Cancelled
from ovs_core.encoders.clip_vit import to_joint_space, tokens_of_patches
from ovs_core.encoders.mini_pyramid import (
    MiniPyramid,
    check_mini_tower,
    dense_map,
    pyramid_channels,
    stem_maps,
    vectors_to_joint_space,
)
from ovs_core.methods.mask_classification.frame import propose_masks
from ovs_core.methods.mask_classification.head import MaskHead, MaskHeadConfig
from ovs_core.methods.mask_classification.head_file import (
    TrainedHead,
    build_mask_method,
    load_mask_head,
    save_mask_head,
    tuned_tower,
)
from ovs_core.options import Preset
from ovs_core.types import TextBank, Vocabulary

PRESET = Preset(1.0, 0.0, 64, None, 0, "single1")
JOINT = 8
TWO = Vocabulary((("dog", "puppy"), ("cat",)))


@pytest.fixture(scope="module")
def tower():
    return toy_tower()


def encoder(tower):
    half = (0.5, 0.5, 0.5)
    return MiniPyramid("mini", "mini:toy", tower.visual, half, half, torch.device("cpu"), torch.float32)


def config(tower, transfer=None):
    return MaskHeadConfig(
        PixelDecoderConfig(pyramid_channels(tower.visual), 64, 32, 1),
        MaskDecoderConfig(JOINT, 64, 5, 32, 3),
        transfer,
    )


def trained(tower, method, **more):
    torch.manual_seed(1)
    head = MaskHead(config(tower, "panoptic" if method == "maft_plus" else None))
    return TrainedHead(method, head.eval(), SHA, frozenset({"dog"}), **more)


def pixels(height=50, width=90):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


def text(vocabulary):
    rows = torch.randn(len(vocabulary.rows), JOINT, generator=torch.Generator().manual_seed(0))
    return TextBank(vocabulary, F.normalize(rows, dim=1))


def test_pyramid_of_a_photo_that_is_not_square(tower):
    found = encoder(tower).encode(pixels(), PRESET)
    assert found.image_size == (50, 90)
    assert found.frame == found.padded == (64, 128)  # 64 x 115.2, to whole strides of 32
    sizes = [tuple(one.shape[1:]) for one in found.maps]
    assert sizes == [(16, 32), (8, 16), (4, 8), (2, 4)]
    assert tuple(one.shape[0] for one in found.maps) == pyramid_channels(tower.visual) == (48, 64, 656, 656)
    assert found.dense.shape == (16, 4, 8)


def test_maps_are_the_stems_own(tower):
    x = torch.rand(2, 3, 64, 96) * 2 - 1
    maps, patches = stem_maps(tower.visual, x)
    stem = tower.visual.conv1
    torch.testing.assert_close(patches, stem(x))
    torch.testing.assert_close(maps[0][:, 24:], stem.voc.maps(x).quarter)
    # ImageNet's trunk sees three quarters of each side, to whole tokens: 48 x 64 of 64 x 96.
    smaller = F.interpolate(x, (48, 64), mode="bilinear", antialias=True)
    seen = stem.imagenet.maps(smaller)
    torch.testing.assert_close(maps[1][:, :32], F.interpolate(seen.eighth, (8, 12), mode="bilinear"))
    torch.testing.assert_close(maps[2][:, :16], patches)
    torch.testing.assert_close(maps[2][:, 16 : 16 + 320], F.interpolate(seen.last, (4, 6), mode="bilinear"))
    torch.testing.assert_close(maps[3][0, 0, 0, 0], maps[2][0, 0, :2, :2].mean())


def test_dense_map_is_what_the_tower_says_of_each_patch(tower):
    x = torch.rand(1, 3, 64, 96) * 2 - 1
    patches = tower.visual.conv1(x)
    dense = dense_map(tower.visual, patches)
    leaving = tower.visual.transformer.resblocks[-1](tokens_of_patches(tower.visual, patches))
    torch.testing.assert_close(dense[0, :, 1, 2], leaving[0, 1 + 1 * 6 + 2])
    vectors = dense[0].flatten(1).T
    torch.testing.assert_close(
        vectors_to_joint_space(tower.visual, vectors), to_joint_space(tower.visual, leaving)[0, 1:]
    )


def test_stopping(tower):
    stop = threading.Event()
    stop.set()
    with pytest.raises(Cancelled):
        encoder(tower).encode(pixels(), PRESET, cancel=stop)


def test_progress_ends_whole(tower):
    seen = []
    encoder(tower).encode(pixels(), PRESET, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 2), (2, 2)]


def test_identity_tells_frames_apart(tower):
    one = encoder(tower)
    assert one.features_identity(PRESET) == one.encode(pixels(), PRESET).encoder
    assert one.features_identity(PRESET) != one.features_identity(Preset(1.0, 0.0, 96, None, 0, "single1"))


def test_other_towers_are_refused():
    from tiny_clip import make_model

    with pytest.raises(ValueError, match="embedded model's stem, got Conv2d"):
        check_mini_tower(make_model(0).visual)


@pytest.mark.parametrize("method", ["fc_clip", "maft_plus"])
def test_a_file_gives_back_what_was_saved(tower, tmp_path, method):
    tuned = {}
    if method == "maft_plus":
        name = "transformer.resblocks.1.ln_1.weight"
        tuned = {name: torch.full((16,), 0.5)}
    path = save_mask_head(trained(tower, method, tuned=tuned, training={"steps": 3}), tmp_path / "head")
    found = load_mask_head(path, SHA, method=method)
    assert (found.method, found.tower, found.seen) == (method, SHA, {"dog"})
    assert found.training == {"steps": 3}
    before = trained(tower, method).head.state_dict()
    for name, value in found.head.state_dict().items():
        torch.testing.assert_close(value, before[name].half().float(), atol=0, rtol=0)
    visual = tuned_tower(tower.visual, found, source="head")
    assert (visual is tower.visual) == (not tuned)
    if tuned:
        assert visual.transformer.resblocks[1].ln_1.weight.tolist() == [0.5] * 16
        assert tower.visual.transformer.resblocks[1].ln_1.weight.tolist() != [0.5] * 16


@pytest.mark.parametrize("method", ["fc_clip", "maft_plus"])
def test_a_loaded_head_answers(tower, tmp_path, method):
    found = load_mask_head(save_mask_head(trained(tower, method), tmp_path / "head"), SHA)
    built = build_mask_method(found, tower.visual, tower.log_scale)
    proposals = propose_masks(built, encoder(tower).encode(pixels(), PRESET), text(TWO))
    assert proposals.masks.shape == (5, 16, 32)
    assert proposals.scores.shape == (5, 2)
    torch.testing.assert_close(proposals.scores.sum(dim=1) + proposals.void, torch.ones(5))


def test_another_towers_head_is_refused(tower, tmp_path):
    path = save_mask_head(trained(tower, "fc_clip"), tmp_path / "head")
    with pytest.raises(CheckpointError, match="trained on another tower"):
        load_mask_head(path, "b" * 64)


def test_another_methods_head_is_refused(tower, tmp_path):
    path = save_mask_head(trained(tower, "fc_clip"), tmp_path / "head")
    with pytest.raises(CheckpointError, match="a head of fc_clip, expected one of maft_plus"):
        load_mask_head(path, SHA, method="maft_plus")


def test_other_files_are_refused(tmp_path):
    path = tmp_path / "other.safetensors"
    save_file({"x": torch.zeros(1)}, path)
    with pytest.raises(CheckpointError, match="not a file of a mask head"):
        load_mask_head(path, SHA)


def test_a_tensor_that_fits_nowhere_is_named(tower, tmp_path):
    tuned = {"transformer.resblocks.1.ln_1.weight": torch.zeros(3)}
    path = save_mask_head(trained(tower, "maft_plus", tuned=tuned), tmp_path / "head")
    with pytest.raises(CheckpointError, match=r"ln_1.weight is \(3,\), must be \(16,\)"):
        tuned_tower(tower.visual, load_mask_head(path, SHA), source="head")


def test_method_and_transfer_belong_together(tower):
    head = MaskHead(config(tower))
    with pytest.raises(ValueError, match="transfer for maft_plus"):
        TrainedHead("maft_plus", head, SHA, frozenset())
    with pytest.raises(ValueError, match="empty for fc_clip"):
        TrainedHead("fc_clip", head, SHA, frozenset(), {"x": torch.zeros(1)})
