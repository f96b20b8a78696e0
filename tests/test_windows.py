import pytest
import torch

from ovs_core.types import Window
from ovs_core.windows import accumulate, plan_windows


@pytest.mark.parametrize(
    ("grid", "window", "stride", "expected"),
    [
        ((3, 5), None, 1, ((0, 0, 3, 5),)),
        ((2, 3), 14, 7, ((0, 0, 2, 3),)),  # larger than the grid: clipped
        ((1, 1), 4, 2, ((0, 0, 1, 1),)),
        ((4, 4), 4, 2, ((0, 0, 4, 4),)),
        ((2, 8), 4, 3, ((0, 0, 2, 4), (0, 3, 2, 4), (0, 4, 2, 4))),  # last one shifted back from 6
        ((5, 4), 3, 2, ((0, 0, 3, 3), (0, 1, 3, 3), (2, 0, 3, 3), (2, 1, 3, 3))),  # row by row
        ((2, 4), 2, 2, ((0, 0, 2, 2), (0, 2, 2, 2))),  # no overlap
    ],
)
def test_windows_are_laid_as_worked_by_hand(grid, window, stride, expected):
    assert plan_windows(grid, window, stride) == expected


@pytest.mark.parametrize("grid", [(1, 1), (7, 23), (21, 28), (40, 9)])
@pytest.mark.parametrize(("window", "stride"), [(1, 1), (5, 3), (14, 7), (14, 14)])
def test_windows_cover_every_token_and_stay_inside(grid, window, stride):
    seen = torch.zeros(grid)
    for top, left, height, width in plan_windows(grid, window, stride):
        assert min(top, left) >= 0
        assert top + height <= grid[0]
        assert left + width <= grid[1]
        seen[top : top + height, left : left + width] += 1
    assert seen.min() >= 1


@pytest.mark.parametrize(("window", "stride"), [(4, 5), (4, 0), (0, 0)])
def test_strides_that_leave_gaps_are_refused(window, stride):
    with pytest.raises(ValueError, match="stride must lie in"):
        plan_windows((8, 8), window, stride)


def test_empty_grids_are_refused():
    with pytest.raises(ValueError, match="at least 1 x 1"):
        plan_windows((0, 3), 2, 1)


def test_overlaps_are_averaged():
    left = torch.tensor([[[1.0, 2.0, 3.0]]])  # (1, 1, 3) at column 0
    right = torch.tensor([[[5.0, 7.0]]])  # (1, 1, 2) at column 2
    whole = accumulate([((0, 0, 1, 3), left), ((0, 2, 1, 2), right)], (1, 4))
    assert whole.tolist() == [[[1.0, 2.0, 4.0, 7.0]]]


def test_windows_of_features_and_generators_are_accepted():
    window = Window(0, 1, (2, 1), torch.zeros(3, 4))
    parts = ((where, torch.full((2, 2, 1), value)) for where, value in ((window, 3.0), ((0, 0, 2, 1), 1.0)))
    assert accumulate(parts, (2, 2))[1].tolist() == [[1.0, 3.0], [1.0, 3.0]]


def test_one_window_comes_back_bit_equal():
    rows = torch.randn(3, 4, 5, generator=torch.Generator().manual_seed(0))
    assert torch.equal(accumulate([((0, 0, 4, 5), rows)], (4, 5)), rows)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ([], "cover the whole grid"),
        ([((0, 0, 1, 1), torch.zeros(2, 1, 1))], "cover the whole grid"),
        ([((0, 0, 2, 2), torch.zeros(2, 1, 1))], "do not fit"),
        ([((1, 0, 2, 2), torch.zeros(2, 2, 2))], "do not fit"),
    ],
)
def test_parts_that_do_not_add_up_are_refused(parts, message):
    with pytest.raises(ValueError, match=message):
        accumulate(parts, (2, 2))
