"""Parts of the mask decoders on their own: hand-worked numbers, equal paths, any size."""

import math

import pytest
import torch
import torch.nn.functional as F
from mask_toys import head_config
from tiny_clip import randomise

from ovs_core.decoders import deformable
from ovs_core.decoders.deformable import DeformableAttention, gather_rows, sample_maps
from ovs_core.decoders.mask_decoder import MaskDecoder, MaskDecoderConfig, blocked_cells
from ovs_core.decoders.mask_pooling import mask_pooling
from ovs_core.decoders.pixel_decoder import PixelDecoder, PixelDecoderConfig, centres
from ovs_core.decoders.positions import sine_positions
from ovs_core.decoders.text_transfer import TextTransfer, image_tokens

SHAPES = [(3, 4), (5, 2), (1, 1)]
CELLS = 3 * 4 + 5 * 2 + 1


def test_one_place_worked_by_hand():
    # A 2 x 2 map 1 2 / 3 4; (x, y) = (0.5, 0.25) lies between 1 and 2: 1.5; (0, 0) is a quarter of 1, rest 0.
    rows = torch.tensor([1.0, 2.0, 3.0, 4.0]).view(1, 4, 1, 1)
    places = torch.tensor([[0.5, 0.25], [0.0, 0.0], [2.0, 2.0]]).view(1, 1, 1, 1, 3, 2)
    weights = torch.tensor([0.5, 0.25, 0.25]).view(1, 1, 1, 1, 3)
    for gather in (gather_rows, sample_maps):
        assert gather(rows, [(2, 2)], places, weights).item() == pytest.approx(0.5 * 1.5 + 0.25 * 0.25)


def test_both_ways_agree_with_gradients():
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(2, CELLS, 2, 3, generator=generator, dtype=torch.double).requires_grad_()
    places = torch.rand(2, 7, 2, 3, 3, 2, generator=generator, dtype=torch.double) * 1.4 - 0.2
    weights = torch.rand(2, 7, 2, 3, 3, generator=generator, dtype=torch.double).requires_grad_()
    places.requires_grad_()
    found = [gather(rows, SHAPES, places, weights) for gather in (gather_rows, sample_maps)]
    assert found[0].shape == (2, 7, 6)
    torch.testing.assert_close(*found)
    gradients = [torch.autograd.grad(one.square().sum(), (rows, places, weights)) for one in found]
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)


def test_some_queries_at_a_time_give_the_same_bits(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(2, CELLS, 2, 3, generator=generator)
    places = torch.rand(2, 7, 2, 3, 3, 2, generator=generator)
    weights = torch.rand(2, 7, 2, 3, 3, generator=generator)
    at_once = gather_rows(rows, SHAPES, places, weights)
    monkeypatch.setattr(deformable, "_QUERIES_AT_ONCE", 3)
    assert torch.equal(gather_rows(rows, SHAPES, places, weights), at_once)


def test_attention_answers_the_same_with_and_without_gradients():
    layer = DeformableAttention(64, 8, 3, 4)
    randomise(layer)
    cells, positions = torch.randn(2, 2, CELLS, 64, generator=torch.Generator().manual_seed(0))
    references = torch.cat([centres(shape, torch.device("cpu")) for shape in SHAPES])
    with torch.no_grad():
        quick = layer(cells + positions, cells, references, SHAPES)
    slow = layer.requires_grad_(True)(cells + positions, cells, references, SHAPES)
    torch.testing.assert_close(quick, slow, atol=1e-5, rtol=0)


def test_positions_worked_by_hand():
    # One row of two columns, four channels: two for the row, two for the column, frequency 1.
    found = sine_positions((1, 2), 4, torch.device("cpu"))
    assert found.shape == (4, 1, 2)
    row, first, second = (2 * math.pi * share / (1 + 1e-6 / n) for share, n in ((1, 1), (0.5, 2), (1, 2)))
    expected = [
        [math.sin(row)] * 2,
        [math.cos(row)] * 2,
        [math.sin(first), math.sin(second)],
        [math.cos(first), math.cos(second)],
    ]
    torch.testing.assert_close(found[:, 0], torch.tensor(expected), atol=1e-6, rtol=0)
    with pytest.raises(ValueError, match="divisible by 4, got 6"):
        sine_positions((2, 2), 6, torch.device("cpu"))


def test_pooling_worked_by_hand():
    features = torch.tensor([[1.0, 2.0], [3.0, 10.0]]).view(1, 1, 2, 2)
    masks = torch.tensor([[[1.0, -1.0], [1.0, -1.0]], [[-1.0, -1.0], [-1.0, -1.0]]])[None]
    assert mask_pooling(features, masks).flatten().tolist() == pytest.approx([2.0, 0.0])


def test_pooled_masks_are_interpolated_as_logits():
    features = torch.randn(1, 3, 4, 6, generator=torch.Generator().manual_seed(0))
    masks = torch.randn(1, 5, 8, 12, generator=torch.Generator().manual_seed(1))
    small = F.interpolate(masks, size=(4, 6), mode="bilinear", align_corners=False)
    assert torch.equal(mask_pooling(features, masks), mask_pooling(features, small))


def test_pooling_gives_no_gradient_to_masks():
    features, masks = torch.ones(1, 1, 2, 2, requires_grad=True), torch.ones(1, 1, 2, 2, requires_grad=True)
    mask_pooling(features, masks).sum().backward()
    assert features.grad is not None
    assert masks.grad is None


def test_a_query_without_a_cell_may_look_everywhere():
    masks = torch.tensor([[[5.0, -5.0]], [[-5.0, -5.0]]])[None]  # (1, 2, 1, 2)
    assert blocked_cells(masks, (1, 2)).tolist() == [[[False, True], [False, False]]]


@pytest.mark.parametrize("inputs", [(16, 32, 64, 128), (24, 32, 96, 320), (3, 5, 7, 11)])
@pytest.mark.parametrize("size", [(32, 32), (64, 32), (32, 160)])
def test_decoders_take_any_channels_and_sizes(inputs, size):
    pixels = randomise(PixelDecoder(PixelDecoderConfig(inputs, width=64, feedforward=16, layers=2)))
    masks = randomise(MaskDecoder(MaskDecoderConfig(8, width=64, queries=5, feedforward=16, layers=4)))
    generator = torch.Generator().manual_seed(0)
    maps = [
        torch.randn(2, channels, size[0] // stride, size[1] // stride, generator=generator)
        for channels, stride in zip(inputs, (4, 8, 16, 32), strict=True)
    ]
    decoded = pixels(maps)
    assert decoded.mask_features.shape == (2, 64, size[0] // 4, size[1] // 4)
    last = masks(decoded)
    every = masks(decoded, every_layer=True, attention=True)
    assert len(last.predictions) == 1
    assert len(every.predictions) == 5
    assert last.cross_attention == ()
    assert [one.shape[2:] for one in every.cross_attention] == [
        decoded.levels[i % 3].shape[2:] for i in range(4)
    ]
    assert torch.equal(last.predictions[0].masks, every.predictions[-1].masks)
    assert masks.class_embeddings(last.predictions[0], decoded.mask_features).shape == (2, 5, 8)
    # Pictures of a batch do not see each other. In double precision: rounding differs with batch and threads.
    pixels, masks, maps = pixels.double(), masks.double(), [one.double() for one in maps]
    both, alone = (masks(pixels(some)).predictions[0].masks for some in (maps, [one[1:] for one in maps]))
    torch.testing.assert_close(alone, both[1:], atol=1e-4, rtol=1e-4)


def test_wrong_channels_are_refused():
    decoder = PixelDecoder(PixelDecoderConfig((8, 8, 8, 8), width=64, layers=1))
    maps = [torch.zeros(1, channels, 4, 4) for channels in (8, 8, 8, 9)]
    with pytest.raises(ValueError, match=r"must be \(8, 8, 8, 8\), got \(8, 8, 8, 9\)"):
        decoder(maps)
    for width in (80, 32):
        with pytest.raises(ValueError, match="width must be divisible by 32"):
            PixelDecoderConfig((8, 8, 8, 8), width=width)
    with pytest.raises(ValueError, match="both decoders must be 64 wide, got 32"):
        type(head_config())(head_config().pixels, MaskDecoderConfig(8, width=32))


def test_per_pixel_tokens_are_the_features_of_their_pixels():
    dense = torch.arange(24.0).view(1, 2, 3, 4)
    assert torch.equal(image_tokens(dense, lambda vectors: vectors, "per_pixel"), dense)
    # The official cut takes two numbers of one channel for each token.
    official = image_tokens(dense, lambda vectors: vectors, "official")
    assert official[0, :, 0, 0].tolist() == [0, 1]
    assert official[0, :, 2, 3].tolist() == [22, 23]


def test_panoptic_transfer_starts_by_changing_nothing():
    rows = torch.randn(5, 8, generator=torch.Generator().manual_seed(0))
    tokens = torch.randn(2, 8, 3, 4, generator=torch.Generator().manual_seed(1))
    found = TextTransfer(8, "panoptic")(rows, tokens)
    torch.testing.assert_close(found.rows, rows.expand(2, -1, -1))
    assert found.attention.shape == (2, 5, 12)
    torch.testing.assert_close(found.attention.sum(dim=2), torch.ones(2, 5))
    norms = TextTransfer(8, "semantic")(rows, tokens).rows.norm(dim=2)
    torch.testing.assert_close(norms, torch.full((2, 5), 8**0.5), atol=1e-3, rtol=0)
