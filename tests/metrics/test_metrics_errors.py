"""Error types, their cost in IoU, and the two oracles: every number worked by hand."""

import time

import numpy as np
import pytest
from label_maps import random_maps

from ovs_core.metrics.confusion import class_iou, confusion, label_margins, margins, mean_iou
from ovs_core.metrics.error_types import (
    ERROR_TYPES,
    REMEDIES,
    error_map,
    error_types,
    iou_cost,
    mean_iou_cost,
)
from ovs_core.metrics.oracles import perfect_masks, perfect_names
from ovs_core.metrics.parts import connected_parts

SIZE = (60, 80)  # diagonal 100: 1 % is 1 pixel


def square(*boxes, size=SIZE, label=1):
    """Boxes (top, bottom, left, right) of a class on other."""
    labels = np.zeros(size, np.uint8)
    for top, bottom, left, right in boxes:
        labels[top:bottom, left:right] = label
    return labels


def kinds(truth, answer, label=1, known=None):
    """Kind -> pixels, of one class, where any."""
    column = error_types(truth, answer, 3, known)[:, label]
    return {name: int(count) for name, count in zip(ERROR_TYPES, column, strict=True) if count}


THING = square((20, 40, 20, 40))


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (THING, {}),
        # One column more or less along an edge of 20: every pixel lies beside kept and left-out pixels.
        (square((20, 40, 20, 41)), {"extra_boundary": 20}),
        (square((20, 40, 20, 39)), {"missed_boundary": 20}),
        # Five columns more: the corners of that strip lie beside both kinds, the rest is extent.
        (square((20, 40, 20, 45)), {"extra_boundary": 2, "extra_extent": 98}),
        (square((20, 40, 20, 35)), {"missed_boundary": 2, "missed_extent": 98}),
        # A piece of its own has nothing to do with the truth, and what is not found at all is missed whole.
        (square((20, 40, 20, 40), (5, 10, 60, 70)), {"extra_segment": 50}),
        (square(), {"missed_segment": 400}),
        (square((50, 55, 60, 70)), {"missed_segment": 400, "extra_segment": 50}),
    ],
    ids=["right", "wider", "narrower", "too wide", "too narrow", "elsewhere too", "nothing", "elsewhere"],
)
def test_one_thing(answer, expected):
    assert kinds(THING, answer) == expected


def test_of_two_things_the_one_not_found_is_a_missed_segment():
    truth = square((20, 40, 20, 40), (20, 40, 50, 60))
    assert kinds(truth, square((20, 40, 20, 39))) == {"missed_boundary": 20, "missed_segment": 200}


def test_pieces_touch_by_corners():
    # The second square meets the first one's corner: one piece, so extent, but for the corner pixel itself.
    assert kinds(THING, square((20, 40, 20, 40), (40, 50, 40, 50))) == {
        "extra_boundary": 1,
        "extra_extent": 99,
    }


def test_a_confusion_of_two_classes_is_missed_by_one_and_extra_in_the_other():
    other = square((20, 40, 20, 40), label=2)
    assert kinds(THING, other, 1) == {"missed_segment": 400}
    assert kinds(THING, other, 2) == {"extra_segment": 400}
    assert kinds(THING, other, 0) == {}


def test_unknown_pixels_are_no_errors_and_an_edge_runs_through_a_narrow_rim():
    size = (300, 400)  # 1 % of the diagonal is 5 pixels
    thing = square((50, 250, 50, 250), size=size)
    known = np.ones(size, bool)
    known[:, 250:253] = False  # right of the thing, as benchmarks draw a rim
    assert kinds(thing, square((50, 250, 50, 253), size=size), known=known) == {}
    # The answer ends a column early: left-out pixels are 4 columns away, past the rim.
    early = square((50, 250, 50, 249), size=size)
    assert kinds(thing, early, known=known) == {"missed_boundary": 200}
    known[:, 250:260] = False  # too wide a rim: only the corners lie near what is left out
    assert kinds(thing, early, known=known) == {"missed_boundary": 2 * 5, "missed_extent": 190}


def test_distance_grows_with_the_photo():
    # Diagonal 500, 1 % is 5 pixels: a strip of 5 columns is all boundary, of 12 columns its middle is not.
    thing = square((50, 250, 50, 250), size=(300, 400))
    wide = square((50, 250, 50, 255), size=(300, 400))
    assert kinds(thing, wide) == {"extra_boundary": 5 * 200}
    wider = kinds(thing, square((50, 250, 50, 262), size=(300, 400)))
    # Within 5 pixels of kept (columns 250..254) and of left-out pixels (rows within 5 of the strip's ends).
    assert wider == {"extra_boundary": 2 * 5 * 5, "extra_extent": 12 * 200 - 2 * 5 * 5}


@pytest.mark.parametrize("seed", range(4))
def test_kinds_add_up_to_what_is_wrong(seed):
    truth, answer, known = random_maps(seed, 5)
    right, in_truth, in_answer = margins(confusion(truth, answer, 5, known))
    counts = error_types(truth, answer, 5, known)
    assert counts[:3].sum(axis=0).tolist() == (in_answer - right).tolist()
    assert counts[3:].sum(axis=0).tolist() == (in_truth - right).tolist()


def test_costs_and_iou_of_a_class_sum_to_one():
    truth, answer, known = random_maps(7, 4)
    total = np.concatenate(
        [margins(confusion(truth, answer, 4, known)), error_types(truth, answer, 4, known)]
    )
    np.testing.assert_allclose(iou_cost(total).sum(axis=0) + class_iou(total[:3]), np.ones(4))
    assert mean_iou_cost(total).sum() + mean_iou(total[:3]) == pytest.approx(1)


def test_costs_by_hand():
    # 380 right of 400 true and 430 answered pixels: union 450.
    answer = square((20, 40, 20, 39), (5, 10, 60, 70))
    total = np.concatenate([label_margins(THING, answer, 3), error_types(THING, answer, 3)])
    costs = dict(zip(ERROR_TYPES, iou_cost(total)[:, 1], strict=True))
    assert costs["missed_boundary"] == pytest.approx(20 / 450)
    assert costs["extra_segment"] == pytest.approx(50 / 450)
    assert np.isnan(iou_cost(total)[:, 2]).all()  # nowhere in the truth


def test_the_map_shows_what_the_true_class_misses_and_what_is_extra_on_other():
    answer = square((20, 40, 20, 39), (5, 10, 60, 70))
    answer[30:35, 25:30] = 2
    shown = error_map(THING, answer)
    name = ("", *ERROR_TYPES)
    assert name[shown[25, 39]] == "missed_boundary"
    assert name[shown[7, 65]] == "extra_segment"
    assert name[shown[32, 27]] == "missed_extent"  # a dog inside the cat
    assert (shown > 0).tolist() == (answer != THING).tolist()


def test_every_kind_has_a_remedy():
    assert set(REMEDIES) == set(ERROR_TYPES)


def test_a_large_photo_of_many_classes_is_sorted_in_a_second():
    truth, answer, known = random_maps(0, 20, size=(480, 640))
    error_types(truth[:8], answer[:8], 20, known[:8])  # loads what it needs
    started = time.process_time()  # of this process: others may be busy
    error_types(truth, answer, 20, known)
    assert time.process_time() - started < 3  # 0.4 s on one core


# Parts.


def test_connected_parts_of_labels():
    labels = np.zeros((20, 40), np.uint8)
    labels[:10, :10], labels[:10, 20:30], labels[15:], labels[12, 0] = 2, 2, 1, 2
    numbers, classes = connected_parts(labels, labels > 0, least=64)
    assert classes.tolist() == [1, 2, 2]
    assert numbers[16, 5] == 1
    assert {int(numbers[0, 0]), int(numbers[0, 25])} == {2, 3}
    assert numbers[12, 0] == numbers[0, 15] == 0  # one pixel, and other
    assert connected_parts(labels)[1].tolist() == [0, 1, 2, 2, 2]


# Oracles.


def test_perfect_names_keep_the_answers_outlines():
    truth = np.array([[1, 1, 1, 2, 2, 2]])
    answer = np.array([[3, 3, 3, 3, 2, 2]])  # a region named 3 that is mostly 1
    assert perfect_names(truth, answer).tolist() == [[1, 1, 1, 1, 2, 2]]


def test_perfect_masks_keep_the_answers_names():
    truth = np.array([[1, 1, 1, 2, 2, 2]])
    answer = np.array([[3, 3, 1, 3, 2, 2]])
    assert perfect_masks(truth, answer).tolist() == [[3, 3, 3, 2, 2, 2]]


def test_oracles_leave_unknown_ground_out():
    truth = np.array([[1, 1, 0, 0, 0, 2]])
    known = np.array([[True, True, False, False, False, True]])
    answer = np.array([[3, 3, 3, 3, 3, 0]])
    assert perfect_names(truth, answer, known).tolist() == [[1, 1, 1, 1, 1, 2]]
    assert perfect_masks(truth, answer, known).tolist() == [[3, 3, 3, 3, 3, 0]]
    nothing = np.zeros((1, 6), bool)
    assert perfect_names(truth, answer, nothing).tolist() == answer.tolist()


def test_equal_votes_go_to_the_first_class():
    truth, answer = np.array([[2, 1, 1, 2]]), np.array([[3, 3, 3, 3]])
    assert perfect_names(truth, answer).tolist() == [[1, 1, 1, 1]]


@pytest.mark.parametrize("seed", range(3))
def test_an_oracle_is_never_worse(seed):
    truth, answer, known = random_maps(seed, 5)
    given = label_margins(truth, answer, 5, known)[0].sum()
    assert label_margins(truth, perfect_names(truth, answer, known), 5, known)[0].sum() >= given
