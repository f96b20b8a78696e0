"""Intervals over photos: worked by hand."""

import numpy as np
import pytest

from ovs_core.metrics.confusion import margins, pixel_accuracy
from ovs_core.metrics.resampling import Interval, interval, paired_difference


def test_interval_of_equal_photos_is_a_point():
    photo = margins(np.array([[3, 1], [0, 4]]))
    found = interval(np.stack([photo] * 5))
    assert found.low == found.value == found.high == pytest.approx((3 / 4 + 4 / 5) / 2)


def test_interval_spans_what_photos_disagree_on():
    # Of two photos, one right and one wrong, each is drawn twice in a quarter of the draws.
    right, wrong = margins(np.array([[0, 0], [0, 10]])), margins(np.array([[0, 0], [10, 0]]))
    assert interval(np.stack([right, wrong])) == Interval(0.5, 0.0, 1.0)


def test_interval_resamples_photos_not_pixels():
    # 50 photos right, 50 wrong: the share of right ones is binomial, standard deviation 0.05.
    photos = [margins(np.array([[0, 0], [0, 10]])), margins(np.array([[0, 0], [10, 0]]))] * 50
    found = interval(np.stack(photos))
    assert found.value == 0.5
    assert found.low == pytest.approx(0.40, abs=0.021)
    assert found.high == pytest.approx(0.60, abs=0.021)
    assert interval(np.stack(photos)) == found


def test_paired_difference_cancels_what_photos_share():
    # Photos differ wildly, the two runs by exactly one pixel of ten on each.
    counts = [[[n, 0], [10, 0], [10, 0]] for n in (1, 9, 3, 7, 5)]
    first = np.array(counts)
    second = first - [[[1, 0], [0, 0], [0, 0]]]
    found = paired_difference(first, second, pixel_accuracy)
    assert found == Interval(pytest.approx(0.1), pytest.approx(0.1), pytest.approx(0.1))
    assert interval(first, pixel_accuracy).high - interval(first, pixel_accuracy).low > 0.3


def test_paired_difference_by_hand():
    # Of two photos the first run has one right and the second run the other: +1 and -1 of all, drawn alike.
    right, wrong = [[10, 0], [10, 0], [10, 0]], [[0, 0], [10, 0], [0, 10]]
    one, other = np.array([right, wrong]), np.array([wrong, right])
    assert paired_difference(one, other, pixel_accuracy) == Interval(0.0, -1.0, 1.0)
    assert paired_difference(one, one, pixel_accuracy) == Interval(0.0, 0.0, 0.0)


def test_paired_difference_needs_the_same_photos():
    with pytest.raises(ValueError, match="same photos, got 2 and 3"):
        paired_difference(np.zeros((2, 3, 1)), np.zeros((3, 3, 1)))
