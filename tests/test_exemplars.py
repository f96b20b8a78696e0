"""Boxes as words: means by hand, where rows go, and what is refused."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from ovs_core.boxes import box_coverage
from ovs_core.exemplars import (
    Exemplar,
    averaged,
    box_vector,
    exemplar_vocabulary,
    parse_exemplar,
    pooled_vector,
    with_exemplars,
)
from ovs_core.image import Photo
from ovs_core.types import TextBank, Vocabulary

PETS = Vocabulary((("dog", "puppy"), ("cat",)), ("background", "wall"))


def unit(*numbers):
    return F.normalize(torch.tensor(numbers, dtype=torch.float32), dim=0)


def bank(vocabulary=PETS, width=3, seed=0):
    rows = torch.randn(len(vocabulary.rows), width, generator=torch.Generator().manual_seed(seed))
    return TextBank(vocabulary, F.normalize(rows, dim=-1))


def test_cells_count_by_how_much_of_them_is_covered():
    # A photo of 8 x 12 pixels on a grid of 2 x 3: cells of 4 x 4 pixels.
    coverage = box_coverage((2, 0, 8, 5), (8, 12), (2, 3))
    torch.testing.assert_close(coverage, torch.tensor([[0.5, 1.0, 0.0], [0.125, 0.25, 0.0]]))
    assert box_coverage((0, 0, 12, 8), (8, 12), (2, 3)).sum() == 6
    assert box_coverage((5.25, 1, 5.5, 2), (8, 12), (2, 3)).sum() == pytest.approx(0.25 / 16)


def test_a_box_is_the_mean_of_its_unit_tokens():
    tokens = torch.zeros(3, 2, 3)
    tokens[0, 0, 0] = 7.0  # length does not count
    tokens[1, 0, 1] = 0.1
    tokens[2, 1] = 1.0
    vector = box_vector(tokens, (2, 0, 8, 4), (8, 12))  # half of the first cell, all of the second
    torch.testing.assert_close(vector, unit(0.5, 1.0, 0.0))


def test_the_smallest_box_is_the_token_under_it():
    tokens = torch.randn(5, 4, 6, generator=torch.Generator().manual_seed(0))
    vector = box_vector(tokens, (30.0, 20.0, 30.001, 20.001), (40, 60))
    torch.testing.assert_close(vector, F.normalize(tokens[:, 2, 3], dim=0))


def test_a_mask_is_pooled_the_same_way():
    tokens = torch.eye(3).reshape(3, 1, 3)
    torch.testing.assert_close(pooled_vector(tokens, torch.tensor([[0.0, 2.0, 1.0]])), unit(0, 2, 1))
    with pytest.raises(ValueError, match="holds no part"):
        pooled_vector(tokens, torch.zeros(1, 3))
    with pytest.raises(ValueError, match=r"weights must be \(1, 3\), got \(3, 1\)"):
        pooled_vector(tokens, torch.ones(3, 1))


def test_boxes_of_one_name_are_averaged_and_the_others_are_numbered():
    vectors = averaged(
        [("mug", unit(1, 0, 0)), ("", unit(0, 0, 1)), (" MUG ", unit(0, 1, 0)), ("", unit(0, 1, 1))]
    )
    assert list(vectors) == ["mug", "box 2", "box 4"]
    torch.testing.assert_close(vectors["mug"], unit(1, 1, 0))
    torch.testing.assert_close(vectors["box 4"], unit(0, 1, 1))


def test_a_box_becomes_a_synonym_a_class_or_something_not_meant():
    asked = exemplar_vocabulary(PETS, ("Puppy", "mug", "other"))
    assert asked.classes == (("dog", "puppy", "Puppy (box)"), ("cat",), ("mug (box)",))
    assert asked.other == ("background", "wall", "other (box)")
    assert PETS.classes == (("dog", "puppy"), ("cat",))


def test_rows_of_words_stay_and_rows_of_boxes_are_their_vectors():
    words = bank()
    found = [("mug", unit(1, 2, 3)), ("dog", unit(3, 0, 1)), ("other", unit(0, 1, 0)), ("dog", unit(0, 0, 1))]
    both = with_exemplars(words, found)
    rows = dict(zip(both.vocabulary.rows, both.embeddings, strict=True))
    for name, row in zip(PETS.rows, words.embeddings, strict=True):
        assert torch.equal(rows[name], row)
    torch.testing.assert_close(rows["mug (box)"], unit(1, 2, 3))
    torch.testing.assert_close(rows["other (box)"], unit(0, 1, 0))
    torch.testing.assert_close(rows["dog (box)"], F.normalize(unit(3, 0, 1) + unit(0, 0, 1), dim=0))
    assert both.vocabulary.row_label == (1, 1, 1, 2, 3, 0, 0, 0)
    assert with_exemplars(words, []) is words


def test_a_class_called_other_is_a_class():
    typed = Vocabulary((("other",),), ())
    assert exemplar_vocabulary(typed, ("other",)).classes == (("other", "other (box)"),)


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(ValueError, match="must be of width 3"):
        with_exemplars(bank(), [("mug", torch.ones(4))])
    with pytest.raises(ValueError, match="Up to 100 boxes can be asked at once; these are 500"):
        with_exemplars(bank(), [("mug", unit(1, 0, 0))] * 500)


@pytest.mark.parametrize(
    ("box", "sentence"),
    [
        ((3, 3, 3, 9), "has no area"),
        ((9, 3, 3, 9), "has no area"),
        ((0, 0, 13, 8), "reaches out of the photo of 12 x 8 pixels"),
        ((float("nan"), 0, 3, 3), "has no area"),
    ],
)
def test_a_box_must_hold_something(box, sentence):
    with pytest.raises(ValueError, match=sentence):
        Exemplar(Photo(np.zeros((8, 12, 3), np.uint8)), box, "mug")


def test_other_is_what_is_not_meant():
    photo = Photo(np.zeros((8, 12, 3), np.uint8))
    assert Exemplar(photo, (0, 0, 3, 3), " Other ").negative
    assert not Exemplar(photo, (0, 0, 3, 3)).negative


@pytest.mark.parametrize(
    ("text", "name", "photo", "box"),
    [
        ("mug=kitchen.jpg:1,2,30,40", "mug", "kitchen.jpg", (1, 2, 30, 40)),
        (" = a b/c.png : 0.5, 1e1 ,20, 30 ", "", " a b/c.png ", (0.5, 10, 20, 30)),
        ("red mug=C:\\photos\\a=b.jpg:0,0,1,1", "red mug", "C:\\photos\\a=b.jpg", (0, 0, 1, 1)),
    ],
)
def test_a_command_line_says_name_photo_and_box(text, name, photo, box):
    spec = parse_exemplar(text)
    assert (spec.name, str(spec.photo), spec.box) == (name, photo, box)


@pytest.mark.parametrize(
    "text", ["", "mug", "mug=a.jpg", "mug=a.jpg:1,2,3", "mug=a.jpg:1,2,3,x", "a.jpg:1,2,3,4"]
)
def test_anything_else_is_refused_in_one_sentence(text):
    with pytest.raises(ValueError, match=r"An exemplar is written name=photo\.jpg:left,top,right,bottom"):
        parse_exemplar(text)
