"""Numbers as pictures: lengths and colours worked by hand."""

import numpy as np
import pytest

from ovs_core.render.charts import (
    bars,
    curve,
    matrix,
    scale_ends,
    scale_strip,
    short_number,
    side_by_side,
    stacked,
    text_strip,
)
from ovs_core.render.palette import PALETTE

RED, BLUE = (200, 0, 0), (0, 0, 200)


def filled(picture, color):
    """Pixels of a colour in each row of a picture."""
    return (picture == color).all(axis=2).sum(axis=1)


def test_a_bar_is_as_long_as_its_share():
    picture = bars(("dog", "grass"), (0.5, 1.0), (0.5, 1.0), (RED, BLUE))
    half, full = filled(picture, RED).max(), filled(picture, BLUE).max()
    assert half / full == pytest.approx(0.5, abs=0.01)
    assert picture.shape[1] == 640


def test_a_bar_of_nothing_is_one_line():
    assert filled(bars(("dog",), (0.0,), (0.0,), (RED,)), RED).max() <= 1


def test_long_names_leave_room_for_bars():
    picture = bars(("x" * 300,), (1.0,), (1.0,), (RED,))
    assert filled(picture, RED).max() > 640 * 0.35


def test_cells_have_the_colours_of_their_scale():
    values = np.array([[0.0, 0.5, 1.0], [1.0, 1.0, 1.0]])
    picture = matrix(values, ("a", "b"), ("x", "y", "z"), (0, 1))
    colors = [(68, 1, 84), (32, 144, 140), (253, 231, 36)]  # viridis at 0, 0.5 and 1
    areas = [int((picture == color).all(axis=2).sum()) for color in colors]
    assert areas[0] == pytest.approx(areas[1], rel=0.15)  # the numbers cover a little
    assert areas[2] == pytest.approx(4 * areas[0], rel=0.15)
    assert (picture == 0).all(axis=2).any()  # dark letters on yellow
    letters = (picture[40:80] == 255).all(axis=2)[4:-4]
    assert letters.any()  # white ones on purple


def test_a_curve_rises_where_its_values_do_and_marks_its_place():
    steps = [0.0, 0.5, 1.0]
    picture = curve(steps, [(0, 0, 0), (5, 5, 5), (10, 10, 10)], ("x", "y"), size=(400, 200))
    assert picture.shape == (200, 400, 3)
    rows, columns = np.nonzero((picture == PALETTE[0]).all(axis=2))
    left, right = rows[columns < columns.min() + 20], rows[columns > columns.max() - 20]
    assert left.mean() > right.mean() + 80  # up is towards row 0
    marked = curve(steps, [(0, 0, 0), (5, 5, 5), (10, 10, 10)], ("x", "y"), mark=0.25, size=(400, 200))
    changed = np.unique(np.nonzero((marked != picture).any(axis=2))[1])
    assert len(changed) <= 3  # one line, a quarter of the way
    assert columns.min() + 50 < changed.mean() < columns.max() - 200


def test_pictures_stand_side_by_side_with_room_for_captions():
    picture = side_by_side(
        [np.full((20, 50, 3), value, np.uint8) for value in (10, 20, 30)], "abc", columns=2
    )
    assert picture.shape[1] == 12 + 2 * (50 + 12)
    tops = [np.flatnonzero((picture == value).all(axis=2).sum(axis=1) == 50) for value in (10, 20, 30)]
    assert [len(rows) for rows in tops] == [20, 20, 20]
    assert tops[0][0] == tops[1][0] < tops[2][0]
    assert (picture[tops[0][-1] + 1 : tops[2][0]] < 128).any()  # the captions


def test_the_scale_strip_runs_from_first_to_last_colour():
    picture = scale_strip(-0.2, 0.3, width=200)
    line = picture[16]
    start = np.flatnonzero((line == (68, 1, 84)).all(axis=1))[0]
    assert line[start + 199].tolist() == [253, 231, 36]


@pytest.mark.parametrize(
    ("low", "high", "ends"),
    [(0, 1, ("0", "1")), (-0.2041, 0.2891, ("-0.204", "0.289")), (7e-23, 0.196, ("0", "0.196"))],
)
def test_ends_of_a_scale_are_short(low, high, ends):
    assert scale_ends(low, high) == ends


def test_minus_nothing_is_nothing():
    assert short_number(-0.0) == "0"
    assert short_number(0.000123456) == "0.000123"


def test_parts_are_stacked_on_white():
    page = stacked([np.zeros((5, 30, 3), np.uint8), text_strip("one two three four five six seven", 100)])
    assert page.shape[1] == 100
    assert (page[12:17, :30] == 0).all()
    assert (page[12:17, 30:] == 255).all()
