"""An answer beside the truth of one photo: classes by name, numbers by hand."""

import numpy as np
import pytest

from ovs_core.metrics.agreement import agreement
from ovs_core.metrics.error_types import ERROR_TYPES
from ovs_core.types import LabelClass, LabelMap

SIZE = (60, 80)


def label_map(boxes, names, known=None, size=SIZE):
    """Boxes (label, top, bottom, left, right) on other; names by label."""
    labels = np.zeros(size, np.uint8)
    for label, top, bottom, left, right in boxes:
        labels[top:bottom, left:right] = label
    classes = tuple(LabelClass(label, group, (label, 0, 0)) for label, group in names.items())
    return LabelMap(labels, classes, known)


ANSWER = label_map(
    [(1, 20, 40, 20, 39), (1, 5, 10, 60, 70)],
    {1: ("dog",), 2: ("cat",)},
)
TRUTH = label_map([(5, 20, 40, 20, 40)], {5: ("hound", "Dog"), 6: ("cow",)})


def test_classes_that_share_a_name_belong_together():
    found = agreement(TRUTH, ANSWER)
    dog = next(entry for entry in found.classes if entry.name == "dog")
    # 380 right, 400 true, 430 answered.
    assert (dog.truth_pixels, dog.answer_pixels, dog.iou) == (400, 430, 380 / 450)
    assert dog.errors["missed_boundary"] == 20
    assert dog.errors["extra_segment"] == 50
    assert dog.costs["extra_segment"] == 50 / 450
    assert [entry.name for entry in found.classes] == ["other", "dog"]  # a cat is nowhere
    other = 4800 - 400 - 50
    assert found.classes[0].iou == other / (other + 70)
    assert found.miou == pytest.approx((380 / 450 + other / (other + 70)) / 2)
    assert found.accuracy == (4800 - 70) / 4800
    assert 0 < found.boundary_miou < 1
    assert found.untyped == ("cow",)
    assert ERROR_TYPES[found.errors[25, 39] - 1] == "missed_boundary"


def test_untyped_classes_are_other_or_left_out():
    truth = label_map([(5, 20, 40, 20, 40), (6, 0, 10, 0, 10)], {5: ("dog",), 6: ("cow",)})
    assert agreement(truth, ANSWER).truth.labels[5, 5] == 0
    assert agreement(truth, ANSWER).accuracy == (4800 - 70) / 4800
    plain = agreement(truth, ANSWER, "not known")
    assert plain.truth.known.sum() == 400  # dogs alone: an answer without other is asked about nothing else
    assert plain.accuracy == 380 / 400


def test_unknown_ground_does_not_count():
    known = np.zeros(SIZE, bool)
    known[20:40, 20:39] = True
    truth = label_map([(5, 20, 40, 20, 40)], {5: ("dog",)}, known)
    assert agreement(truth, ANSWER).miou == 1.0


def test_what_cannot_be_compared():
    with pytest.raises(ValueError, match="of the photo's size"):
        agreement(label_map([], {5: ("dog",)}, size=(5, 5)), ANSWER)
    with pytest.raises(ValueError, match="None of the truth's classes was asked for: cow"):
        agreement(label_map([], {5: ("cow",)}), ANSWER)
    with pytest.raises(ValueError, match="Nothing of this photo's truth is known"):
        agreement(label_map([], {5: ("dog",)}, np.zeros(SIZE, bool)), ANSWER)
