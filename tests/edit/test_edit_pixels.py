"""Edits of which pixels a class has: worked by hand, H != W everywhere."""

import math
from itertools import pairwise

import numpy as np
import pytest

from ovs_core.edit.pixels import (
    apply_threshold,
    brush,
    drop_islands,
    erase,
    eraser,
    paint,
    reassign,
    region_at,
    replace_class,
)
from ovs_core.types import LabelClass, LabelMap

CLASSES = (LabelClass(1, ("cat",), (200, 0, 0)), LabelClass(2, ("dog",), (0, 200, 0)))
LABELS = np.array([[1, 1, 0, 1, 1], [0, 0, 1, 0, 1], [2, 2, 2, 2, 2]], np.uint8)


def pets(labels=LABELS, **fields):
    return LabelMap(np.array(labels, np.uint8), CLASSES, **fields)


def blank(height, width):
    return pets(np.zeros((height, width)))


def test_a_region_ends_at_corners():
    assert region_at(pets(), (0.0, 0.9)).nonzero()[1].tolist() == [0, 1]
    assert region_at(pets(), (2.5, 1.5)).sum() == 1
    assert region_at(pets(), (4.9, 0.0)).sum() == 3


def test_a_region_ends_at_another_object_of_the_class():
    instances = np.array([[0] * 5, [0] * 5, [1, 1, 2, 2, 2]], np.int32)
    both = pets(instances=instances)
    assert region_at(both, (0, 2)).sum() == 2
    assert region_at(pets(), (0, 2)).sum() == 5


def test_reassigned_regions_keep_their_object_and_erased_ones_lose_it():
    instances = (LABELS == 2).astype(np.int32)
    moved = reassign(pets(instances=instances), (3, 2), 1)
    assert moved.labels[2].tolist() == [1] * 5
    assert moved.instances[2].tolist() == [1] * 5
    erased = erase(pets(instances=instances), (3, 2))
    assert erased.labels.tolist() == [[1, 1, 0, 1, 1], [0, 0, 1, 0, 1], [0] * 5]
    assert not erased.instances.any()


def test_a_dot_paints_the_pixels_whose_centre_is_within_its_radius():
    dot = brush(blank(5, 7), [(3.5, 2.5)], 1.0, 2)
    expected = np.zeros((5, 7), np.uint8)
    expected[2, 2:5] = expected[1:4, 3] = 2
    assert np.array_equal(dot.labels, expected)
    assert brush(blank(5, 7), [(3.0, 2.0)], 0.5, 2).labels.sum() == 0  # no centre is that near to a corner


def test_a_line_has_round_ends_and_may_leave_the_photo():
    line = brush(blank(4, 9), [(1.5, 1.5), (30.0, 1.5)], 0.5, 1)
    assert line.labels[1].tolist() == [0, 1, 1, 1, 1, 1, 1, 1, 1]
    assert line.labels[[0, 2, 3]].sum() == 0
    assert brush(blank(4, 9), [(-20.0, 40.0), (-30.0, 50.0)], 3.0, 1).labels.sum() == 0


def test_a_stroke_equals_the_distance_to_every_piece():
    stroke, radius = [(2.2, 3.1), (11.7, 8.4), (6.0, 14.0)], 2.3
    painted = brush(blank(16, 13), stroke, radius, 1).labels
    for row in range(16):
        for column in range(13):
            near = min(
                math.dist((column + 0.5, row + 0.5), (a[0] + t * (b[0] - a[0]), a[1] + t * (b[1] - a[1])))
                for a, b in pairwise(stroke)
                for t in np.linspace(0, 1, 2001)
            )
            if abs(near - radius) > 1e-3:
                assert bool(painted[row, column]) == (near < radius)


def test_the_eraser_leaves_the_object_too():
    clean = eraser(pets(instances=(LABELS == 2).astype(np.int32)), [(0.5, 2.5), (1.5, 2.5)], 0.5)
    assert clean.labels[2].tolist() == [0, 0, 2, 2, 2]
    assert clean.instances[2].tolist() == [0, 0, 1, 1, 1]


def test_a_mask_is_added_to_a_class_or_is_all_of_it():
    mask = np.zeros((3, 5), bool)
    mask[:, 2] = True
    assert paint(pets(), mask, 1).labels.tolist() == [[1, 1, 1, 1, 1], [0, 0, 1, 0, 1], [2, 2, 1, 2, 2]]
    assert replace_class(pets(), mask, 1).labels.tolist() == [
        [0, 0, 1, 0, 0],
        [0, 0, 1, 0, 0],
        [2, 2, 1, 2, 2],
    ]


def test_islands_take_the_label_that_lies_nearest():
    labels = np.ones((5, 8), np.uint8)
    labels[:, 4:] = 2
    labels[1:3, 1] = 2  # two pixels of dog in the cat
    labels[3, 6] = 0  # one hole in the dog
    cleaned = drop_islands(pets(labels), 3)
    assert (cleaned.labels[:, :4] == 1).all()
    assert (cleaned.labels[:, 4:] == 2).all()
    assert np.array_equal(drop_islands(pets(labels), 1).labels, labels)
    two = drop_islands(pets(labels), 2).labels
    assert (two[1:3, 1] == 2).all()
    assert two[3, 6] == 2


def test_where_everything_is_an_island_nothing_is_dropped():
    assert np.array_equal(drop_islands(pets(), 100).labels, LABELS)


def test_a_class_has_a_threshold_of_its_own():
    scores = np.linspace(0, 1, 15).reshape(3, 5)  # 0, 1/14, ..., 1
    edited = apply_threshold(pets(), 1, scores, 2.5 / 14)
    assert edited.labels.tolist() == [[0, 0, 0, 1, 1], [0, 0, 1, 0, 1], [2, 2, 2, 2, 2]]
    assert np.array_equal(apply_threshold(pets(), 2, scores, 9.5 / 14).labels, LABELS)


def test_what_is_not_known_stays_not_known():
    known = LABELS != 0
    assert np.array_equal(brush(pets(known=known), [(1, 1)], 2, 2).known, known)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_labels_keep_their_type(dtype):
    before = LabelMap(LABELS.astype(dtype), CLASSES)
    for edited in (
        brush(before, [(1, 1)], 1, 2),
        reassign(before, (0, 0), 2),
        drop_islands(before, 2),
        apply_threshold(before, 1, np.zeros((3, 5)), 0.5),
    ):
        assert edited.labels.dtype == dtype
    assert np.array_equal(before.labels, LABELS)


@pytest.mark.parametrize(
    ("edit", "sentence"),
    [
        (lambda m: reassign(m, (5, 0), 1), r"The place \(5, 0\) lies outside the photo of 5 x 3 pixels"),
        (lambda m: reassign(m, (0, -0.1), 1), "lies outside"),
        (lambda m: reassign(m, (math.nan, 0), 1), "lies outside"),
        (lambda m: reassign(m, (0, 0), 9), "There is no class 9"),
        (lambda m: brush(m, [], 1, 1), "A stroke has 1 to 10,000 places; this one has 0"),
        (lambda m: brush(m, [(0, 0)] * 10_001, 1, 1), "this one has 10,001"),
        (lambda m: brush(m, [(0, 0)], 0, 1), "a radius above 0; the radius is 0"),
        (lambda m: brush(m, [(0, math.inf)], 1, 1), "A stroke needs places in pixels"),
        (lambda m: brush(m, [(0, 0)], 1, 3), "There is no class 3"),
        (lambda m: paint(m, np.zeros((5, 3), bool), 1), r"mask must be \(3, 5\), got \(5, 3\)"),
        (lambda m: drop_islands(m, 0), "at least 1 pixel, got 0"),
        (lambda m: apply_threshold(m, 1, np.zeros((3, 4)), 0.5), "scores must be"),
        (lambda m: apply_threshold(m, 1, np.zeros((3, 5)), 1.5), r"threshold must lie in \[0, 1\]"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_sentence(edit, sentence):
    with pytest.raises(ValueError, match=sentence):
        edit(pets())
