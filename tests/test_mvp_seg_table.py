"""The recipe that trains and measures MVP-SEG's ablations: numbers by hand, a toy run from end to end."""

import json
from types import MappingProxyType

import numpy as np
import pytest
import torch
from split_world import TOY, make_world
from towers import tiny_spec

from benchmarks import mvp_seg_table
from benchmarks.mvp_seg_table import Row, maskclip_with_templates, row_of, table, zero_shot_scores
from ovs_core.devices import choose_compute
from ovs_core.encoders.towers import build_tower
from ovs_core.methods.mvp_seg.model import dense_features
from ovs_core.metrics.confusion import margins
from ovs_core.types import Vocabulary

UNSEEN = np.array([False, False, False, True, True])


def test_seen_unseen_and_harmonic_by_hand():
    # Class 1: 6 of 8 + 7 - 6; class 2: 1 of 3 + 2 - 1; class 3: 4 of 5 + 6 - 4; class 4 is not in the truth.
    matrix = np.zeros((5, 5), np.int64)
    matrix[1, [1, 2, 3]], matrix[2, [1, 2, 3]], matrix[3, [3, 4]] = (6, 1, 1), (1, 1, 1), (4, 1)
    seen = (6 / 9 + 1 / 4) / 2
    unseen = 4 / 7
    found = zero_shot_scores(margins(matrix), UNSEEN)
    np.testing.assert_allclose(found, [seen, unseen, 2 * seen * unseen / (seen + unseen)])


def test_background_never_counts():
    matrix = np.zeros((5, 5), np.int64)
    matrix[0, 0], matrix[1, 1], matrix[3, 3] = 100, 1, 1
    np.testing.assert_allclose(zero_shot_scores(margins(matrix), UNSEEN), [1, 1, 1])


def test_nothing_unseen_found_has_no_harmonic_mean():
    matrix = np.zeros((5, 5), np.int64)
    matrix[1, 1], matrix[3, 1] = 3, 1
    found = zero_shot_scores(margins(matrix), UNSEEN)
    np.testing.assert_allclose(found, [3 / 4, 0, 0])


def test_equal_photos_have_a_point_for_an_interval():
    matrix = np.zeros((5, 5), np.int64)
    matrix[1, [1, 3]], matrix[3, 3] = (3, 1), 4
    row = row_of(np.stack([margins(matrix)] * 4), UNSEEN)
    assert row.seen == pytest.approx((75, 75, 75))
    assert row.unseen == pytest.approx((80, 80, 80))


def test_table_is_markdown():
    row = Row((50.0, 40.0, 60.0), (20.0, 10.0, 30.0), (28.57, 16.0, 40.0))
    last = "| MVP-SEG | 50.0 [40.0, 60.0] | 20.0 [10.0, 30.0] | 28.6 [16.0, 40.0] |"
    assert table({"MVP-SEG": row}).splitlines()[-1] == last


@pytest.fixture
def tiny(monkeypatch):
    monkeypatch.setattr(mvp_seg_table, "ENCODERS", MappingProxyType({"mini": tiny_spec("mini")}))
    splits = MappingProxyType({"coco_mini": TOY})
    monkeypatch.setattr(mvp_seg_table, "SPLITS", splits)


def test_baseline_is_the_cosine_on_the_value_path():
    spec = tiny_spec("mini")
    tower = build_tower(spec, spec.load(None), choose_compute("cpu", "fp32"), None)
    bound = maskclip_with_templates(tower, ("a {}.", "the {}!"))
    features = tower.vision.encode(np.full((64, 96, 3), 70, np.uint8), mvp_seg_table.FRAME)
    vocabulary = Vocabulary((("dog",), ("cat",)))
    bank = tower.text.embed(vocabulary, ("a {}.", "the {}!"))
    found = bound.method.ask(features, bound.text.embed(vocabulary, ()), {}).evidence.rows / 100
    dense = dense_features(tower.vision.visual, features.windows[0])
    expected = torch.einsum("sd,dhw->shw", bank.embeddings, dense)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)


def test_a_toy_run_prints_every_row(tiny, tmp_path, capsys):
    root = make_world(tmp_path / "data", count=3)
    recipe = {"length": 2, "batch": 2, "crops": {"side": 64, "short_side": [64, 80]}}
    (tmp_path / "recipe.json").write_text(json.dumps(recipe))
    arguments = ["--coco", str(root), "--out", str(tmp_path / "out"), "--steps", "2", "--split", "train2017"]
    arguments += ["--config", str(tmp_path / "recipe.json"), "--json", str(tmp_path / "numbers.json")]
    arguments += ["--train-photos", "2", "--limit", "2"]
    assert mvp_seg_table.main(arguments) == 0
    said = capsys.readouterr().out
    titles = [title for title, _ in mvp_seg_table.ABLATIONS]
    for title in ("MaskCLIP, 85 templates", "MaskCLIP as in the app, 85 templates", *titles):
        assert f"| {title} |" in said
    assert "2 photos of train2017" in said
    numbers = json.loads((tmp_path / "numbers.json").read_text())
    assert len(numbers["rows"]) == 6
    assert numbers["plan"]["steps"] == 2
    kept = [json.loads((tmp_path / "out" / f"row{n}" / "recipe.json").read_text()) for n in (1, 2, 3, 4)]
    assert [(one["k"], one["oc_weight"], one["refine"]) for one in kept] == [
        (1, 0.0, False),
        (3, 0.0, False),
        (3, 1.0, False),
        (3, 1.0, True),
    ]
    assert len(list((tmp_path / "out" / "features").iterdir())) == 2  # shared by all rows


def test_what_cannot_be_measured_is_one_line(tiny, tmp_path, capsys):
    arguments = ["--coco", str(tmp_path), "--out", str(tmp_path / "out")]
    assert mvp_seg_table.main(arguments) == 2
    assert "classes.txt" in capsys.readouterr().err
