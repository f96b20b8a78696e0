"""Recipes of the mask heads for the embedded tower, in numbers.

Official recipes (`ovs_core.training.maft_plus`) are for eight large GPUs and 118,000 photos; these are for
one CPU core and a few hundred.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ovs_core.vocabulary.splits import SPLITS

HELD_OUT = SPLITS["coco_mini"].unseen


@dataclass(frozen=True)
class MaskCropPlan:
    """Which crops are made once and learnt from many times; their features are frozen.

    Attributes:
        count: crops in all.
        side: of a square crop, pixels, a multiple of 32.
        short_side: range of a photo's shorter side before cropping, pixels.
        source_weights: how often each source is drawn, relative to the others.
        pastes: most objects from other photos that are pasted into a photo of people's masks.
        seed: of everything that is drawn.
    """

    count: int = 1600
    side: int = 288
    short_side: tuple[int, int] = (288, 520)
    source_weights: tuple[tuple[str, float], ...] = (("coco", 0.72), ("pets", 0.18), ("camvid", 0.1))
    pastes: int = 3
    seed: int = 0


@dataclass(frozen=True)
class FcClipPlan:
    """FC-CLIP: a head on the frozen tower.

    Attributes:
        crops: what is learnt from.
        width, queries: channels of both decoders and masks proposed.
        pixel_layers, mask_layers: layers of the decoders.
        feedforward: hidden channels of their layers.
        points: places a mask is compared at.
        steps, batch: optimiser steps, crops a step.
        rate, weight_decay, clip, ema: of the optimiser (`ovs_core.training.loop.Schedule`).
        templates: prompts that names are put in, from `ovs_core.vocabulary.TEMPLATES`.
        hold_out: class names that are never learnt: their instances do not count.
        seed: of everything that is drawn.
    """

    crops: MaskCropPlan = field(default_factory=MaskCropPlan)
    width: int = 96
    queries: int = 50
    pixel_layers: int = 1
    mask_layers: int = 3
    feedforward: int = 384
    points: int = 1024
    steps: int = 1300
    batch: int = 4
    rate: float = 6e-4
    weight_decay: float = 0.05
    clip: float = 1.0
    ema: float = 0.995
    templates: str = "single1"
    hold_out: tuple[str, ...] = HELD_OUT
    seed: int = 0


@dataclass(frozen=True)
class TuningPlan:
    """MAFT+: the tower's transformer learns to follow the masks of a trained head, which stays.

    Attributes:
        count: how many of the head's own training crops are learnt from.
        mask_aware, compensation: weights of the losses; 0 leaves one out.
        transfer: whether content-dependent transfer is trained; without it names stay as they are.
        transfer_gain: length of a name's change per channel when training starts. The normalised change is
            sqrt(D) long times this; names are 1 long.
        tower_rate, transfer_rate: peak learning rates.
        steps, batch, weight_decay, clip: as in `FcClipPlan`.
        seed: of everything that is drawn.
    """

    count: int = 600
    mask_aware: float = 1.0
    compensation: float = 0.1
    transfer: bool = True
    transfer_gain: float = 0.01
    tower_rate: float = 1e-4
    transfer_rate: float = 5e-4
    steps: int = 120
    batch: int = 8
    weight_decay: float = 0.01
    clip: float = 1.0
    seed: int = 0
