"""PQ of classes and of numbered segments: worked by hand, and against torchmetrics."""

import numpy as np
import pytest
import torch
from label_maps import random_maps
from torchmetrics.detection import PanopticQuality

from ovs_core.metrics.confusion import answered_unknown, confusion
from ovs_core.metrics.panoptic import instance_counts, panoptic_quality, semantic_counts


def test_segments_by_hand():
    # Class 0: 8 of 10, matched. Class 1: 2 of 4, IoU 1/2 is no match: one missed, one extra.
    # Class 2 is only in the answer, and only where the truth does not count: not held against it.
    matrix = np.array([[8, 0, 0], [2, 2, 0], [0, 0, 0]])
    counts = semantic_counts(matrix, np.array([0, 0, 7]))
    np.testing.assert_allclose(counts, [[0.8, 0, 0], [1, 0, 0], [0, 1, 0], [0, 1, 0]])
    # PQ: 0.8 / 1 and 0 / (0 + 1/2 + 1/2); SQ 0.8 and 0; RQ 1 and 0.
    np.testing.assert_allclose(panoptic_quality(counts), [0.4, 0.4, 0.5])


def test_an_answer_mostly_on_counted_pixels_is_held_against_it():
    matrix = np.array([[9, 5], [0, 0]])
    assert semantic_counts(matrix, np.array([0, 5]))[2].tolist() == [0, 1]
    assert semantic_counts(matrix, np.array([0, 6]))[2].tolist() == [0, 0]


@pytest.mark.parametrize("seed", range(3))
def test_panoptic_quality_is_what_torchmetrics_computes(seed):
    classes = 5
    # Its things need a category of their own; void is one that it does not know.
    theirs = PanopticQuality(things={classes + 1}, stuffs=set(range(classes)), return_sq_and_rq=True)
    total = np.zeros((4, classes))
    for photo in range(4):
        truth, answer, known = random_maps(10 * seed + photo, classes)
        total += semantic_counts(
            confusion(truth, answer, classes, known), answered_unknown(answer, classes, known)
        )
        marked = np.where(known, truth, classes + 2)
        pairs = [np.stack([part, np.zeros_like(part)], -1)[None] for part in (answer, marked)]
        theirs.update(*map(torch.from_numpy, pairs))
    np.testing.assert_allclose(panoptic_quality(total), theirs.compute(), atol=1e-9)


# Numbered segments: two dogs (class 0) and a person (class 1).


def test_numbered_segments_by_hand():
    # Dog 1: 6 of 8 + 6 - 6 pixels. Dog 2 is called a person. The person is not found.
    truth = np.array([[1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 3, 3]])
    answer = np.array([[1, 1, 1, 1, 1, 1, 0, 0, 2, 2, 0, 0]])
    counts = instance_counts(truth, [0, 0, 1], answer, [0, 1], 2)
    np.testing.assert_allclose(counts, [[0.75, 0], [1, 0], [0, 1], [1, 1]])
    # PQ: dogs 0.75 / (1 + 1/2), persons 0.
    np.testing.assert_allclose(panoptic_quality(counts), [0.25, 0.375, (1 / 1.5) / 2])


def test_a_thing_in_two_pieces_is_found_once():
    truth, answer = np.array([[1, 1, 1, 1, 1]]), np.array([[1, 1, 1, 2, 2]])
    assert instance_counts(truth, [0], answer, [0, 0], 1)[:, 0].tolist() == [0.6, 1, 1, 0]


def test_half_is_no_match():
    counts = instance_counts(np.array([[1, 1, 0]]), [0], np.array([[1, 0, 0]]), [0], 1)
    assert counts[:, 0].tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize(("unknown", "extra"), [(1, 1), (2, 1), (3, 0)])
def test_an_extra_segment_mostly_on_unknown_ground_is_excused(unknown, extra):
    known = np.arange(4)[None] >= unknown
    segment = np.ones((1, 4), int)
    counts = instance_counts(np.zeros((1, 4), int), [], segment, [0], 1, known)
    assert counts[:, 0].tolist() == [0, 0, extra, 0]


def test_unknown_pixels_are_in_no_union():
    known = np.array([[True, True, True, False, False]])
    counts = instance_counts(np.array([[1, 1, 1, 0, 0]]), [0], np.array([[1, 1, 1, 1, 1]]), [0], 1, known)
    assert counts[:, 0].tolist() == [1, 1, 0, 0]


def test_no_segments_at_all():
    assert instance_counts(np.zeros((2, 3), int), [], np.zeros((2, 3), int), [], 2).tolist() == [[0, 0]] * 4


def test_an_extra_segment_on_background_and_one_mostly_on_unknown_ground():
    # A dog of 8 pixels, a person of 4, two pixels that are not known, background. The answer covers 6 of the
    # 8 and one unknown pixel, calls the person a zebra, sees a person on background and a dog on the unknown.
    truth = np.array([[1] * 8 + [2] * 4 + [0] * 4])
    known = np.array([[True] * 12 + [False] * 2 + [True] * 2])
    answer = np.array([[1] * 6 + [0] * 2 + [2] * 4 + [1, 4] + [3] * 2])
    counts = instance_counts(truth, [1, 0], answer, [1, 2, 0, 1], 3, known)
    np.testing.assert_allclose(counts, [[0, 6 / 8, 0], [0, 1, 0], [1, 0, 1], [1, 0, 0]])
