"""Sets that declare what they label: what a pixel is, what it is not, and what nobody knows."""

import math
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pytest
import torch
from training_toys import save_mask, save_photo

from ovs_core.training.data import Sample, crop_sample
from ovs_core.types import IGNORE, UNLISTED
from recipes.mini.coco import coco_names, mark_materials
from recipes.mini.labelled import Labelled, LabelledNames, in_blocks
from recipes.mini.labelled_sets import DECLARED, MSRC, NYU, NYU_FINE, VOC, split_photos
from recipes.mini.losses import sample_loss, typed_rows

WORDS = MappingProxyType({1: ("dog", "puppy"), 2: ("sofa", "couch"), 5: ("lamp",)})


def rng(seed=0):
    return np.random.default_rng(seed)


def photo_with(root, mask, name="a"):
    """A photo whose mask is `mask`."""
    save_photo(root / "images" / f"{name}.jpg", *np.shape(mask))
    save_mask(root / "masks" / f"{name}.png", mask)
    return root / "images" / f"{name}.jpg"


def columns(*values, height=40, width=10):
    """A mask (height, width x values) of upright stripes."""
    return np.repeat(np.tile(np.array(values, np.uint8), (height, 1)), width, axis=1)


def test_labelled_pixels_bear_a_word_and_the_rest_is_not_known(tmp_path):
    photos = Labelled([photo_with(tmp_path, columns(1, 0, 2, 255))], LabelledNames(WORDS))
    sample = photos.sample(rng())
    assert sample.pixels.shape == (40, 40, 3)
    dog, sofa = sample.labels[0, 0], sample.labels[0, 25]
    assert sample.groups[dog][0] in WORDS[1]
    assert sample.groups[sofa][0] in WORDS[2]
    assert (sample.labels[:, 10:20] == IGNORE).all()  # 0 is not declared to mean anything
    assert (sample.labels[:, 30:] == IGNORE).all()
    assert sample.absent == ("lamp",)
    assert sample.maybe == ()


def test_where_a_set_says_so_an_unlabelled_pixel_is_none_of_its_names(tmp_path):
    names = LabelledNames(WORDS, negative=frozenset({0}), unlabelled=("sky", "grass"))
    photos = Labelled([photo_with(tmp_path, columns(1, 0, 255))], names)
    samples = [photos.sample(rng(seed)) for seed in range(20)]
    for sample in samples:
        assert (sample.labels[:, 10:20] == UNLISTED).all()
        assert (sample.labels[:, 20:] == IGNORE).all()
        assert set(sample.absent) == {"sofa", "lamp"}
    assert {name for sample in samples for name in sample.maybe} == {"sky", "grass"}
    assert any(sample.maybe == () for sample in samples)


def test_first_words_are_said_most_often_and_loose_ones_together(tmp_path):
    path = photo_with(tmp_path, columns(1, 2))
    names = LabelledNames(WORDS, loose=frozenset({2}))
    said = [Labelled([path], names).sample(rng(seed)).groups for seed in range(60)]
    first = sum(groups[0] == ("dog",) for groups in said)
    assert 20 < first < 40  # half of them
    assert {groups[0] for groups in said} == {("dog",), ("puppy",)}
    assert {groups[1] for groups in said} == {("sofa", "couch")}


def test_parts_are_called_by_their_whole_now_and_then(tmp_path):
    names = LabelledNames(
        MappingProxyType({1: ("face",), 2: ("body",), 3: ("tree",)}),
        whole=MappingProxyType({(1, 2): ("person",)}),
    )
    photos = Labelled([photo_with(tmp_path, columns(3, 2, 1))], names)
    seen = set()
    for seed in range(12):
        sample = photos.sample(rng(seed))
        seen.add(frozenset(sample.groups))
        body, face = sample.labels[0, 15], sample.labels[0, 25]
        assert (body == face) == (("person",) in sample.groups)
        assert sample.groups[sample.labels[0, 0]] == ("tree",)
        assert sample.absent == ()  # a face is no absent name where a person is shown
    assert seen == {frozenset({("tree",), ("person",)}), frozenset({("tree",), ("face",), ("body",)})}


def test_a_class_is_drawn_first_by_the_square_root_of_its_photos(tmp_path):
    """Sixteen photos of dogs, one of a lamp: it is drawn once in five times, and in the crop."""
    paths = [photo_with(tmp_path, columns(1, 0), f"dog{i}") for i in range(16)]
    paths.append(photo_with(tmp_path, columns(0, 5), "lamp"))
    photos = Labelled(paths, LabelledNames(WORDS))
    drawn = [photos.sample(rng(seed), class_chance=1.0) for seed in range(200)]
    lamps = [sample for sample in drawn if sample.groups == (("lamp",),)]
    assert 25 < len(lamps) < 55
    for sample in lamps:
        assert sample.focus is not None
        assert sample.focus[1] >= 0.5
        assert (crop_sample(sample, 8, (40, 41), rng()).labels == 0).any()
    even = [photos.sample(rng(seed), class_chance=0.0) for seed in range(200)]
    assert sum(sample.groups == (("lamp",),) for sample in even) < 25
    assert all(sample.focus is None for sample in even)


def test_few_pixels_are_no_reason_to_draw_a_photo(tmp_path):
    mask = columns(1, 1)
    mask[:4, :4] = 5
    photos = Labelled([photo_with(tmp_path, mask)], LabelledNames(WORDS))
    assert set(photos.having) == {1}


def test_teachers_speak_where_a_set_labels_nothing(tmp_path):
    names = LabelledNames(WORDS, negative=frozenset({0}))
    seen = np.zeros((4, 4), np.uint8)
    seen[:, 2:] = 10
    photos = Labelled(
        [photo_with(tmp_path, columns(1, 0, 255, 0))], names, {"a": seen}, {10: ("grass", "lawn")}
    )
    sample = photos.sample(rng())
    assert sample.groups[1] == ("grass", "lawn")
    assert (sample.labels[:, 30:] == 1).all()
    assert (sample.labels[:, 10:20] == UNLISTED).all()  # the teacher is not sure there
    assert (sample.labels[:, 20:30] == IGNORE).all()  # what is not known stays so


def test_materials_that_share_a_word_are_one_class():
    labels, groups = np.full((8, 8), UNLISTED, np.int16), []
    seen = np.repeat([[22, 22, 27, 0]], 4, axis=0)
    mark_materials(seen, {22: ("water",), 27: ("sea", "water")}, labels, groups)
    assert groups == [("water", "sea")]
    assert (labels[:, :6] == 0).all()
    assert (labels[:, 6:] == UNLISTED).all()


def test_a_material_that_goes_by_a_drawn_word_does_not_count():
    labels = np.full((8, 8), UNLISTED, np.int16)
    labels[:, :2] = 0
    groups = [("plant",)]
    mark_materials(np.full((4, 4), 18), {18: ("plant", "bush")}, labels, groups)
    assert groups == [("plant",)]
    assert (labels[:, :2] == 0).all()
    assert (labels[:, 2:] == IGNORE).all()


def test_an_unlabelled_pixel_may_show_what_its_set_does_not_label():
    """Four pixels: dog, other, other, not known. Rows: dog, grass (may be there), cat (declared), other."""
    labels = np.array([[0, UNLISTED, UNLISTED, IGNORE]], np.int16).repeat(4, axis=0).repeat(4, axis=1)
    sample = Sample(np.zeros((4, 16, 3), np.uint8), labels, (("dog",),), ("cat",), maybe=("grass",))
    chances = torch.tensor(
        [[0.4, 0.1, 0.2, 0.7], [0.3, 0.5, 0.1, 0.1], [0.2, 0.1, 0.3, 0.1], [0.1, 0.3, 0.4, 0.1]]
    )
    loss = sample_loss(chances.log()[:, None, :], torch.tensor([1, 2, 3, 0]), 0, sample, maybe=1)
    dog = -math.log(0.4)  # grass is wrong there
    other = -(math.log(0.5 + 0.3) + math.log(0.1 + 0.4)) / 2  # grass is right, cat is not
    # Half by pixels (1/4 and 2/4), half by class: the known 3/4 shared between two.
    assert loss.item() == pytest.approx(dog * (0.125 + 0.1875) + other * (0.25 + 0.1875), abs=1e-6)
    strict = sample_loss(chances.log()[:, None, :], torch.tensor([1, 2, 3, 0]), 0, sample)
    other = -(math.log(0.3) + math.log(0.4)) / 2  # as if the set had labelled grass
    assert strict.item() == pytest.approx(dog * (0.125 + 0.1875) + other * (0.25 + 0.1875), abs=1e-6)


def test_a_name_that_may_be_there_moves_no_pixel_to_it():
    """Unlike a caption's hint: the loss of a picture with it alone is least when everything is "other"."""
    labels = np.full((4, 16), UNLISTED, np.int16)
    sample = Sample(np.zeros((4, 16, 3), np.uint8), labels, (), maybe=("grass",))
    even = torch.tensor([[0.5], [0.5]]).log()[:, None, :].expand(2, 1, 4)
    loss = sample_loss(even, torch.tensor([1, 0]), 0, sample, maybe=1)
    assert loss.item() == pytest.approx(0, abs=1e-6)


def test_rows_that_may_be_there_stand_behind_hints():
    sample = Sample(
        np.zeros((4, 4, 3), np.uint8),
        np.zeros((4, 4), np.int16),
        (("dog", "puppy"),),
        ("cat",),
        ("tree",),
        maybe=("grass", "dog", "tree"),
    )
    for seed in range(8):
        typed = typed_rows(sample, rng(seed))
        hints = ("tree",) if typed.hints else ()
        maybe = ("grass",) if typed.hints else ("grass", "tree")  # what is said already is not said twice
        assert typed.maybe == len(maybe)
        assert typed.rows[: 2 + len(hints) + len(maybe)] == ("dog", "puppy", *hints, *maybe)
        last = 1 + len(hints) + len(maybe)
        assert typed.row_label[: last + 1] == (1, 1, *range(2, last + 1))


def test_blocks_lie_apart_from_what_teaches():
    photos = [Path(f"{index:03}.jpg") for index in range(100)]
    out, rest = in_blocks(photos, blocks=2, size=10, margin=3)
    assert [path.stem for path in out] == [f"{i:03}" for i in (*range(25, 35), *range(75, 85))]
    assert not {path.stem for path in rest} & {f"{i:03}" for i in (*range(22, 38), *range(72, 88))}
    assert len(rest) == 100 - 32


def test_too_few_photos_for_the_blocks_are_refused():
    with pytest.raises(ValueError, match="10 photos are too few for 2 blocks of 4"):
        in_blocks([Path(str(index)) for index in range(10)], 2, 4, 3)


def test_what_is_measured_or_chosen_on_never_teaches():
    for name, count in (("nyu", 1300), ("msrc", 500), ("coco128", 126)):
        photos = [Path(f"{index:04}.jpg") for index in range(count)]
        parts = split_photos(name, photos)
        for one, other in (("train", "choose"), ("train", "kept"), ("choose", "kept")):
            assert not set(parts[one]) & set(parts[other]), name
        assert len(parts["train"]) > 0.65 * count
    assert len(split_photos("nyu", [Path(f"{i}") for i in range(1300)])["kept"]) == 150
    assert len(split_photos("msrc", [Path(f"{i}") for i in range(500)])["kept"]) == 100


def test_no_two_values_of_a_set_go_by_one_word():
    for name, names in {**DECLARED, "nyu_fine": NYU_FINE}.items():
        words = [word for value in names.words.values() for word in value]
        assert len(set(words)) == len(words), name
        whole = {word for value in names.whole.values() for word in value}
        assert not whole & set(words), name
        assert not set(names.unlabelled) & set(words), name
        assert names.loose <= set(names.words), name


def test_sets_declare_what_their_folders_say():
    """VOC's background is no negative for materials; NYUv2 and MSRC have no negative at all."""
    assert VOC.negative == frozenset({0})
    assert "grass" in VOC.unlabelled
    assert not NYU.negative
    assert not MSRC.negative
    assert len(NYU.words) == 37
    assert len(VOC.words) == 20


def test_names_of_a_folder_with_columns(tmp_path):
    (tmp_path / "classes.txt").write_text("# id\tname\n0\t(none)\t9\n1\tfire hydrant\t3\n255\t(ignore)\t1\n")
    assert coco_names(tmp_path) == ("fire hydrant",)
    (tmp_path / "classes.txt").write_text("0 background\n1 person\n2 cell phone\n")
    assert coco_names(tmp_path) == ("person", "cell phone")
