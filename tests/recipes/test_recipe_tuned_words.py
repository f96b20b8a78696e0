"""Words tuned on photos: what a token shows, the loss by hand, and that a toy run learns and goes on."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny_clip import make_model

from ovs_core.encoders.clip_vit import VisionEncoder
from ovs_core.encoders.loading import CLIP_MEAN, CLIP_STD
from ovs_core.encoders.text import TextEncoder
from ovs_core.encoders.tuned_words import read_tuned_words
from ovs_core.training.data import Sample
from ovs_core.types import IGNORE, UNLISTED
from recipes.mini.tuned_words import Lesson, Offsets, TunedWordsPlan, lesson_loss, token_labels, tune_words

TOWER = "ab" * 32
PLAN = TunedWordsPlan(
    photos=(("nyu", 3), ("coco", 2)),
    keep=("coco",),
    tokens=40,
    steps=60,
    batch=4,
    rate=2e-2,
    plain_chance=1.0,
)


def rng(seed=0):
    return np.random.default_rng(seed)


def test_a_token_shows_what_most_of_its_pixels_show():
    labels = np.zeros((8, 12), np.int16)  # two rows of three tokens, 4 x 4 pixels each
    labels[:4, 4:8] = 1
    labels[:4, 8:10] = 1  # half of the third: nobody knows
    labels[4:, :3] = UNLISTED  # three quarters of the fourth
    labels[4:, 4:8] = IGNORE
    expected = [[0, 1, IGNORE], [UNLISTED, IGNORE, 0]]
    assert token_labels(labels, (2, 3)).tolist() == expected


def two_words():
    """Two words on the first two axes of a space of three."""
    return Offsets(["desk", "table"], torch.eye(3)[:2])


def lesson(keep=False, labels=(0, 0, 0, 1)):
    tokens = np.eye(3, dtype=np.float16)[[0, 0, 1, 1]]  # the third is labelled otherwise than it looks
    return Lesson(tokens, np.array(labels, np.int16), (("desk",), ("table",)), (), (), keep)


@torch.no_grad()
def loss_of(*asked):
    return lesson_loss(*asked)


def test_half_of_the_loss_counts_tokens_and_half_counts_classes():
    right, wrong = -math.log(math.e / (math.e + 1)), -math.log(1 / (math.e + 1))
    desk, table = (2 * right + wrong) / 3, right
    expected = desk * (0.5 * 3 / 4 + 0.25) + table * (0.5 / 4 + 0.25)
    found = loss_of(two_words(), lesson(), 1.0, 1.0, rng())
    assert float(found) == pytest.approx(expected, abs=1e-6)


def test_words_that_are_kept_cost_nothing_until_they_move():
    model = two_words()
    assert float(loss_of(model, lesson(keep=True), 20.0, 1.0, rng())) == pytest.approx(0, abs=1e-6)
    with torch.no_grad():
        model.offsets[0, 1] = 3.0  # desk now looks more like a table than like a desk
    assert float(loss_of(model, lesson(keep=True), 20.0, 1.0, rng())) > 0.1


@pytest.fixture
def towers():
    model = make_model(0)
    parts = ("tiny", "tiny", model.visual, CLIP_MEAN, CLIP_STD, 16, torch.device("cpu"), torch.float32)
    return VisionEncoder(*parts), TextEncoder(model, "tiny", torch.device("cpu"))


def halves(rng):
    """A photo that is bright (desk) on one side and dark (table) on the other."""
    pixels = np.full((64, 96, 3), 230, np.uint8)
    pixels[:, 48:] = 20
    labels = np.zeros((64, 96), np.int16)
    labels[:, 48:] = 1
    return Sample(pixels, labels, (("desk",), ("table",)), absent=("lamp",))


def thing(rng):
    pixels = rng.integers(0, 255, (64, 64, 3)).astype(np.uint8)
    labels = np.full((64, 64), UNLISTED, np.int16)
    labels[:32] = 0
    return Sample(pixels, labels, (("cat",),), absent=("dog",))


def tune(towers, out, **samplers):
    vision, text = towers
    samplers = samplers or {"nyu": halves, "coco": thing}
    return tune_words(vision, text, torch.tensor(math.log(20.0)), TOWER, samplers, PLAN, out)


def test_a_toy_run_learns_and_names_its_tower(towers, tmp_path):
    path = tune(towers, tmp_path)
    words = read_tuned_words(path, TOWER)
    assert {"desk", "table", "lamp", "cat", "dog", "wall"} <= set(words.rows)
    norms = words.offsets.norm(dim=1)
    assert norms[words.rows["desk"]] > 0.02
    # Steps of Adam are of one size however small a gradient is: by how much differs between processors.
    assert norms[words.rows["desk"]] > 1.5 * norms[words.rows["dog"]]
    losses = [float(line.split('"labelled": ')[1].split("}")[0].split(",")[0]) for line in _log(tmp_path)]
    assert losses[-1] < 0.693  # better than not telling desk from table


def test_a_run_that_was_stopped_draws_nothing_anew(towers, tmp_path):
    whole = tune(towers, tmp_path / "whole")

    calls = []

    def stops(rng):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return halves(rng)

    with pytest.raises(KeyboardInterrupt):
        tune(towers, tmp_path / "stopped", nyu=stops, coco=thing)
    again = []

    def counts(rng):
        again.append(1)
        return halves(rng)

    path = tune(towers, tmp_path / "stopped", nyu=counts, coco=thing)
    assert len(again) == 1
    one, two = (read_tuned_words(file, TOWER) for file in (path, whole))
    assert one.rows == two.rows
    assert torch.equal(one.offsets, two.offsets)
    assert tune(towers, tmp_path / "stopped", nyu=stops) == path


def test_without_any_of_its_sets_it_says_so(towers, tmp_path):
    with pytest.raises(ValueError, match="none is there"):
        tune(towers, tmp_path, facades=halves)


def test_another_recipe_is_refused(towers, tmp_path):
    tune(towers, tmp_path)
    vision, text = towers
    with pytest.raises(FileExistsError):
        tune_words(vision, text, torch.tensor(3.0), TOWER, {"nyu": halves}, replace(PLAN, steps=9), tmp_path)


def _log(out):
    return (out / "log.jsonl").read_text().splitlines()
