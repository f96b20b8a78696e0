"""Objects by clicks through the engine: looked at once, refused in one sentence, an edit like any other."""

import threading

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
from ovs_core.ui.edit_steps import object_given, undo


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


def test_an_object_is_an_edit_like_any_other(make_engine, weights_dir):
    engine, photo = make_engine(weights_dir=weights_dir), random_photo(40, 60)
    answer = Answer(engine.segment(photo, "dog; grass", options={"threshold": 0.0}), "photo", "")
    painted = object_given(engine, answer, {"threshold": 0.0}, (20.5, 20.5), 2)
    (edit,) = painted.result.edits
    assert isinstance(edit, Paint)
    mask = mask_of(edit.runs, (40, 60))
    assert np.array_equal(mask, click_object(engine, photo, (Click(20.5, 20.5),)).mask)
    assert (painted.result.labels[mask] == 2).all()
    before = undo(engine, painted, {"threshold": 0.0})
    assert np.array_equal(before.result.labels, answer.result.labels)


def test_without_a_file_or_a_place_nothing_is_loaded(make_engine, weights_dir):
    engine, photo = make_engine(offline=True), random_photo(40, 60)
    assert not clicks_are_ready(engine)
    with pytest.raises(CheckpointError, match="weights get mobile-sam"):
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
