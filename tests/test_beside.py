"""Two photos beside each other: cosines of their patches by hand, on grids that fit, and what is refused."""

import threading

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from fake_engine import FakeEngine
from towers import random_photo

from ovs_core.engine import Cancelled, Request
from ovs_core.engine.beside import PatchCosines, _patches, patch_cosines
from ovs_core.image import Photo
from ovs_core.vocabulary import parse_vocabulary

WORDS = parse_vocabulary("dog; grass")


def request(photo, method="naclip", **options):
    """A question in a frame as large as the photo: 16 pixels a token."""
    return Request(photo, WORDS, method, options={"short_side": min(photo.size), **options})


def test_patches_are_means_of_unit_tokens():
    tokens = torch.zeros(2, 2, 4)
    tokens[0, :, :2], tokens[1, :, 2:] = 7.0, 0.1  # length does not count
    patches = _patches(tokens, 4)  # 2 x 4 tokens on a grid of at most 4: 1 x 2 patches
    torch.testing.assert_close(patches, torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]]]))
    mixed = _patches(torch.stack([torch.eye(2), 1 - torch.eye(2)]), 1)
    torch.testing.assert_close(mixed, torch.full((2, 1, 1), 0.5**0.5))


def test_a_photo_beside_itself_finds_every_patch_where_it_is(engine):
    photo = random_photo(80, 112)  # 5 x 7 tokens
    found = patch_cosines(engine, request(photo), photo)
    assert found.cosines.shape == (5, 7, 5, 7)
    assert found.method == "naclip"
    flat = found.cosines.reshape(35, 35)
    torch.testing.assert_close(flat, flat.T)
    torch.testing.assert_close(flat.diagonal(), torch.ones(35))
    assert float(flat.abs().max()) <= 1
    assert all(found.best(row, column) == (row, column) for row in range(5) for column in range(7))


def test_what_is_moved_is_found_where_it_went(engine):
    photo = random_photo(64, 96)
    turned = Photo(np.ascontiguousarray(photo.pixels[:, ::-1]))
    there = patch_cosines(engine, request(photo), turned).cosines
    back = patch_cosines(engine, request(turned), photo).cosines
    torch.testing.assert_close(there, back.permute(2, 3, 0, 1))


@pytest.mark.parametrize("most", [(6, 4), (1, 1)])
def test_grids_are_as_coarse_as_asked(engine, most):
    found = patch_cosines(engine, request(random_photo(80, 112)), random_photo(160, 64, seed=1), most=most)
    first, second = (int(np.prod(found.cosines.shape[place : place + 2])) for place in (0, 2))
    assert (first <= most[0], second <= most[1]) == (True, True)
    assert found.cosines.shape[2] >= found.cosines.shape[3]  # the second photo is upright


def test_the_first_photo_is_looked_at_once(engine):
    photo, other = random_photo(64, 96), random_photo(64, 64, seed=3)
    *_, result = engine.run(request(photo))
    looks = []
    spec, tower = engine.method_specs["naclip"], engine.encoder_specs["mini"]
    half = type(engine.loaded.bound(spec, tower, engine.store, None)[1].image)
    encode = half.encode

    def counted(self, pixels, *rest, **more):
        looks.append(pixels.shape[:2])
        return encode(self, pixels, *rest, **more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(half, "encode", counted)
        patch_cosines(engine, request(photo), other)
        patch_cosines(engine, request(photo), other)
    assert looks == [other.size]
    assert result.evidence.rows.shape[1:] == (4, 6)


def test_rules_differ_and_switches_of_words_do_not_matter(engine):
    photo, other = random_photo(64, 96), random_photo(64, 64, seed=3)
    one, two = (patch_cosines(engine, request(photo, name), other).cosines for name in ("clip", "maskclip"))
    assert not torch.allclose(one, two, atol=1e-3)
    again = patch_cosines(engine, request(photo, "maskclip", key_smoothing=True), other).cosines
    assert torch.equal(two, again)


def test_a_method_without_tokens_says_so_in_one_sentence(tmp_path):
    fake = FakeEngine(tmp_path, mask_method="fc_clip")
    photo = random_photo(40, 40)
    with pytest.raises(ValueError, match=r"^FC-CLIP has no patches to compare .* choose one of: CLIP as"):
        patch_cosines(fake, request(photo, "fc_clip"), photo)


def test_it_can_be_stopped(engine):
    stop = threading.Event()
    stop.set()
    with pytest.raises(Cancelled):
        patch_cosines(engine, request(random_photo(64, 96)), random_photo(64, 64), cancel=stop)


def test_the_best_place_is_the_largest_cosine():
    cosines = F.one_hot(torch.tensor([5]), 6).float().reshape(1, 1, 2, 3)
    assert PatchCosines(cosines, "naclip").best(0, 0) == (1, 2)
