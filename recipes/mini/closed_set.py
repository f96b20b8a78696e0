"""The closed-set network that the tower started from, on PASCAL VOC's 20 names.

DeepLabV3-MobileNetV2 knows VOC's 20 classes and the background and nothing else. It answers question c of
`recipes.mini.exam` as it was published, with the longer side at 513 pixels.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from ovs_core.checkpoints import CHECKPOINTS
from ovs_core.encoders.mini import ConvStem, build_mini
from ovs_core.encoders.towers import DEFAULT_ENCODER
from ovs_core.evaluation.run import Subject, function_subject
from ovs_core.image import Photo, to_frame
from ovs_core.types import Vocabulary
from recipes.mini.teachers import start_stem

LONG_SIDE = 513
NAME = "DeepLab, longer side 513"


def closed_set_subject(pretrained: Path) -> Subject:
    """DeepLab as something that evaluation asks; its classes stand in the order of `exam.VOC_IN_COCO`.

    Args:
        pretrained: folder of the teachers' files.

    Raises:
        CheckpointError: if they are missing or for another network.
    """
    config = json.loads((CHECKPOINTS / DEFAULT_ENCODER / "mini.json").read_text(encoding="utf-8"))
    stem: ConvStem = build_mini(config).visual.conv1
    start_stem(stem, pretrained)
    stem.eval().requires_grad_(False)

    def labels(photo: Photo, vocabulary: Vocabulary) -> NDArray[np.integer]:
        del vocabulary  # it knows one only
        return closed_set_labels(stem, photo.pixels)

    return function_subject(NAME, labels, {"weights": "deeplabv3_mobilenetv2_voc"})


@torch.no_grad()
def closed_set_labels(stem: ConvStem, pixels: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Label 0..20 of each pixel of a photo (H, W, 3)."""
    frame = to_frame(pixels, published_size(pixels.shape))[None] * 2 - 1
    logits = stem.voc_head(stem.voc(frame))[1]
    shape = (pixels.shape[0], pixels.shape[1])
    return F.interpolate(logits, size=shape, mode="bilinear", align_corners=False)[0].argmax(dim=0).numpy()


def published_size(shape: tuple[int, ...]) -> tuple[int, int]:
    """(Hf, Wf) of a frame whose longer side is 513 pixels."""
    factor = LONG_SIDE / max(shape[:2])
    return max(1, round(shape[0] * factor)), max(1, round(shape[1] * factor))
