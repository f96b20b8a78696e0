"""MVP-SEG+: MaskCLIP+'s official head and pseudo labels, and a toy student that learns unseen classes."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from split_world import TOWER, TOY, make_world
from tiny_clip import make_model
from torch import nn

from ovs_core.checkpoints import CheckpointError
from ovs_core.encoders.clip_vit import VisionEncoder
from ovs_core.encoders.mini import ConvStem
from ovs_core.encoders.text import TextEncoder
from ovs_core.methods.mvp_seg.contexts import Contexts
from ovs_core.methods.mvp_seg.model import ContextText, build_mvp_seg
from ovs_core.methods.mvp_seg.student import DeepLabV2Head, Student, classify, load_student, make_student
from ovs_core.methods.training_free.attention_rules import key_smoothing, prompt_denoising
from ovs_core.training.data import crop_sample
from ovs_core.training.mvp_seg_plus import (
    PlusPlan,
    Teacher,
    fill_unseen,
    fit_student,
    lessons_of,
    mvp_teacher,
    pixel_loss,
    plus_plan,
    summed_embeddings,
    train_mvp_seg_plus,
)
from ovs_core.training.mvp_seg_start import start_at_teacher
from ovs_core.training.split_photos import open_photos
from ovs_core.types import IGNORE, UNLISTED, Vocabulary

DATA = Path(__file__).parent / "data" / "mvp_seg_plus_head.safetensors"
CPU = torch.device("cpu")
OFFICIAL_IGNORE = 255
TWO_UNSEEN = dataclasses.replace(TOY, unseen=("zebra", "dog"))  # blue and green in the toy photos


@pytest.fixture(scope="module")
def official():
    return load_file(DATA)


def test_head_equals_the_official_one(official):
    head = DeepLabV2Head(32, 24).eval()
    state = {}
    for branch in range(4):
        old = f"w.decode_module.aspp_modules.{branch}."
        state[f"branches.{branch}.0.weight"] = official[f"{old}conv.weight"]
        for part in ("weight", "bias", "running_mean", "running_var"):
            state[f"branches.{branch}.1.{part}"] = official[f"{old}bn.{part}"]
    missing, unexpected = head.load_state_dict(state, strict=False)
    assert all(name.endswith("num_batches_tracked") for name in missing)
    assert unexpected == []
    with torch.no_grad():
        found = head(official["in.feat"])
    torch.testing.assert_close(found, official["out.feat_out"], atol=1e-5, rtol=0)
    logits = classify(found, official["w.text_embeddings"])
    torch.testing.assert_close(logits, official["out.logits"], atol=1e-5, rtol=0)


def ours(labels):
    return labels[:, 0].masked_fill(labels[:, 0] == OFFICIAL_IGNORE, IGNORE)


def test_labels_of_both_phases_equal_the_official_ones(official):
    labels, text = ours(official["in.gt"]), official["w.text_embeddings"][5:]
    own = fill_unseen(labels, official["out.logits"][:, 5:], 5)
    assert torch.equal(own, ours(official["out.gt_self"]))
    cosines = torch.einsum("bdhw,cd->bchw", F.normalize(official["in.clip_feat"], dim=1), text)
    refined = [
        key_smoothing(prompt_denoising(one, 0.5), keys, 1.0)
        for one, keys in zip(cosines, official["in.clip_k"], strict=True)
    ]
    found = fill_unseen(labels, torch.stack(refined), 5)
    assert torch.equal(found, ours(official["out.gt_clip_kspd"]))
    assert (found != own).any()


def test_only_marked_pixels_are_guessed_and_unsure_ones_left_out():
    labels = torch.tensor([[[UNLISTED, 0, IGNORE, UNLISTED]]])
    logits = torch.tensor([[[[2.0, 9, 9, 0.0]], [[0.0, 0, 0, 0.1]]]])
    assert fill_unseen(labels, logits, 3).tolist() == [[[3, 0, IGNORE, 4]]]
    assert fill_unseen(labels, logits, 3, confidence=0.6).tolist() == [[[3, 0, IGNORE, IGNORE]]]


# A student that learns.


class TinyTrunk(nn.Module):
    """Colour, 8 pixels at a time."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)

    def forward(self, x):
        return F.relu(self.conv(F.avg_pool2d(x, 8)))


@pytest.fixture
def photos(tmp_path):
    return open_photos(make_world(tmp_path / "data"), TWO_UNSEEN, "train2017")


PLAN = PlusPlan(side=64, short_side=(64, 80), label_stride=4, steps=80, batch=2, rate=0.01, trunk_factor=1.0)


def color_teacher(crops):
    """Knows green from blue: logits of (zebra, dog), the unseen classes in file order."""
    means = torch.from_numpy(np.stack([crop.pixels for crop in crops])).permute(0, 3, 1, 2).float()
    small = F.avg_pool2d(means, 8)
    return torch.stack([small[:, 2], small[:, 1]], dim=1) / 25


def test_student_learns_unseen_classes_from_its_teacher(tmp_path, photos):
    assert photos.seen == ("cat",)
    assert photos.unseen == ("zebra", "dog")
    torch.manual_seed(0)
    student = Student(TinyTrunk(), 8, 12)
    embeddings = 3 * F.normalize(torch.randn(3, 12, generator=torch.Generator().manual_seed(1)), dim=1)
    before = embeddings.clone()
    asked = []

    def teacher(crops):
        asked.append(len(crops))
        return color_teacher(crops)

    plan = dataclasses.replace(PLAN, teacher_part=0.5)
    fit_student(student, embeddings, lessons_of(photos), Teacher(teacher), plan, tmp_path)
    assert asked == [2] * 40  # the second half guesses by itself
    assert torch.equal(embeddings, before)
    assert not student.training
    sample = photos.sample(0, unseen=UNLISTED)
    pixels = torch.from_numpy(sample.pixels.copy()).permute(2, 0, 1)[None] / 255
    with torch.no_grad():
        logits = classify(student(pixels), embeddings)
    label = F.interpolate(logits, size=(80, 96), mode="bilinear").argmax(dim=1)[0]
    truth = torch.full((80, 96), IGNORE)
    truth[2:60, 2:48], truth[60:, :95], truth[2:60, 48:95] = 0, 1, 2  # cat, zebra, dog
    for number in range(3):
        right = (label == number)[truth == number].float().mean()
        assert right > 0.8, f"class {number}: {right:.2f}"


def cross_entropy(logits, label):
    return -F.log_softmax(torch.tensor(logits), 0)[label]


def test_loss_by_hand():
    """A seen pixel of class 0, an unseen one that looks like class 2 most, one that does not count."""
    logits = torch.tensor([[[[2.0, 0, 5]], [[0.0, 1, 5]], [[1.0, 3, 5]]]])
    labels = torch.tensor([[[0, UNLISTED, IGNORE]]])
    seen = cross_entropy([2.0, 0, 1], 0)
    own = pixel_loss(logits, labels, 1)
    torch.testing.assert_close(own, (seen + cross_entropy([0.0, 1, 3], 2)) / 2)
    teacher = torch.tensor([[[[0.0, 9, 0]], [[0.0, 0, 0]]]])  # says class 1
    taught = pixel_loss(logits, fill_unseen(labels, teacher, 1), 1)
    torch.testing.assert_close(taught, (seen + cross_entropy([0.0, 1, 3], 1)) / 2)
    nothing = pixel_loss(logits, torch.full((1, 1, 3), IGNORE), 1)
    assert nothing.item() == 0


# The whole recipe on tiny towers.


@pytest.fixture(scope="module")
def model():
    return make_model()


@pytest.fixture(scope="module")
def vision(model):
    rgb = ((0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
    return VisionEncoder("mini", "tiny:0:float32", model.visual, *rgb, 16, CPU, torch.float32)


@pytest.fixture(scope="module")
def words(model):
    vectors = torch.randn(3, 2, 32, generator=torch.Generator().manual_seed(0))
    contexts = Contexts(vectors[1:], vectors[0], TOWER, 50.0, 0.07, 100.0)
    return ContextText(TextEncoder(model, "tiny", CPU), contexts)


@pytest.fixture(scope="module")
def method(model, words):
    return build_mvp_seg(model.visual, words.encoder, words.contexts)


def test_teacher_is_mvp_seg_among_the_unseen(photos, vision, method, words):
    crop = crop_sample(photos.sample(0, unseen=UNLISTED), 64, (64, 80), np.random.default_rng(0))
    logits = mvp_teacher(vision, method, words, photos.unseen).scores([crop, crop])
    assert logits.shape == (2, 2, 4, 4)
    assert torch.equal(logits[0], logits[1])
    assert logits.std() > 0.1


def test_classifier_is_the_sum_over_views(words):
    found = summed_embeddings(words, ("cat", "dog"))
    rows = words.embed(Vocabulary((("cat",), ("dog",)))).embeddings
    torch.testing.assert_close(found, rows[1] + rows[2])


def test_a_whole_run_gives_a_student_for_its_tower(tmp_path, photos, vision, method, words):
    plan = dataclasses.replace(PLAN, trunk="test_resnet", steps=2, batch=2, teacher_part=0.5)
    lessons = lessons_of(photos)
    path = train_mvp_seg_plus(vision, method, words, lessons, plan, tmp_path)
    changed = path.stat().st_mtime_ns
    assert train_mvp_seg_plus(vision, method, words, lessons, plan, tmp_path) == path
    assert path.stat().st_mtime_ns == changed
    trained = load_student(path, TOWER)
    assert (trained.seen, trained.unseen) == (("cat",), ("zebra", "dog"))
    assert torch.equal(trained.contexts.stacked, words.contexts.stacked)
    student = trained.on(method.visual, 24, str(path))
    with torch.no_grad():
        assert student(torch.zeros(1, 3, 64, 96)).shape == (1, 24, 8, 12)  # stride 8
    with pytest.raises(CheckpointError, match="another tower"):
        load_student(path, "cd" * 32)
    with pytest.raises(FileExistsError, match="another recipe"):
        train_mvp_seg_plus(vision, method, words, lessons, dataclasses.replace(plan, steps=3), tmp_path)


@pytest.fixture
def embedded():
    """A tower whose stem is the embedded model's, small and untrained, and what MVP-SEG needs of it."""
    visual = nn.Module()
    torch.manual_seed(0)
    visual.conv1 = ConvStem(16, 8, 3, 3, upsampling=True).requires_grad_(False)
    return visual


def test_the_embedded_stem_is_used_as_it_is(embedded):
    student = make_student("embedded", embedded, 8)
    assert student.trunk is embedded.conv1
    assert not any(name.startswith("trunk") for name in student.learnt.state_dict())
    with torch.no_grad():
        pixels = torch.rand(1, 3, 64, 96)
        assert student(pixels).shape == (1, 8, 4, 6)
        trunk, weights = student.trunk_map(pixels)
    torch.testing.assert_close(trunk, embedded.conv1(pixels * 2 - 1))
    assert weights.shape == (1, 9, 16, 24)
    assert [branch[0].dilation[0] for branch in student.head.branches] == [3, 6, 9, 12]


def test_crops_behind_a_frozen_stem_are_kept_with_the_words_of_both_phases(tmp_path, photos, embedded):
    """The stem sees every crop once; its teacher's words stand in the second half of the labels."""
    plan = dataclasses.replace(PLAN, steps=6, kept=3, teacher_part=0.5)
    student = make_student("embedded", embedded, 12)
    asked = []

    def teacher(crops):
        asked.append(len(crops))
        return color_teacher(crops)

    embeddings = torch.randn(3, 12, generator=torch.Generator().manual_seed(1))
    before = [value.clone() for value in embedded.conv1.state_dict().values()]
    fit_student(student, embeddings, lessons_of(photos), Teacher(teacher), plan, tmp_path)
    assert asked == [1, 1, 1]
    assert all(map(torch.equal, before, embedded.conv1.state_dict().values()))
    maps, labels = np.load(tmp_path / "trunk.npy"), np.load(tmp_path / "labels.npy")
    assert maps.shape == (3, 16, 4, 4)
    assert labels.shape == (3, 2, 16, 16)
    marked = labels[:, 0] == UNLISTED
    assert marked.any()
    assert set(np.unique(labels[:, 1][marked])) <= {1, 2}
    assert (labels[:, 0][~marked] == labels[:, 1][~marked]).all()
    fit_student(student, embeddings, lessons_of(photos), Teacher(teacher), plan, tmp_path)
    assert len(asked) == 3  # read, not drawn again


def test_a_head_starts_at_what_a_convolution_says_of_the_teacher():
    """The teacher here is a convolution of the same shape, with an offset: nothing is left to learn."""
    generator = torch.Generator().manual_seed(0)
    maps = [1 + torch.randn(4, 12, 12, generator=generator) for _ in range(6)]
    weight = torch.randn(3, 4, 3, 3, generator=generator)

    def features_of(one):
        return F.conv2d(one[None], weight, torch.tensor([1.0, -2, 0]), padding=3, dilation=3)[0]

    head = DeepLabV2Head(4, 3, (3, 6, 9, 12), signed=True)
    start_at_teacher(head, maps, features_of, 5.0)
    head.eval()
    with torch.no_grad():
        other = 1 + torch.randn(4, 9, 15, generator=generator)
        first = head.branches[0](other[None])[0]
        rest = head(other[None])[0] - first
    torch.testing.assert_close(first, 5 * features_of(other), rtol=0.02, atol=0.2)
    assert first.min() < 0  # signed, as CLIP's features are
    assert 0 < rest.mean() < 0.2 * first.abs().mean()


def test_trunks_that_are_not_there_are_refused(model, tmp_path):
    with pytest.raises(ValueError, match="needs the embedded model"):
        make_student("embedded", model.visual, 8)
    with pytest.raises(ValueError, match="resnet101c; got 'resnet1000'"):
        make_student("resnet1000", model.visual, 8)


def test_recipe_survives_json():
    assert plus_plan(json.loads(json.dumps(dataclasses.asdict(PLAN)))) == PLAN
    assert plus_plan({}) == PlusPlan()
    with pytest.raises(ValueError, match="unknown settings: k"):
        plus_plan({"k": 3})
