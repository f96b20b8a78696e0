"""Rules for labels behind evidence, and the photo's own regions."""

import numpy as np
import pytest
import torch

from ovs_core.evidence.decide import class_probabilities, decide
from ovs_core.evidence.relabelled import Relabelled
from ovs_core.evidence.score_map import ScoreMap
from ovs_core.refine import regions as module
from ovs_core.refine.regions import RegionsLook, colour_regions, look, refine
from ovs_core.refine.vote import vote_with_confidence
from ovs_core.types import Vocabulary

CPU = torch.device("cpu")
PETS = Vocabulary((("cat",), ("dog", "puppy")), ("background",))


def evidence(seed=0, size=(24, 36), grid=(6, 9)):
    rows = torch.randn(4, *grid, generator=torch.Generator().manual_seed(seed)) * 0.2
    return ScoreMap(rows, PETS, size)


def halves(size=(24, 36)):
    """A photo of two colours, the border at column 20."""
    pixels = np.full((*size, 3), 30, np.uint8)
    pixels[:, 20:] = (200, 180, 20)
    return pixels


def swap(evidence, scale, labels, confidence, cancel):
    return np.where(labels == 1, 2, labels), confidence * 0.5


def test_the_rule_has_the_last_word_whenever_labels_are_made():
    plain = evidence()
    ruled = Relabelled(plain, swap, 7)
    for scale, threshold in ((1.0, 0.0), (20.0, 0.3)):
        labels, confidence = decide(plain, scale, 0.0)
        expected = np.where(confidence * 0.5 < threshold, 0, np.where(labels == 1, 2, labels))
        got, sure = decide(ruled, scale, threshold)
        assert np.array_equal(got, expected)
        np.testing.assert_array_equal(sure, confidence * 0.5)
        assert got.dtype == np.uint8
    assert ruled.nbytes == plain.nbytes + 7


def test_another_size_is_sampled_from_the_photos_own():
    ruled = Relabelled(evidence(), swap)
    whole, _ = decide(ruled, 20.0, 0.0)
    half, _ = decide(ruled, 20.0, 0.0, (12, 18))
    assert np.array_equal(half, whole[1::2, 1::2])
    assert decide(ruled, 20.0, 0.0, (48, 36))[0].shape == (48, 36)


def test_everything_else_is_the_evidences_own():
    plain = evidence()
    ruled = Relabelled(plain, swap)
    assert torch.equal(ruled.rows, plain.rows)
    assert torch.equal(class_probabilities(ruled, 5.0, (6, 9)), class_probabilities(plain, 5.0, (6, 9)))
    assert (ruled.vocabulary, ruled.image_size, ruled.activation) == (PETS, (24, 36), "softmax")
    assert ruled.proposals is None
    other = Vocabulary((("cat", "dog"), ("puppy",)), ("background",))
    assert ruled.for_vocabulary(other).relabel is swap
    assert ruled.for_vocabulary(other).vocabulary == other
    assert torch.equal(ruled.mean([Relabelled(evidence(1), swap)]).rows, plain.mean([evidence(1)]).rows)
    assert torch.equal(ruled.with_rows(plain.rows + 1).rows, plain.rows + 1)
    raised, _ = decide(ruled.calibrated({1: 10.0}).to(CPU), 5.0, 0.0)
    assert (raised == 2).all()  # cat wins everywhere, and the rule calls it dog


def test_outvoted_pixels_are_as_sure_as_those_that_outvoted_them():
    labels, regions = np.array([[1, 1, 2, 2]]), np.array([[1, 1, 1, 0]])
    confidence = np.array([[0.4, 0.6, 0.9, 0.8]], np.float32)
    voted, sure = vote_with_confidence(labels, confidence, regions)
    assert voted.tolist() == [[1, 1, 1, 2]]
    np.testing.assert_allclose(sure, [[0.4, 0.6, 0.5, 0.8]])
    unchanged, same = vote_with_confidence(labels, confidence, np.zeros_like(regions))
    assert np.array_equal(unchanged, labels)
    assert np.array_equal(same, confidence)
    with pytest.raises(ValueError, match="confidence must be"):
        vote_with_confidence(labels, confidence.T, regions)


def test_regions_end_at_the_photos_edges():
    regions = colour_regions(halves())
    assert regions.min() == 1
    left, right = set(regions[:, :19].ravel().tolist()), set(regions[:, 21:].ravel().tolist())
    assert not left & right
    assert (np.diff(regions[:, 19:21]) != 0).all()


def test_fewer_regions_begin_in_larger_squares():
    noise = np.random.default_rng(0).integers(0, 256, (40, 60, 3)).astype(np.uint8)
    counts = [len(np.unique(colour_regions(noise, size))) for size in (3, 9, 31)]
    assert counts[0] > counts[1] > counts[2] >= 1


def test_a_ragged_border_becomes_the_photos_own():
    pixels = halves()
    rows = torch.full((4, 6, 9), -1.0)
    rows[0, :, :5] = 1.0  # cat up to column 20, but for one cell that reaches over it and one that is missing
    rows[1, :, 5:] = 1.0
    rows[0, 2, 5], rows[1, 2, 5] = 1.0, -1.0
    ragged = ScoreMap(rows, PETS, (24, 36))
    options = {"region_size": 31, "region_majority": 0.6}
    looked = look(pixels, (0, 0), options, CPU)
    assert looked.nbytes == looked.regions.nbytes
    before, _ = decide(ragged, 20.0, 0.0)
    after, _ = decide(refine(looked, ragged, options), 20.0, 0.0)
    truth = np.where(np.arange(36) < 20, 1, 2)[None].repeat(24, 0)
    assert (before != truth).sum() > (after != truth).sum() == 0


def test_a_large_photo_is_cut_up_on_a_smaller_copy(monkeypatch):
    monkeypatch.setattr(module, "MAX_SIDE", 18)
    regions = look(halves(), (0, 0), {}, CPU).regions
    assert regions.shape == (24, 36)
    assert not set(regions[:, :18].ravel().tolist()) & set(regions[:, 22:].ravel().tolist())


@pytest.mark.parametrize("size", [(1, 1), (1, 30), (30, 1)])
def test_the_smallest_photos_are_regions_too(size):
    looked = look(np.zeros((*size, 3), np.uint8), (0, 0), {}, CPU)
    assert looked.regions.shape == size
    labels, _ = decide(refine(looked, evidence(size=size), {}), 20.0, 0.0)
    assert labels.shape == size


def test_no_region_leaves_everything_as_it_is():
    plain = evidence()
    looked = RegionsLook(np.zeros((24, 36), np.int32))
    assert np.array_equal(decide(refine(looked, plain, {}), 9.0, 0.2)[0], decide(plain, 9.0, 0.2)[0])
