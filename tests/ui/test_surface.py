"""What a browser says was drawn is read as places on a photo, or refused."""

from types import SimpleNamespace

import pytest

from ovs_core.ui.surface import BOX, PLACE, STROKE, Mark, drawn, surface_html


def sent(**data):
    return SimpleNamespace(_data=data)


def test_places_lie_in_the_photo_and_boxes_at_whole_pixels():
    (near, far) = drawn(sent(tool=STROKE, points=[[0, 0], [1, 1]])).places((60, 90))
    assert near == (0, 0)
    assert 89.9 < far[0] < 90
    assert 59.9 < far[1] < 60
    assert drawn(sent(tool=BOX, points=[[0.5, 0.1], [0.1, 0.52]])).box((60, 90)) == (9, 6, 45, 31)


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"tool": "saw", "points": [[0, 0]]},
        {"tool": PLACE, "points": []},
        {"tool": PLACE, "points": [[0, 2]]},
        {"tool": PLACE, "points": [[0, float("nan")]]},
        {"tool": PLACE, "points": [["0", 0]]},
        {"tool": PLACE, "points": [[0]]},
        {"tool": PLACE, "points": "0 0"},
    ],
)
def test_what_is_no_place_is_refused(data):
    with pytest.raises(ValueError, match="Nothing was drawn"):
        drawn(sent(**data))
    with pytest.raises(ValueError, match="up to 10,000 places; this one has 10,001"):
        drawn(sent(tool=STROKE, points=[[0, 0]] * 10_001))


def test_names_on_the_picture_are_text():
    shown = surface_html("/a b.png", (6, 9), "A photo", BOX, [Mark("find", (1, 1, 4, 4), "<script>")])
    assert "&lt;script&gt;" in shown
    assert "<script" not in shown
    assert "/a%20b.png" in shown
