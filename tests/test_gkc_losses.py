"""GKC's losses: numbers worked out by hand, then the official code's where its tensors are at hand."""

import math

import numpy as np
import pytest
import torch
from gkc_reference import FOLDER, needs_reference

from ovs_core.training.gkc_losses import (
    Distilled,
    Grounded,
    distillation,
    grounding_distances,
    grounding_loss,
    joint_distillation,
    padded_rows,
    some_regions,
)

ONE = torch.tensor(1.0)


def two_regions(counts):
    student = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    teacher = torch.tensor([[1.0, 0.0], [0.6, 0.8]])
    text = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    return Distilled(student, teacher, text, counts)


def test_plain_term_is_the_mean_squared_distance():
    # |v1 - c1|^2 = 0, |v2 - c2|^2 = 0.4^2 + 0.8^2
    assert float(distillation(two_regions([2]), ONE).plain) == pytest.approx(0.4)


@pytest.mark.parametrize(
    ("counts", "gamma", "expected"),
    [
        # t t^T - v c^T = [[1, 0], [0, 1]] - [[1, 0.6], [1, 0.6]]
        ([2], 1.0, (0.36 + 1 + 0.16) / 4),
        # pairs of two photos are not compared: 0 and 0.4^2
        ([1, 1], 1.0, 0.16 / 2),
        # gamma^2 = 4: 3, -0.6, -1 and 3.4, squared
        ([2], 2.0, (9 + 0.36 + 1 + 11.56) / 4),
    ],
)
def test_structure_term_of_the_code(counts, gamma, expected):
    found = distillation(two_regions(counts), torch.tensor(gamma)).structure
    assert float(found) == pytest.approx(expected)


def test_structure_term_of_the_paper():
    # distances 0 and sqrt(0.8) against 0 and sqrt(2); their differences add up to 2 sqrt(2), over two regions
    found = distillation(two_regions([2]), ONE, "paper").structure
    assert float(found) == pytest.approx(math.sqrt(2), abs=2e-3)


def test_joint_mean_counts_plain_and_pair_terms_alike():
    assert float(joint_distillation(two_regions([2]), ONE)) == pytest.approx((0.8 + 0.36 + 1 + 0.16) / 6)


@pytest.mark.parametrize("form", ["code", "paper"])
def test_gradients_reach_the_student_and_are_finite(form):
    rows = two_regions([2])
    student = rows.student.clone().requires_grad_(True)
    found = distillation(Distilled(student, rows.teacher, rows.text, [2]), ONE, form)
    (found.plain + found.structure).backward()
    assert torch.isfinite(student.grad).all()
    assert student.grad.abs().sum() > 0


def test_no_region_at_all_costs_nothing():
    empty = torch.zeros(0, 3, requires_grad=True)
    found = distillation(Distilled(empty, empty.detach(), empty.detach(), [0, 0]), ONE)
    assert found.plain.requires_grad
    assert [one.item() for one in found] == [0, 0]


def test_regions_must_fit_together():
    rows = torch.eye(3)
    with pytest.raises(ValueError, match="n=2"):
        Distilled(rows, rows, rows, [1, 1])
    with pytest.raises(ValueError, match="equal"):
        Distilled(rows, rows[:, :2], rows, [3])


def test_some_regions_are_drawn_when_there_are_too_many():
    assert some_regions([2, 3], None, most=5).tolist() == [0, 1, 2, 3, 4]
    drawn = some_regions([40, 60], torch.Generator().manual_seed(0), most=7).tolist()
    assert len(set(drawn)) == 7
    assert drawn == sorted(drawn)
    assert max(drawn) < 100


def pair(padded):
    """Two captions of one noun and two photos of one region, with or without padding."""
    rows = torch.eye(2)[:, None]  # (2, 1, 2)
    there = torch.ones(2, 1, dtype=torch.bool)
    if padded:
        rows = torch.cat([rows, torch.full((2, 2, 2), 7.0)], dim=1)
        there = torch.cat([there, torch.zeros(2, 2, dtype=torch.bool)], dim=1)
    return Grounded(rows, there, rows, there)


@pytest.mark.parametrize("padded", [False, True])
def test_grounding_of_pairs_that_are_alike(padded):
    batch = pair(padded)
    by_words, by_regions = grounding_distances(batch, torch.tensor(0.0))
    for distances in (by_words, by_regions):
        torch.testing.assert_close(distances, 1 - torch.eye(2))
    assert float(grounding_loss(batch, torch.tensor(0.0))) == pytest.approx(math.log(1 + math.exp(-1)))


def test_grounding_weighs_regions_by_likeness():
    # One word along x; regions along x and y: soft-max of (1, 0) weighs distances 0 and 1.
    words, regions = torch.tensor([[[1.0, 0.0]]]), torch.eye(2)[None]
    there = torch.ones(1, 2, dtype=torch.bool)
    by_words, by_regions = grounding_distances(
        Grounded(words, there[:, :1], regions, there), torch.tensor(0.0)
    )
    assert float(by_words) == pytest.approx(1 / (1 + math.e))
    assert float(by_regions) == pytest.approx(0.5)


def test_a_caption_without_nouns_hurts_nobody():
    batch = pair(padded=False)
    silent = Grounded(batch.words, torch.tensor([[True], [False]]), batch.regions, batch.has_region)
    assert torch.isfinite(grounding_loss(silent, torch.tensor(2.0)))


def test_padded_rows_keep_the_first_ones():
    rows, there = padded_rows([torch.ones(3, 2), torch.ones(1, 2)], 2)
    assert there.tolist() == [[True, True], [True, False]]
    assert rows[1].tolist() == [[1, 1], [0, 0]]
    with pytest.raises(ValueError, match="at least one"):
        padded_rows([], 2)


@needs_reference
@pytest.mark.parametrize("prediction", range(10))
def test_distillation_equals_the_official_code(prediction):
    with np.load(FOLDER / "gkc_tiny_train.npz") as tensors:
        rows = (torch.tensor(tensors[f"kd{prediction}.{part}"]) for part in ("student", "teacher", "text"))
        counts = np.diff(tensors[f"kd{prediction}.offsets"]).tolist()
        found = distillation(Distilled(*rows, counts), ONE)
        expected = tensors[f"kd{prediction}.losses"]
    np.testing.assert_allclose([float(found.plain), float(found.structure)], expected, atol=1e-6, rtol=0)


@needs_reference
@pytest.mark.parametrize("prediction", range(10))
def test_grounding_equals_the_official_code(prediction):
    with np.load(FOLDER / "gkc_tiny_train.npz") as tensors:
        words, has_word, regions, has_region = (
            torch.tensor(tensors[f"ground{prediction}.{part}"])
            for part in ("text", "text_mask", "vision", "vision_mask")
        )
        scale, expected = tensors[f"ground{prediction}.temperature_loss"]
    batch = Grounded(words, has_word.bool(), regions, has_region.bool())
    assert float(grounding_loss(batch, torch.tensor(float(scale)).log())) == pytest.approx(expected, abs=1e-6)
