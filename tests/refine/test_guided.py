"""Guided filter: equations by hand, and what it is for."""

import threading

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from ovs_core.devices import Cancelled
from ovs_core.evidence.score_map import ScoreMap
from ovs_core.refine.guided import guided_filter, look, refine
from ovs_core.types import Vocabulary

CPU = torch.device("cpu")


def guided_rows(rows, pixels, progress=None, cancel=None, **options):
    """Rows as the two halves leave them."""
    vocabulary = Vocabulary(tuple((f"name {number}",) for number in range(len(rows))))
    evidence = ScoreMap(rows, vocabulary, pixels.shape[:2])
    options = {f"guided_{name}": value for name, value in options.items()}
    looked = look(pixels, tuple(rows.shape[1:]), options, CPU)
    assert looked.nbytes > 0
    return refine(looked, evidence, options, progress, cancel).rows


def noise(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def direct(row, guide, radius, smoothness):
    """Equations 19 to 21, square by square."""
    channels, height, width = guide.shape
    slopes, offsets = torch.zeros(height, width, channels), torch.zeros(height, width)

    def square(y, x):
        return slice(max(0, y - radius), y + radius + 1), slice(max(0, x - radius), x + radius + 1)

    for y in range(height):
        for x in range(width):
            rows, columns = square(y, x)
            colors = guide[:, rows, columns].flatten(1).double()
            values = row[rows, columns].flatten().double()
            mean = colors.mean(1)
            covariance = colors @ colors.T / colors.shape[1] - mean[:, None] * mean
            mixed = (colors * values).mean(1) - mean * values.mean()
            slope = torch.linalg.solve(covariance + smoothness * torch.eye(channels).double(), mixed)
            slopes[y, x], offsets[y, x] = slope, values.mean() - slope @ mean
    answer = torch.zeros(height, width)
    for y in range(height):
        for x in range(width):
            slope = slopes[square(y, x)].flatten(0, 1).mean(0)
            answer[y, x] = slope @ guide[:, y, x] + offsets[square(y, x)].mean()
    return answer


def test_equations_square_by_square():
    guide, rows = noise(3, 6, 9), noise(2, 6, 9, seed=1)
    answer = guided_filter(rows, guide, 2, 1e-2)
    for row, got in zip(rows, answer, strict=True):
        torch.testing.assert_close(got, direct(row, guide, 2, 1e-2), atol=1e-4, rtol=1e-3)


def test_a_linear_map_of_colours_stays_and_a_flat_photo_is_averaged():
    guide = noise(3, 8, 11)
    linear = (0.3 * guide[0] - 0.7 * guide[2] + 0.1)[None]
    torch.testing.assert_close(guided_filter(linear, guide, 3, 1e-9), linear, atol=1e-3, rtol=0)
    row = noise(1, 8, 11, seed=2)
    flat = guided_filter(row, torch.full((3, 8, 11), 0.4), 10, 1e-3)
    torch.testing.assert_close(flat, row.mean().expand(1, 8, 11), atol=1e-4, rtol=0)


def test_evidence_snaps_to_the_edge_of_two_colours():
    pixels = np.zeros((24, 40, 3), np.uint8)
    pixels[:, 22:] = 220
    rows = torch.linspace(1, 0, 8).expand(1, 6, 8)  # a ramp that ignores the edge
    answer = guided_rows(rows, pixels, radius=6)
    assert answer.shape == (1, 24, 40)
    steps = answer[0, 12, :-1] - answer[0, 12, 1:]
    plain = F.interpolate(rows[None], (24, 40), mode="bilinear", align_corners=False)[0, 0, 12]
    assert steps.argmax() == 21
    assert steps[21] > 3 * (plain[21] - plain[22])


def test_constant_evidence_stays():
    pixels = (noise(20, 33, 3) * 255).to(torch.uint8).numpy()
    answer = guided_rows(torch.full((2, 4, 5), 0.4), pixels)
    torch.testing.assert_close(answer, torch.full((2, 20, 33), 0.4), atol=1e-4, rtol=0)


def test_rows_do_not_see_each_other_and_chunks_give_the_same(monkeypatch):
    pixels = (noise(30, 44, 3) * 255).to(torch.uint8).numpy()
    rows = noise(5, 3, 4, seed=3)
    whole = guided_rows(rows, pixels)
    monkeypatch.setattr("ovs_core.refine.rows._CHUNK_BYTES", 16 * 30 * 44 * 2)  # two rows at a time
    told = []
    chunked = guided_rows(rows, pixels, progress=lambda done, total: told.append((done, total)))
    torch.testing.assert_close(chunked, whole, atol=1e-6, rtol=0)
    assert told == [(2, 5), (4, 5), (5, 5)]


@pytest.mark.parametrize(
    ("image_size", "grid", "expected"),
    [((30, 44), (3, 4), (20, 29)), ((1, 1), (2, 3), (2, 3)), ((1, 400), (1, 25), (1, 29))],
)
def test_the_working_size_is_capped(image_size, grid, expected):
    answer = guided_rows(noise(2, *grid), np.zeros((*image_size, 3), np.uint8), side=29)
    assert answer.shape == (2, *expected)
    assert bool(answer.isfinite().all())


def test_sizes_must_agree_and_work_can_be_cancelled():
    with pytest.raises(ValueError, match="expected"):
        guided_filter(torch.zeros(1, 4, 5), torch.zeros(3, 5, 4), 1, 1e-3)
    cancel = threading.Event()
    cancel.set()
    with pytest.raises(Cancelled):
        guided_rows(torch.zeros(1, 2, 3), np.zeros((8, 9, 3), np.uint8), cancel=cancel)
