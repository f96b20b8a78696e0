"""CLIP's RN50 and RN101 as encoders: other weights and sizes than the reference tensors', same answers."""

from dataclasses import replace

import numpy as np
import open_clip
import pytest
import torch
import torch.nn.functional as F
from mask_toys import random_text
from open_clip.model import CLIP
from open_clip.modified_resnet import ModifiedResNet
from resnet_reference import official, visual  # noqa: F401 - fixtures
from tiny_clip import make_visual, randomise

from ovs_core.encoders.clip_resnet import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    ResNetEncoder,
    ResNetPyramid,
    attention_pool,
    pool_positions,
    pyramid,
    pyramid_channels,
    region_means,
    value_path,
    vectors_to_joint_space,
)
from ovs_core.methods.training_free.resnet import ResNetTrainingFree
from ovs_core.options import Preset
from ovs_core.types import Features, TextBank, Vocabulary, Window

CPU = torch.device("cpu")
WHOLE = Preset(scale=40, threshold=0.0, short_side=64, window=None, stride=0, templates="single1")
WORDS = Vocabulary((("dog", "puppy"), ("grass",)), ("sky",))


def tiny_resnet(seed=0, joint=32, width=8, layers=(1, 2, 1, 1)):
    return randomise(ModifiedResNet(layers, output_dim=joint, heads=4, image_size=64, width=width), seed)


@pytest.fixture(scope="module")
def tower():
    return tiny_resnet()


@pytest.fixture(scope="module")
def picture():
    return np.random.default_rng(0).integers(0, 256, (70, 110, 3), np.uint8)


def test_attention_pool_is_open_clips_own_on_its_own_size(tower):
    with torch.no_grad():
        last = pyramid(tower, torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)))[-1]
        torch.testing.assert_close(
            attention_pool(tower, last)[:, 0], tower.attnpool(last), atol=1e-4, rtol=1e-4
        )


def test_positions_of_another_map_are_resized_bilinearly(tower):
    table = tower.attnpool.positional_embedding  # (1 + 2 * 2, C)
    found = pool_positions(tower, (2, 4))
    torch.testing.assert_close(found[0], table[0])
    # Four columns over two: the outer ones repeat the edge, the inner ones lie a quarter in.
    row = [table[1], 0.75 * table[1] + 0.25 * table[2], 0.25 * table[1] + 0.75 * table[2], table[2]]
    torch.testing.assert_close(found[1:5], torch.stack(row))


def test_regions_are_means_over_places(tower):
    with torch.no_grad():
        last = pyramid(tower, torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(1)))[-1][0]
        places = attention_pool(tower, last[None])[0, 1:]
        masks = torch.zeros(2, 64, 96)
        masks[0] = 1
        masks[1, :32, 64:] = 1  # one cell of the map
        found = region_means(tower, last, masks)
    torch.testing.assert_close(found[0], places.mean(dim=0), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(found[1], places[2], atol=1e-5, rtol=1e-4)


def test_pyramid_is_padded_and_its_vectors_reach_the_joint_space(tower, picture):
    encoder = ResNetPyramid("rn", "rn:0", tower, IMAGENET_MEAN, IMAGENET_STD, CPU, torch.float32)
    found = encoder.encode(picture, WHOLE)
    assert (found.image_size, found.frame, found.padded) == ((70, 110), (64, 101), (64, 128))
    assert tuple(len(one) for one in found.maps) == pyramid_channels(tower)
    assert [one.shape[1:] for one in found.maps] == [(16, 32), (8, 16), (4, 8), (2, 4)]
    vectors = found.dense.flatten(1).T
    with torch.no_grad():
        expected = value_path(tower, found.dense[None]).features[0].flatten(1).T
        torch.testing.assert_close(vectors_to_joint_space(tower, vectors), expected, atol=1e-4, rtol=1e-4)
    again = encoder.encode(picture, WHOLE)
    assert all(torch.equal(one, other) for one, other in zip(found.maps, again.maps, strict=True))


def test_presets_of_other_frames_and_students_are_told_apart(tower):
    student = ResNetPyramid("rn", "rn:0", tower, IMAGENET_MEAN, IMAGENET_STD, CPU, torch.float32)
    clip = ResNetPyramid("rn", "rn:0", tower, (0.5,) * 3, (0.25,) * 3, CPU, torch.float32)
    names = {
        one.features_identity(preset)
        for one in (student, clip)
        for preset in (WHOLE, replace(WHOLE, short_side=96))
    }
    assert len(names) == 4
    with pytest.raises(ValueError, match="ModifiedResNet"):
        ResNetPyramid("x", "x", make_visual(), (0,) * 3, (1,) * 3, CPU, torch.float32)


@pytest.mark.parametrize("name", ["maskclip", "clip"])
def test_training_free_segmentation(tower, picture, name):
    encoder = ResNetEncoder("rn", "rn:0", tower, (0.5,) * 3, (0.25,) * 3, CPU, torch.float32)
    features = encoder.encode(picture, WHOLE)
    text = random_text(WORDS)
    found = ResNetTrainingFree(tower, name).ask(features, text, {}, views={"similarity"})
    last = features.windows[0].tokens[1:].T.reshape(1, -1, *features.grid)
    with torch.no_grad():
        dense = (
            attention_pool(tower, last)[0, 1:]
            if name == "clip"
            else vectors_to_joint_space(tower, features.windows[0].tokens[1:])
        )
    expected = (text.embeddings @ F.normalize(dense, dim=1).T).reshape(4, *features.grid)
    torch.testing.assert_close(found.evidence.rows, expected, atol=1e-5, rtol=0)
    assert found.views[0].labels == ("dog", "grass")


def test_refinements_equal_the_official_head(official, visual):  # noqa: F811
    with torch.no_grad():
        last = pyramid(visual, official["in.img"])[-1]
    grid = (last.shape[2], last.shape[3])
    places = last[0].flatten(1).T
    window = Window(0, 0, grid, torch.cat([places.mean(dim=0, keepdim=True), places]))
    text = F.normalize(official["w.head.text_embeddings"], dim=1)
    vocabulary = Vocabulary(tuple((f"name {i}",) for i in range(len(text))))
    method = ResNetTrainingFree(visual, "maskclip")
    options = {"prompt_denoising": True, "key_smoothing": True}
    found = method.ask(Features("rn", grid, grid, (window,)), TextBank(vocabulary, text), options)
    scores = official["out.logits_kspd"][0].clamp(min=0)
    expected = scores / scores.sum(dim=0)
    torch.testing.assert_close(found.evidence.rows, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("architecture", "joint", "parameters"), [("RN50-quickgelu", 1024, 23.5), ("RN101-quickgelu", 512, 42.5)]
)
def test_full_towers_have_the_papers_sizes(architecture, joint, parameters):
    """Without weights: spec section 1 counts 23.6 M and 42.6 M values of the backbone, buffers included."""
    with torch.device("meta"):
        model = CLIP(**open_clip.get_model_config(architecture))
    visual = model.visual  # noqa: F811
    assert pyramid_channels(visual) == (256, 512, 1024, 2048)
    assert visual.attnpool.c_proj.out_features == joint
    backbone = sum(p.numel() for name, p in visual.named_parameters() if not name.startswith("attnpool"))
    assert backbone / 1e6 == pytest.approx(parameters, abs=0.1)
