"""SAM as refiners: region vote over masks of everything, and prompts from the answer itself."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ovs_core.devices import Cancel, Report, advance
from ovs_core.evidence.base import class_labels
from ovs_core.evidence.decide import class_probabilities
from ovs_core.evidence.protocol import Evidence
from ovs_core.evidence.relabelled import Confidence, Labels, Relabelled
from ovs_core.options import Option, Options
from ovs_core.refine.regions import RegionsLook
from ovs_core.refine.regions import refine as vote
from ovs_core.refine.sam.embedding import SamEmbedding
from ovs_core.refine.sam.embedding import look as embed
from ovs_core.refine.sam.everything import GridSettings, sam_regions
from ovs_core.refine.sam.load import load_sam
from ovs_core.refine.sam.prompted import PromptSettings, prompted_labels
from ovs_core.refine.spec import RefinerSpec
from ovs_core.refine.vote import MAJORITY

if TYPE_CHECKING:  # types only: who builds the model loads its library, which takes seconds
    from segment_anything.modeling import Sam

WEIGHTS = ("mobile-sam", "sam-vit-b", "sam-vit-l", "sam-vit-h")
"""Catalogue names, in the order in which they are looked for: on a CPU the first one is ten times faster."""
_BELIEF_SIDE = 256  # longer side of the grid of class probabilities that prompts are made of

_POINTS = Option(
    "sam_points",
    "integer",
    16,
    "Points along a side of the grid that SAM is asked at: more points, smaller regions, more time.",
    title="SAM points per side",
    low=1,
    high=64,
    slider=(4, 32, 4),
)
_GRID_IOU = Option(
    "sam_mask_iou",
    "number",
    0.7,
    "How much SAM must trust a mask of its own for it to be a region.",
    title="SAM mask quality",
    low=0.0,
    high=1.0,
    slider=(0.3, 0.95, 0.05),
)
_PROMPT_IOU = Option(
    "sam_prompt_iou",
    "number",
    0.8,
    "How much SAM must trust its mask of a region for the mask to take the region's place.",
    title="SAM prompt quality",
    low=0.0,
    high=1.0,
    slider=(0.3, 0.95, 0.05),
)


def load_model(path: Path, device: torch.device) -> Sam:
    """A SAM on a device.

    Raises:
        CheckpointError: for a file that is no SAM known here.
    """
    return load_sam(path).to(device)


def look_everywhere(
    sam: Sam,
    pixels: NDArray[np.uint8],
    grid: tuple[int, int],
    options: Options,
    device: torch.device,
    progress: Report = None,
    cancel: Cancel = None,
) -> RegionsLook:
    """Regions of a photo (H, W, 3) by SAM's masks of everything."""
    settings = GridSettings(
        points_per_side=int(str(options.get(_POINTS.name, _POINTS.default))),
        least_predicted_iou=float(str(options.get(_GRID_IOU.name, _GRID_IOU.default))),
    )
    embedding = embed(sam, pixels, cancel=cancel)
    return RegionsLook(sam_regions(sam, embedding, settings, progress=progress, cancel=cancel))


def refine_by_vote(
    sam: Sam,
    looked: RegionsLook,
    evidence: Evidence,
    options: Options,
    progress: Report = None,
    cancel: Cancel = None,
) -> Evidence:
    """The same evidence, its labels put to the vote inside every mask."""
    return vote(looked, evidence, options, progress, cancel)


def look_once(
    sam: Sam,
    pixels: NDArray[np.uint8],
    grid: tuple[int, int],
    options: Options,
    device: torch.device,
    progress: Report = None,
    cancel: Cancel = None,
) -> SamEmbedding:
    """The embedding of a photo (H, W, 3)."""
    return embed(sam, pixels, cancel=cancel)


def refine_by_prompts(
    sam: Sam,
    looked: SamEmbedding,
    evidence: Evidence,
    options: Options,
    progress: Report = None,
    cancel: Cancel = None,
) -> Evidence:
    """The same evidence, every region of its labels drawn by SAM where SAM is sure."""
    advance(0, 1, progress, cancel)
    settings = PromptSettings(
        least_predicted_iou=float(str(options.get(_PROMPT_IOU.name, _PROMPT_IOU.default)))
    )
    prompt = partial(_prompted, sam, looked, settings)
    advance(1, 1, progress, cancel)
    return Relabelled(evidence, prompt, looked.nbytes)


def _prompted(
    sam: Sam,
    embedding: SamEmbedding,
    settings: PromptSettings,
    evidence: Evidence,
    scale: float,
    labels: Labels,
    confidence: Confidence,
    cancel: Cancel,
) -> tuple[Labels, Confidence]:
    """A `Relabel`; a pixel that SAM gave to another class is as sure as that class is probable there."""
    height, width = evidence.image_size
    shrink = min(1.0, _BELIEF_SIDE / max(height, width))
    size = (max(1, round(height * shrink)), max(1, round(width * shrink)))
    every = class_probabilities(evidence, scale, size)  # (K or K + 1, h, w)
    belief = dict(zip(class_labels(evidence.vocabulary), every, strict=True))
    present = {label: belief[label] for label in np.unique(labels).tolist() if label}
    refined = prompted_labels(sam, embedding, labels, present, settings, cancel=cancel)
    sure = confidence.copy()
    for label, chance in present.items():
        moved = (refined == label) & (labels != label)
        if moved.any():
            sure[moved] = np.maximum(_enlarged(chance, (height, width))[moved], _mean(sure, labels == label))
    return refined, sure


def _mean(values: Confidence, where: NDArray[np.bool_]) -> float:
    return float(values[where].mean())


def _enlarged(chance: Tensor, size: tuple[int, int]) -> Confidence:
    """Probabilities (h, w) at another size."""
    whole = F.interpolate(chance[None, None].float(), size=size, mode="bilinear", align_corners=False)[0, 0]
    enlarged: Confidence = whole.cpu().numpy()
    return enlarged


VOTE = RefinerSpec(
    "sam-vote",
    "SAM, region vote",
    "Segment Anything cuts the photo up; in every region the most frequent class takes all (2304.02643).",
    look_everywhere,
    refine_by_vote,
    options=(_POINTS, _GRID_IOU, MAJORITY),
    weights=WEIGHTS,
    load=load_model,
)
PROMPTS = RefinerSpec(
    "sam-prompts",
    "SAM, prompted",
    "Every region asks Segment Anything for the object it means, and keeps its own edges where SAM doubts.",
    look_once,
    refine_by_prompts,
    options=(_PROMPT_IOU,),
    weights=WEIGHTS,
    load=load_model,
)
