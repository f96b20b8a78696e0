"""Confusion matrices and IoU: worked by hand, and against torchmetrics."""

import time

import numpy as np
import pytest
import torch
from label_maps import random_maps
from torchmetrics.functional.classification import multiclass_confusion_matrix, multiclass_jaccard_index

from ovs_core.metrics.confusion import (
    answered_unknown,
    class_iou,
    confusion,
    label_margins,
    margins,
    mean_iou,
    pixel_accuracy,
    ratio,
    seen_unseen,
)


def test_confusion_counts_truth_by_rows_and_leaves_pixels_out():
    truth = np.array([[0, 0, 1], [1, 2, 0]], np.uint8)
    answer = np.array([[0, 2, 1], [0, 2, 1]], np.uint8)
    known = np.array([[True, True, True], [True, True, False]])
    assert confusion(truth, answer, 3, known).tolist() == [[1, 0, 1], [1, 1, 0], [0, 0, 1]]
    assert confusion(truth, answer, 3).tolist() == [[1, 1, 1], [1, 1, 0], [0, 0, 1]]
    assert answered_unknown(answer, 3, known).tolist() == [0, 1, 0]
    assert answered_unknown(answer, 3, None).tolist() == [0, 0, 0]


def test_confusion_of_nothing_is_empty():
    zeros = np.zeros((2, 3), int)
    assert confusion(zeros, zeros, 2, np.zeros((2, 3), bool)).tolist() == [[0, 0], [0, 0]]


@pytest.mark.parametrize(
    ("truth", "answer"),
    [([0, 3], [0, 0]), ([0, 0], [0, 3]), ([0, 0], [0, -1]), ([-1, 0], [0, 0]), ([0, 0], [0])],
    ids=["truth too large", "answer too large", "answer below 0", "truth below 0", "shapes differ"],
)
def test_confusion_refuses_what_it_cannot_count(truth, answer):
    with pytest.raises(ValueError, match="must"):
        confusion(np.array(truth), np.array(answer), 3)


def test_known_must_have_the_same_shape():
    with pytest.raises(ValueError, match=r"one shape, got \(2,\), \(2,\), \(3,\)"):
        confusion(np.zeros(2, int), np.zeros(2, int), 3, np.ones(3, bool))


def test_margins_are_right_truth_answer():
    matrix = np.array([[5, 1, 0], [2, 3, 0], [0, 4, 0]])
    assert margins(matrix).tolist() == [[5, 3, 0], [6, 5, 4], [7, 8, 0]]


def test_mean_iou_by_hand():
    # Class 0: 5 of 6 + 7 - 5 pixels; class 1: 3 of 5 + 8 - 3; class 2 is in the truth and never found.
    total = margins(np.array([[5, 1, 0], [2, 3, 0], [0, 4, 0]]))
    np.testing.assert_allclose(class_iou(total), [5 / 8, 3 / 10, 0])
    assert float(mean_iou(total)) == pytest.approx((5 / 8 + 3 / 10) / 3)


def test_classes_outside_the_truth_do_not_divide_but_their_pixels_are_wrong():
    # Class 1 is answered on 5 pixels and never true: it costs class 0 its union, and is no class of the mean.
    total = margins(np.array([[15, 5], [0, 0]]))
    assert np.isnan(class_iou(total)[1])
    assert float(mean_iou(total)) == pytest.approx(15 / 20)


def test_mean_iou_of_no_truth_is_not_a_number():
    assert np.isnan(mean_iou(np.zeros((3, 4), np.int64)))


def test_mean_iou_of_many_totals_at_once():
    one, two = margins(np.array([[3, 1], [0, 4]])), margins(np.array([[1, 1], [0, 0]]))
    # Of the first, 3 of 4 and 4 of 5 pixels; of the second, 1 of 2.
    np.testing.assert_allclose(mean_iou(np.stack([one, two])), [(3 / 4 + 4 / 5) / 2, 1 / 2])


@pytest.mark.parametrize("seed", range(3))
def test_confusion_is_what_torchmetrics_counts(seed):
    truth, answer, known = random_maps(seed, 5)
    theirs = multiclass_confusion_matrix(
        torch.from_numpy(answer), torch.from_numpy(np.where(known, truth, -1)), 5, ignore_index=-1
    )
    matrix = confusion(truth, answer, 5, known)
    assert matrix.tolist() == theirs.tolist()
    assert label_margins(truth, answer, 5, known).tolist() == margins(matrix).tolist()


def test_iou_is_what_torchmetrics_computes():
    truth, answer, known = random_maps(3, 4)
    marked = torch.from_numpy(np.where(known, truth, -1))
    theirs = multiclass_jaccard_index(torch.from_numpy(answer), marked, 4, average="none", ignore_index=-1)
    np.testing.assert_allclose(class_iou(margins(confusion(truth, answer, 4, known))), theirs, rtol=1e-6)


def test_both_divisors():
    # Class 0: 15 of 20; class 1 is only in the answer, 0 of 5; class 2 is nowhere.
    total = margins(np.array([[15, 5, 0], [0, 0, 0], [0, 0, 0]]))
    assert float(mean_iou(total, "truth")) == 0.75
    assert float(mean_iou(total, "either")) == 0.375


def test_pixel_accuracy_by_hand():
    assert float(pixel_accuracy(margins(np.array([[5, 1], [2, 2]])))) == 0.7
    assert np.isnan(pixel_accuracy(np.zeros((3, 2), np.int64)))


def test_ratio_of_nothing_is_not_a_number():
    np.testing.assert_array_equal(ratio(np.array([[1, 4], [0, 0]])), [0.25, np.nan])


def test_seen_unseen_and_harmonic_by_hand():
    # IoU 1/2 and 1 of the seen classes 0 and 1, 1/4 of the unseen class 2, class 3 is not in the truth.
    total = np.array([[2, 3, 1, 0], [4, 3, 2, 0], [2, 3, 3, 0]])
    np.testing.assert_allclose(seen_unseen(total, {2, 3}), [0.75, 0.25, 2 * 0.75 * 0.25])
    total[2, 3] = 5  # answered where it never is: 0 of 5
    np.testing.assert_allclose(seen_unseen(total, {2, 3}), [0.75, 0.25, 2 * 0.75 * 0.25])
    np.testing.assert_allclose(seen_unseen(total, {2, 3}, "either"), [0.75, 0.125, 1.5 * 0.125 / 0.875])


def test_harmonic_mean_of_two_zeros_is_zero():
    total = np.array([[0, 0], [4, 4], [4, 4]])
    np.testing.assert_array_equal(seen_unseen(total, {1}), [0, 0, 0])


def test_a_large_picture_is_counted_quickly():
    generator = np.random.default_rng(0)
    truth, answer = (generator.integers(0, 81, (480, 640)).astype(np.uint8) for _ in range(2))
    known = generator.random((480, 640)) > 0.1
    spent = []
    for _ in range(5):
        started = time.perf_counter()
        confusion(truth, answer, 81, known)
        spent.append(time.perf_counter() - started)
    assert min(spent) <= 0.05
