"""Two pictures with masks, and a tower to train on them."""

from functools import partial

import torch
from mask_toys import (
    joint_space,
)

from ovs_core.encoders.clip_conv import pyramid
from ovs_core.training.losses import Target
from ovs_core.training.maft_plus import (
    TrainingTower,
)
from ovs_core.types import Vocabulary

TWO = Vocabulary((("cat", "kitten"), ("sky",)))


def toy_tower(student, teacher):
    return TrainingTower(
        partial(pyramid, student.visual),
        lambda pixels: pyramid(teacher.visual, pixels)[1],
        joint_space(student),
        student.logit_scale,
        "official",
    )


def two_pictures(height=64, width=128):
    """A bright left part is class 0, a dark lower part class 1."""
    pixels = torch.zeros(2, 3, height, width)
    truth = torch.zeros(2, height, width, dtype=torch.bool)
    truth[0, :, : width // 2], truth[1, height // 2 :] = True, True
    pixels[0, :, truth[0]], pixels[1, :, truth[1]] = 2.0, -2.0
    return pixels, [Target(torch.tensor([i]), truth[i : i + 1]) for i in range(2)]
