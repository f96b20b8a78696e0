"""Boxes as words: means by hand, where rows go, and what is refused."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from ovs_core.cli.segment import main
from ovs_core.image import Photo
from ovs_core.types import TextBank, Vocabulary
from ovs_core.vocabulary import default_background, parse_vocabulary
from ovs_core.vocabulary.boxes import box_coverage
from ovs_core.vocabulary.exemplars import (
    CONTRAST,
    LEAN,
    Exemplar,
    box_vector,
    exemplar_vocabulary,
    parse_exemplar,
    pooled_vector,
    with_exemplars,
)

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


def contrasted(inside, tokens):
    """What `box_vector` should be, from what is inside the box."""
    return F.normalize(inside, dim=0) - CONTRAST * F.normalize(tokens, dim=0).mean((1, 2))


def test_a_box_is_the_mean_of_its_unit_tokens_less_its_photos():
    tokens = torch.zeros(3, 2, 3)
    tokens[0, 0, 0] = 7.0  # length does not count
    tokens[1, 0, 1] = 0.1
    tokens[2, 1] = 1.0
    vector = box_vector(tokens, (2, 0, 8, 4), (8, 12))  # half of the first cell, all of the second
    torch.testing.assert_close(vector, contrasted(torch.tensor([0.5, 1.0, 0.0]), tokens))


def test_the_smallest_box_is_the_token_under_it():
    tokens = torch.randn(5, 4, 6, generator=torch.Generator().manual_seed(0))
    vector = box_vector(tokens, (30.0, 20.0, 30.001, 20.001), (40, 60))
    torch.testing.assert_close(vector, contrasted(tokens[:, 2, 3], tokens))


def test_a_mask_is_pooled_the_same_way():
    tokens = torch.eye(3).reshape(3, 1, 3)
    torch.testing.assert_close(pooled_vector(tokens, torch.tensor([[0.0, 2.0, 1.0]])), unit(0, 2, 1))
    with pytest.raises(ValueError, match="holds no part"):
        pooled_vector(tokens, torch.zeros(1, 3))
    with pytest.raises(ValueError, match=r"weights must be \(1, 3\), got \(3, 1\)"):
        pooled_vector(tokens, torch.ones(3, 1))


def test_a_box_becomes_a_class_or_something_not_meant_unless_its_name_was_typed():
    asked = exemplar_vocabulary(PETS, ("Puppy", "mug", "", " MUG ", "other", "Other"), "default")
    assert asked.classes == (("dog", "puppy"), ("cat",), ("mug (box)",), ("box 3 (box)",))
    assert asked.other == ("background", "wall", "other (box)")
    assert exemplar_vocabulary(PETS, ("dog",), "default") == PETS


def test_boxes_alone_are_a_question():
    asked = exemplar_vocabulary(None, ("mug, red", ""), "default")
    assert asked.classes == (("mug, red (box)",), ("box 2 (box)",))
    assert asked.other == default_background()
    assert exemplar_vocabulary(None, ("mug",), "none").other == ()
    for nothing in ((), ("other",)):
        with pytest.raises(ValueError, match="Type a class name, or draw a box"):
            exemplar_vocabulary(None, nothing, "default")


def test_a_class_called_other_is_a_class():
    typed = Vocabulary((("other",),), ("wall",))
    assert exemplar_vocabulary(typed, ("other",), "default") == typed


def test_words_stay_and_lean_and_boxes_have_rows_of_their_own():
    found = [
        ("mug", torch.tensor([0.1, 0.2, 0.3])),
        ("dog", unit(3, 0, 1)),
        ("other", unit(0, 1, 0)),
        ("Mug", torch.tensor([0.3, 0.2, 0.1])),
    ]
    words = bank(exemplar_vocabulary(PETS, [name for name, _ in found], "default"))
    both = with_exemplars(words, found)
    before = dict(zip(words.vocabulary.rows, words.embeddings, strict=True))
    after = dict(zip(both.vocabulary.rows, both.embeddings, strict=True))
    for name in ("cat", "background", "wall"):
        assert torch.equal(after[name], before[name])
    torch.testing.assert_close(after["mug (box)"], torch.tensor([0.2, 0.2, 0.2]))
    torch.testing.assert_close(after["other (box)"], unit(0, 1, 0))
    for name in ("dog", "puppy"):  # every word of the class
        leaning = F.normalize((1 - LEAN) * before[name] + LEAN * unit(3, 0, 1), dim=0)
        torch.testing.assert_close(after[name], leaning)
    assert torch.equal(words.embeddings, bank(words.vocabulary).embeddings)  # what was given is unchanged


def test_learned_contexts_lean_one_by_one():
    words = TextBank(PETS, bank().embeddings.expand(2, -1, -1).clone())
    both = with_exemplars(words, [("cat", unit(1, 2, 3))])
    assert both.embeddings.shape == (2, 5, 3)
    torch.testing.assert_close(
        both.embeddings[1, 2], with_exemplars(bank(), [("cat", unit(1, 2, 3))]).embeddings[2]
    )


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(ValueError, match="must be of width 3"):
        with_exemplars(bank(), [("dog", torch.ones(4))])
    with pytest.raises(ValueError, match="Up to 100 boxes can be asked at once; these are 500"):
        exemplar_vocabulary(PETS, ["mug"] * 500, "default")


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


# Through the engine


def halves(left, right, size=(64, 96)):
    """A photo of two textures side by side."""
    pixels = np.empty((*size, 3), np.uint8)
    pixels[:, : size[1] // 2] = left
    pixels[:, size[1] // 2 :] = right
    return Photo(pixels)


def test_a_box_on_the_photo_itself_finds_what_it_holds(engine):
    photo = halves((220, 30, 30), (20, 60, 200))
    boxes = [Exemplar(photo, (4, 4, 40, 60), "red"), Exemplar(photo, (56, 4, 92, 60), "blue")]
    result = engine.segment(photo, "", background="none", exemplars=boxes, options={"threshold": 0.0})
    assert [entry.names[0] for entry in result.label_map.classes] == ["red (box)", "blue (box)"]
    labels = result.label_map.labels
    assert (labels[:, :40] == 1).mean() > 0.9
    assert (labels[:, 56:] == 2).mean() > 0.9


def test_boxes_on_another_photo_and_words_go_together(engine):
    seen = halves((220, 30, 30), (20, 60, 200), (48, 80))
    asked = halves((20, 60, 200), (220, 30, 30))
    words = engine.segment(asked, "dog; grass")
    both = engine.segment(asked, "dog; grass", exemplars=[Exemplar(seen, (2, 2, 36, 46), "mug")])
    assert [entry.names[0] for entry in both.label_map.classes] == ["dog", "grass", "mug (box)"]
    leaning = engine.segment(asked, "dog; grass", exemplars=[Exemplar(seen, (2, 2, 36, 46), "dog")])
    assert [entry.names[0] for entry in leaning.label_map.classes] == ["dog", "grass"]
    assert not torch.equal(leaning.evidence.rows, words.evidence.rows)
    again = engine.segment(asked, "dog; grass")
    assert torch.equal(again.evidence.rows, words.evidence.rows)
    assert "method" not in again.seconds


def test_another_box_is_another_question(engine):
    photo = halves((220, 30, 30), (20, 60, 200))
    answers = [
        engine.segment(photo, "dog", exemplars=[Exemplar(photo, box, "mug")]).evidence.rows
        for box in ((4, 4, 40, 60), (56, 4, 92, 60), (4, 4, 40, 60))
    ]
    assert torch.equal(answers[0], answers[2])
    assert not torch.equal(answers[0], answers[1])


def test_a_command_line_takes_boxes(make_engine, tmp_path, capsys):
    photo = halves((220, 30, 30), (20, 60, 200))
    path = tmp_path / "two.png"
    Image.fromarray(photo.pixels).save(path)
    out = tmp_path / "out"
    spec = f"red={path}:4,4,40,60"
    arguments = [str(path), "--out", str(out), "--background", "none", "--exemplar", spec]
    assert main([*arguments, "--exemplar", f"={path}:56,4,92,60"], make_engine()) == 0
    assert "red (box)" in capsys.readouterr().out
    for wrong, sentence in (
        (f"red={path}:4,4,400,60", "reaches out of the photo of 96 x 64 pixels"),
        (f"red={tmp_path}/absent.png:1,1,2,2", "absent.png"),
        ("red", "An exemplar is written"),
    ):
        assert main([str(path), "--out", str(out), "--exemplar", wrong], make_engine()) == 2
        assert sentence in capsys.readouterr().err


def test_boxes_that_are_in_the_words_already_add_nothing():
    names = ["mug", "other", "dog"]
    once = exemplar_vocabulary(parse_vocabulary("dog"), names, "default")
    assert once.names == ("dog", "mug (box)")
    assert exemplar_vocabulary(once, names, "default") == once
