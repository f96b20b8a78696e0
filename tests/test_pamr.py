import threading

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from ovs_core.devices import Cancelled
from ovs_core.evidence.score_map import ScoreMap
from ovs_core.refine.pamr import look, pamr, pamr_affinity, refine
from ovs_core.types import Vocabulary


def _noise(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def _score_map(rows, grid, image_size):
    vocabulary = Vocabulary(tuple((f"name {i}",) for i in range(rows)))
    return ScoreMap(_noise(rows, *grid), vocabulary, image_size)


def refine_pamr(score_map, pixels, max_side=512, **more):
    """Both halves, as the engine runs them."""
    options = {"pamr_side": max_side}
    looked = look(pixels, score_map.rows.shape[1:], options, torch.device("cpu"))
    return refine(looked, score_map, options, **more)


def test_weights_worked_by_hand_on_a_line():
    # Values 0 0 1, dilation 1. With edges repeated, the middle pixel sees three times 0 0 1: mean 1/3,
    # squares 3 * (1/9 + 1/9 + 4/9) = 2, unbiased deviation sqrt(2 / 8) = 0.5, scale 0.05.
    # Neighbours as in a 3 x 3 raster without its centre: 0 0 1 0 1 0 0 1; a 1 costs exp(-1 / 0.05) = e^-20.
    weights = pamr_affinity(torch.tensor([[[0.0, 0.0, 1.0]]]), (1,))
    unequal = np.exp(-20.0)
    expected = np.array([1, 1, unequal, 1, unequal, 1, 1, unequal]) / (5 + 3 * unequal)
    assert weights.shape == (8, 1, 3)
    np.testing.assert_allclose(weights[:, 0, 1].numpy(), expected, rtol=1e-4)


def test_channels_are_averaged_inside_the_exponent():
    image = torch.tensor(
        [[[0.0, 0.0, 1.0]], [[5.0, 5.0, 5.0]]]
    )  # the second channel says nothing: exponents halve
    unequal = np.exp(-10.0)
    expected = unequal / (5 + 3 * unequal)
    assert pamr_affinity(image, (1,))[2, 0, 1].item() == pytest.approx(expected, rel=1e-4)


def test_weights_equal_a_direct_unfold():
    image, dilations = _noise(3, 7, 11), (1, 2)
    near, every = [], []
    for distance in dilations:
        padded = F.pad(image[None], (distance,) * 4, mode="replicate")
        samples = F.unfold(padded, 3, dilation=distance).view(3, 9, 7, 11)
        every.append(samples)
        near.append(samples[:, [0, 1, 2, 3, 5, 6, 7, 8]])
    difference = (torch.cat(near, 1) - image[:, None]).abs()  # (3, 16, 7, 11)
    scale = 1e-8 + 0.1 * torch.cat(every, 1).std(1, keepdim=True)
    expected = (-difference / scale).mean(0).softmax(0)
    torch.testing.assert_close(pamr_affinity(image, dilations), expected, atol=1e-5, rtol=1e-4)


def test_a_flat_image_gives_the_plain_mean_of_the_neighbours():
    evidence = torch.zeros(1, 5, 6)
    evidence[0, 2, 3] = 8.0
    answer = pamr(evidence, torch.full((3, 5, 6), 0.3), (1,), 1)
    expected = torch.zeros(5, 6)
    expected[1:4, 2:5] = 1.0
    expected[2, 3] = 0.0  # a pixel is not its own neighbour
    torch.testing.assert_close(answer[0], expected)


def test_constant_evidence_stays_and_zero_iterations_change_nothing():
    image = _noise(3, 9, 8)
    torch.testing.assert_close(pamr(torch.full((2, 9, 8), 0.4), image), torch.full((2, 9, 8), 0.4))
    evidence = _noise(2, 9, 8, seed=1)
    assert torch.equal(pamr(evidence, image, iterations=0), evidence)


def test_evidence_snaps_to_the_edge_of_two_colours():
    image = torch.zeros(3, 12, 20)
    image[:, :, 10:] = 1.0
    evidence = torch.linspace(1, 0, 20).expand(1, 12, 20)  # a ramp that ignores the edge
    answer = pamr(evidence, image, (1, 2), 10)
    step = (answer[0, :, 9] - answer[0, :, 10]).mean()
    assert step > 5 * (evidence[0, 0, 9] - evidence[0, 0, 10])
    assert answer[0, :, :10].min() > 0.5 > answer[0, :, 10:].max()


def test_sizes_must_agree():
    with pytest.raises(ValueError, match="expected"):
        pamr(torch.zeros(1, 4, 5), torch.zeros(3, 5, 4))


def test_rows_go_through_chunks_bit_equal(monkeypatch):
    pixels = (_noise(30, 44, 3) * 255).to(torch.uint8).numpy()
    score_map = _score_map(5, (3, 4), (30, 44))
    whole = refine_pamr(score_map, pixels)
    monkeypatch.setattr("ovs_core.refine.rows._CHUNK_BYTES", 4 * 30 * 44 * 2)  # two rows at a time
    told = []
    chunked = refine_pamr(score_map, pixels, progress=lambda done, total: told.append((done, total)))
    assert torch.equal(whole.rows, chunked.rows)
    assert told == [(2, 5), (4, 5), (5, 5)]
    assert whole.vocabulary == score_map.vocabulary
    assert whole.image_size == (30, 44)


@pytest.mark.parametrize(
    ("image_size", "grid", "max_side", "expected"),
    [
        ((30, 44), (3, 4), 512, (30, 44)),  # never enlarged beyond the photo
        ((30, 60), (3, 4), 20, (10, 20)),
        ((1, 1), (2, 3), 512, (2, 3)),  # nor coarser than the tokens
        ((1, 400), (1, 25), 40, (1, 40)),
    ],
)
def test_the_working_size_is_capped(image_size, grid, max_side, expected):
    pixels = np.zeros((*image_size, 3), np.uint8)
    refined = refine_pamr(_score_map(2, grid, image_size), pixels, max_side=max_side)
    assert refined.rows.shape == (2, *expected)
    assert bool(refined.rows.isfinite().all())


def test_cancelling_stops_the_work():
    cancel = threading.Event()
    cancel.set()
    with pytest.raises(Cancelled):
        refine_pamr(_score_map(2, (2, 3), (8, 9)), np.zeros((8, 9, 3), np.uint8), cancel=cancel)
