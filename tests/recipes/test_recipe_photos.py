"""COCO photos, mosaics and things set apart: what is known of each pixel."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from training_toys import make_caltech, make_coco, save_photo

from ovs_core.training.data import Sample, crop_sample, read_rgb
from ovs_core.types import IGNORE, UNLISTED
from recipes.mini.coco import Coco
from recipes.mini.things import Mosaic, Named, Thing, depicts, paste_things, salience_key, segmentable


def rng(seed=0):
    return np.random.default_rng(seed)


def draw(source, wanted, tries=60):
    """The first sample, by seed, that `wanted` accepts."""
    return next(sample for sample in (source.sample(rng(seed)) for seed in range(tries)) if wanted(sample))


def test_coco_masks_captions_and_absent_names(tmp_path):
    sample = draw(Coco(make_coco(tmp_path), {}), lambda s: s.groups)
    assert sample.pixels.shape == (40, 56, 3)
    assert sample.labels.shape == (40, 56)
    assert (sample.labels[:, :28] == 0).all()
    assert (sample.labels[:, 28:] == UNLISTED).all()
    assert sample.groups[0][0] in ("dog", "puppy")
    assert sample.absent == ("person", "cell phone")
    assert sample.hints == ("grass", "tree")  # lawn, trees
    assert sample.placed


def test_coco_class_first_shows_that_class(tmp_path):
    coco = Coco(make_coco(tmp_path), {})
    for seed in range(10):
        sample = coco.sample(rng(seed), rare_chance=1.0)
        row, column = sample.focus
        assert sample.labels[int(row * 40), int(column * 56)] == 0  # the dog's half
        crop = crop_sample(sample, 8, (40, 41), rng(seed))
        assert (crop.labels == 0).any()


def test_held_out_classes_are_neither_labelled_nor_named(tmp_path):
    coco = Coco(make_coco(tmp_path), {}, frozenset({"dog"}))
    for seed in range(8):
        sample = coco.sample(rng(seed))
        assert sample.groups == ()
        assert sample.absent == ("person", "cell phone")
        assert set(np.unique(sample.labels)) <= {IGNORE, UNLISTED}
    assert coco.known == ()


def test_photos_that_say_a_held_out_word_are_told():
    bear = Named(Path("a.jpg"), ("American black bear",), ("bear", "animal"))
    assert depicts(bear, {"bear"})
    assert depicts(Named(Path("b.jpg"), ("teddy bear",), ()), {"bear"})
    assert not depicts(Named(Path("c.jpg"), ("bearing",), ("machine",)), {"bear"})


def test_coco_pastes_a_thing_from_another_photo(tmp_path):
    """The dog, a block of 40 x 28, in the empty photo: its longer side is 0.2 to 0.8 of 40 pixels."""
    coco = Coco(make_coco(tmp_path), {})
    own = read_rgb(coco.photos[1])
    pasted = 0
    for seed in range(30):
        sample = coco.sample(rng(seed), paste_chance=1.0)
        rows, columns = np.nonzero(sample.labels == 0)
        if not np.array_equal(sample.pixels[sample.labels == UNLISTED], own[sample.labels == UNLISTED]):
            continue  # drawn onto the dog's own photo
        pasted += 1
        height, width = np.ptp(rows) + 1, np.ptp(columns) + 1
        assert 8 <= height <= 32
        assert width == pytest.approx(height * 28 / 40, abs=1)
        assert len(rows) == height * width
        row, column = sample.focus
        assert sample.labels[int(row * 40), int(column * 56)] == 0
        assert not np.array_equal(sample.pixels[rows, columns], own[rows, columns])
        assert sample.groups[0][0] in ("dog", "puppy")
    assert pasted > 5


def test_coco_uses_another_word_now_and_then(tmp_path):
    coco = Coco(make_coco(tmp_path), {})
    said = [sample.groups[0][0] for sample in map(coco.sample, map(rng, range(60))) if sample.groups]
    assert 0 < said.count("puppy") < said.count("dog")


def test_coco_teacher_speaks_where_no_mask_is(tmp_path):
    teacher = np.zeros((2, 2), np.int8)
    teacher[0], teacher[1, 1] = 1, 2  # sky above, plants at the bottom right
    coco = Coco(make_coco(tmp_path), {"000000000007": teacher})
    sample = draw(coco, lambda s: len(s.groups) == 3)
    assert (sample.labels[:, :28] == 0).all()
    assert (sample.labels[:20, 28:] == 1).all()
    assert (sample.labels[20:, 28:] == 2).all()
    assert sample.groups[1] == ("sky",)
    assert "tree" in sample.groups[2]


def test_coco_teacher_is_not_heard_on_a_speck(tmp_path):
    teacher = np.zeros((40, 56), np.int8)
    teacher[:1, 28:] = 1  # 28 of 2,240 pixels, less than 2 %
    sample = draw(Coco(make_coco(tmp_path), {"000000000007": teacher}), lambda s: s.groups)
    assert len(sample.groups) == 1
    assert (sample.labels[:, 28:] == UNLISTED).all()


def named(tmp_path):
    paths = sorted(make_caltech(tmp_path).glob("*/*.jpg"))
    names = (("airplane",), ("antelope",), ("lamp", "light"), ("water lily",))
    return [
        Named(path, words, ("thing",) if i == 2 else ())
        for i, (path, words) in enumerate(zip(paths, names, strict=True))
    ]


def test_mosaic_has_four_tiles_or_one(tmp_path):
    mosaic = Mosaic(named(tmp_path), 32)
    four = draw(mosaic, lambda s: len(s.groups) == 4)
    assert four.pixels.shape == (32, 32, 3)
    assert not four.placed
    assert [four.labels[y, x] for y, x in ((0, 0), (0, 16), (16, 0), (31, 31))] == [0, 1, 2, 3]
    assert (four.labels[:16, :16] == 0).all()
    assert len(set(four.groups)) == 4
    one = draw(mosaic, lambda s: len(s.groups) == 1)
    assert (one.labels == 0).all()


def test_mosaic_never_shows_two_things_that_share_a_name(tmp_path):
    for name in ("a", "b", "c", "d", "e"):
        save_photo(tmp_path / f"{name}.jpg", 20, 30)
    words = {
        "a": ("dog", "animal"),
        "b": ("cat", "animal"),
        "c": ("car", ""),
        "d": ("hat", ""),
        "e": ("cup", ""),
    }
    photos = [
        Named(tmp_path / f"{key}.jpg", (name,), (kind,) if kind else ())
        for key, (name, kind) in words.items()
    ]
    for seed in range(60):
        sample = Mosaic(photos, 16).sample(rng(seed))
        said = {group[0] for group in sample.groups}
        assert not ("animal" in said and said & {"dog", "cat"})
        assert not said & set(sample.absent)
        assert not ("animal" in said and set(sample.absent) & {"dog", "cat"})


def test_photos_are_kept_whose_thing_is_set_apart(tmp_path):
    """Of ten rows: five sure; none; nine sure (no background); five sure and three unsure (5 / 8 < 0.75)."""
    photos = named(tmp_path)
    rows = ([255] * 5 + [0] * 5, [0] * 10, [255] * 9 + [0], [255] * 5 + [100] * 3 + [0] * 2)
    maps = {
        salience_key(photo.path): np.array(column, np.uint8)[:, None].repeat(4, axis=1)
        for photo, column in zip(photos, rows, strict=True)
    }
    (kept,) = segmentable(photos, maps)
    assert kept.photo is photos[0]
    assert segmentable(photos, {}) == []


def things(tmp_path):
    """Photos of 30 x 42 whose thing is left, unsure for two columns, background right of column 22."""
    salience = np.zeros((30, 42), np.uint8)
    salience[:, :20], salience[:, 20:22] = 255, 100
    return [Thing(photo, salience) for photo in named(tmp_path)]


def test_tiles_of_a_mosaic_with_maps_say_where_their_thing_is(tmp_path):
    mosaic = Mosaic((), 32, things(tmp_path))
    sample = draw(mosaic, lambda s: len(s.groups) == 4)
    assert sample.placed
    for i, (top, left) in enumerate(((0, 0), (0, 16), (16, 0), (16, 16))):
        tile = sample.labels[top : top + 16, left : left + 16]
        assert set(np.unique(tile)) <= {i, UNLISTED, IGNORE}
        order = [int(label) for label in tile[8]]
        assert order == sorted(order, key=[i, IGNORE, UNLISTED].index)  # thing, edge, background
        assert i in order
    crop = crop_sample(sample, 32, (64, 65), rng())
    assert {tuple(row) for row in crop.labels} <= {
        tuple(row) for labels in (sample.labels, sample.labels[:, ::-1]) for row in labels
    }  # keeps its size


def test_pasted_things_cover_what_was_there(tmp_path):
    thing = Thing(Named(tmp_path / "red.jpg", ("lamp", "light"), ()), np.zeros((20, 20), np.uint8))
    Image.new("RGB", (20, 20), (250, 0, 0)).save(thing.photo.path, quality=95)
    thing.salience[5:15, 5:10], thing.salience[5:15, 10:12] = 255, 100
    ground = Sample(
        np.zeros((100, 120, 3), np.uint8),
        np.full((100, 120), UNLISTED, np.int16),
        (("dog",),),
        ("cat", "lamp"),
    )
    for seed in range(8):
        sample = paste_things(ground, [thing], rng(seed))
        assert sample.groups == (("dog",), ("lamp",)) or sample.groups == (("dog",), ("light",))
        assert sample.absent == ("cat",)
        where = sample.labels == 1
        assert (sample.pixels[where][:, 0] > 170).all()  # red, blended where the map is not quite sure
        assert (sample.pixels[sample.labels == UNLISTED] == 0).all()
        assert (sample.labels == IGNORE).any()
        row, column = sample.focus
        assert where[int(row * 100), int(column * 120)]
    assert (ground.pixels == 0).all()


def test_a_thing_that_goes_by_a_word_already_said_is_not_pasted(tmp_path):
    """A beagle is a dog: over a photo that asks for dogs, both words would be right for it."""
    salience = np.full((20, 20), 255, np.uint8)
    save_photo(tmp_path / "beagle.jpg", 20, 20)
    beagle = Thing(Named(tmp_path / "beagle.jpg", ("beagle",), ("hound", "dog")), salience)
    labels = np.full((60, 60), UNLISTED, np.int16)
    labels[:, 30:] = 0
    ground = Sample(np.zeros((60, 60, 3), np.uint8), labels, (("dog",),))
    for seed in range(5):
        assert paste_things(ground, [beagle], rng(seed)) is ground


def test_the_seed_decides_everything(tmp_path):
    photos = Coco(make_coco(tmp_path), {})
    one, same, other = (
        crop_sample(photos.sample(generator), 32, (32, 60), generator)
        for generator in (rng(4), rng(4), rng(5))
    )
    np.testing.assert_array_equal(one.pixels, same.pixels)
    np.testing.assert_array_equal(one.labels, same.labels)
    assert one.groups == same.groups
    assert not np.array_equal(one.pixels, other.pixels)
