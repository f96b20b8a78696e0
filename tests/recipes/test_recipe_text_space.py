"""The teachers' joint space on made-up sentence embeddings and tables."""

import csv

import numpy as np
import pytest
import torch
from training_toys import CLIP_WIDTH, SENTENCE_WIDTH, fake_sentences, make_tables

from recipes.mini import text_space
from recipes.mini.text_space import TextSpace, clean_name, clip_tables, fit_text_space, unit

EXTRA = ("boat house", "red dog", "lawn", "sea", "hat", "cup", "dog")


@pytest.fixture
def tables(tmp_path):
    return make_tables(tmp_path)


def test_unit_rows():
    rows = unit(np.array([[3.0, 4.0], [0.0, 0.0]], np.float32))
    np.testing.assert_allclose(rows, [[0.6, 0.8], [0, 0]], rtol=1e-6)
    assert rows.dtype == np.float32


@pytest.mark.parametrize(
    ("raw", "clean"), [("Tennis_ball (sports)", "tennis ball"), ("Cup/mug", "cup mug"), ("  a  b ", "a b")]
)
def test_clean_name(raw, clean):
    assert clean_name(raw) == clean


def test_tables_are_read_in_id_order_and_the_first_of_a_name_counts(tables):
    names, rows = clip_tables(tables)
    assert names == ("dog", "cat", "tennis ball", "car", "tree", "person", "boat", "lamp")
    assert rows.shape == (8, CLIP_WIDTH)
    lvis = np.load(tables / "lvis_v1_clip_a+cname.npy").astype(np.float32)
    np.testing.assert_allclose(rows[0], lvis[0] / np.linalg.norm(lvis[0]), rtol=1e-6)


def test_table_with_another_number_of_rows_is_refused(tables):
    with (tables / "Objects365_names_fix.csv").open("a", encoding="utf-8") as file:
        csv.writer(file).writerow(["", "extra"])
    with pytest.raises(ValueError, match="4 rows for"):
        clip_tables(tables)


def test_ridge_map_is_the_one_that_minimises_its_own_sum(tables):
    space = fit_text_space(tables, EXTRA, 6, fake_sentences)
    names, clip = clip_tables(tables)
    sentence = fake_sentences([f"a {name}" for name in names])
    x, y = sentence - sentence.mean(axis=0), clip - clip.mean(axis=0)

    def cost(ridge):
        return ((x @ ridge - y) ** 2).sum() + text_space.RIDGE_LAMBDA * (ridge**2).sum()

    best = cost(space.ridge.astype(np.float64))
    for row, column in ((0, 0), (3, 7), (11, 9)):
        for step in (-0.01, 0.01):
            moved = space.ridge.astype(np.float64)
            moved[row, column] += step
            assert cost(moved) > best


def test_components_are_the_directions_of_largest_spread(tables):
    space = fit_text_space(tables, EXTRA, 6, fake_sentences)
    assert space.components.shape == (SENTENCE_WIDTH + CLIP_WIDTH, 6)
    np.testing.assert_allclose(space.components.T @ space.components, np.eye(6), atol=1e-5)
    wider = fit_text_space(tables, EXTRA, 7, fake_sentences)
    np.testing.assert_array_equal(wider.components[:, :6], space.components)


def test_embedding_by_hand():
    """Sentence half (1, 0); the ridge maps it to (0, 2), a known name has its own CLIP vector instead."""
    space = TextSpace(
        sentences=lambda texts: np.array([[1.5, 0.5]] * len(texts), np.float32),
        sentence_mean=np.array([0.5, 0.5], np.float32),
        clip_mean=np.array([0.0, 1.0], np.float32),
        ridge=np.array([[0, 2], [7, 7]], np.float32),
        components=np.eye(4, dtype=np.float32),
        known={"dog": np.array([3.0, 5.0], np.float32)},
    )
    half = 0.5**0.5  # both halves have length 1
    expected = torch.tensor([[1.0, 0, 0, 1], [1, 0, 0.6, 0.8]]) * half
    torch.testing.assert_close(space.embed(["settee", "dog"]), expected)


def test_sentence_model_is_asked_as_the_tables_were_made(tables):
    asked = []

    def listening(texts):
        asked.extend(texts)
        return fake_sentences(texts)

    space = fit_text_space(tables, EXTRA, 6, listening)
    assert asked[0] == "a dog"
    assert "a boat house" in asked
    assert asked.count("a dog") == 1  # a name of the tables is not asked for again
    rows = space.embed(["hat"])
    assert asked[-1] == "a hat"
    assert rows.shape == (1, 6)
    torch.testing.assert_close(rows.norm(dim=1), torch.ones(1))
