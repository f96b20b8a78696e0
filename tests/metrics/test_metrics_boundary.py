"""Bands along boundaries: worked by hand, and against erosion."""

import numpy as np
import pytest
from label_maps import random_maps

from ovs_core.metrics.boundary import boundary_margins, boundary_width, near_boundary


def eroded(mask, width):
    """Eroding by 3 x 3, `width` times; what lies outside the picture is empty."""
    for _ in range(width):
        wide = np.pad(mask, 1)
        mask = np.min(
            [wide[y : y + mask.shape[0], x : x + mask.shape[1]] for y in range(3) for x in range(3)], axis=0
        )
    return mask


@pytest.mark.parametrize("width", [1, 2, 5])
def test_band_is_what_erosion_takes_away(width):
    labels, _, _ = random_maps(5, 4, size=(40, 56))
    near = near_boundary(labels, width)
    for label in np.unique(labels):
        mask = labels == label
        np.testing.assert_array_equal(near & mask, mask & ~eroded(mask, width))


def test_a_picture_as_narrow_as_the_band_is_all_boundary():
    assert near_boundary(np.zeros((4, 50), np.int16), 2).all()
    assert not near_boundary(np.zeros((5, 50), np.int16), 2).all()


def test_boundary_width_is_two_per_cent_of_the_diagonal():
    assert boundary_width((300, 400)) == 10
    assert boundary_width((3, 4)) == 1


def test_boundary_margins_by_hand():
    # 20 x 40, band 1 pixel (2 % of 45): class 1 left of column 20 in the truth, of column 22 in the answer.
    truth = np.zeros((20, 40), np.int16)
    truth[:, :20] = 1
    answer = np.zeros((20, 40), np.int16)
    answer[:, :22] = 1
    counted = boundary_margins(truth, answer, 2)
    rim = 20 + 20 * 2 - 2  # of a half of 20 x 20 along the edge of the picture: left, top and bottom
    assert counted[1].tolist() == [rim + 18, rim + 18]
    assert counted[2].tolist() == [20 + 18 * 2 - 2 + 18, 20 + 22 * 2 - 2 + 18]
    # Right: the edge of the picture but for what changed hands; of the cut itself nothing.
    assert counted[0].tolist() == [20 + 17 * 2, 20 + 19 * 2]


def test_unknown_ground_is_in_no_band_and_its_edge_is_a_boundary():
    zeros = np.zeros((20, 40), np.uint8)
    assert boundary_margins(zeros, zeros, 2, np.zeros((20, 40), bool)).sum() == 0
    known = np.ones((20, 40), bool)
    known[:, 30:] = False
    rim = 2 * 30 + 18  # of the left 30 columns: top, bottom, left; and, in the truth only, the cut at 30
    counted = boundary_margins(zeros, zeros, 2, known)
    assert counted.tolist() == [[rim, 0], [rim + 18, 0], [rim, 0]]
