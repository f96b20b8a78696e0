"""Results put together by hand, for tests of what comes after a method: pictures, files, the terminal."""

from dataclasses import replace

import numpy as np
import torch

from ovs_core.engine import Result
from ovs_core.engine.labelling import label_classes
from ovs_core.evidence.proposals import MaskProposals
from ovs_core.evidence.score_map import ScoreMap
from ovs_core.options import Preset
from ovs_core.types import OTHER_COLOR, ClassSummary, LabelMap, Vocabulary


def make_result(labels, image=None, names=("dog", "grass"), other=("sky",), method="naclip"):
    labels = np.asarray(labels)
    vocabulary = Vocabulary(tuple((name,) for name in names), other)
    known = label_classes(vocabulary)
    classes = tuple(
        ClassSummary(entry.id, entry.names, entry.color, float((labels == entry.id).mean()), 0.5)
        for entry in known
    )
    classes += (ClassSummary(0, ("other",), OTHER_COLOR, float((labels == 0).mean()), 0.5),)
    labels = labels.astype(np.uint8 if len(names) <= 255 else np.uint16)
    image = np.full((*labels.shape, 3), 100, np.uint8) if image is None else image
    evidence = torch.zeros(len(vocabulary.rows), 2, 3)
    return Result(
        image=image,
        label_map=LabelMap(labels, known),
        confidence=np.full(labels.shape, 0.5, np.float16),
        vocabulary=vocabulary,
        classes=classes,
        method=method,
        encoder="mini",
        weights={"mini.safetensors": "ab" * 32},
        preset=Preset(40.0, 0.0, 336, None, 0, "single1"),
        refiner="none",
        seconds={"method": 0.25},
        evidence=ScoreMap(evidence, vocabulary, labels.shape),
    )


def make_proposals(masks, scores, names=("dog", "grass"), other=()):
    """Masks (N, h, w) of 0 and 1 on a photo of their own size, one frame pixel per cell: exact edges."""
    masks, scores = np.asarray(masks), torch.tensor(scores)
    vocabulary = Vocabulary(tuple((name,) for name in names), other)
    logits = torch.from_numpy(np.where(masks > 0, 8.0, -8.0)).float()
    size = (masks.shape[1], masks.shape[2])
    return MaskProposals(logits, scores, 1 - scores.sum(dim=1), vocabulary, size, size, size)


def make_mask_result(proposals, method="maft_plus"):
    """A result of a method that proposes masks; its labels are not looked at."""
    names, other = proposals.vocabulary.names, proposals.vocabulary.other
    result = make_result(np.zeros(proposals.image_size), names=names, other=other, method=method)
    return replace(result, evidence=proposals)
