"""Spelling: what stands around a word is shown, and neither compared nor encoded."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from towers import random_photo

from ovs_core.encoders.near_words import with_near_words
from ovs_core.engine import Engine
from ovs_core.engine.saved import read_saved
from ovs_core.render.palette import colors_for
from ovs_core.types import TextBank
from ovs_core.vocabulary import default_background, parse_vocabulary, read_vocabulary, thing_labels
from ovs_core.vocabulary.exemplars import LEAN, exemplar_vocabulary, with_exemplars

AROUND_SKY = (
    *(
        "sky.",
        "sky!",
        "Sky?",
        "SKY:",
        "sky\u2026",
        "sky\u3002",
        "'sky'",
        "\u2018sky\u2019",
        "`sky`",
        "**sky**",
    ),
    *("(sky)", "[sky]", "<sky>", "\u300asky\u300b", "sky_", "_sky", "sky-", "~sky~", "#sky", "sky/", "sky]"),
    *(
        "the sky",
        "The Sky",
        "a sky.",
        "some sky",
        "a photo of a sky.",
        "image of the sky",
        "\u2022 sky",
        "* sky",
    ),
    *(
        "sky-other",
        "sky-other-merged",
        "sky-merged",
        "sky_stuff",
        "nature--sky",
        "sky_01",
        "sky.001",
        "sky.n.01",
    ),
    *(
        "n09436708 sky",
        "n09436708_sky",
        "\uff53\uff4b\uff59",
        "\u2601\ufe0f sky",
        "sky \U0001f324\ufe0f",
        "s\u00adky",
    ),
    *(
        "\u200esky\u200f",
        "sky\u2060",
        "sky\u00a0",
        "\uff08sky\uff09",
        "\u00bfsky?",
        "sky\\",
        "sky (s)."[:3] + "(s)",
    ),
)


@pytest.mark.parametrize("typed", AROUND_SKY)
def test_what_stands_around_a_word_is_not_asked(typed):
    vocabulary = parse_vocabulary(f"{typed}; dog")
    assert vocabulary.rows[0].casefold() == "sky"
    assert vocabulary.other == parse_vocabulary("sky; dog").other
    assert "sky" not in vocabulary.other


@pytest.mark.parametrize(
    ("typed", "asked", "not_hidden"),
    [
        ("palm_tree", "palm tree", "tree"),
        ("palm-tree", "palm tree", "tree"),
        ("palm\u2013tree", "palm tree", "tree"),
        ("palm%20tree", "palm tree", "tree"),
        ("PalmTree", "palm tree", "tree"),
        ("wooden_table.", "wooden table", "table desk"),
        ("diningtable", "dining table", "table desk"),
        ("pottedplant", "potted plant", "plants"),
        ("TrafficLight", "traffic light", None),
        ("vehicle.car", "vehicle car", None),
        ("construction--flat--road", "road", "road"),
        ("wall-brick", "brick wall", "wall"),
        ("wall-brick-merged", "brick wall", "wall"),
        ("wall-other-merged", "wall", "wall"),
        ("mirror-stuff", "mirror", None),
        ("Cabinet/shelf", "Cabinet or shelf", "shelf wardrobe furniture"),
        ("bat_(animal)", "bat (animal)", None),
        ("sky (blue)", "sky (blue)", "sky cloud"),
        ("dog(s)", "dog", None),
        ("shelves", "shelves", "shelf furniture"),
        ("field of grass", "field of grass", "grass"),
        ("wall with pictures", "wall with pictures", "wall"),
        ("BlueSky", "BlueSky", "sky cloud"),
        ("LEGO\u00ae brick", "LEGO brick", None),
    ],
)
def test_spellings_of_datasets_are_asked_in_words(typed, asked, not_hidden):
    vocabulary = parse_vocabulary(typed)
    assert vocabulary.rows[0] == asked
    assert vocabulary.names == (typed,)
    gone = set(default_background()) - set(vocabulary.other)
    assert gone == set((not_hidden or "").split())  # the name itself, and hidden ones for the same places


def test_what_was_typed_is_shown_and_what_was_asked_is_said():
    vocabulary = parse_vocabulary("sky.; palm_tree | The tree; dog", "none")
    assert vocabulary.classes == (("sky.",), ("palm_tree", "The tree"), ("dog",))
    assert vocabulary.names == ("sky.", "palm_tree", "dog")
    assert vocabulary.asked == (("sky",), ("palm tree", "tree"), ("dog",))
    assert vocabulary.rows == ("sky", "palm tree", "tree", "dog")
    (note,) = vocabulary.notes
    assert note.startswith(
        "Asked without what stands around the words: sky. as sky, palm_tree as palm tree, "
    )


def test_long_notes_end():
    (note,) = parse_vocabulary(";".join(f"palm_{letter}_tree" for letter in "abcdefgh"), "none").notes
    assert note.count(" as ") == 5
    assert "and 3 more" in note


@pytest.mark.parametrize(
    "typed", ['"sky."', "\u201csky.\u201d", "\u201esky.\u201c", "\u00absky.\u00bb", "\u300csky.\u300d"]
)
def test_quotation_marks_ask_to_the_letter(typed):
    vocabulary = parse_vocabulary(typed)
    assert vocabulary.rows[0] == "sky."
    assert vocabulary.literal == {"sky."}
    assert vocabulary.notes == ()
    assert "sky" not in vocabulary.other


def test_names_asked_alike_are_one():
    vocabulary = parse_vocabulary("sky; The sky.; grass | grass-merged")
    assert vocabulary.classes == (("sky",), ("grass",))
    assert vocabulary.notes == ("Named more than once, counted once: The sky., grass-merged.",)


@pytest.mark.parametrize("nothing", ["{}", "...", "the", "\U0001f415", "__", "()"])
def test_a_name_of_marks_alone_stays_as_it_is(nothing):
    assert parse_vocabulary(nothing, "none").rows == (nothing,)


def test_hidden_names_and_materials_are_read_the_same_way():
    assert parse_vocabulary("dog", "Sky.; brick_wall; [grass]").other == ("Sky", "brick wall", "grass")
    assert parse_vocabulary("sky.", "the sky; wall").other == ("wall",)
    assert parse_vocabulary("dog", '["sky", "wall"]').other == ("sky", "wall")
    assert parse_vocabulary("dog", "sky\uff0cwall").other == ("sky", "wall")
    assert thing_labels(parse_vocabulary("grass-merged; the sky.; dog_house")) == {3}
    assert thing_labels(parse_vocabulary("dogs; cat"), "Dog.") == {2}


def test_built_in_lists_are_asked_to_the_letter():
    for name in ("voc20", "cocostuff171", "cocopanoptic133"):
        vocabulary = read_vocabulary(f"@{name}")
        assert vocabulary.queries == ()
        assert not any("Asked" in note for note in vocabulary.notes)


def test_a_class_looks_like_the_one_it_asks_for():
    assert colors_for(parse_vocabulary("the sky.; tree-merged")) == colors_for(parse_vocabulary("sky; tree"))


def test_near_words_know_what_is_asked():
    table = {"lorry": ("truck",)}
    found = with_near_words(parse_vocabulary("cat.; the_lorry", "none"), table)
    assert found.classes == (("cat.",), ("the_lorry", "truck"))
    assert found.asked == (("cat",), ("lorry", "truck"))
    assert "lorry as truck" in found.notes[-1]
    assert with_near_words(parse_vocabulary('"lorry"; cat.', "none"), table).rows == ("lorry", "cat")


def test_an_answer_does_not_depend_on_the_spelling(tmp_path):
    engine = Engine("cpu", offline=True, text_dir=tmp_path)
    photo = random_photo(96, 128)
    plain = engine.segment(photo, "sky; palm tree")
    spelled = engine.segment(photo, "Sky.; palm_tree")
    assert np.array_equal(plain.labels, spelled.labels)
    assert [summary.names[0] for summary in spelled.classes[:2]] == ["Sky.", "palm_tree"]
    assert "palm_tree as palm tree" in " ".join(spelled.vocabulary.notes)


def test_an_answer_remembered_for_a_word_is_not_that_of_its_letters(tmp_path):
    engine, photo = Engine("cpu", offline=True, text_dir=tmp_path), random_photo(96, 128)
    engine.segment(photo, "sky.; palm_tree", background="none")
    letters = engine.segment(photo, '"sky."; "palm_tree"', background="none")
    alone = Engine("cpu", offline=True, text_dir=tmp_path).segment(
        photo, '"sky."; "palm_tree"', background="none"
    )
    assert np.array_equal(letters.confidence, alone.confidence)


def test_boxes_lean_the_word_that_is_asked():
    typed = parse_vocabulary("0: sky.; 4: cat", "wall")
    vocabulary = exemplar_vocabulary(typed, ["sky", "lamp"], "none")
    assert vocabulary.classes == (("sky.",), ("cat",), ("lamp (box)",))
    assert vocabulary.rows == ("sky", "cat", "lamp (box)", "wall")
    assert vocabulary.ids == (0, 4, 5)
    rows = F.normalize(torch.randn(4, 3, generator=torch.Generator().manual_seed(0)), dim=-1)
    boxes = [("sky", torch.tensor([1.0, 0, 0])), ("lamp", torch.tensor([0.0, 1, 0]))]
    found = with_exemplars(TextBank(vocabulary, rows), boxes).embeddings
    leaning = F.normalize((1 - LEAN) * rows[0] + LEAN * boxes[0][1], dim=0)
    torch.testing.assert_close(found[0], leaning)
    torch.testing.assert_close(found[[1, 3]], rows[[1, 3]])
    torch.testing.assert_close(found[2], boxes[1][1])
    alone = exemplar_vocabulary(None, ["a; b", "lamp"], "none")
    assert alone.classes == (("a; b (box)",), ("lamp (box)",))


def test_a_saved_question_is_asked_again_as_it_was(tmp_path):
    engine, photo = Engine("cpu", offline=True, text_dir=tmp_path), random_photo(96, 128)
    result = engine.segment(photo, "3: Sky.; 9: palm_tree")
    result.save(tmp_path)
    saved = read_saved(tmp_path / "photo.naclip.json")
    assert saved.vocabulary == result.vocabulary
    assert saved.vocabulary.ids == (3, 9)
    assert np.array_equal(engine.segment(photo, saved.vocabulary).labels, result.labels)
