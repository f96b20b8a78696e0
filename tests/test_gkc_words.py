"""Text diversification of GKC: the synonym table, drawing words, class lists, the teacher's crops."""

import numpy as np
import pytest
import torch

from ovs_core.encoders.region_crops import region_crop, region_crops
from ovs_core.methods.gkc.synonyms import (
    clean_name,
    draw_chances,
    read_synonyms,
    synonym_probabilities,
    synonyms_of,
    typed_synonyms,
)
from ovs_core.training.gkc_words import choose_synonym, class_list, pooled_logits, stacked_lists
from ovs_core.vocabulary import parse_vocabulary, read_vocabulary


def test_table_knows_every_name_of_coco_panoptic():
    table = read_synonyms()
    names = read_vocabulary("@cocopanoptic133").names
    assert [name for name in names if name not in table] == []
    assert all(table[name][0] == name for name in table)
    assert all(len(set(words)) == len(words) for words in table.values())
    assert sum(len(words) > 1 for words in table.values()) > 120


def test_words_of_a_class():
    table = {"sofa": ("sofa", "couch")}
    assert synonyms_of("sofa-merged", table) == ("sofa", "couch")
    assert synonyms_of("wall-brick_old", table) == ("wall brick old",)
    assert clean_name("tree-merged") == "tree"
    assert clean_name("door-stuff") == "door stuff"


@pytest.mark.parametrize(
    ("typed", "others"),
    [
        ("couch", {"sofa", "lounge", "settee"}),
        ("sofa", {"couch", "lounge", "settee"}),
        ("Sofas", {"couch", "sofa", "lounge", "settee"}),
        ("shelves", {"shelf", "ledge", "bookshelf"}),
        ("hot-dog", {"hotdog", "frank", "frankfurter", "wiener"}),
        ("bike", {"bicycle", "cycle", "pushbike"}),  # a motorcycle is one too, but stands further down
        ("table", {"tabletop"}),  # a row's own name goes before dining tables, which are called so too
        ("giraffes", {"giraffe", "camelopard"}),
        ("people", {"person", "individual", "somebody", "human", "pedestrian", "man", "woman"}),
        ("zebu", set()),
    ],
)
def test_typed_words_find_their_row(typed, others):
    first, *more = typed_synonyms(typed, read_synonyms())
    assert first == typed
    assert len(more) == len(others)
    assert set(more) == others


def test_typed_spellings_find_the_row_that_their_clean_form_names():
    table = read_synonyms()
    [[asked], [camel]] = parse_vocabulary("The sofas.; TrafficLight").asked
    assert set(typed_synonyms(asked, table)) == {"sofas", "couch", "sofa", "lounge", "settee"}
    assert set(typed_synonyms(camel, table)) == {camel, "traffic signal", "stoplight"}


def test_training_draws_from_rows_of_names_alone():
    """What a typed word may be called is no business of training: "sofa" as a data set's name stays alone."""
    table = read_synonyms()
    for name in read_vocabulary("@cocopanoptic133").names:
        assert synonyms_of(name, table) == table[clean_name(name)]
        assert typed_synonyms(name, table) == synonyms_of(name, table)  # a row's name finds its row
    assert synonyms_of("sofa", table) == ("sofa",)


def test_a_broken_table_is_told(tmp_path):
    path = tmp_path / "table.tsv"
    path.write_text("# head\nsofa\tcouch\n", encoding="utf-8")
    with pytest.raises(ValueError, match="line 2"):
        read_synonyms(path)


def test_probabilities_are_a_softmax_of_scaled_cosines():
    rows = torch.tensor([[1.0, 0.0], [0.6, 0.8]])
    found = synonym_probabilities(torch.tensor([5.0, 0.0]), rows, torch.tensor(2.0).log())
    expected = torch.tensor([2.0, 1.2]).softmax(dim=0)
    torch.testing.assert_close(found, expected)


def drawn(rule, probabilities, times=400):
    rng = np.random.default_rng(0)
    names = ("dog", "puppy", "hound")
    words = [choose_synonym(names, np.array(probabilities), rule, rng) for _ in range(times)]
    return [words.count(name) / times for name in names]


def test_the_code_draws_evenly_above_a_tenth():
    shares = drawn("thresholded", [0.75, 0.2, 0.05])
    assert shares[2] == 0
    assert shares[0] == pytest.approx(0.5, abs=0.08)


def test_chances_of_the_rules_by_hand():
    suits = np.array([0.6, 0.3, 0.1])  # a tenth is not above a tenth
    assert draw_chances(suits, "weighted").tolist() == pytest.approx([0.6, 0.3, 0.1])
    assert draw_chances(suits, "thresholded").tolist() == [0.5, 0.5, 0]
    assert draw_chances(suits, "plain").tolist() == [1, 0, 0]


def test_the_code_takes_the_likeliest_where_none_passes():
    names = [f"name {place}" for place in range(20)]
    flat = np.full(20, 0.05)
    flat[13] += 0.01
    assert choose_synonym(names, flat, "thresholded", np.random.default_rng(0)) == "name 13"


def test_the_paper_draws_by_probability():
    assert drawn("weighted", [0.75, 0.2, 0.05]) == pytest.approx([0.75, 0.2, 0.05], abs=0.06)


def test_no_diversification_says_the_name():
    assert drawn("plain", [0.0, 0.5, 0.5]) == [1, 0, 0]
    with pytest.raises(ValueError, match=r"\(3,\)"):
        drawn("plain", [1.0])


@pytest.mark.parametrize(
    ("segments", "names", "labels"),
    [
        ([], ("cat", "dog"), ()),
        # the first segment of a class takes the class's own place
        ([(1, "puppy")], ("cat", "puppy"), (1,)),
        # a second word is added, a word that is there is used again
        ([(1, "puppy"), (1, "hound"), (1, "puppy")], ("cat", "puppy", "hound"), (1, 2, 1)),
        ([(1, "puppy"), (0, "cat"), (1, "hound"), (1, "hound")], ("cat", "puppy", "hound"), (1, 0, 2, 2)),
        # the plain name may come back behind a synonym
        ([(0, "kitty"), (0, "cat")], ("kitty", "dog", "cat"), (0, 2)),
        # one word of two classes stays two entries
        ([(0, "pet"), (1, "dog"), (1, "pet")], ("pet", "dog", "pet"), (0, 1, 2)),
    ],
)
def test_class_list(segments, names, labels):
    found = class_list(("cat", "dog"), segments)
    assert (found.names, found.labels) == (names, labels)


def test_lists_of_a_batch_are_filled_up():
    stacked = stacked_lists([torch.ones(2, 3), torch.ones(4, 3)], torch.full((3,), 9.0))
    assert stacked.shape == (2, 4, 3)
    assert stacked[0, :, 0].tolist() == [1, 1, 9, 9]


def test_pooling_of_all_synonyms():
    logits = torch.tensor([[1.0, 3.0, 5.0, 0.5]])  # two names, one name, "no object"
    assert pooled_logits(logits, [2, 1], "max").tolist() == [[3, 5, 0.5]]
    assert pooled_logits(logits, [2, 1], "mean").tolist() == [[2, 5, 0.5]]


def test_region_is_cropped_on_grey():
    pixels = np.zeros((6, 9, 3), np.uint8)
    pixels[..., 0] = 200
    mask = np.zeros((6, 9), bool)
    mask[2:4, 3:7] = True
    mask[2, 3] = False
    crop = region_crop(pixels, mask, side=8)
    assert crop.shape == (8, 8, 3)
    assert crop[0, 0].tolist() == pytest.approx([128, 128, 128], abs=30)  # bicubic: the photo shines in
    assert crop[-1, -1].tolist() == [200, 0, 0]
    batch = region_crops(pixels, mask[None], side=8)
    assert batch.shape == (1, 3, 8, 8)
    assert float(batch.max()) <= 1


def test_an_empty_region_is_refused():
    with pytest.raises(ValueError, match="mask"):
        region_crop(np.zeros((6, 9, 3), np.uint8), np.zeros((6, 9), bool))
    assert region_crops(np.zeros((6, 9, 3), np.uint8), np.zeros((0, 6, 9), bool)).shape[0] == 0
