"""Labels from mask proposals: a hand-worked pixel, the official steps on whole maps, tiles of any size."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from ovs_core.evidence import sampling
from ovs_core.evidence.decide import class_probabilities, decide, margin
from ovs_core.evidence.proposals import MaskProposals
from ovs_core.types import Pyramid, Vocabulary

PETS = Vocabulary((("dog", "puppy"), ("cat",)), ("wall", "floor"))


def logit(share):
    return math.log(share / (1 - share))


def proposals_of(vocabulary, masks, frame, padded, image_size, *, resize_masks=False, seed=0):
    columns = len(vocabulary.classes) + bool(vocabulary.other)
    shares = torch.rand(masks, columns + 1, generator=torch.Generator().manual_seed(seed)).softmax(dim=1)
    grid = (padded[0] // 4, padded[1] // 4)
    maps = 3 * torch.randn(masks, *grid, generator=torch.Generator().manual_seed(seed))
    return MaskProposals(
        maps, shares[:, :-1], shares[:, -1], vocabulary, image_size, frame, padded, resize_masks
    )


def reference(proposals, size):
    """The official steps on whole maps: (K, H, W)."""
    masks = F.interpolate(proposals.masks[None], size=proposals.padded, mode="bilinear", align_corners=False)
    height, width = proposals.frame
    weigh = proposals.scores.T

    def resized(maps):
        cut = maps[None, :, :height, :width]
        return F.interpolate(cut, size=size, mode="bilinear", align_corners=False)[0]

    if proposals.resize_masks:
        return torch.einsum("kn,nyx->kyx", weigh, resized(masks[0]).sigmoid())
    return resized(torch.einsum("kn,nyx->kyx", weigh, masks[0].sigmoid()))


def whole(tiles, rows, size):
    found = torch.full((rows, *size), torch.nan)
    for top, left, values in tiles:
        found[:, top : top + values.shape[1], left : left + values.shape[2]] = values
    assert not found.isnan().any()
    return found


def test_one_pixel_worked_by_hand():
    # Two masks, probability 0.8 and 0.5. dog 0.8 * 0.6 + 0.5 * 0.1 = 0.53, cat 0.8 * 0.1 + 0.5 * 0.2 = 0.18,
    # other 0.8 * 0.1 + 0.5 * 0.3 = 0.23: 0.94 together.
    masks = torch.tensor([logit(0.8), 0.0]).view(2, 1, 1)
    shares = torch.tensor([[0.6, 0.1, 0.1], [0.1, 0.2, 0.3]])
    proposals = MaskProposals(masks, shares, 1 - shares.sum(dim=1), PETS, (1, 1), (4, 4), (4, 4))
    labels, share = decide(proposals, 1.0, 0.0)
    assert labels.tolist() == [[1]]
    assert share[0, 0] == pytest.approx(0.53 / 0.94, rel=1e-5)
    assert margin(proposals, 1.0)[0, 0] == pytest.approx((0.53 - 0.23) / 0.94, rel=1e-5)
    expected = [0.53 / 0.94, 0.18 / 0.94, 0.23 / 0.94]
    assert class_probabilities(proposals, 1.0, (1, 1))[:, 0, 0].tolist() == pytest.approx(expected, rel=1e-5)
    # Scale 2 squares the scores before they are shared out.
    squares = [0.53**2, 0.18**2, 0.23**2]
    assert decide(proposals, 2.0, 0.0)[1][0, 0] == pytest.approx(squares[0] / sum(squares), rel=1e-5)
    assert decide(proposals, 1.0, 0.6)[0].tolist() == [[0]]


def test_other_names_win_label_0():
    shares = torch.tensor([[0.1, 0.1, 0.7]])
    one = MaskProposals(torch.ones(1, 1, 1), shares, torch.tensor([0.1]), PETS, (3, 2), (4, 4), (4, 4))
    assert one.labels == (1, 2, 0)
    assert (decide(one, 1.0, 0.0)[0] == 0).all()


@pytest.mark.parametrize("resize_masks", [False, True])
@pytest.mark.parametrize("size", [(37, 53), (61, 200), (50, 70), (9, 5), (1, 1)])
@pytest.mark.parametrize("tile_bytes", [2_000, 4 << 20])
def test_tiles_equal_the_official_steps_on_whole_maps(resize_masks, size, tile_bytes, monkeypatch):
    monkeypatch.setattr(sampling, "_TILE_BYTES_CPU", tile_bytes)
    proposals = proposals_of(PETS, 5, (50, 70), (64, 96), size, resize_masks=resize_masks)
    expected = reference(proposals, size)
    torch.testing.assert_close(whole(proposals.class_tiles(size), 3, size), expected, atol=1e-5, rtol=0)
    labels, share = decide(proposals, 1.0, 0.0)
    best = expected / expected.sum(dim=0)
    assert (np.array([1, 2, 0])[expected.argmax(dim=0).numpy()] == labels).mean() > 0.999
    torch.testing.assert_close(torch.from_numpy(share), best.amax(dim=0), atol=1e-5, rtol=0)


def test_masks_come_to_the_photos_size():
    proposals = proposals_of(PETS, 3, (50, 70), (64, 96), (80, 31))
    up = F.interpolate(proposals.masks[None], size=(64, 96), mode="bilinear", align_corners=False)
    expected = F.interpolate(up[:, :, :50, :70], size=(80, 31), mode="bilinear", align_corners=False)[0]
    found = whole(proposals.mask_tiles((80, 31)), 3, (80, 31))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_a_large_vocabulary_needs_no_more_than_its_tiles():
    many = Vocabulary(tuple((f"class {i}",) for i in range(847)))
    proposals = proposals_of(many, 100, (160, 240), (160, 256), (400, 600))
    assert decide(proposals, 1.0, 0.0)[0].dtype == np.uint16
    largest = max(values.numel() for _, _, values in proposals.class_tiles((400, 600)))
    assert 4 * largest < 5 << 20  # K x H x W would be 813 MB


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"scores": torch.zeros(2, 2)}, r"scores must be \(2, 3\), got \(2, 2\)"),
        ({"void": torch.zeros(3)}, r"void must be \(2,\), got \(3,\)"),
        ({"masks": torch.zeros(0, 4, 4)}, "masks must be"),
    ],
)
def test_wrong_shapes_are_refused(change, sentence):
    parts = {"masks": torch.zeros(2, 4, 4), "scores": torch.zeros(2, 3), "void": torch.zeros(2)} | change
    with pytest.raises(ValueError, match=sentence):
        MaskProposals(**parts, vocabulary=PETS, image_size=(4, 4), frame=(16, 16), padded=(16, 16))


def test_a_pyramid_has_four_maps_and_a_frame_that_fits():
    one = torch.zeros(3, 2, 2)
    assert Pyramid("toy", (9, 9), (8, 8), (8, 8), (one,) * 4, one).nbytes == 5 * 12 * 4
    with pytest.raises(ValueError, match="four maps"):
        Pyramid("toy", (9, 9), (8, 8), (8, 8), (one,) * 3, one)
    with pytest.raises(ValueError, match="frame must fit"):
        Pyramid("toy", (9, 9), (8, 9), (8, 8), (one,) * 4, one)


def test_size_must_have_a_pixel():
    with pytest.raises(ValueError, match="at least 1 x 1"):
        decide(proposals_of(PETS, 2, (8, 8), (8, 8), (8, 8)), 1.0, 0.0, (0, 4))
