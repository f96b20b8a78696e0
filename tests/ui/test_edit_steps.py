"""Putting an answer right on the page, as plain functions."""

import re
from urllib.parse import unquote

import numpy as np
import pytest
from PIL import Image

from ovs_core.edit.history import UNDO_STEPS
from ovs_core.edit.record import Brush, Reassign, Rename
from ovs_core.ui import edit_steps
from ovs_core.ui.answer import Answer, relabelled
from ovs_core.ui.edit_panel import class_choices, edit_picture, parsed_color
from ovs_core.ui.pictures import base_picture

OPTIONS = {"threshold": 0.0}


@pytest.fixture
def answer(engine, photo_file):
    result = engine.segment(photo_file, "dog; grass", options=OPTIONS)
    return Answer(result, "photo", base_picture(result.image))


def test_a_click_is_an_edit_of_the_area_and_a_stroke_of_the_brush():
    place, line = (3.5, 4.5), ((3.5, 4.5), (8.0, 9.0))
    assert edit_steps.drawn_edit(edit_steps.GIVE, [place], 2, 9) == Reassign(place, 2)
    assert edit_steps.drawn_edit(edit_steps.ERASE, [place], None, 9) == Reassign(place, 0)
    assert edit_steps.drawn_edit(edit_steps.PAINT, line, 2, 9) == Brush(line, 9, 2)
    assert edit_steps.drawn_edit(edit_steps.RUB, line, 2, 9) == Brush(line, 9, 0)
    with pytest.raises(ValueError, match="action must be one of"):
        edit_steps.drawn_edit(edit_steps.PLUS, [place], 2, 9)


@pytest.mark.parametrize("action", [edit_steps.GIVE, edit_steps.PAINT])
def test_a_class_is_needed_to_give(action):
    with pytest.raises(ValueError, match="Choose a class first"):
        edit_steps.drawn_edit(action, [(1, 1)], None, 3)


def test_buttons_need_a_class_too():
    for make in (
        lambda: edit_steps.merge_edit(None, 1),
        lambda: edit_steps.merge_edit(1, None),
        lambda: edit_steps.rename_edit(None, "a"),
        lambda: edit_steps.delete_edit(None),
        lambda: edit_steps.threshold_edit(None, 0.5),
        lambda: edit_steps.recolour_edit(None, (0, 0, 0)),
    ):
        with pytest.raises(ValueError, match="Choose a class first"):
            make()
    with pytest.raises(ValueError, match="how many pixels"):
        edit_steps.islands_edit(None)
    with pytest.raises(ValueError, match="press Segment first"):
        edit_steps.edited(None, None, {}, edit_steps.delete_edit(1))


def test_edits_stay_while_sliders_move(engine, answer):
    painted = edit_steps.edited(engine, answer, OPTIONS, Brush(((45.0, 30.0),), 8.0, 1))
    assert (painted.result.labels[28:32, 43:47] == 1).all()
    strict = relabelled(engine, painted, {"threshold": 1.0}, None).result
    assert (strict.labels[28:32, 43:47] == 1).all()
    assert not strict.labels[:5, :5].any()
    small = relabelled(engine, painted, {"threshold": 1.0}, 45).result
    assert small.labels.shape == (30, 45)
    assert (small.labels[14:16, 21:24] == 1).all()
    assert np.array_equal(edit_steps.as_shown(engine, painted, OPTIONS).result.labels, painted.result.labels)


def test_undo_and_redo(engine, answer):
    first = edit_steps.edited(engine, answer, OPTIONS, Rename(1, "wolf"))
    second = edit_steps.edited(engine, first, OPTIONS, Brush(((30.0, 20.0),), 8.0, 2))
    back = edit_steps.undo(engine, second, OPTIONS)
    assert np.array_equal(back.result.labels, first.result.labels)
    assert class_choices(back)[0] == ("wolf", 1)
    plain = edit_steps.undo(engine, back, OPTIONS)
    assert plain.result.edits == ()
    assert np.array_equal(plain.result.labels, answer.result.labels)
    with pytest.raises(ValueError, match="no edit to take back"):
        edit_steps.undo(engine, plain, OPTIONS)
    again = edit_steps.redo(engine, edit_steps.redo(engine, plain, OPTIONS), OPTIONS)
    assert again.result.edits == second.result.edits
    assert np.array_equal(again.result.labels, second.result.labels)
    with pytest.raises(ValueError, match="no edit that was taken back"):
        edit_steps.redo(engine, again, OPTIONS)
    assert edit_steps.edited(engine, back, OPTIONS, Rename(2, "lawn")).undone == ()


def test_twenty_steps_can_be_undone(engine, answer):
    for number in range(UNDO_STEPS + 3):
        answer = edit_steps.edited(engine, answer, OPTIONS, Rename(1, f"dog {number}"))
    for _ in range(UNDO_STEPS):
        answer = edit_steps.undo(engine, answer, OPTIONS)
    assert class_choices(answer)[0] == ("dog 2", 1)
    with pytest.raises(ValueError, match="no edit to take back"):
        edit_steps.undo(engine, answer, OPTIONS)


def test_a_new_answer_asks_before_it_deletes_edits(engine, answer):
    assert edit_steps.would_lose(None) == edit_steps.would_lose(answer) == ""
    edited = edit_steps.edited(engine, answer, OPTIONS, Rename(1, "wolf"))
    assert "deletes 1 edit by hand" in edit_steps.would_lose(edited)
    warned = Answer(edited.result, "photo", edited.base, warned=True)
    assert edit_steps.would_lose(warned) == ""
    more = edit_steps.edited(engine, warned, OPTIONS, Rename(2, "lawn"))
    assert "deletes 2 edits by hand" in edit_steps.would_lose(more)


def test_the_picture_is_in_pixels_of_the_photo(engine, answer):
    shown = edit_picture(answer)
    assert 'viewBox="0 0 90 60"' in shown
    path = unquote(re.search(r"file=([^\"]+)", shown)[1])
    with Image.open(path) as picture:
        assert picture.width / picture.height == pytest.approx(90 / 60, rel=0.02)


@pytest.mark.parametrize(
    ("text", "color"),
    [("#0a0b0c", (10, 11, 12)), ("rgba(10.4, 11, 300.2, 1)", (10, 11, 255)), ("rgb(1, 2, 3)", (1, 2, 3))],
)
def test_colours_as_fields_give_them(text, color):
    assert parsed_color(text) == color


@pytest.mark.parametrize("text", [None, "", "red-ish", "rgba(1, 2)"])
def test_no_colour_is_said(text):
    with pytest.raises(ValueError, match="Choose a colour"):
        parsed_color(text)
