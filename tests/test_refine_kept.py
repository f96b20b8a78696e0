"""`Engine.refine`: another refiner, or an object, on a kept answer; equal to asking anew, without asking."""

import threading

import numpy as np
import pytest
import torch
from sam_toys import random_state
from towers import random_photo

from ovs_core.devices import Cancelled
from ovs_core.edit.record import Paint, Reassign, mask_of
from ovs_core.refine.sam.prompts import Click, ObjectPrompt

WORDS = "dog; grass; sky"


@pytest.fixture
def photo():
    return random_photo(48, 72)


@pytest.fixture(scope="module")
def weights_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    torch.save(random_state(), folder / "mobile_sam.pt")
    return folder


def equal(found, expected):
    assert np.array_equal(found.labels, expected.labels)
    assert np.array_equal(found.confidence, expected.confidence)
    assert found.classes == expected.classes
    assert (found.refiner, found.options, found.preset) == (
        expected.refiner,
        expected.options,
        expected.preset,
    )
    assert found.weights == expected.weights


@pytest.mark.parametrize(
    ("refiner", "options"), [("guided", {"guided_radius": 3}), ("pamr", {"pamr_side": 96})]
)
def test_it_is_the_answer_that_asking_anew_gives(make_engine, photo, refiner, options):
    asked = make_engine().segment(photo, WORDS, refiner=refiner, options=options)
    plain = make_engine().segment(photo, WORDS)
    assert not np.array_equal(plain.confidence, asked.confidence)
    other = make_engine()  # nothing is loaded here, and nothing needs to be
    found = other.refine(plain, refiner=refiner, options=options)
    equal(found, asked)
    assert set(found.seconds) == {"refine", "decide"}
    assert other.cache.stats("features").misses == other.cache.stats("text").misses == 0


def test_one_refiner_takes_the_place_of_another(engine, photo):
    plain, guided, pamr = (
        engine.segment(photo, WORDS, refiner=name, options={"threshold": 0.3})
        for name in ("none", "guided", "pamr")
    )
    equal(engine.refine(guided, refiner="pamr"), pamr)
    equal(engine.refine(engine.refine(plain, refiner="pamr"), refiner="guided"), guided)
    equal(engine.refine(guided, refiner="none"), plain)


def test_the_look_at_the_photo_is_shared_with_requests(engine, photo):
    engine.segment(photo, WORDS, refiner="pamr")
    before = engine.cache.stats("looks")
    engine.refine(engine.segment(photo, "cat; car; tree"), refiner="pamr")
    after = engine.cache.stats("looks")
    assert (after.misses, after.hits) == (before.misses, before.hits + 1)


def test_edits_by_hand_are_done_again(engine, photo):
    plain = engine.segment(photo, WORDS, options={"threshold": 0.0})
    edit = Reassign((3.5, 3.5), 3)
    found = engine.refine(plain.edited([edit]), refiner="guided")
    assert found.edits == (edit,)
    expected = engine.segment(photo, WORDS, refiner="guided", options={"threshold": 0.0}).edited([edit])
    assert np.array_equal(found.labels, expected.labels)


def test_what_cannot_be_done_is_one_sentence(engine, make_engine, photo):
    result = engine.segment(photo, WORDS)
    for settings, sentence in (
        ({"refiner": "sharpest"}, "refiner must be one of"),
        ({"refiner": "pamr", "options": {"threshold": 0.2}}, "options of PAMR must be among"),
        ({"refiner": "pamr", "options": {"pamr_side": -1}}, "pamr_side must"),
        ({"refiner": "sam-vote"}, "weights get mobile-sam"),
        ({"prompts": [ObjectPrompt(1, (Click(3, 3),))]}, "weights get mobile-sam"),
        ({"prompts": [ObjectPrompt(9, (Click(3, 3),))]}, "label must be 0 or the id of a class, got 9"),
    ):
        with pytest.raises(ValueError, match=sentence):
            make_engine(offline=True).refine(result, **settings)
    with pytest.raises(ValueError, match=r"at the size of its photo, \(48, 72\)"):
        engine.refine(engine.relabel(result, size=(24, 36)), refiner="pamr")
    cancel = threading.Event()
    cancel.set()
    with pytest.raises(Cancelled):
        make_engine().refine(result, refiner="pamr", cancel=cancel)


def test_sam_comes_and_goes_with_its_weights(make_engine, photo, weights_dir):
    engine = make_engine(weights_dir=weights_dir)
    plain = engine.segment(photo, WORDS)
    found = engine.refine(plain, refiner="sam-prompts", options={"sam_prompt_iou": 0.7})
    equal(found, engine.segment(photo, WORDS, refiner="sam-prompts", options={"sam_prompt_iou": 0.7}))
    assert len(found.weights["mobile_sam.pt"]) == 64
    assert found.options["sam_prompt_iou"] == 0.7
    equal(engine.refine(found, refiner="none"), plain)


def test_prompted_objects_go_to_their_classes(make_engine, photo, weights_dir):
    engine = make_engine(weights_dir=weights_dir)
    result = engine.segment(photo, WORDS)
    prompts = [ObjectPrompt(2, (Click(20.5, 20.5),)), ObjectPrompt(0, box=(40, 10, 70, 40))]
    found = engine.refine(result, prompts)
    first, second = found.edits
    assert isinstance(first, Paint)
    assert isinstance(second, Paint)
    here, there = (mask_of(edit.runs, (48, 72)) for edit in (first, second))
    assert (found.labels[there] == 0).all()
    assert (found.labels[here & ~there] == 2).all()
    untouched = ~(here | there)
    assert np.array_equal(found.labels[untouched], result.labels[untouched])
