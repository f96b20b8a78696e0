"""Looking once and asking often: the same bits as segment-anything's own predictor, without its state."""

import threading

import numpy as np
import pytest
import torch
from sam_toys import PaintedMasks, rectangle, small_sam
from segment_anything import SamPredictor

from ovs_core.devices import Cancelled
from ovs_core.refine.sam.click import clicked_mask
from ovs_core.refine.sam.embedding import SamEmbedding, look
from ovs_core.refine.sam.prompts import Click, ask, at_photo_size, on_mask_grid

PHOTO_SIZE = (90, 140)


def photo(seed=0, size=PHOTO_SIZE):
    return np.random.default_rng(seed).integers(0, 256, (*size, 3)).astype(np.uint8)


@pytest.fixture(scope="module")
def sam():
    return small_sam()


@pytest.fixture(scope="module")
def embedding(sam):
    return look(sam, photo(), weights="random")


@pytest.fixture(scope="module")
def predictor(sam):
    official = SamPredictor(sam)
    official.set_image(photo())
    return official


def test_the_embedding_is_the_predictors(embedding, predictor):
    assert torch.equal(embedding.embedding, predictor.get_image_embedding())
    assert embedding.image_size == PHOTO_SIZE
    assert embedding.frame == (658, 1024)
    assert embedding.nbytes == 256 * 64 * 64 * 4


@pytest.mark.parametrize("several", [False, True], ids=["one mask", "three masks"])
@pytest.mark.parametrize("prompt", ["points", "box", "both and a mask"])
def test_masks_are_the_predictors(sam, embedding, predictor, prompt, several):
    clicks = (Click(30.5, 40.0), Click(120.0, 20.25, inside=False))
    coarse = rectangle(20, 30, 100, 90)
    points = {
        "point_coords": np.array([[30.5, 40.0], [120.0, 20.25]]),
        "point_labels": np.array([1, 0]),
    }
    box = (10.0, 15.5, 100.0, 80.0)
    ours, theirs = {
        "points": ({"clicks": clicks}, points),
        "box": ({"box": box}, {"box": np.array(box)}),
        "both and a mask": (
            {"clicks": clicks, "box": box, "mask_logits": coarse},
            {**points, "box": np.array(box), "mask_input": coarse[None].numpy()},
        ),
    }[prompt]
    masks = ask(sam, embedding, **ours, several=several)
    expected, trust, low = predictor.predict(**theirs, multimask_output=several, return_logits=True)
    np.testing.assert_allclose(masks.logits.numpy(), low, atol=1e-5)
    np.testing.assert_allclose(masks.predicted_iou.numpy(), trust, atol=1e-6)
    np.testing.assert_allclose(at_photo_size(sam, embedding, masks.logits).numpy(), expected, atol=1e-5)
    assert masks.logits.shape == (3 if several else 1, 256, 256)


def test_another_photo_in_between_changes_nothing(sam, embedding):
    before = ask(sam, embedding, (Click(5, 5),)).logits
    ask(sam, look(sam, photo(1, (60, 50))), (Click(5, 5),))
    assert torch.equal(ask(sam, embedding, (Click(5, 5),)).logits, before)
    assert torch.equal(look(sam, photo()).embedding, embedding.embedding)


def test_a_tall_photo_is_padded_on_the_right(sam):
    tall = look(sam, photo(2, (200, 100)))
    assert tall.frame == (1024, 512)
    assert tall.scale == (5.12, 5.12)


@pytest.mark.parametrize(
    ("clicks", "box", "sentence"),
    [
        ((), None, "Click at least once inside the object, or draw a box around it"),
        ((Click(3, 3, inside=False),), None, "Click at least once inside"),
        ((Click(1, 1),) * 500, None, "A mask takes up to 100 points; these are 500"),
        ((Click(141, 5),), None, r"The point \(141, 5\) lies outside the photo of 140 x 90 pixels"),
        ((Click(float("nan"), 5),), None, "lies outside the photo"),
        ((), (10, 10, 10, 40), r"The box \(10, 10, 10, 40\) has no area"),
        ((), (40, 10, 10, 40), "has no area"),
        ((), (10, 10, float("inf"), 40), "has no area"),
        ((), (-1, 10, 20, 40), r"The box \(-1, 10, 20, 40\) reaches out of the photo of 140 x 90 pixels"),
        ((), (0, 10, 20, 91), "reaches out of the photo"),
    ],
)
def test_a_prompt_that_means_nothing_is_refused(sam, embedding, clicks, box, sentence):
    with pytest.raises(ValueError, match=sentence):
        ask(sam, embedding, clicks, box)


def test_nothing_is_looked_at_once_cancelled(sam):
    cancel = threading.Event()
    cancel.set()
    with pytest.raises(Cancelled):
        look(sam, photo(), cancel=cancel)


def test_an_embedding_is_checked():
    with pytest.raises(ValueError, match=r"embedding must be \(1, C, h, w\)"):
        SamEmbedding("", (9, 9), (9, 9), 1024, torch.zeros(256, 64, 64))
    with pytest.raises(ValueError, match="frame must fit"):
        SamEmbedding("", (9, 9), (9, 1025), 1024, torch.zeros(1, 256, 64, 64))


def test_a_coarse_map_lies_where_the_photo_is(sam, embedding):
    half = torch.zeros(9, 14)
    half[:, 7:] = 1.0
    grid = on_mask_grid(sam, embedding, half, -5.0)
    assert grid.shape == (256, 256)
    assert (grid[164:] == -5).all()  # 658 of 1024 rows of the frame
    assert not (grid[:164] == -5).any()
    assert grid[:164, :118].max() == 0
    assert grid[:164, 140:].min() == 1


def test_the_first_click_takes_the_mask_that_is_trusted_most():
    sam = small_sam()
    embedding = look(sam, photo())

    class ThreeMasks(torch.nn.Module):
        def forward(self, multimask_output, **rest):
            assert multimask_output
            logits = torch.stack([rectangle(0, 0, 164, edge) for edge in (64, 128, 192)])
            return logits[None], torch.tensor([[0.2, 0.9, 0.5]])

    sam.mask_decoder = ThreeMasks()
    answer = clicked_mask(sam, embedding, (Click(10, 10),))
    assert answer.predicted_iou == pytest.approx(0.9)
    assert answer.mask.shape == PHOTO_SIZE
    assert answer.mask[:, :69].all()
    assert not answer.mask[:, 71:].any()


def test_later_clicks_go_on_from_the_last_answer():
    sam = small_sam()
    embedding = look(sam, photo())
    sam.mask_decoder = PaintedMasks([rectangle(0, 0, 164, 128)], [0.7])
    first = clicked_mask(sam, embedding, (Click(10, 10),))
    seen = []
    encoder = sam.prompt_encoder.forward

    def watch(points, boxes, masks):
        seen.append(masks)
        return encoder(points, boxes, masks)

    sam.prompt_encoder.forward = watch
    clicks = (Click(10, 10), Click(100, 10, inside=False))
    second = clicked_mask(sam, embedding, clicks, previous=first)
    clicked_mask(sam, embedding, clicks[:1], previous=first)
    clicked_mask(sam, embedding, (), (0, 0, 50, 50))
    assert torch.equal(seen[0][0, 0], first.logits)
    assert seen[1:] == [None, None]
    assert second.logits.shape == (256, 256)
