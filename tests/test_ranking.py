"""What is in this photo: the surest place counts, hidden names do not."""

import pytest
import torch
from towers import random_photo

from ovs_core.engine.suggest import suggest
from ovs_core.evidence.ranking import strongest_classes
from ovs_core.evidence.score_map import ScoreMap
from ovs_core.types import Vocabulary
from ovs_core.vocabulary import common_words

WORDS = Vocabulary((("sky", "heaven"), ("dog",), ("cup",)), ("background",))


def evidence():
    rows = torch.full((5, 12, 16), -1.0)
    rows[0, :6] = 0.4  # sky: half of the photo, not quite sure
    rows[3, 8:10, 3:5] = 1.0  # cup: small and sure
    rows[4] = 0.2
    return ScoreMap(rows, WORDS, (24, 32))


def test_a_small_sure_thing_comes_before_a_large_vague_one():
    ranked = strongest_classes(evidence(), 10.0)
    assert [(found.label, found.name) for found in ranked] == [(3, "cup"), (1, "sky"), (2, "dog")]
    assert ranked[0].probability > 0.9 > ranked[1].probability > 0.5
    assert strongest_classes(evidence(), 10.0, limit=1) == ranked[:1]


def test_a_large_photo_is_looked_at_on_a_small_grid():
    large = ScoreMap(evidence().rows, WORDS, (2400, 3200))
    assert strongest_classes(large, 10.0)[0].name == "cup"


def test_a_limit_below_one_is_refused():
    with pytest.raises(ValueError, match="limit must be at least 1, got 0"):
        strongest_classes(evidence(), 10.0, 0)


def test_common_words_are_asked_to_the_letter():
    words = common_words()
    assert 900 < len(words.classes) < 1000
    assert all(len(names) == 1 for names in words.classes)
    assert words.literal == set(words.names)
    assert {"dog", "sky", "wall"} <= set(words.names)


def test_common_words_are_said_by_people():
    words = set(common_words().names)
    assert {
        "window",
        "brick wall",
        "wood wall",
        "wood floor",
        "ceiling tile",
        "window blind",
        "food",
    } <= words
    assert {name for name in words if "-" in name} == {"check-in-desk", "post-it"}
    assert words.isdisjoint({"plant-other", "solid", "structural", "other", "stuff"})


def test_an_engine_suggests_words(engine):
    ranked = suggest(engine, random_photo(40, 56), limit=4)
    assert len(ranked) == 4
    assert {found.name for found in ranked} <= set(common_words().names)
    assert [found.probability for found in ranked] == sorted((f.probability for f in ranked), reverse=True)
