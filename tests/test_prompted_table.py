"""The table of LDVC and ZegCLIP heads: numbers worked by hand, and a toy head from end to end."""

import numpy as np
import torch
from ldvc_toys import CPU, TOWER, make_head, make_model, make_preset, make_text, make_vision
from split_world import TOY, make_world

from benchmarks.prompted_decoder import least_seconds
from benchmarks.prompted_table import Measured, bound_head, measure, parts_of_present, row_text
from ovs_core.encoders.towers import Tower
from ovs_core.methods.ldvc.heads import save_prompted_head
from ovs_core.training.split_photos import open_photos


def test_parts_by_hand():
    truth = np.array([[0, 0, 1, 1], [0, 0, 1, 1], [0, 0, 0, 0]])
    known = np.array([[True] * 4, [True] * 4, [False] * 4])
    assert parts_of_present(truth, truth, known) == (2, 2)
    # Class 0 in two pieces that touch at no corner, class 1 in one; class 2 is not in the truth.
    answer = np.array([[0, 2, 0, 1], [0, 2, 0, 1], [0, 0, 0, 0]])
    assert parts_of_present(truth, answer, known) == (3, 2)


def test_a_row_says_what_was_measured():
    margins = np.array([[[8, 0, 5], [10, 0, 10], [10, 0, 15]]])  # IoU 8/12, absent, 5/20
    text = row_text("ldvc", Measured(margins, np.array([[3, 2]]), 0.25, (0.1, 0.2)), 2)
    assert text.startswith("ldvc: seen 66.7% (66.7% to 66.7%), unseen 25.0%")
    assert "harmonic 36.4%" in text
    assert text.endswith("parts 1.50 of the truth's, drift 0.250, contraction 0.100 > 0.200")


def test_a_head_is_measured_from_its_file(tmp_path):
    model = make_model()
    tower = Tower(make_text(model), {"t": TOWER}, model, CPU, "openai", make_vision(model.visual))
    photos = open_photos(make_world(tmp_path / "data"), TOY, "train2017")
    bound = bound_head(tower, save_prompted_head(make_head(), tmp_path / "ldvc.safetensors"))
    found = measure(bound, photos, make_preset(48), 0.1, 2)
    assert found.margins.shape == (2, 3, 3)
    # Cats, dogs and zebras fill all but the rim: rows 2 to 79, columns 2 to 94 (zebras from 0 on).
    assert found.margins[0, 1].tolist() == [58 * 46, 58 * 47, 20 * 95]
    assert found.margins[0, 2].sum() == found.margins[0, 1].sum()
    assert found.parts[:, 1].tolist() == [3, 3]
    assert len(found.contraction) == 3
    assert 0 < found.drift < 2


def test_seconds_are_the_least_of_the_turns_after_the_first():
    calls = []
    found = least_seconds({"a": lambda: calls.append("a"), "b": lambda: torch.ones(3).sum()}, 3)
    assert calls == ["a"] * 4
    assert set(found) == {"a", "b"}
    assert min(found.values()) >= 0
