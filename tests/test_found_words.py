"""Words that the embedded model rarely finds are named, with what was measured of each."""

from pathlib import Path

import pytest

from ovs_core import Engine, parse_vocabulary
from ovs_core.checkpoints import sha256_of
from ovs_core.encoders.found_words import (
    FEWEST_PHOTOS,
    FOUND_WORDS,
    RARELY,
    FoundWord,
    read_found_words,
    weights_asked,
    with_rarely_found_noted,
    write_found_words,
)
from ovs_core.encoders.tuned_words import TUNED_WORDS

SHIPPED = Path(__file__).resolve().parents[1] / "checkpoints" / "mini"
SHA256 = "ab" * 32
TABLE = (
    FoundWord("scissors", 0.06, 14),
    FoundWord("night stand", 0.017, 16, ("bedside table",)),
    FoundWord("spoon", 0.043, 10),
    FoundWord("cat", 0.9, 20, ("kitten",)),
)


@pytest.fixture
def table(tmp_path):
    write_found_words(tmp_path / FOUND_WORDS, SHA256, TABLE)
    return read_found_words(tmp_path / FOUND_WORDS, SHA256)


def notes(text, table):
    return with_rarely_found_noted(parse_vocabulary(text, "none"), table).notes


def test_a_table_is_read_as_it_was_written(table):
    assert table["night stand"] == table["bedside table"] == TABLE[1]
    assert table["cat"].iou == 0.9
    assert len(table) == 6


def test_other_weights_have_no_table(tmp_path, table):
    assert read_found_words(tmp_path / FOUND_WORDS, "cd" * 32) == {}
    assert read_found_words(tmp_path / FOUND_WORDS, weights_asked(SHA256, "ef" * 32)) == {}


@pytest.mark.parametrize("line", ["spoon", "spoon\tlow\t3\t", "spoon\t0.1\tmany\t", "a\t0.1\t3\t\tb"])
def test_a_broken_table_is_refused(tmp_path, table, line):
    path = tmp_path / FOUND_WORDS
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(ValueError, match=r"."):
        read_found_words(path, SHA256)


def test_the_note_says_how_often(table):
    assert notes("scissors; cat", table) == (
        "The embedded model rarely finds “scissors” (IoU 6 % on 14 labelled photos).",
    )


def test_other_names_say_as_what_they_were_asked(table):
    (note,) = notes("Bedside tables", table)
    assert note.endswith("“Bedside tables” (asked as “night stand”: IoU 2 % on 16 labelled photos).")
    assert "“spoons” (IoU 4 %" in notes("spoons", table)[0]  # a plural is the same word


def test_one_good_or_unmeasured_name_is_enough(table):
    for text in ("spoon | cat", "spoon | ladle", "teaspoon", "kitten"):
        assert notes(text, table) == ()
    (note,) = notes("spoon | scissors; cat", table)
    assert note.endswith("“spoon” (asked as “scissors”: IoU 6 % on 14 labelled photos).")


def test_a_few_are_named(table):
    many = {f"word{letter}": FoundWord(f"word{letter}", 0.0, 3) for letter in "abcdefg"}
    (note,) = notes("; ".join(many), many)
    assert note.count("IoU 0 %") == 5
    assert note.endswith(" and 2 more.")


def test_the_shipped_table_is_that_of_the_shipped_weights():
    asked = weights_asked(sha256_of(SHIPPED / "mini.safetensors"), sha256_of(SHIPPED / TUNED_WORDS))
    table = read_found_words(SHIPPED / FOUND_WORDS, asked)
    assert len(table) > 80
    assert all(0 <= found.iou <= 1 and found.photos >= FEWEST_PHOTOS for found in table.values())
    assert table["spoon"].iou < RARELY < table["cat"].iou


def test_an_answer_says_so_without_a_trained_head_alone():
    engine = Engine("cpu", offline=True)

    def said(method):
        result = engine.segment("assets/photos/coffee.jpg", "spoon; cup", method=method)
        return [note for note in result.vocabulary.notes if "rarely finds" in note]

    (note,) = said("naclip")
    assert note.startswith("The embedded model rarely finds “spoon” (IoU ")
    assert "cup" not in note
    assert said("zegclip") == []
