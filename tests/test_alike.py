"""Words that are nearly the same: which two, and that pixels are split arbitrarily between them."""

from pathlib import Path

import pytest
import torch

from ovs_core.engine import Engine
from ovs_core.types import TextBank, Vocabulary
from ovs_core.vocabulary.alike import alike_names, alike_notes

ASSETS = Path(__file__).parents[1] / "assets" / "photos"
ANGLES = {"east": 0, "eastern": 10, "dawn": 14, "north": 90, "easterly": 5}


def bank(classes: tuple[tuple[str, ...], ...], other: tuple[str, ...] = ()) -> TextBank:
    vocabulary = Vocabulary(classes, other)
    angles = torch.tensor([float(ANGLES[name]) for name in vocabulary.rows]).deg2rad()
    return TextBank(vocabulary, torch.stack([angles.cos(), angles.sin()], dim=1))


def test_the_most_alike_names_of_two_classes_are_told() -> None:
    found = alike_names(bank((("east",), ("dawn", "eastern"), ("north",))), 0.9)
    assert [pair[:2] for pair in found] == [("east", "eastern")]
    assert found[0][2] == pytest.approx(0.9848, abs=1e-4)  # cos 10 degrees


def test_synonyms_and_other_are_not_told() -> None:
    assert alike_notes(bank((("east", "eastern"), ("north",)), ("easterly",)), 0.9) == ()


@pytest.mark.parametrize(("words", "told"), [("cat; couch; sofa", True), ("cat | kitten; couch", False)])
def test_an_answer_says_so(words: str, told: bool) -> None:
    notes = " ".join(Engine("cpu").segment(ASSETS / "cat.jpg", words).notes)
    assert ('"couch" and "sofa"' in notes) is told
