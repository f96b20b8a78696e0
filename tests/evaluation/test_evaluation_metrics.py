"""Every number worked by hand, and against torchmetrics where it has the metric."""

import time

import numpy as np
import pytest
import torch
from torchmetrics.detection import PanopticQuality
from torchmetrics.functional.classification import multiclass_confusion_matrix, multiclass_jaccard_index

from ovs_core.evaluation.metrics import (
    Interval,
    boundary_margins,
    boundary_width,
    class_iou,
    confusion,
    confusion_with_void,
    interval,
    margins,
    mean_iou,
    near_boundary,
    paired_difference,
    panoptic_quality,
    pixel_accuracy,
    seen_unseen,
    segment_counts,
    share,
)


def random_maps(seed, classes, size=(48, 64), void=True):
    """Truth and answer in blocks, a quarter of the answer's blocks wrong; truth holds -1 too."""
    generator = np.random.default_rng(seed)
    blocks = (size[0] // 8, size[1] // 8)
    truth = generator.integers(-1 if void else 0, classes, blocks)
    answer = np.where(generator.random(blocks) < 0.25, generator.integers(0, classes, blocks), truth.clip(0))
    return tuple(one.repeat(8, axis=0).repeat(8, axis=1).astype(np.int16) for one in (truth, answer))


# Confusion matrices and IoU.


def test_confusion_counts_truth_by_rows_and_leaves_pixels_out():
    truth = np.array([[0, 0, 1], [1, 2, -1]], np.int16)
    answer = np.array([[0, 2, 1], [0, 2, 1]], np.int16)
    assert confusion(truth, answer, 3).tolist() == [[1, 0, 1], [1, 1, 0], [0, 0, 1]]


def test_confusion_of_nothing_is_empty():
    nothing = np.full((2, 3), -1)
    assert confusion(nothing, np.zeros((2, 3), int), 2).tolist() == [[0, 0], [0, 0]]


@pytest.mark.parametrize(
    ("truth", "answer"),
    [([0, 3], [0, 0]), ([0, 0], [0, 3]), ([0, 0], [0, -1]), ([0, 0], [0])],
    ids=["truth too large", "answer too large", "answer left out", "shapes differ"],
)
def test_confusion_refuses_what_it_cannot_count(truth, answer):
    with pytest.raises(ValueError, match="must"):
        confusion(np.array(truth), np.array(answer), 3)


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
    truth, answer = random_maps(seed, 5)
    theirs = multiclass_confusion_matrix(
        torch.from_numpy(answer).long(), torch.from_numpy(truth).long(), 5, ignore_index=-1
    )
    assert confusion(truth, answer, 5).tolist() == theirs.tolist()


def test_iou_is_what_torchmetrics_computes():
    truth, answer = random_maps(3, 4)
    theirs = multiclass_jaccard_index(
        *(torch.from_numpy(one).long() for one in (answer, truth)), 4, average="none", ignore_index=-1
    )
    np.testing.assert_allclose(class_iou(margins(confusion(truth, answer, 4))), theirs, rtol=1e-6)


def test_void_has_a_row_of_its_own():
    truth = np.array([[0, -1, -1, 1]], np.int16)
    answer = np.array([[0, 1, 1, 0]], np.int16)
    assert confusion_with_void(truth, answer, 2).tolist() == [[1, 0], [1, 0], [0, 2]]


def test_both_divisors():
    # Class 0: 15 of 20; class 1 is only in the answer, 0 of 5; class 2 is nowhere.
    total = margins(np.array([[15, 5, 0], [0, 0, 0], [0, 0, 0]]))
    assert float(mean_iou(total, "truth")) == 0.75
    assert float(mean_iou(total, "either")) == 0.375


def test_pixel_accuracy_by_hand():
    assert float(pixel_accuracy(margins(np.array([[5, 1], [2, 2]])))) == 0.7
    assert np.isnan(pixel_accuracy(np.zeros((3, 2), np.int64)))


def test_share_of_nothing_is_not_a_number():
    np.testing.assert_array_equal(share(np.array([[1, 4], [0, 0]])), [0.25, np.nan])


def test_seen_unseen_and_harmonic_by_hand():
    # IoU 1/2 and 1 of the seen classes 0 and 1, 1/4 of the unseen class 2, class 3 is not in the truth.
    total = np.array([[2, 3, 1, 0], [4, 3, 2, 0], [2, 3, 3, 0]])
    np.testing.assert_allclose(seen_unseen(total, {2, 3}), [0.75, 0.25, 2 * 0.75 * 0.25])


def test_harmonic_mean_of_two_zeros_is_zero():
    total = np.array([[0, 0], [4, 4], [4, 4]])
    np.testing.assert_array_equal(seen_unseen(total, {1}), [0, 0, 0])


def test_a_large_picture_is_counted_quickly():
    generator = np.random.default_rng(0)
    truth = generator.integers(-1, 81, (480, 640)).astype(np.int16)
    answer = generator.integers(0, 81, (480, 640)).astype(np.int16)
    spent = []
    for _ in range(5):
        started = time.perf_counter()
        confusion(truth, answer, 81)
        spent.append(time.perf_counter() - started)
    assert min(spent) <= 0.05


# Segments.


def test_segments_by_hand():
    # Class 0: 8 of 10, matched. Class 1: 2 of 4, IoU 1/2 is no match: one missed, one extra.
    # Class 2 is only in the answer, and only where the truth does not count: not held against it.
    matrix = np.array([[8, 0, 0], [2, 2, 0], [0, 0, 0]])
    counts = segment_counts(matrix, np.array([0, 0, 7]))
    np.testing.assert_allclose(counts, [[0.8, 0, 0], [1, 0, 0], [0, 1, 0], [0, 1, 0]])
    # PQ: 0.8 / 1 and 0 / (0 + 1/2 + 1/2); SQ 0.8 and 0; RQ 1 and 0.
    np.testing.assert_allclose(panoptic_quality(counts), [0.4, 0.4, 0.5])


def test_an_answer_mostly_on_counted_pixels_is_held_against_it():
    matrix = np.array([[9, 5], [0, 0]])
    assert segment_counts(matrix, np.array([0, 5]))[2].tolist() == [0, 1]
    assert segment_counts(matrix, np.array([0, 6]))[2].tolist() == [0, 0]


@pytest.mark.parametrize("seed", range(3))
def test_panoptic_quality_is_what_torchmetrics_computes(seed):
    classes = 5
    # Its things need a category of their own; void is one that it does not know.
    theirs = PanopticQuality(things={classes + 1}, stuffs=set(range(classes)), return_sq_and_rq=True)
    total = np.zeros((4, classes))
    for photo in range(4):
        truth, answer = random_maps(10 * seed + photo, classes)
        whole = confusion_with_void(truth, answer, classes)
        total += segment_counts(whole[:classes], whole[classes])
        pairs = [np.stack([one, np.zeros_like(one)], -1)[None].astype(np.int64) for one in (answer, truth)]
        pairs[1][pairs[1] < 0] = classes + 2
        theirs.update(*map(torch.from_numpy, pairs))
    np.testing.assert_allclose(panoptic_quality(total), theirs.compute(), atol=1e-9)


# Boundaries.


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
    labels, _ = random_maps(5, 4, size=(40, 56))
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


def test_void_is_in_no_band():
    truth = np.full((20, 40), -1, np.int16)
    assert boundary_margins(truth, np.zeros((20, 40), np.int16), 2).sum() == 0


# Intervals.


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
