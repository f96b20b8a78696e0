"""Polygons with a tolerance: how near they stay, what they save, and what never gets lost."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from ovs_core.export.outlines import outlines


def filled(polygons, shape):
    """Even-odd fill at pixel centres, whatever the slope of an edge."""
    y, x = np.mgrid[: shape[0], : shape[1]] + 0.5
    inside = np.zeros(shape, bool)
    for ring in polygons:
        part = np.zeros(shape, bool)
        for (x0, y0), (x1, y1) in zip(ring, np.roll(ring, -1, axis=0), strict=True):
            if y0 != y1:
                crosses = (y0 <= y) != (y1 <= y)
                part ^= crosses & (x > x0 + (y - y0) * (x1 - x0) / (y1 - y0))
        inside |= part
    return inside


def iou(one, other):
    return (one & other).sum() / (one | other).sum()


def distance_to_ring(point, ring):
    start, stop = ring.astype(float), np.roll(ring, -1, axis=0).astype(float)
    along = stop - start
    length = (along**2).sum(axis=1).clip(1e-12)
    part = (((point - start) * along).sum(axis=1) / length).clip(0, 1)
    return np.hypot(*(point - start - part[:, None] * along).T).min()


def disc(height, width, row, column, radius):
    y, x = np.mgrid[:height, :width]
    return (y - row) ** 2 + (x - column) ** 2 <= radius**2


def blobs(seed, height=90, width=120):
    generator = np.random.default_rng(seed)
    mask = np.zeros((height, width), bool)
    for _ in range(12):
        centre = generator.uniform((0, 0), (height, width))
        mask ^= disc(height, width, *centre, generator.uniform(2, 25))
    return mask


@pytest.mark.parametrize("tolerance", [0.5, 1.0, 3.0])
@pytest.mark.parametrize("seed", range(4))
def test_no_corner_is_farther_off_than_the_tolerance(seed, tolerance):
    mask = blobs(seed)
    exact, simple = outlines(mask), outlines(mask, tolerance)
    assert len(simple) == len(exact)
    for before, after in zip(exact, simple, strict=True):
        assert len(after) <= len(before)
        assert {tuple(corner) for corner in after.tolist()} <= {tuple(corner) for corner in before.tolist()}
        if len(after) < len(before):
            assert max(distance_to_ring(corner, after) for corner in before) <= tolerance + 1e-9


def test_a_disc_has_far_fewer_corners_and_almost_the_same_pixels():
    mask = disc(120, 150, 60, 70, 45)
    (exact,), (simple,) = outlines(mask), outlines(mask, 1.0)
    assert len(simple) < len(exact) / 5
    assert iou(filled([simple], mask.shape), mask) > 0.97
    assert_array_equal(filled([exact], mask.shape), mask)


def test_straight_slopes_become_one_line():
    rows, columns = np.mgrid[:40, :60]
    mask = columns < 2 * rows
    (ring,) = outlines(mask, 1.0)
    assert len(ring) <= 6
    assert iou(filled([ring], mask.shape), mask) > 0.97


@pytest.mark.parametrize("seed", range(3))
def test_holes_stay_open(seed):
    mask = disc(100, 130, 50, 60, 48) & ~disc(100, 130, 40, 50, 12) & ~disc(100, 130, 60, 80, 5 + seed)
    (ring,) = outlines(mask, 1.0)
    assert iou(filled([ring], mask.shape), mask) > 0.97
    assert not filled([ring], mask.shape)[38:42, 48:52].any()


@pytest.mark.parametrize("tolerance", [1.0, 2.0, 50.0])
def test_nothing_small_is_lost(tolerance):
    mask = np.zeros((9, 30), bool)
    mask[1, 1] = mask[3:5, 4:6] = mask[7, 8:28] = True
    assert_array_equal(filled(outlines(mask, tolerance), mask.shape), mask)


def test_a_small_hole_stays_a_hole():
    mask = np.ones((12, 16), bool)
    mask[5, 7] = False
    assert_array_equal(filled(outlines(mask, 2.0), mask.shape), mask)


@pytest.mark.parametrize("seed", range(5))
def test_noise_does_no_harm(seed):
    mask = np.random.default_rng(seed).random((23, 31)) < 0.7
    for ring in outlines(mask, 1.0):
        assert len(ring) >= 3
        assert ring.min() >= 0
        assert (ring.max(axis=0) <= (31, 23)).all()


def test_no_tolerance_is_exact():
    mask = blobs(9)
    for plain, zero in zip(outlines(mask), outlines(mask, 0.0), strict=True):
        assert_array_equal(plain, zero)


@pytest.mark.parametrize("tolerance", [-1.0, float("nan"), float("inf")])
def test_what_is_no_distance_is_refused(tolerance):
    with pytest.raises(ValueError, match="tolerance must be 0 or more pixels"):
        outlines(np.ones((2, 3), bool), tolerance)
