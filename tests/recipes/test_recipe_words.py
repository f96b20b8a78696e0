"""Words to teach: WordNet's files, plurals, kinds, and the names that stand in training material."""

import pytest
from recipe_toys import make_sources
from training_toys import make_wordnet

from recipes.mini.names import (
    caltech_name,
    everyday_names,
    imagenet_names,
    voc_names,
    vocabulary_names,
)
from recipes.mini.words import (
    ADJECTIVES,
    TOO_WIDE,
    Synset,
    kinds_of,
    phrases,
    plural,
    read_wordnet,
    visible_nouns,
)


@pytest.fixture
def wordnet(tmp_path):
    return read_wordnet(make_wordnet(tmp_path))


def test_wordnet_records_are_read_past_the_licence(wordnet):
    synsets, senses = wordnet
    assert len(synsets) == 7
    assert synsets["00004000"] == Synset(("dog", "domestic dog", "Canis familiaris"), "00003000")
    assert synsets["00001930"].above is None
    assert synsets["00006000"].above == "00003000"  # an instance of, `@i`
    assert senses["dog"] == ("00005000", "00004000")
    assert senses["domestic dog"] == ("00004000",)


def test_visible_nouns_are_physical_lower_case_and_have_near_names(wordnet):
    # idea: not physical; dog: its first sense is an idea; lassie: a proper name; domestic dog: has one.
    assert visible_nouns(*wordnet) == {
        "animal": ("beast", "whole"),
        "couch": ("settee", "whole"),
        "settee": ("couch", "whole"),
    }


def test_kinds_skip_what_nobody_types(wordnet):
    synsets, _ = wordnet
    assert "whole" in TOO_WIDE
    assert "physical entity" in TOO_WIDE
    assert kinds_of(synsets, "00004000") == ("animal",)
    assert kinds_of(synsets, "00004100") == ()


def test_kinds_stop_at_the_most_wanted():
    chain = {str(i): Synset((f"kind {i}",), str(i + 1) if i < 6 else None) for i in range(7)}
    assert kinds_of(chain, "0") == ("kind 1", "kind 2", "kind 3", "kind 4")
    assert kinds_of(chain, "0", most=1) == ("kind 1",)


@pytest.mark.parametrize(
    ("name", "many"),
    [
        ("dog", "dogs"),
        ("bus", "buses"),
        ("fox", "foxes"),
        ("bench", "benches"),
        ("puppy", "puppies"),
        ("toy", "toys"),
        ("traffic light", "traffic lights"),
        ("police man", "police men"),
        ("sheep", "sheep"),
    ],
)
def test_plural(name, many):
    assert plural(name) == many


def test_phrases_deal_adjectives_out_in_turn():
    found = phrases(["dog", "bus"])
    assert found[0] == "dogs"
    assert found[5] == "buses"
    assert found[1:5] == [f"{ADJECTIVES[i]} dog" for i in (0, 9, 18, 27)]
    assert found[6:] == [f"{ADJECTIVES[i]} bus" for i in (7, 16, 25, 34)]


def test_names_of_label_files_and_folders(tmp_path):
    sources = make_sources(tmp_path)
    assert imagenet_names(sources.pretrained / "imagenet_labels_1001.txt") == (
        ("background",),
        ("tench", "tinca tinca"),
        ("sofa bed",),
    )
    voc = voc_names(sources.pretrained / "pascal_voc_segmentation_labels.txt")
    assert voc == ("background", "airplane", "potted plant")
    assert vocabulary_names(sources.vocabularies) == ("background", "dog", "puppy", "sofa")
    assert caltech_name("water_lilly") == "water lily"
    assert caltech_name("grand_piano") == "grand piano"


def test_descriptions_in_class_lists_are_no_names(tmp_path):
    (tmp_path / "long.txt").write_text(f"1:{'x' * 60},{'y' * 61},\n", encoding="utf-8")
    assert vocabulary_names(tmp_path) == ("x" * 60,)


def test_everyday_names_come_once_lists_first(tmp_path):
    sources = make_sources(tmp_path)
    assert everyday_names(sources.pretrained, sources.vocabularies) == (
        *("background", "dog", "puppy", "sofa"),
        *("cat", "tennis ball", "car", "tree", "person", "boat", "lamp"),
        *("tench", "tinca tinca", "sofa bed"),
        *("airplane", "potted plant"),
    )
