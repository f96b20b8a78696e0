"""Region vote, worked by hand."""

import numpy as np
import pytest

from ovs_core.refine.vote import region_vote

LABELS = np.array([[1, 1, 2, 0, 7], [1, 2, 2, 0, 7]], np.uint8)
REGIONS = np.array([[1, 1, 1, 2, 0], [1, 1, 2, 2, 0]], np.int32)


def test_the_most_frequent_label_takes_the_region():
    # Region 1 holds 1 1 2 / 1 2: three of five are 1. Region 2 holds 0 / 2 0: two of three are other.
    assert region_vote(LABELS, REGIONS).tolist() == [[1, 1, 1, 0, 7], [1, 1, 0, 0, 7]]


def test_a_region_without_a_clear_winner_stays():
    assert region_vote(LABELS, REGIONS, majority=0.65).tolist() == [[1, 1, 2, 0, 7], [1, 2, 0, 0, 7]]
    assert region_vote(LABELS, REGIONS, majority=1).tolist() == LABELS.tolist()


def test_the_first_of_equals_wins():
    assert region_vote(np.array([[3, 2]]), np.array([[1, 1]])).tolist() == [[2, 2]]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_labels_keep_their_type_and_no_region_changes_nothing(dtype):
    labels = LABELS.astype(dtype)
    answer = region_vote(labels, np.zeros_like(REGIONS))
    assert answer.dtype == dtype
    assert np.array_equal(answer, labels)


def test_many_classes_and_regions_equal_a_loop():
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 800, (37, 53)).astype(np.uint16)
    regions = generator.integers(0, 60, (37, 53))
    expected = labels.copy()
    for region in range(1, 60):
        values, counts = np.unique(labels[regions == region], return_counts=True)
        expected[regions == region] = values[counts.argmax()]
    assert np.array_equal(region_vote(labels, regions, majority=0), expected)


def test_wrong_sizes_and_majorities_are_refused():
    with pytest.raises(ValueError, match=r"regions must be \(2, 5\), got \(5, 2\)"):
        region_vote(LABELS, REGIONS.T)
    with pytest.raises(ValueError, match="majority"):
        region_vote(LABELS, REGIONS, majority=1.5)
