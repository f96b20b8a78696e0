"""One word alone: which names guard it, and how clearly they must win."""

import numpy as np
import pytest
import torch

from ovs_core.encoders.lone_word import MARGIN, everyday_things, lowered, with_guards
from ovs_core.evidence.decide import decide
from ovs_core.evidence.score_map import ScoreMap
from ovs_core.types import Vocabulary
from ovs_core.vocabulary import parse_vocabulary

THINGS = (("person", "people"), ("dog",), ("hot dog",), ("cat", "kitten"))


def test_everyday_things_are_cocos():
    things = everyday_things()
    assert len(things) == 80
    assert things[0][0] == "person"


def test_a_single_class_is_guarded_by_unrelated_things():
    alone = parse_vocabulary("bus")
    guarded = with_guards(alone, THINGS)
    assert guarded.classes == alone.classes
    assert guarded.other[: len(alone.other)] == alone.other
    assert guarded.guards == {"person", "people", "dog", "hot dog", "cat", "kitten"}
    assert set(guarded.other) - set(alone.other) == guarded.guards


@pytest.mark.parametrize(
    ("typed", "absent"),
    [
        ("Dogs", {"dog", "hot dog"}),  # the plural, and the last word
        ("brown dog", {"dog", "hot dog"}),
        ("kitten", {"cat", "kitten"}),  # synonyms go together
        ("puppy | dog", {"dog", "hot dog"}),
    ],
)
def test_things_of_the_same_name_are_left_out(typed, absent):
    every = {name for names in THINGS for name in names}
    assert with_guards(parse_vocabulary(typed), THINGS).guards == every - absent


@pytest.mark.parametrize("background", ["none", "wall; floor"])
def test_a_hidden_list_of_the_users_own_stays_as_it_is(background):
    vocabulary = parse_vocabulary("dog", background)
    assert with_guards(vocabulary, THINGS) is vocabulary


def test_several_classes_guard_each_other():
    vocabulary = parse_vocabulary("dog; grass")
    assert with_guards(vocabulary, THINGS) is vocabulary


def test_guards_are_taken_down_and_nothing_else():
    vocabulary = Vocabulary((("dog",),), ("wall", "cat", "car"), guards=frozenset(("cat", "car")))
    rows = torch.arange(4.0)[:, None, None].expand(4, 2, 3)
    got = lowered(rows, vocabulary, 0.25)[:, 0, 0]
    assert got.tolist() == [0.0, 1.0, 1.75, 2.75]
    plain = Vocabulary((("dog",),), ("wall", "cat", "car"))
    assert lowered(rows, plain) is rows


def test_a_guard_vetoes_where_it_is_clear_and_only_there():
    vocabulary = Vocabulary((("dog",),), ("wall", "cat"), guards=frozenset(("cat",)))
    rows = torch.tensor([[0.5, 0.5], [0.0, 0.0], [0.5 + 0.5 * MARGIN, 0.5 + 2 * MARGIN]])[:, None]
    evidence = ScoreMap(lowered(rows, vocabulary), vocabulary, (1, 2))
    labels, _ = decide(evidence, 20.0, 0.0)
    assert np.array_equal(labels, [[1, 0]])
