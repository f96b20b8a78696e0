"""Readers of photo folders: what is known of each pixel, and crops."""

import numpy as np
import pytest
from training_toys import make_camvid, make_pets

from ovs_core.training.data import CAMVID_NAMES, MID_GREY, CamVid, Pets, Sample, crop_sample, start_of_crop
from ovs_core.types import IGNORE, UNLISTED


def rng(seed=0):
    return np.random.default_rng(seed)


def draw(source, wanted, tries=60):
    """The first sample, by seed, that `wanted` accepts."""
    return next(sample for sample in (source.sample(rng(seed)) for seed in range(tries)) if wanted(sample))


@pytest.mark.parametrize(
    ("length", "side", "focus", "starts"),
    [
        (10, 4, None, range(7)),
        (10, 4, 0.0, range(1)),
        (10, 4, 0.5, range(2, 6)),  # pixel 5 lies in [2, 6) .. [5, 9)
        (10, 4, 0.99, range(6, 7)),
        (3, 4, 0.5, range(1)),
    ],
)
def test_crops_hold_their_focus(length, side, focus, starts):
    found = {start_of_crop(length, side, focus, rng(seed)) for seed in range(200)}
    assert found == set(starts)


def test_camvid_void_is_ignored(tmp_path):
    sample = CamVid(make_camvid(tmp_path)).sample(rng())
    assert sample.labels.shape == (32, 48)
    assert (sample.labels[:16, :-1] == 0).all()
    assert (sample.labels[16:, :-1] == 3).all()
    assert (sample.labels[:, -1] == IGNORE).all()
    assert len(sample.groups) == 11
    assert all(group[0] in names for group, names in zip(sample.groups, CAMVID_NAMES, strict=True))


@pytest.mark.parametrize(
    ("stem", "words", "absent"),
    [
        (
            "yorkshire_terrier_12",
            {"dog", "yorkshire terrier", "yorkshire terrier dog", "pet"},
            ("cat",),
        ),
        ("Maine_Coon_3", {"cat", "maine coon", "maine coon cat", "pet"}, ("dog",)),
    ],
)
def test_pets_go_by_kind_or_breed(tmp_path, stem, words, absent):
    pets = Pets(make_pets(tmp_path, stem))
    samples = [pets.sample(rng(seed)) for seed in range(40)]
    assert {sample.groups[0][0] for sample in samples} == words
    assert samples[0].absent == absent
    assert (samples[0].labels[:10] == 0).all()
    assert (samples[0].labels[10:12] == IGNORE).all()
    assert (samples[0].labels[12:] == UNLISTED).all()


def picture(height, width, placed=True):
    """Left half label 0, right half UNLISTED; red rises with the column."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[..., 0] = np.linspace(0, 250, width).astype(np.uint8)
    labels = np.full((height, width), UNLISTED, np.int16)
    labels[:, : width // 2] = 0
    return Sample(pixels, labels, (("dog",),), ("cat",), ("sky",), placed)


@pytest.mark.parametrize(("height", "width"), [(40, 60), (90, 50), (30, 200)])
def test_crop_has_its_side_and_keeps_what_was_said(height, width):
    crop = crop_sample(picture(height, width), 48, (64, 80), rng())
    assert crop.pixels.shape == (48, 48, 3)
    assert crop.pixels.dtype == np.uint8
    assert crop.labels.shape == (48, 48)
    assert (crop.labels != IGNORE).all()  # the shorter side is longer than the crop
    assert (crop.groups, crop.absent, crop.hints, crop.placed) == ((("dog",),), ("cat",), ("sky",), True)


def test_crop_outside_the_photo_is_grey_and_ignored():
    crop = crop_sample(picture(30, 60), 48, (24, 24), rng(1))  # becomes 24 x 48
    assert (crop.labels[24:] == IGNORE).all()
    assert (crop.labels[:24] != IGNORE).all()
    ground = crop.pixels[24:].reshape(-1, 3).astype(int)
    assert (ground == ground[0]).all()
    assert (abs(ground - MID_GREY) < 60).all()  # colours are shifted after filling


def test_pixels_and_labels_are_flipped_together():
    sides = set()
    for seed in range(12):
        crop = crop_sample(picture(32, 32), 32, (32, 32), rng(seed))
        thing_left = bool(crop.labels[0, 0] == 0)
        red = crop.pixels[..., 0].mean(axis=0)
        assert (red[0] < red[-1]) == thing_left
        sides.add(thing_left)
    assert sides == {True, False}


def test_a_tile_without_place_is_not_resized():
    crop = crop_sample(picture(48, 48, placed=False), 48, (500, 500), rng())
    assert sorted(np.unique(crop.labels)) == [UNLISTED, 0]
    assert (crop.labels == 0).sum() == 48 * 24


@pytest.mark.parametrize(("make", "source"), [(make_camvid, CamVid), (make_pets, Pets)])
def test_the_seed_decides_everything(tmp_path, make, source):
    photos = source(make(tmp_path))
    one, same, other = (
        crop_sample(photos.sample(generator), 32, (32, 60), generator)
        for generator in (rng(4), rng(4), rng(5))
    )
    np.testing.assert_array_equal(one.pixels, same.pixels)
    np.testing.assert_array_equal(one.labels, same.labels)
    assert one.groups == same.groups
    assert not np.array_equal(one.pixels, other.pixels)
