"""Everything in a photo, and regions that ask: with masks painted by hand and with SAM's real decoder."""

import threading
from functools import lru_cache

import numpy as np
import pytest
import torch
from sam_toys import PaintedMasks, rectangle, small_sam

from ovs_core.devices import Cancelled
from ovs_core.refine.sam.embedding import look
from ovs_core.refine.sam.everything import GridSettings, sam_regions
from ovs_core.refine.sam.prompted import PromptSettings, prompted_labels

PHOTO_SIZE = (64, 128)  # eight frame pixels per photo pixel, two cells of the mask grid
FOUR = GridSettings(points_per_side=2, points_per_batch=3, least_predicted_iou=0.5)


@lru_cache
def embedded():
    pixels = np.random.default_rng(0).integers(0, 256, (*PHOTO_SIZE, 3)).astype(np.uint8)
    return look(small_sam(), pixels)


def looked_at(masks=None, trust=None):
    sam, embedding = small_sam(), embedded()
    if masks is not None:
        sam.mask_decoder = PaintedMasks(masks, trust)
    return sam, embedding


def test_small_masks_lie_on_top_of_large_ones():
    masks = [
        rectangle(0, 0, 128, 128),  # left half
        rectangle(40, 40, 80, 80),  # something small in it
        rectangle(0, 128, 256, 256),  # right half, with what SAM says of the padding
        rectangle(0, 0, 256, 10),  # not trusted
    ]
    sam, embedding = looked_at(masks, [0.9, 0.8, 0.9, 0.4])
    steps = []
    regions = sam_regions(sam, embedding, FOUR, progress=lambda done, total: steps.append((done, total)))
    assert regions.shape == PHOTO_SIZE
    assert set(np.unique(regions)) == {1, 2, 3}
    small = regions[30, 30]
    assert small == 3
    assert 380 < (regions == 3).sum() < 420  # 20 x 20 photo pixels
    assert regions[2, 2] != regions[2, 120]
    assert (regions[:, 66:] == regions[2, 120]).all()
    assert steps == [(1, 3), (2, 3), (3, 3)]


def test_of_masks_with_the_same_box_the_trusted_one_stays():
    masks = [rectangle(0, 0, 100, 100), rectangle(0, 0, 100, 102), rectangle(0, 0, 100, 101)]
    sam, embedding = looked_at(masks, [0.8, 0.9, 0.7])
    regions = sam_regions(sam, embedding, GridSettings(1, 3, 0.5))
    assert set(np.unique(regions)) == {0, 1}
    sam, embedding = looked_at(masks, [0.8, 0.9, 0.7])
    assert (sam_regions(sam, embedding, FOUR) == 1)[:50, :51].all()


def test_no_mask_at_all_is_no_region():
    sam, embedding = looked_at([rectangle(0, 0, 50, 50)], [0.1])
    assert not sam_regions(sam, embedding, FOUR).any()


def test_a_mask_in_the_padding_alone_is_no_region():
    sam, embedding = looked_at([rectangle(150, 0, 256, 256)], [0.9])
    assert not sam_regions(sam, embedding, FOUR).any()


def test_the_real_decoder_cuts_a_photo_up_the_same_way_twice():
    sam, embedding = looked_at()
    settings = GridSettings(2, 4, least_predicted_iou=-100.0, least_stability=0.0, most_overlap=1.0)
    regions = sam_regions(sam, embedding, settings)
    assert regions.shape == PHOTO_SIZE
    assert regions.max() > 1
    assert np.array_equal(regions, sam_regions(sam, embedding, settings))


def test_masks_of_everything_can_be_cancelled_between_batches():
    sam, embedding = looked_at([rectangle(0, 0, 50, 50)], [0.9])
    cancel = threading.Event()

    def stop(done, total):
        cancel.set()

    with pytest.raises(Cancelled):
        sam_regions(sam, embedding, FOUR, progress=stop, cancel=cancel)
    assert sam.mask_decoder.asked == 3  # the first batch only


def test_settings_out_of_range_are_refused():
    with pytest.raises(ValueError, match=r"points_per_side must lie in 1\.\.64, got 0"):
        GridSettings(points_per_side=0)
    with pytest.raises(ValueError, match="points_per_batch"):
        GridSettings(points_per_batch=0)


def coarse():
    """A dog on the left, too large by a few pixels everywhere, and a cat on the right."""
    labels = np.zeros(PHOTO_SIZE, np.uint8)
    labels[10:50, 10:60] = 2
    labels[20:40, 80:110] = 1
    belief = {
        label: torch.from_numpy((labels == label).astype(np.float32))[::4, ::4] * 0.8 for label in (1, 2)
    }
    return labels, belief


def test_a_trusted_mask_takes_the_place_of_its_region():
    labels, belief = coarse()
    # The dog is asked first: it is larger. SAM draws it from row 15 and column 15 on; it doubts the cat.
    sam, embedding = looked_at([rectangle(30, 30, 90, 110), rectangle(40, 160, 80, 240)], [0.9, 0.79])
    steps = []
    refined = prompted_labels(
        sam, embedding, labels, belief, progress=lambda done, total: steps.append((done, total))
    )
    assert refined.dtype == labels.dtype
    expected = np.zeros(PHOTO_SIZE, np.uint8)
    expected[15:45, 15:55] = 2
    expected[20:40, 80:110] = 1  # the cat stays as it was
    assert (refined != expected).mean() < 0.01  # but for half a pixel of interpolation at SAM's edges
    assert refined[12, 12] == 0
    assert (refined[expected == 1] == 1).all()
    assert steps == [(1, 2), (2, 2)]
    assert labels[12, 12] == 2  # what was given is unchanged


def test_a_mask_of_something_else_is_not_taken():
    labels, belief = coarse()
    sam, embedding = looked_at([rectangle(0, 0, 128, 256)], [0.99])
    assert np.array_equal(prompted_labels(sam, embedding, labels, belief), labels)


def test_a_mask_that_reaches_into_a_weaker_class_wins_there():
    labels, belief = coarse()
    belief[1] = belief[1] * 0.5
    masks = [rectangle(20, 20, 100, 180), rectangle(40, 160, 80, 220)]
    sam, embedding = looked_at(masks, [0.9, 0.9])
    refined = prompted_labels(sam, embedding, labels, belief)
    assert refined[30, 85] == 2
    assert refined[30, 100] == 1


def test_small_regions_do_not_ask_and_few_do():
    labels, belief = coarse()
    labels[60, 2] = 1
    sam, embedding = looked_at([rectangle(0, 0, 1, 1)], [0.0])
    prompted_labels(sam, embedding, labels, belief, PromptSettings(most_regions=1))
    assert sam.mask_decoder.asked == 1
    prompted_labels(sam, embedding, labels, belief)
    assert sam.mask_decoder.asked == 3


def test_the_real_decoder_is_asked_with_box_point_and_mask():
    labels, belief = coarse()
    sam, embedding = looked_at()
    every = PromptSettings(least_predicted_iou=-100.0, least_overlap=0.0)
    refined = prompted_labels(sam, embedding, labels, belief, every)
    assert set(np.unique(refined)) <= {0, 1, 2}
    assert not np.array_equal(refined, labels)
    never = PromptSettings(least_predicted_iou=100.0)
    assert np.array_equal(prompted_labels(sam, embedding, labels, belief, never), labels)


def test_an_empty_answer_stays_empty():
    sam, embedding = looked_at()
    empty = np.zeros(PHOTO_SIZE, np.uint8)
    assert np.array_equal(prompted_labels(sam, embedding, empty, {}), empty)


def test_what_does_not_belong_to_the_photo_is_refused():
    labels, belief = coarse()
    sam, embedding = looked_at()
    with pytest.raises(ValueError, match=r"labels must be \(64, 128\), got \(128, 64\)"):
        prompted_labels(sam, embedding, labels.T, belief)
    with pytest.raises(ValueError, match=r"missing: \[1\]"):
        prompted_labels(sam, embedding, labels, {2: belief[2]})


def test_prompting_can_be_cancelled_between_regions():
    labels, belief = coarse()
    sam, embedding = looked_at([rectangle(0, 0, 1, 1)], [0.0])
    cancel = threading.Event()

    def stop(done, total):
        cancel.set()

    with pytest.raises(Cancelled):
        prompted_labels(sam, embedding, labels, belief, progress=stop, cancel=cancel)
    assert sam.mask_decoder.asked == 1
