"""Words that the embedded model was never taught are named, and so is what they may have meant."""

from pathlib import Path

import pytest

from ovs_core import Engine
from ovs_core.encoders.known_words import read_known_words, unknown_names, with_unknown_noted, words_of
from ovs_core.vocabulary import parse_vocabulary, read_vocabulary

SHIPPED = Path(__file__).resolve().parents[1] / "checkpoints" / "mini" / "known_words.txt"
KNOWN = frozenset({"temple", "dog", "tree", "glass", "rain", "coat"})


def unknown(text, known=KNOWN):
    return unknown_names(parse_vocabulary(text, "none"), known)


def test_words_are_letters_without_fillers():
    assert words_of("a glass of Water, 2 t-shirts") == ("glass", "water", "t-shirts")
    assert words_of("猫") == ("猫",)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("temple; dogs; trees", ()),
        ("red dog; dog running", ()),  # one word that was taught says what is meant
        ("raincoat; rain-coat", ("raincoat",)),
        ("Tempel; Himmel", ("Tempel", "Himmel")),
        ("Hund | dog; Baum", ("Baum",)),  # one of several names is enough
        ("猫; 12", ("猫", "12")),
    ],
)
def test_classes_without_a_taught_word(text, names):
    assert unknown(text) == names


def test_a_tower_without_a_list_says_nothing():
    vocabulary = parse_vocabulary("Tempel")
    assert with_unknown_noted(vocabulary, frozenset()) is vocabulary
    known = parse_vocabulary("temple")
    assert with_unknown_noted(known, KNOWN) is known


def test_the_note_names_a_few_and_suggests_what_is_spelt_alike():
    [note] = with_unknown_noted(parse_vocabulary("Tempel; Himmel"), KNOWN).notes
    assert note == (
        "The model was never taught “Tempel”, “Himmel”: it knows everyday English words. "
        "Did you mean “temple”?"
    )
    [note] = with_unknown_noted(
        parse_vocabulary(";".join(f"xq{letter}" for letter in "abcdefg")), KNOWN
    ).notes
    assert "“xqe” and 2 more:" in note
    assert "mean" not in note


def test_every_name_of_the_lists_and_of_the_samples_is_known():
    known = read_known_words(SHIPPED)
    assert len(known) > 20_000
    for text in ("@cocoobject81", "@ade150", "@voc21", "@context59"):
        assert unknown_names(read_vocabulary(text, "none"), known) == ()
    assert unknown("cat; sofa; palm_tree; traffic lights; settees", known) == ()
    assert unknown("gato; maison", known) == ("gato", "maison")


def test_an_answer_says_so():
    engine = Engine("cpu", offline=True)
    result = engine.segment("assets/photos/temple.jpg", "Tempel; sky")
    assert any("never taught “Tempel”" in note for note in result.vocabulary.notes)
    again = engine.segment("assets/photos/temple.jpg", "temple; sky")
    assert not any("never taught" in note for note in again.vocabulary.notes)
