"""MVP-SEG+ as a method: scores by hand, and files that are refused."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from head_toys import PRESET, toy_model, write_toy_student
from instance_toys import SHA
from safetensors.torch import save_file
from torch import nn

from ovs_core.checkpoints import CheckpointError, read_metadata, read_state
from ovs_core.evidence.decide import decide
from ovs_core.methods.mvp_seg.plus import MvpSegPlus, StudentEncoder, StudentFeatures
from ovs_core.methods.mvp_seg.student import Student, load_student
from ovs_core.types import TextBank, Vocabulary


def test_scores_are_products_with_the_summed_views():
    """Two views of two names: T = (1, 1) and (2, 0); the global prompt (9, 9) before them names nothing."""
    text = torch.tensor([[[9.0, 9], [9, 9]], [[1, 0], [1, 0]], [[0, 1], [1, 0]]])
    bank = TextBank(Vocabulary((("dog",), ("cat",))), text)
    features = torch.tensor([[[3.0, 0]], [[1.0, 2]]])  # (D, 1, 2): (3, 1), then (0, 2)
    method = MvpSegPlus(2, None)
    answer = method.ask(StudentFeatures((4, 8), features), bank, {}, views={"similarity"})
    assert answer.evidence.rows.tolist() == [[[4, 2]], [[6, 0]]]
    (near,) = answer.views
    torch.testing.assert_close(near.maps[:, 0, 0], torch.tensor([4 / 20**0.5, 3 / 10**0.5]))
    with pytest.raises(ValueError, match="text must be 3 wide, got 2"):
        method.ask(StudentFeatures((4, 8), torch.zeros(3, 1, 2)), bank, {})
    with pytest.raises(ValueError, match="point"):
        method.ask(StudentFeatures((4, 8), features), bank, {}, point=(2, 0))


class Colours(nn.Module):
    """Red and green of cells of 8 pixels."""

    def forward(self, pixels):
        return F.avg_pool2d(pixels[:, :2], 8)


def test_pixels_get_the_likelier_word():
    """Features are the photo's red and green: red pixels are the first word, green ones the second."""
    student = Student(Colours(), 2, 2).eval()
    student.head = nn.Identity()
    student.mean.zero_(), student.std.fill_(1)
    encoder = StudentEncoder(student, "toy", torch.device("cpu"))
    pixels = np.zeros((64, 128, 3), np.uint8)
    pixels[:, :64, 0], pixels[:, 64:, 1] = 200, 200
    features = encoder.encode(pixels, PRESET)
    assert features.features.shape == (2, 8, 16)
    bank = TextBank(Vocabulary((("red",), ("green",))), 9 * torch.eye(2)[None])
    labels, _ = decide(MvpSegPlus(1, None).ask(features, bank, {}).evidence, 1.0, 0.0)
    assert labels.shape == (64, 128)
    assert (labels[:, :60] == 1).all()
    assert (labels[:, 68:] == 2).all()
    other = replace(PRESET, short_side=128)
    assert encoder.features_identity(PRESET) != encoder.features_identity(other)


@pytest.fixture
def path(tmp_path):
    write_toy_student(toy_model().visual, tmp_path / "student.safetensors")
    return tmp_path / "student.safetensors"


def test_a_file_says_what_was_learnt_and_is_half_as_long(path):
    trained = load_student(path, SHA)
    assert (trained.seen, trained.unseen, trained.trunk) == (("dog",), ("cat",), "embedded")
    assert all(value.dtype != torch.float16 for value in trained.state.values())
    stored = {name: value.dtype for name, value in read_state(path).items()}
    assert stored["student.head.branches.0.0.weight"] == torch.float16
    assert not any("trunk" in name for name in stored)  # the tower's stem lies in the tower's file


def rewritten(path, notes=(), drop=()):
    tensors = {name: value for name, value in read_state(path).items() if name not in drop}
    save_file(tensors, path, metadata={**read_metadata(path), **dict(notes)})
    return path


@pytest.mark.parametrize(
    ("notes", "drop", "says"),
    [
        ({"kind": "mvp-seg contexts"}, (), "not a file of an MVP-SEG"),
        ({}, ("views",), "not a file of an MVP-SEG"),
        ({"tower": "b" * 64}, (), "trained on another tower"),
        ({"seen": "dog"}, (), "notes do not say what it learnt"),
        ({"tau1": "many"}, (), "cannot be read as MVP-SEG contexts"),
    ],
)
def test_other_files_are_refused_in_one_sentence(path, notes, drop, says):
    with pytest.raises(CheckpointError, match=says) as error:
        load_student(rewritten(path, notes, drop), SHA)
    assert "\n" not in str(error.value)


def test_a_student_of_another_width_or_trunk_is_refused(path):
    visual = toy_model().visual
    with pytest.raises(CheckpointError, match="of another shape"):
        load_student(path, SHA).on(visual, 7, str(path))
    notes = {"trunk": json.dumps("no such network")}
    with pytest.raises(CheckpointError, match="cannot be used here"):
        load_student(rewritten(path, notes), SHA).on(visual, 8, str(path))
