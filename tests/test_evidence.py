import math
import threading
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hand_made import make_proposals

from ovs_core.devices import Cancelled
from ovs_core.evidence import cells, sampling
from ovs_core.evidence import score_map as score_maps
from ovs_core.evidence.decide import class_probabilities, decide, margin, summarise
from ovs_core.evidence.relabelled import Relabelled
from ovs_core.evidence.score_map import ScoreMap
from ovs_core.types import LabelClass, LabelMap, Vocabulary

PETS = Vocabulary((("dog", "puppy"), ("cat",)), ("wall", "floor"))


def _score_map(vocabulary, grid, image_size, seed=0):
    rows = len(vocabulary.rows)
    evidence = torch.randn(rows, *grid, generator=torch.Generator().manual_seed(seed)) * 0.1
    return ScoreMap(evidence, vocabulary, image_size)


def _many(classes, other):
    return Vocabulary(
        tuple((f"class {i}",) for i in range(classes)), tuple(f"other {i}" for i in range(other))
    )


def _reference(score_map, scale, size):
    """The rule on the whole map at once, straight from its definition: (K + 1, H, W), `other` last."""
    rows = F.interpolate(score_map.rows[None], size=size, mode="bilinear", align_corners=False)[0]
    chances = (rows * scale).softmax(0)
    label = torch.tensor(score_map.vocabulary.row_label)
    present = [*range(1, len(score_map.vocabulary.classes) + 1), 0]
    return torch.stack([chances[label == k].amax(0) for k in present])


def test_one_pixel_worked_by_hand():
    # Scale 10: exponents 1 2 3 0 1, sum e + e^2 + e^3 + 1 + e; best name is cat, 3 of them.
    evidence = torch.tensor([0.1, 0.2, 0.3, 0.0, 0.1]).view(5, 1, 1)
    score_map = ScoreMap(evidence, PETS, (1, 1))
    total = 2 * math.e + math.e**2 + math.e**3 + 1
    labels, share = decide(score_map, 10.0, 0.0)
    assert labels.tolist() == [[2]]
    assert share[0, 0] == pytest.approx(math.e**3 / total, rel=1e-6)
    assert margin(score_map, 10.0)[0, 0] == pytest.approx((math.e**3 - math.e**2) / total, rel=1e-5)
    expected = [math.e**2 / total, math.e**3 / total, math.e / total]
    assert class_probabilities(score_map, 10.0, (1, 1))[:, 0, 0].tolist() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("kind", ["rows", "offsets", "masks", "rule"])
def test_labels_stop_being_made_at_the_next_tile(kind):
    cancel, asked = threading.Event(), []
    rows = _score_map(PETS, (6, 9), (400, 600))
    evidence = {
        "rows": lambda: rows,
        "offsets": lambda: rows.calibrated({1: 0.1}),
        "masks": lambda: make_proposals(np.ones((40, 400, 600)), [[0.5, 0.2]] * 40),
        "rule": lambda: Relabelled(rows, lambda *values: asked.append(values) or values[2:4]),
    }[kind]()
    tiles = evidence.decide(10.0, (400, 600), cancel)
    if kind != "rule":  # which gives all at once
        next(tiles)
    cancel.set()
    with pytest.raises(Cancelled):
        next(tiles)
    assert not asked
    with pytest.raises(Cancelled):
        decide(evidence, 10.0, 0.0, cancel=cancel)
    assert decide(evidence, 10.0, 0.0, cancel=threading.Event())[0].shape == (400, 600)


def test_interpolation_worked_by_hand():
    # Two tokens 0 and 1 on four pixels: centres at -0.25 0.25 0.75 1.25 of a token, edges repeated.
    vocabulary = Vocabulary((("a",), ("b",)))
    evidence = torch.tensor([[[0.0, 1.0]], [[0.5, 0.5]]])
    labels, share = decide(ScoreMap(evidence, vocabulary, (1, 4)), 1.0, 0.0)
    chance = [1 / (1 + math.exp(-abs(value - 0.5))) for value in (0.0, 0.25, 0.75, 1.0)]
    assert labels.tolist() == [[2, 2, 1, 1]]
    assert share[0].tolist() == pytest.approx(chance, rel=1e-6)


@pytest.mark.parametrize(
    ("grid", "size"), [((3, 4), (37, 53)), ((5, 2), (5, 2)), ((1, 1), (6, 9)), ((7, 9), (4, 3))]
)
def test_the_whole_map_rule_holds_at_every_size(grid, size):
    score_map = _score_map(PETS, grid, size)
    expected = _reference(score_map, 40.0, size)
    best, index = expected.max(0)
    label = torch.tensor([1, 2, 0])[index]
    label[best < 0.6] = 0
    labels, share = decide(score_map, 40.0, 0.6)
    assert labels.tolist() == label.tolist()
    np.testing.assert_allclose(share, best.numpy(), atol=2e-6)
    np.testing.assert_allclose(class_probabilities(score_map, 40.0, size), expected, atol=2e-6)
    np.testing.assert_allclose(margin(score_map, 40.0), best - expected.topk(2, dim=0).values[1], atol=3e-6)


@pytest.mark.parametrize(
    ("tile_bytes", "tile_width"), [(1, 512), (4 * 5 * 7, 512), (4 * 5 * 200, 16), (4 * 5 * 60, 60)]
)
def test_tiles_equal_the_whole(monkeypatch, tile_bytes, tile_width):
    score_map = _score_map(PETS, (4, 6), (31, 47))
    labels, share = decide(score_map, 40.0, 0.3)
    monkeypatch.setattr(sampling, "_TILE_BYTES_CPU", tile_bytes)
    monkeypatch.setattr(score_maps, "TILE_WIDTH", tile_width)
    tiled_labels, tiled_share = decide(score_map, 40.0, 0.3)
    assert np.array_equal(labels, tiled_labels)
    np.testing.assert_allclose(tiled_share, share, atol=1e-6)
    tiles = list(score_map.probabilities(40.0, (31, 47)))
    assert len(tiles) > 1
    assert sum(tile.probabilities[0].numel() for tile in tiles) == 31 * 47


@pytest.mark.parametrize(
    ("grid", "size", "spread"),
    [
        ((5, 7), (300, 450), 1.0),  # smooth
        ((5, 7), (700, 500), 8.0),  # steep: the best of one sample is far behind at the next
        ((1, 6), (90, 300), 2.0),  # one sample along an axis
        ((1, 1), (80, 70), 2.0),
        ((4, 3), (257, 259), 0.0),  # all equal: the first wins
    ],
)
def test_large_answers_by_cells_are_those_of_every_pixel(grid, size, spread):
    vocabulary = _many(70, 9)
    score_map = replace(_score_map(vocabulary, grid, size), offsets={})
    score_map = score_map.with_rows(score_map.rows.double() * 10 * spread).without([3, 50])
    assert cells.nodes_for(score_map.rows, 1.0, size) is not None
    expected = _reference_without(score_map, size)
    labels, share = decide(replace(score_map, rows=score_map.rows.float()), 1.0, 0.0)
    best = expected.amax(0)
    chosen = expected.gather(0, torch.from_numpy(labels.astype(np.int64))[None])[0]
    assert torch.equal(chosen > best * (1 - 1e-5), torch.ones(size, dtype=torch.bool))
    assert np.allclose(share, best, rtol=1e-5, atol=0)
    if not spread:
        assert (labels == 1).all()


def _reference_without(score_map, size):
    """Soft-max of the best name of each label at every pixel, label first; 0 for what does not compete."""
    rows = F.interpolate(score_map.rows[None], size=size, mode="bilinear", align_corners=False)[0]
    known = torch.tensor(score_map.vocabulary.row_label)
    out = torch.isin(known, torch.tensor(sorted(score_map.excluded)))
    chances = rows.masked_fill(out[:, None, None], -torch.inf).softmax(0)
    return torch.stack([chances[known == label].amax(0) for label in range(int(known.max()) + 1)])


def test_steep_cells_are_counted_pixel_by_pixel():
    # Four names, each 40 ahead at one corner: in the middle all are e^-30 of what they were and equal again.
    rows = torch.full((4, 2, 2), -40.0)
    for name in range(4):
        rows[name, name // 2, name % 2] = 0.0
    score_map = ScoreMap(rows, Vocabulary((("a",), ("b",), ("c",), ("d",))), (401, 401))
    labels, share = decide(score_map, 1.0, 0.0)
    assert share[200, 200] == pytest.approx(0.25, rel=1e-5)
    assert [labels[y, x] for y in (0, -1) for x in (0, -1)] == [1, 2, 3, 4]


def test_a_tile_stays_inside_its_byte_budget():
    score_map = _score_map(_many(847, 50), (21, 28), (3000, 4000))
    tile = next(score_map.probabilities(40.0, (3000, 4000)))
    assert tile.probabilities[0].numel() * 897 * 4 <= 4 << 20


def test_the_threshold_makes_other_and_keeps_the_share():
    evidence = torch.tensor([1.0, 0.0]).view(2, 1, 1)  # shares 0.731 and 0.269 at scale 1
    score_map = ScoreMap(evidence, Vocabulary((("a",), ("b",))), (2, 3))
    below, share = decide(score_map, 1.0, 0.74)
    above, _ = decide(score_map, 1.0, 0.73)
    assert below.tolist() == [[0, 0, 0], [0, 0, 0]]
    assert above.tolist() == [[1, 1, 1], [1, 1, 1]]
    assert share[0, 0] == pytest.approx(1 / (1 + math.exp(-1)), rel=1e-6)


def test_of_equal_names_the_first_wins_and_a_class_beats_other():
    evidence = torch.full((5, 2, 2), 0.2)
    labels, share = decide(ScoreMap(evidence, PETS, (3, 4)), 40.0, 0.0)
    assert set(labels.ravel().tolist()) == {1}
    np.testing.assert_allclose(share, 0.2, rtol=1e-6)


def test_one_class_without_other_wins_everywhere():
    score_map = _score_map(Vocabulary((("dog",),)), (2, 3), (5, 7))
    labels, share = decide(score_map, 40.0, 0.5)
    assert labels.min() == 1
    assert share.min() == 1
    assert margin(score_map, 40.0).min() == 1


@pytest.mark.parametrize(("classes", "dtype"), [(255, np.uint8), (256, np.uint16), (847, np.uint16)])
def test_labels_are_as_wide_as_needed(classes, dtype):
    vocabulary = _many(classes, 3)
    evidence = torch.zeros(classes + 3, 2, 3)
    evidence[classes - 1] = 1.0
    labels, _ = decide(ScoreMap(evidence, vocabulary, (4, 6)), 40.0, 0.0)
    assert labels.dtype == dtype
    assert set(labels.ravel().tolist()) == {classes}


def test_extreme_scales_stay_finite():
    score_map = _score_map(PETS, (3, 4), (9, 11))
    labels, share = decide(ScoreMap(score_map.rows * 10, PETS, (9, 11)), 1000.0, 0.1)
    assert np.isfinite(share).all()
    assert share.min() > 0.19  # never below one in five names
    assert labels.max() <= 2


def test_half_precision_evidence_is_decided_in_full():
    score_map = _score_map(PETS, (3, 4), (9, 11))
    half = ScoreMap(score_map.rows.to(torch.bfloat16), PETS, (9, 11))
    full = ScoreMap(half.rows.float(), PETS, (9, 11))
    assert np.array_equal(decide(half, 40.0, 0.2)[1], decide(full, 40.0, 0.2)[1])


def test_deciding_leaves_the_evidence_alone():
    score_map = _score_map(PETS, (3, 4), (9, 11))
    before = score_map.rows.clone()
    decide(score_map, 40.0, 0.2)
    margin(score_map, 40.0)
    assert torch.equal(score_map.rows, before)


def test_empty_sizes_are_refused():
    with pytest.raises(ValueError, match="at least 1 x 1"):
        decide(_score_map(PETS, (3, 4), (9, 11)), 40.0, 0.0, (0, 5))


def test_class_scores_take_the_best_name():
    evidence = torch.tensor([0.1, 0.4, 0.3, 0.0, 0.2]).view(5, 1, 1).expand(5, 2, 3)
    rows = ScoreMap(evidence, PETS, (2, 3)).class_scores
    assert rows.shape == (3, 2, 3)
    assert rows[:, 0, 0].tolist() == pytest.approx([0.4, 0.3, 0.2])
    bare = ScoreMap(evidence[:3], Vocabulary(PETS.classes), (2, 3))
    assert bare.class_scores.shape == (2, 2, 3)


def _label_map(labels, *names):
    colors = [(k, 0, 0) for k in range(1, len(names) + 1)]
    classes = (LabelClass(k, own, color) for k, (own, color) in enumerate(zip(names, colors, strict=True), 1))
    return LabelMap(labels, tuple(classes))


def test_a_summary_counts_pixels_and_averages_confidence():
    labels = np.array([[1, 1, 0], [1, 3, 3]], np.uint8)
    confidence = np.array([[0.5, 0.7, 0.2], [0.9, 0.4, 0.6]], np.float32)
    names = (("dog", "puppy"), ("cat",), ("sky",))
    lines = summarise(_label_map(labels, *names), confidence, Vocabulary(names))
    assert [line.label for line in lines] == [1, 2, 3, 0]
    assert [line.area_share for line in lines] == pytest.approx([3 / 6, 0, 2 / 6, 1 / 6])
    assert [line.mean_score for line in lines] == pytest.approx([0.7, 0, 0.5, 0.2])
    assert lines[0].names == ("dog", "puppy")
    assert [line.color for line in lines] == [(1, 0, 0), (2, 0, 0), (3, 0, 0), (128, 128, 128)]


@pytest.mark.parametrize(("other", "listed"), [((), [1]), (("b",), [1, 0])])
def test_other_is_listed_only_where_it_could_win_or_did(other, listed):
    label_map, names = _label_map(np.ones((2, 2), np.uint8), ("a",)), (("a",),)
    lines = summarise(label_map, np.ones((2, 2), np.float32), Vocabulary(names, other))
    assert [line.label for line in lines] == listed


def test_confidence_must_have_the_labels_size():
    label_map = _label_map(np.ones((2, 3), np.uint8), ("a",))
    with pytest.raises(ValueError, match=r"confidence must be \(2, 3\)"):
        summarise(label_map, np.ones((3, 2), np.float32), Vocabulary((("a",),)))


def _logits(*values, activation):
    """One pixel, two classes and one hidden name."""
    rows = torch.tensor(values).view(3, 1, 1)
    return ScoreMap(rows, Vocabulary((("a",), ("b",)), ("c",)), (1, 1), activation)


def test_sigmoid_scores_worked_by_hand():
    evidence = _logits(1.0, 2.0, 0.5, activation="sigmoid")
    labels, confidence = decide(evidence, 1.0, 0.0)
    assert labels.tolist() == [[2]]
    assert confidence[0, 0] == pytest.approx(1 / (1 + math.exp(-2)))
    assert decide(evidence, 1.0, 0.9)[0].tolist() == [[0]]  # 0.881 is below
    found = class_probabilities(evidence, 2.0, (1, 1))[:, 0, 0].tolist()
    assert found == pytest.approx([1 / (1 + math.exp(-2 * v)) for v in (1.0, 2.0, 0.5)])


def test_probabilities_need_no_scale():
    evidence = _logits(0.3, 0.25, 0.45, activation="none")
    labels, confidence = decide(evidence, 40.0, 0.0)
    assert (labels.tolist(), confidence[0, 0]) == ([[0]], pytest.approx(0.45))


@pytest.mark.parametrize("activation", ["softmax", "sigmoid", "none"])
def test_calibration_takes_from_a_class_before_the_best_is_chosen(activation):
    evidence = _logits(0.30, 0.35, 0.1, activation=activation)
    assert decide(evidence, 1.0, 0.0)[0].tolist() == [[2]]
    calibrated = evidence.calibrated({2: -0.1})  # of a class that training saw
    labels, confidence = decide(calibrated, 1.0, 0.0)
    assert labels.tolist() == [[1]]
    plain = class_probabilities(evidence, 1.0, (1, 1))[0, 0, 0]
    assert confidence[0, 0] == pytest.approx(float(plain))  # what is shown is not the shifted number
    with pytest.raises(ValueError, match="offsets must be for labels"):
        evidence.calibrated({7: 0.1})


def test_the_mean_is_taken_on_the_finest_grid():
    coarse = ScoreMap(torch.tensor([[[1.0]]]), Vocabulary((("a",),)), (4, 6))
    fine = ScoreMap(torch.tensor([[[0.0, 2.0, 4.0]]]), Vocabulary((("a",),)), (4, 6))
    assert coarse.mean([fine]).rows.tolist() == [[[0.5, 1.5, 2.5]]]
