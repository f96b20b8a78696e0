"""Objects by clicks through the engine: looked at once, refused in one sentence, an edit like any other."""

import threading
from dataclasses import replace

import numpy as np
import pytest
import torch
from sam_toys import random_state
from towers import random_photo

from ovs_core.checkpoints import CheckpointError
from ovs_core.devices import Cancelled
from ovs_core.edit.record import Paint, mask_of
from ovs_core.engine.clicks import click_object, clicks_are_ready
from ovs_core.refine.sam.prompts import Click
from ovs_core.ui.answer import Answer
from ovs_core.ui.edit_steps import pointed_object, undo


@pytest.fixture(scope="module")
def weights_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    torch.save(random_state(), folder / "mobile_sam.pt")
    return folder


def test_the_photo_is_looked_at_once(make_engine, weights_dir):
    engine, photo = make_engine(weights_dir=weights_dir), random_photo(40, 60)
    assert clicks_are_ready(engine)
    first = click_object(engine, photo, (Click(20, 20),))
    assert first.mask.shape == (40, 60)
    assert first.mask.dtype == np.bool_
    before = engine.cache.stats("looks").misses
    more = (Click(20, 20), Click(50, 30, inside=False))
    second = click_object(engine, photo, more, previous=first)
    assert second.mask.shape == (40, 60)
    assert engine.cache.stats("looks").misses == before
    again = click_object(engine, photo, (Click(20, 20),))
    assert torch.equal(again.logits, first.logits)


def test_an_object_is_pointed_at_until_something_else_is_done(make_engine, weights_dir):
    engine, photo, options = make_engine(weights_dir=weights_dir), random_photo(40, 60), {"threshold": 0.0}
    answer = Answer(engine.segment(photo, "dog; grass", options=options), "photo", "")
    first = pointed_object(engine, answer, options, None, 2, Click(20.5, 20.5))
    (edit,) = first.after.result.edits
    assert isinstance(edit, Paint)
    mask = mask_of(edit.runs, (40, 60))
    assert np.array_equal(mask, click_object(engine, photo, (Click(20.5, 20.5),)).mask)
    assert (first.after.result.labels[mask] == 2).all()
    second = pointed_object(engine, first.after, options, first, 2, Click(50, 30, inside=False))
    boxed = pointed_object(engine, second.after, options, second, 2, box=(5, 5, 30, 30))
    assert len(boxed.after.result.edits) == 1  # one object, made more exact
    assert (len(boxed.prompt.clicks), boxed.prompt.box) == (2, (5, 5, 30, 30))
    other = pointed_object(engine, boxed.after, options, boxed, 1, Click(50, 30))  # another class
    assert (len(other.after.result.edits), len(other.prompt.clicks)) == (2, 1)
    undone = undo(engine, other.after, options)
    again = pointed_object(engine, undone, options, other, 1, Click(10, 10))
    assert (len(again.after.result.edits), again.prompt.clicks) == (2, (Click(10, 10),))
    with pytest.raises(ValueError, match="Click at least once inside"):
        pointed_object(engine, answer, options, None, 2, Click(3, 3, inside=False))
    crowd = replace(boxed, prompt=replace(boxed.prompt, clicks=(Click(3, 3),) * 100))
    with pytest.raises(ValueError, match="up to 100 points"):
        pointed_object(engine, boxed.after, options, crowd, 2, Click(3, 3))
    for broken, label, sentence in ((None, 1, "press Segment first"), (answer, None, "Choose a class")):
        with pytest.raises(ValueError, match=sentence):
            pointed_object(engine, broken, options, None, label, Click(3, 3))


def test_without_a_file_or_a_place_nothing_is_loaded(make_engine, weights_dir):
    engine, photo = make_engine(offline=True), random_photo(40, 60)
    assert not clicks_are_ready(engine)
    with pytest.raises(
        CheckpointError,
        match=r"^Pointing at an object .*get mobile-sam`, or take areas",
    ):
        click_object(engine, photo, (Click(20, 20),))
    ready = make_engine(weights_dir=weights_dir)
    for clicks, box, sentence in (
        ((), None, "Click at least once inside"),
        ((Click(61, 3),), None, "lies outside the photo of 60 x 40 pixels"),
        ((), (5, 5, 5, 9), "has no area"),
    ):
        with pytest.raises(ValueError, match=sentence):
            click_object(ready, photo, clicks, box)
    cancel = threading.Event()
    cancel.set()
    with pytest.raises(Cancelled):
        click_object(ready, photo, (Click(2, 2),), cancel=cancel)
    assert ready.cache.nbytes == 0
