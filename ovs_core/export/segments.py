"""Panoptic and instance answers in COCO's formats: https://cocodataset.org/#format-results."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ovs_core.evidence.proposals import MaskProposals
from ovs_core.evidence.segments import Instance, Panoptic, instance_mask, instances, require_proposals
from ovs_core.export.answered import Answered
from ovs_core.export.coco import box, compressed, document, run_lengths
from ovs_core.export.numbers import class_numbers

LEAST_SCORE = (
    0.05  # of an instance in a file, as COCO's detectors have it: average precision needs weak ones too
)


def segment_ids(numbers: NDArray[np.integer]) -> NDArray[np.uint8]:
    """Numbers of segments (H, W) as the pixels (H, W, 3) of a panoptic PNG: R + 256 G + 65536 B."""
    return np.stack([numbers & 255, numbers >> 8 & 255, numbers >> 16 & 255], axis=-1).astype(np.uint8)


def panoptic_document(
    panoptic: Panoptic, result: Answered, things: Collection[int], file_name: str, png_name: str
) -> dict[str, Any]:
    """One image and its segments, as COCO's panoptic annotations; scores are an addition.

    Args:
        panoptic: segments of typed classes at the photo's size.
        result: what they were made of.
        things: labels of classes whose objects are told apart.
        file_name: of the photo.
        png_name: of the file with the segments' numbers.
    """
    numbers = class_numbers(result)
    answer = document(result, file_name)
    for category, entry in zip(answer["categories"], result.label_map.classes, strict=True):
        category |= {"isthing": int(entry.id in things), "color": list(entry.color)}
    segments = [
        {
            "id": segment.number,
            "category_id": numbers[segment.label],
            "isthing": int(segment.thing),
            "iscrowd": 0,
            "area": segment.area,
            "bbox": box(panoptic.numbers == segment.number),
            "score": segment.score,
        }
        for segment in panoptic.segments
    ]
    return answer | {"annotations": [{"image_id": 1, "file_name": png_name, "segments_info": segments}]}


def instance_document(result: Answered, things: Collection[int], file_name: str) -> dict[str, Any]:
    """One image and its instances, best first, as COCO's object annotations with scores.

    Args:
        result: of a method that proposes masks.
        things: labels of classes that have instances.
        file_name: of the photo.
    """
    numbers = class_numbers(result)
    proposals = require_proposals(result.evidence)
    kept = [
        instance
        for instance in instances(proposals, things)
        if instance.area and instance.score >= LEAST_SCORE
    ]
    shapes = {instance.mask: _shape(proposals, instance) for instance in kept}
    annotations = [
        {
            "id": number,
            "image_id": 1,
            "category_id": numbers[instance.label],
            "iscrowd": 0,
            "score": instance.score,
            **shapes[instance.mask],
        }
        for number, instance in enumerate(kept, start=1)
    ]
    return document(result, file_name) | {"annotations": annotations}


def _shape(proposals: MaskProposals, instance: Instance) -> dict[str, Any]:
    """Area, box and compressed run lengths of an instance's mask."""
    mask = instance_mask(proposals, instance.mask)
    counts = compressed(run_lengths(mask))
    return {
        "area": instance.area,
        "bbox": box(mask),
        "segmentation": {"counts": counts, "size": list(mask.shape)},
    }
