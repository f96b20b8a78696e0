"""Edits of what labels mean: worked by hand on a map of 3 x 4 pixels."""

import numpy as np
import pytest

from ovs_core.edit.classes import add_class, delete, merge, recolour, rename
from ovs_core.types import LabelClass, LabelMap

CAT = LabelClass(1, ("cat", "kitten"), (200, 0, 0))
DOG = LabelClass(2, ("dog",), (0, 200, 0))
SKY = LabelClass(4, ("sky",), (0, 0, 200))
LABELS = np.array([[0, 1, 1, 2], [0, 1, 2, 2], [4, 4, 4, 0]], np.uint8)


def three(**fields):
    return LabelMap(LABELS.copy(), (CAT, DOG, SKY), **fields)


def test_merged_pixels_and_names_go_to_the_class_that_stays():
    before = three()
    merged = merge(before, (2,), into=1)
    assert merged.labels.tolist() == [[0, 1, 1, 1], [0, 1, 1, 1], [4, 4, 4, 0]]
    assert merged.classes == (LabelClass(1, ("cat", "kitten", "dog"), (200, 0, 0)), SKY)
    assert merged.labels.dtype == np.uint8
    assert np.array_equal(before.labels, LABELS)  # an edit changes nothing but gives a new map


def test_several_classes_merge_at_once_and_the_target_may_be_among_them():
    merged = merge(three(), (1, 2, 4), into=4)
    assert merged.labels.tolist() == [[0, 4, 4, 4], [0, 4, 4, 4], [4, 4, 4, 0]]
    assert merged.classes == (LabelClass(4, ("sky", "cat", "kitten", "dog"), (0, 0, 200)),)


def test_a_deleted_class_becomes_other_and_the_rest_keep_their_ids():
    left = delete(three(instances=np.where(LABELS == 2, 7, 0).astype(np.int32)), 2)
    assert left.labels.tolist() == [[0, 1, 1, 0], [0, 1, 0, 0], [4, 4, 4, 0]]
    assert left.classes == (CAT, SKY)
    assert not left.instances.any()


def test_a_new_name_is_shown_and_synonyms_stay():
    renamed = rename(three(), 1, "  grey \t cat ")
    assert renamed.classes[0] == LabelClass(1, ("grey cat", "kitten"), (200, 0, 0))
    assert rename(three(), 1, "Kitten").classes[0].names == ("Kitten",)
    assert np.array_equal(renamed.labels, LABELS)


def test_a_colour_changes_nothing_else():
    painted = recolour(three(), 4, (1, 2, 255))
    assert painted.classes == (CAT, DOG, LabelClass(4, ("sky",), (1, 2, 255)))


def test_a_class_of_no_pixels_follows_the_largest_id():
    grown = add_class(three(), "sea", (9, 9, 9))
    assert grown.classes[-1] == LabelClass(5, ("sea",), (9, 9, 9))
    assert grown.labels.dtype == np.uint8


def test_the_256th_id_needs_wider_labels():
    many = LabelMap(np.full((2, 3), 255, np.uint8), (LabelClass(255, ("last",), (0, 0, 0)),))
    grown = add_class(many, "next", (1, 1, 1))
    assert (grown.labels.dtype, grown.classes[-1].id) == (np.uint16, 256)
    assert (grown.labels == 255).all()


@pytest.mark.parametrize(
    ("edit", "sentence"),
    [
        (
            lambda m: merge(m, (3,), 1),
            "There is no class 3 in this picture; its classes: 1 cat, 2 dog, 4 sky.",
        ),
        (lambda m: merge(m, (1,), 3), "label must be 0 or the id of a class, got 3"),
        (lambda m: merge(m, (), 1), "Choose at least one class"),
        (lambda m: merge(m, (1,), 1), "Choose at least one class"),
        (lambda m: delete(m, 0), "There is no class 0"),
        (lambda m: rename(m, 1, " \n "), "Type a name"),
        (lambda m: rename(m, 1, "x" * 201), "up to 200 characters; this one has 201"),
        (lambda m: rename(m, 1, "DOG"), "merge the two instead"),
        (lambda m: add_class(m, "Sky", (0, 0, 0)), 'There is a class "Sky" already'),
        (lambda m: recolour(m, 1, (0, 0, 256)), "three whole numbers in 0..255"),
        (lambda m: recolour(m, 1, (0, 0)), "three whole numbers in 0..255"),
        (lambda m: recolour(m, 1, (0, 0, 0.5)), "three whole numbers in 0..255"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_sentence(edit, sentence):
    with pytest.raises(ValueError, match=sentence):
        edit(three())
