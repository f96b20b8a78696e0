"""The embedded model's architecture: padding, the stem's grid, open_clip's layout, every method's rule."""

import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from open_clip.model import CLIP
from torch import nn
from training_toys import CONFIG

from ovs_core.encoders.clip_vit import check_visual, tokens_before_last_block
from ovs_core.encoders.mini import ConvStem, InvertedResidual, MobileNetV2, build_mini
from ovs_core.encoders.padding import conv_same, depthwise_same
from ovs_core.encoders.text_tower import text_tower
from ovs_core.methods.training_free.attention_rules import RULES
from recipes.mini.image import dense_embeddings

SHIPPED = Path(__file__).resolve().parents[1] / "checkpoints" / "mini" / "mini.json"


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return build_mini(CONFIG).eval().requires_grad_(False)


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "dilation", "before", "after"),
    [
        (6, 3, 2, 1, 0, 1),  # 3 outputs reach 7 pixels: one more, on the far side
        (5, 3, 2, 1, 1, 1),  # 3 outputs reach 7 pixels
        (5, 3, 1, 1, 1, 1),
        (5, 3, 1, 2, 2, 2),  # a dilated kernel covers 5
        (4, 1, 1, 1, 0, 0),
        (4, 1, 2, 1, 0, 0),  # needs 3 of 4 pixels: never cut
    ],
)
def test_same_padding_by_hand(size, kernel, stride, dilation, before, after):
    x = torch.randn(1, 2, size, size)
    for groups in (1, 2):  # a plain convolution and a depth-wise one go two ways
        convolution = nn.Conv2d(2, 2, kernel, stride, dilation=dilation, groups=groups)
        padded = F.pad(x, [before, after, before, after])
        expected = F.conv2d(padded, convolution.weight, convolution.bias, stride, 0, dilation, groups)
        torch.testing.assert_close(conv_same(convolution, x), expected)


def test_same_padding_where_nothing_is_odd_is_torchs_own():
    x, convolution = torch.randn(2, 3, 7, 9), nn.Conv2d(3, 5, 3, dilation=2)
    own = F.conv2d(x, convolution.weight, convolution.bias, padding=2, dilation=2)
    torch.testing.assert_close(conv_same(convolution, x), own)


@pytest.mark.parametrize("kernel", [1, 3, 5])
@pytest.mark.parametrize(("stride", "dilation"), [(1, 1), (2, 1), (1, 2), (3, 1)])
@pytest.mark.parametrize("size", [(23, 12), (24, 13), (9, 5)])
def test_strips_give_what_the_whole_map_gives(kernel, stride, dilation, size):
    convolution = nn.Conv2d(6, 6, kernel, stride, dilation=dilation, groups=6)
    expand, project = nn.Conv2d(2, 6, 1), nn.Conv2d(6, 3, 1)
    x = torch.randn(2, 2, *size)

    def before(rows):
        return F.relu6(expand(rows) + 0.5)  # zeros are padded behind this: in front they would be 0.5

    whole = project(conv_same(convolution, before(x)))
    row = 2 * 6 * 4 * size[1] * stride
    for rows in (1, 2, 3, 100):
        parts = depthwise_same(convolution, x, before, project, most=rows * row)
        torch.testing.assert_close(parts, whole, atol=1e-6, rtol=1e-5)


def test_block_adds_its_input_only_where_shapes_allow():
    x = torch.rand(1, 4, 6, 8)
    same = InvertedResidual(4, 4, 6, 1, 1)
    torch.nn.init.zeros_(same.project.weight)
    torch.nn.init.constant_(same.project.bias, 0.25)
    torch.testing.assert_close(same(x), x + 0.25)
    halved = InvertedResidual(4, 4, 6, 2, 1)
    assert halved(x).shape == (1, 4, 3, 4)
    assert not halved.residual
    assert not InvertedResidual(4, 5, 6, 1, 1).residual


def test_trunk_is_dilated_behind_stride_16():
    blocks = MobileNetV2().blocks
    assert len(blocks) == 17
    assert [stride for block in blocks if (stride := block.depthwise.stride[0]) > 1] == [
        2,
        2,
        2,
    ]  # with the stem's: 16
    # The first block of the stage that would have been strided still sees single steps.
    assert [block.depthwise.dilation[0] for block in blocks] == [1] * 14 + [2] * 3


def test_trunk_maps_are_of_a_quarter_an_eighth_and_a_sixteenth():
    maps = MobileNetV2().eval().maps(torch.rand(1, 3, 32, 64) * 2 - 1)
    assert [tuple(one.shape[1:]) for one in maps] == [(24, 8, 16), (32, 4, 8), (320, 2, 4)]


def test_without_upsampling_there_are_no_weights():
    stem = ConvStem(6, 3, imagenet_names=2, voc_names=2)
    tokens, weights = stem.with_upsampling(torch.zeros(1, 3, 32, 48))
    assert tokens.shape == (1, 6, 2, 3)
    assert weights is None


def test_upsampling_weights_come_with_the_same_tokens(model):
    pixels = torch.rand(2, 3, 48, 80) * 2 - 1
    tokens, weights = model.visual.conv1.with_upsampling(pixels)
    torch.testing.assert_close(tokens, model.visual.conv1(pixels), rtol=0, atol=0)
    assert weights.shape == (2, 9, 12, 20)
    torch.testing.assert_close(weights.sum(dim=1), torch.ones(2, 12, 20))


@pytest.mark.parametrize(("height", "width", "grid"), [(48, 80, (3, 5)), (64, 32, (4, 2)), (40, 33, (3, 3))])
def test_stem_grid(model, height, width, grid):
    tokens = model.visual.conv1(torch.rand(2, 3, height, width) * 2 - 1)
    assert tokens.shape == (2, 16, *grid)
    assert tokens.isfinite().all()


def test_stem_says_the_words_its_heads_believe_in():
    """Both heads sure of name 1: a token carries row 1 of both word tables."""
    stem = ConvStem(6, 3, imagenet_names=2, voc_names=2)
    with torch.no_grad():
        for head in (stem.imagenet_classifier, stem.voc_classifier):
            head.weight.zero_()
            head.bias.copy_(torch.tensor([0.0, 40.0]))
        stem.imagenet_words.weight.copy_(torch.tensor([[9.0, 1], [9, 2], [9, 3]])[..., None, None])
        stem.voc_words.weight.copy_(torch.tensor([[9.0, 4], [9, 5], [9, 6]])[..., None, None])
        stem.mix.weight.zero_()
        stem.mix.bias.zero_()
        stem.mix.weight[:, :6] = torch.eye(6)[..., None, None]
        tokens = stem(torch.zeros(1, 3, 32, 48))
    torch.testing.assert_close(tokens, torch.arange(1.0, 7)[None, :, None, None].expand(1, 6, 2, 3))


def test_layout_is_open_clips(model):
    assert isinstance(model.visual.conv1, ConvStem)
    plain = CLIP(CONFIG["embed_dim"], CONFIG["vision_cfg"], CONFIG["text_cfg"]).state_dict()
    ours = {name: value for name, value in model.state_dict().items() if ".conv1." not in name}
    assert {name: value.shape for name, value in ours.items()} == {
        name: value.shape for name, value in plain.items() if ".conv1." not in name
    }
    check_visual(model.visual)
    assert text_tower(model).context_length == 77


@pytest.mark.parametrize("rule", sorted(RULES))
def test_every_rule_runs_on_a_frame_that_is_not_square(model, rule):
    entering = tokens_before_last_block(model.visual, torch.rand(2, 3, 48, 80) * 2 - 1)
    assert entering.shape == (2, 1 + 3 * 5, 16)
    found = dense_embeddings(model, entering, (3, 5), rule)
    assert found.shape == (2, 16, CONFIG["embed_dim"])
    torch.testing.assert_close(found.norm(dim=-1), torch.ones(2, 16))


def test_shipped_architecture_fits_its_heads_and_words():
    config = json.loads(SHIPPED.read_text(encoding="utf-8"))
    assert config["stem"] == {
        "imagenet_names": 1001,
        "voc_names": 21,
        "upsampling": True,
        "detector_names": 80,
        "material_names": 32,
    }
    assert config["text_cfg"]["width"] == config["embed_dim"]  # the token table starts in the joint space
    assert config["vision_cfg"]["width"] >= config["embed_dim"]  # a token has room for a word
