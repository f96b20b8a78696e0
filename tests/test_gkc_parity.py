"""The whole of GKC's training against the official code's tensors, where they are at hand.

What they prove is proven from the clone piece by piece: decoders (test_mask_parity), losses by hand
(test_gkc_losses), and their sum over a batch (test_gkc_model).
"""

import json

import numpy as np
import pytest
import torch
from gkc_reference import FOLDER, needs_reference
from open_clip.model import CLIP
from open_clip.modified_resnet import ModifiedResNet
from safetensors.torch import load_file

from ovs_core.decoders.mask_decoder import MaskDecoderConfig
from ovs_core.decoders.pixel_decoder import PixelDecoderConfig
from ovs_core.encoders.clip_resnet import attention_pool, pyramid
from ovs_core.encoders.text_tower import text_tower
from ovs_core.methods.gkc.official import (
    head_state,
    projection_state,
    teacher_state,
    text_state,
    tower_state,
)
from ovs_core.methods.gkc.student import GkcHead, GkcHeadConfig
from ovs_core.training.gkc_model import GkcLossPlan, GkcProjections, Lesson, batch_losses
from ovs_core.training.gkc_words import stacked_lists
from ovs_core.training.losses import Target

pytestmark = needs_reference
TOLERANCE = {"atol": 1e-5, "rtol": 0}
IMAGENET = torch.tensor([[123.675, 116.28, 103.53], [58.395, 57.12, 57.375]])[..., None, None]
CLIP_PIXELS = torch.tensor([[0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]])


@pytest.fixture(scope="module")
def state():
    return load_file(FOLDER / "gkc_tiny.safetensors")


@pytest.fixture(scope="module")
def tensors():
    with np.load(FOLDER / "gkc_tiny_train.npz") as file:
        return {name: torch.tensor(file[name]) for name in file.files}


@pytest.fixture(scope="module")
def head(state):
    pixels = PixelDecoderConfig((32, 64, 128, 256), width=64, feedforward=1024)
    found = GkcHead(GkcHeadConfig(pixels, MaskDecoderConfig(32, 64, queries=12, feedforward=128)))
    found.load_state_dict(head_state(state))
    return found.requires_grad_(False)


@pytest.fixture(scope="module")
def words(state):
    text = {"context_length": 77, "vocab_size": 200, "width": 32, "heads": 2, "layers": 2}
    vision = {"image_size": 32, "layers": 1, "width": 32, "patch_size": 16, "head_width": 16}
    model = CLIP(32, vision, text, quick_gelu=True)
    known = {name: torch.zeros_like(value) for name, value in model.state_dict().items()}
    model.load_state_dict(known | text_state(state))
    return text_tower(model.requires_grad_(False))


def resnet(state, prefix_state):
    visual = ModifiedResNet((1, 1, 1, 1), output_dim=32, heads=32, image_size=128, width=8)
    visual.load_state_dict(visual.state_dict() | prefix_state(state))
    return visual.requires_grad_(False).train()  # as the reference tensors were made


def test_student_reads_the_picture(state, tensors):
    pixels = torch.stack([tensors["in.image0"], tensors["in.image1"]])
    maps = pyramid(resnet(state, tower_state), (pixels - IMAGENET[0]) / IMAGENET[1])
    for stage, found in enumerate(maps, start=2):
        torch.testing.assert_close(found, tensors[f"feat.res{stage}"], **TOLERANCE)


def test_teacher_reads_the_regions(state, tensors):
    """All seven regions at once: batch statistics are theirs together."""
    regions = torch.cat([tensors["in.kd_image0"], tensors["in.kd_image1"]])
    last = pyramid(resnet(state, teacher_state), regions)[-1]
    found = torch.nn.functional.normalize(attention_pool(resnet(state, teacher_state), last)[:, 0], dim=1)
    matches = json.loads((FOLDER / "gkc_tiny_train.json").read_text())["matches"][0]
    order = [*matches[0][1], *(3 + place for place in matches[1][1])]
    torch.testing.assert_close(found[order], tensors["kd0.teacher"], **TOLERANCE)


def test_student_proposes(head, tensors):
    found = head.propose([tensors[f"feat.res{stage}"] for stage in (2, 3, 4, 5)], every_layer=True)
    torch.testing.assert_close(found.pixels.mask_features, tensors["pix.mask_features"], **TOLERANCE)
    *earlier, last = found.decoded.predictions
    for place, prediction in enumerate(earlier):
        torch.testing.assert_close(prediction.masks, tensors[f"dec.masks{place}"], **TOLERANCE)
        expected = tensors[f"dec.query_feature{place}"]
        torch.testing.assert_close(head.class_features(prediction), expected, **TOLERANCE)
    torch.testing.assert_close(last.masks, tensors["dec.pred_masks"], **TOLERANCE)
    torch.testing.assert_close(head.class_features(last), tensors["dec.query_embed"], **TOLERANCE)


def test_words_are_read_and_padding_is_a_prompt_of_zeros(words, tensors):
    torch.testing.assert_close(words.embed(tensors["in.all_caption0"]), tensors["text.plain0"], **TOLERANCE)
    torch.testing.assert_close(words.embed(tensors["in.syn_class1"]), tensors["text.syn1"], **TOLERANCE)


def test_all_seventy_losses(state, head, words, tensors):
    report = json.loads((FOLDER / "gkc_tiny_train.json").read_text())
    zeros = words.embed(torch.zeros(1, 77, dtype=torch.long))[0]
    lists = stacked_lists([tensors["text.syn0"], tensors["text.syn1"]], zeros)
    labels = [tensors[f"in.syn_classes{b}"] for b in (0, 1)]
    regions = torch.split(tensors["kd0.teacher"], tensors["kd0.offsets"].diff().tolist())
    lesson = Lesson(
        [Target(tensors[f"in.classes{b}"], tensors[f"in.masks{b}"]) for b in (0, 1)],
        tensors["text.plain0"],
        [1] * 6,
        lists,
        labels,
        [lists[b][labels[b]] for b in (0, 1)],
        [
            rows[torch.tensor(true).argsort()]
            for rows, (_, true) in zip(regions, report["matches"][0], strict=True)
        ],
        [words.embed(tensors[f"in.caption{b}"])[tensors[f"in.caption_mask{b}"].bool()] for b in (0, 1)],
    )
    projections = GkcProjections(64, 32, 9).requires_grad_(False)
    projections.load_state_dict(projection_state(state))
    numbers = iter(sorted(name for name in tensors if name.startswith("rand.")))
    maps = [tensors[f"feat.res{stage}"] for stage in (2, 3, 4, 5)]
    plan = GkcLossPlan(points=256, plain=2.0, diversified=2.0)
    found = batch_losses(head, projections, maps, lesson, plan, lambda shape: tensors[next(numbers)])
    assert set(found) == set(report["losses"])
    for name, expected in report["losses"].items():
        assert float(found[name].value) == pytest.approx(expected, abs=1e-5), name
    assert next(numbers, None) is None
