"""Classes that are switched off: who inherits, from every kind of evidence, in labels, segments and files."""

import json
import math

import numpy as np
import pytest
import torch
from hand_made import make_proposals
from PIL import Image
from towers import random_photo

from ovs_core.cli.segment import main
from ovs_core.edit.record import Brush
from ovs_core.evidence.decide import class_probabilities, decide, margin
from ovs_core.evidence.heirs import Heir, heirs
from ovs_core.evidence.relabelled import Relabelled
from ovs_core.evidence.score_map import ScoreMap
from ovs_core.evidence.segments import instances, panoptic
from ovs_core.export.files import save_result
from ovs_core.types import Vocabulary

PETS = Vocabulary((("dog", "puppy"), ("cat",), ("cow",)), ("wall",))
BARE = Vocabulary(PETS.classes)


def pixel(vocabulary, *rows, activation="softmax"):
    return ScoreMap(torch.tensor(rows).view(-1, 1, 1), vocabulary, (1, 1), activation)


def random_rows(vocabulary, activation="softmax"):
    rows = torch.randn(len(vocabulary.rows), 4, 6, generator=torch.Generator().manual_seed(3))
    rows = rows.softmax(0) if activation == "none" else rows
    return ScoreMap(rows, vocabulary, (17, 23), activation)


def random_masks(vocabulary):
    generator = torch.Generator().manual_seed(5)
    logits = torch.randn(6, len(vocabulary.classes) + len(vocabulary.other) + 1, generator=generator)
    masks = torch.rand(6, 8, 12, generator=generator) > 0.5
    found = make_proposals(masks.numpy(), [[0.0] * 2] * 6)
    logits[:3, 1] += 3.0  # half of the masks show a cat
    whole = logits.softmax(1)
    return type(found)(found.masks, whole[:, :-1], whole[:, -1], vocabulary, (8, 12), (8, 12), (8, 12))


def test_soft_max_worked_by_hand():
    # Scale 10: exponents dog 1 3, cat 2, cow 1, wall 0. Without dog, cat is best of cat, cow and wall.
    evidence = pixel(PETS, 0.1, 0.3, 0.2, 0.1, 0.0)
    assert decide(evidence, 10.0, 0.0)[0].tolist() == [[1]]
    less = evidence.without({1})
    labels, confidence = decide(less, 10.0, 0.0)
    total = math.e**2 + math.e + 1
    assert (labels.tolist(), confidence[0, 0]) == ([[2]], pytest.approx(math.e**2 / total, rel=1e-6))
    expected = [0, math.e**2 / total, math.e / total, 1 / total]
    assert class_probabilities(less, 10.0, (1, 1))[:, 0, 0].tolist() == pytest.approx(expected, rel=1e-6)
    assert margin(less, 10.0)[0, 0] == pytest.approx((math.e**2 - math.e) / total, rel=1e-6)


@pytest.mark.parametrize(("activation", "second"), [("sigmoid", 1 / (1 + math.exp(-0.2))), ("none", 0.2)])
def test_scores_that_do_not_share_stay_what_they_are(activation, second):
    less = pixel(PETS, 0.1, 0.3, 0.2, 0.1, 0.0, activation=activation).without({1})
    labels, confidence = decide(less, 1.0, 0.0)
    assert (labels.tolist(), confidence[0, 0]) == ([[2]], pytest.approx(second, rel=1e-6))


def test_masks_worked_by_hand():
    # One mask, half of it each: dog 0.6, cat 0.3, no object 0.1; without dog all of 0.9 is cat's.
    # The other mask is cat 0.2, dog 0.4, no object 0.4: without dog cat 0.6.
    evidence = make_proposals([[[1, 0]], [[0, 1]]], [[0.6, 0.3], [0.4, 0.2]])
    assert decide(evidence, 1.0, 0.0)[0].tolist() == [[1, 1]]
    less = evidence.without({1})
    assert decide(less, 1.0, 0.0)[0].tolist() == [[2, 2]]
    assert less.labels == (2,)
    assert less.competing[:, 0].tolist() == pytest.approx([0.9, 0.6])
    assert [(one.label, pytest.approx(one.score)) for one in panoptic(less, {1, 2}).segments] == [
        (2, 0.9),
        (2, 0.6),
    ]
    assert {one.label for one in instances(less, {1, 2})} == {2}
    assert torch.equal(less.score_maps((1, 2)), evidence.score_maps((1, 2)))


def test_a_mask_that_shows_nothing_else_shows_nothing():
    less = make_proposals([[[1, 0]], [[0, 1]]], [[0.9, 0.0], [0.0, 0.8]]).without({1})
    assert less.competing[:, 0].tolist() == pytest.approx([0.0, 0.8])
    assert [(one.label, one.area) for one in panoptic(less, {1, 2}).segments] == [(2, 1)]


@pytest.mark.parametrize("activation", ["softmax", "sigmoid", "none"])
@pytest.mark.parametrize("offset", [0.0, -0.2])
def test_rows_decide_as_if_the_word_had_not_been_typed(activation, offset):
    whole = random_rows(PETS, activation).calibrated({3: offset})
    fewer = Vocabulary((PETS.classes[0], PETS.classes[2]), PETS.other)
    rows = whole.rows[[0, 1, 3, 4]]  # of dog, puppy, cow and wall
    asked = ScoreMap(rows, fewer, (17, 23), activation).calibrated({2: offset})
    expected, sure = decide(asked, 3.0, 0.2)
    labels, confidence = decide(whole.without({2}), 3.0, 0.2)
    assert np.array_equal(labels, np.array([0, 1, 3])[expected])
    np.testing.assert_array_equal(confidence, sure)
    assert len(np.unique(labels)) == 3


def test_masks_decide_as_if_the_word_had_not_been_typed():
    whole = random_masks(PETS)
    left = whole.scores[:, [0, 2, 3]]
    scores = left / left.sum(1, keepdim=True) * (1 - whole.void)[:, None]
    fewer = Vocabulary((PETS.classes[0], PETS.classes[2]), PETS.other)
    asked = type(whole)(whole.masks, scores, whole.void, fewer, (8, 12), (8, 12), (8, 12))
    expected, sure = decide(asked, 2.0, 0.3)
    labels, confidence = decide(whole.without({2}), 2.0, 0.3)
    assert np.array_equal(labels, np.array([0, 1, 3])[expected])
    np.testing.assert_allclose(confidence, sure, atol=1e-6)


def every_kind(vocabulary):
    rows = random_rows(vocabulary)

    def swap(evidence, scale, labels, confidence, cancel):
        return np.where(labels == 3, 1, labels), confidence

    return {
        **{name: random_rows(vocabulary, name) for name in ("softmax", "sigmoid", "none")},
        "calibrated": rows.calibrated({1: -0.01}),
        "masks": random_masks(vocabulary),
        "calibrated masks": random_masks(vocabulary).calibrated({1: -0.01}),
        "rule": Relabelled(rows, swap),
    }


@pytest.mark.parametrize("kind", every_kind(PETS))
def test_what_every_kind_promises(kind):
    evidence = every_kind(PETS)[kind]
    before, _ = decide(evidence, 3.0, 0.0)
    less = evidence.without({2})
    assert (evidence.excluded, less.excluded) == (frozenset(), {2})
    after, confidence = decide(less, 3.0, 0.0)
    assert 2 in before
    assert 2 not in after
    assert confidence.min() > 0
    if kind in ("softmax", "sigmoid", "none"):  # masks share out anew, offsets and rules weigh anew
        assert np.array_equal(before[before != 2], after[before != 2])
    found = class_probabilities(less, 3.0, (5, 7))
    assert found.shape == (4, 5, 7)
    assert found[1].max() == 0
    scores = evidence.score_maps((5, 7))
    assert scores.shape == (4, 5, 7)
    assert torch.equal(less.score_maps((5, 7)), scores)
    back, _ = decide(less.without(()), 3.0, 0.0)
    assert np.array_equal(back, before)
    assert np.array_equal(decide(less.without({1}), 3.0, 0.0)[0], decide(evidence.without({1}), 3.0, 0.0)[0])
    assert set(np.unique(decide(evidence.without({1, 2, 3}), 3.0, 0.0)[0])) == {0}


@pytest.mark.parametrize("kind", every_kind(PETS))
def test_what_cannot_be_switched_off(kind):
    for labels in ({0}, {4}, {-1, 1}):
        with pytest.raises(ValueError, match="labels must be those of typed classes, 1 to 3"):
            every_kind(PETS)[kind].without(labels)
    with pytest.raises(ValueError, match="At least one class must stay"):
        every_kind(BARE)[kind].without({1, 2, 3})


def test_score_maps_are_those_of_the_best_name():
    evidence = pixel(PETS, 0.1, 0.3, 0.2, 0.1, 0.0).without({2})
    assert evidence.score_maps((2, 2))[:, 0, 0].tolist() == pytest.approx([0.3, 0.2, 0.1, 0.0])
    masks = make_proposals([[[1, 0]], [[1, 1]]], [[0.6, 0.3], [0.4, 0.2]])
    near = torch.tensor([[1.0, 0.4], [0.5, 0.2]])  # sums over the masks of a pixel
    assert masks.score_maps((1, 2))[:, 0].flatten().tolist() == pytest.approx(near.flatten().tolist(), 0.01)


def test_heirs_worked_by_hand():
    before = np.array([[1, 1, 1, 2], [1, 1, 0, 0]])
    after = np.array([[2, 2, 0, 2], [2, 3, 1, 0]])
    assert heirs(before, after, 1) == (Heir(2, 0.6), Heir(0, 0.2), Heir(3, 0.2))
    assert heirs(before, after, 3) == ()
    with pytest.raises(ValueError, match="after must be"):
        heirs(before, after.T, 1)


WORDS = "dog | puppy; grass; sky"


def test_a_result_says_what_is_off_and_gets_it_back(engine):
    photo = random_photo(40, 56)
    whole = engine.segment(photo, WORDS, background="none", options={"threshold": 0.0})
    most = max(whole.classes[:3], key=lambda one: one.area_share)
    less = engine.relabel(whole, without=[most.names[-1].upper()])
    assert less.evidence.excluded == {most.label}
    assert most.label not in less.labels
    assert less.label_map.classes == whole.label_map.classes
    inherited = heirs(whole.labels, less.labels, most.label)
    assert sum(one.share for one in inherited) == pytest.approx(1)
    kept = engine.relabel(less, {"threshold": 0.1})  # a slider leaves it off
    assert kept.evidence.excluded == {most.label}
    back = engine.relabel(less, without=())
    assert np.array_equal(back.labels, whole.labels)
    finer = engine.refine(less, refiner="guided")
    assert most.label not in finer.labels
    with pytest.raises(ValueError, match=r'asked for \(dog, grass, sky\), got "cat"'):
        engine.relabel(whole, without=["cat"])


def test_files_are_what_is_shown_and_can_be_made_again(make_engine, tmp_path):
    photo = tmp_path / "photo.png"
    Image.fromarray(random_photo(40, 56).pixels).save(photo)
    engine = make_engine()
    whole = engine.segment(photo, WORDS)
    most = max(whole.classes[:3], key=lambda one: one.area_share)
    less = engine.relabel(whole, without=[most.label]).edited(
        [Brush(((5.0, 5.0), (20.0, 9.0)), 3.0, most.label)]
    )
    save_result(less, tmp_path / "first", "photo", ("npz",))
    settings = tmp_path / "first" / "photo.naclip.json"
    assert json.loads(settings.read_text())["excluded"] == [most.label]
    assert np.array_equal(np.load(tmp_path / "first" / "photo.naclip.npz")["labels"], less.labels)
    arguments = [str(photo), "--settings", str(settings), "--out", str(tmp_path / "again")]
    assert main(arguments, make_engine()) == 0
    for ending in ("labels.png", "overlay.png"):
        first, again = (tmp_path / name / f"photo.naclip.{ending}" for name in ("first", "again"))
        assert first.read_bytes() == again.read_bytes()
    assert json.loads((tmp_path / "again" / "photo.naclip.json").read_text())["excluded"] == [most.label]
