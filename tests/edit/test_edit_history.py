"""Undo, redo, and edits that a settings file brings back bit for bit."""

import json

import numpy as np
import pytest

from ovs_core.edit.history import UNDO_STEPS, EditHistory
from ovs_core.edit.record import (
    AddClass,
    Brush,
    Delete,
    DropIslands,
    Merge,
    Paint,
    Reassign,
    Recolour,
    Rename,
    Threshold,
    apply_edits,
    edits_from_json,
    edits_to_json,
    mask_of,
    runs_of,
)
from ovs_core.types import LabelClass, LabelMap

CLASSES = (
    LabelClass(1, ("cat",), (200, 0, 0)),
    LabelClass(2, ("dog",), (0, 200, 0)),
    LabelClass(3, ("sky",), (0, 0, 200)),
)
ALL_KINDS = (
    Brush(((2.0, 3.0), (9.5, 4.25)), 2.5, 1),
    AddClass("tree", (1, 2, 3)),
    Paint(runs_of(np.eye(12, 17) > 0), 4),
    Rename(2, "wolf"),
    Recolour(1, (9, 8, 7)),
    Threshold(3, 0.4),
    Reassign((16.0, 11.0), 2),
    DropIslands(4),
    Paint(runs_of(np.eye(12, 17) > 0), 1, whole=True),
    Merge((2,), 1),
    Brush(((0.0, 0.0),), 3.0),
    Delete(3),
)


def photo_labels(seed=0):
    generator = np.random.default_rng(seed)
    return LabelMap(generator.integers(0, 4, (12, 17)).astype(np.uint8), CLASSES)


def scores(seed=1):
    return np.random.default_rng(seed).random((12, 17)).astype(np.float32)


def same(one, other):
    return np.array_equal(one.labels, other.labels) and one.classes == other.classes


def test_undo_and_redo_go_through_the_same_states():
    history = EditHistory.start(photo_labels())
    states = [history.present]
    for edit in ALL_KINDS:
        history = history.edited(edit, scores())
        states.append(history.present)
    for state in reversed(states[:-1]):
        assert history.can_undo
        history = history.undo()
        assert same(history.present, state)
    assert not history.can_undo
    assert history.undo() is history
    for state in states[1:]:
        history = history.redo()
        assert same(history.present, state)
    assert not history.can_redo
    assert history.redo() is history


def test_a_new_edit_forgets_what_was_undone():
    first, second, third = Rename(1, "lion"), Delete(2), Delete(3)
    history = EditHistory.start(photo_labels()).edited(first).edited(second).undo().edited(third)
    assert history.applied == history.edits == (first, third)
    assert [entry.names[0] for entry in history.present.classes] == ["lion", "dog"]
    assert not history.can_redo


def test_twenty_steps_can_be_undone_and_every_edit_is_remembered():
    history = EditHistory.start(photo_labels())
    for number in range(UNDO_STEPS + 5):
        history = history.edited(Rename(1, f"cat {number}"))
    assert len(history.states) == UNDO_STEPS + 1
    for _ in range(UNDO_STEPS):
        history = history.undo()
    assert not history.can_undo
    assert history.present.classes[0].names[0] == "cat 4"
    assert len(history.applied) == 5


def test_an_edit_that_cannot_be_done_changes_nothing():
    history = EditHistory.start(photo_labels())
    with pytest.raises(ValueError, match="no class 9"):
        history.edited(Delete(9))
    with pytest.raises(ValueError, match="needs the scores"):
        history.edited(Threshold(1, 0.5))
    assert history.edits == ()


def test_a_settings_file_brings_the_edits_back_bit_for_bit():
    history = EditHistory.start(photo_labels())
    for edit in ALL_KINDS:
        history = history.edited(edit, scores())
    history = history.undo()  # what is shown is what is written
    text = json.dumps(edits_to_json(history.applied))
    again = apply_edits(photo_labels(), edits_from_json(json.loads(text)), scores())
    assert edits_from_json(json.loads(text)) == ALL_KINDS[:-1]
    assert same(again, history.present)
    assert not same(again, photo_labels())


@pytest.mark.parametrize(
    "mask",
    [
        np.zeros((2, 3), bool),
        np.ones((2, 3), bool),
        np.array([[1, 0, 0], [0, 1, 1]], bool),
        np.ones((1, 1), bool),
    ],
)
def test_runs_are_the_mask(mask):
    assert np.array_equal(mask_of(runs_of(mask), mask.shape), mask)


def test_runs_by_hand():
    assert runs_of(np.array([[1, 0, 0], [0, 1, 1]], bool)) == (0, 1, 3, 2)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ({"edit": "merge"}, "Edits must be a list, got dict"),
        (["merge"], "Edit 1 is of no known kind; kinds: merge, rename"),
        ([{"edit": "melt"}], "Edit 1 is of no known kind"),
        ([{"edit": "delete", "label": 1}, {"edit": "delete"}], r"Edit 2 \(delete\) needs label"),
        ([{"edit": "delete", "label": "1"}], r"Edit 1 \(delete\) needs label; label is '1'"),
        ([{"edit": "delete", "label": 1, "more": 2}], r"Edit 1 \(delete\) needs label; 'more'"),
        ([{"edit": "brush", "stroke": [[1]], "radius": 1}], "stroke is"),
        ([{"edit": "recolour", "label": 1, "color": [1, 2]}], r"color is \(1, 2\)"),
        ([{"edit": "reassign", "place": "ab"}], "place is 'ab'"),
    ],
)
def test_a_wrong_file_is_refused_in_one_sentence(content, sentence):
    with pytest.raises(ValueError, match=sentence):
        edits_from_json(content)


def test_a_mask_for_another_photo_is_refused():
    with pytest.raises(ValueError, match="for another photo: 6 pixels, not 12 x 17"):
        apply_edits(photo_labels(), [Paint((0, 6), 1)])
    with pytest.raises(ValueError, match="for another photo"):
        apply_edits(photo_labels(), [Paint((-6, 210), 1)])
