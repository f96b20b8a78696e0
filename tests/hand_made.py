"""Results put together by hand, for tests of what comes after a method: pictures, files, the terminal."""

import numpy as np
import torch

from ovs_core.render.palette import colors_for
from ovs_core.types import ClassSummary, Preset, Result, ScoreMap, Segmentation, Vocabulary


def make_result(labels, image=None, names=("dog", "grass"), other=("sky",), method="naclip"):
    labels = np.asarray(labels)
    vocabulary = Vocabulary(tuple((name,) for name in names), other)
    colors = colors_for(vocabulary)
    order = [*range(1, len(names) + 1), 0]
    classes = tuple(
        ClassSummary(k, (names[k - 1],) if k else ("other",), colors[k], float((labels == k).mean()), 0.5)
        for k in order
    )
    image = np.full((*labels.shape, 3), 100, np.uint8) if image is None else image
    evidence = torch.zeros(len(vocabulary.rows), 2, 3)
    return Result(
        image=image,
        labels=labels.astype(np.uint8 if len(names) <= 255 else np.uint16),
        vocabulary=vocabulary,
        classes=classes,
        method=method,
        encoder="mini",
        weights={"mini.safetensors": "ab" * 32},
        preset=Preset(40.0, 0.0, 336, None, 0, "single1"),
        refine="none",
        seconds={"method": 0.25},
        segmentation=Segmentation(ScoreMap(evidence, vocabulary, labels.shape)),
    )
