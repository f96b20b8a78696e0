"""REFINERS: what makes evidence finer, by name."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from ovs_core.refine.pamr import refine_pamr
from ovs_core.types import ScoreMap

Steps = Callable[[int, int], None]


@dataclass(frozen=True)
class RefinerSpec:
    """What a menu needs to know of a refiner, and how to run it.

    Attributes:
        name: registry name, e.g. "pamr".
        title: name people know it by.
        description: one sentence in plain words.
        run: from evidence, the photo's pixels, a callback (done, total) and an event that cancels, finer
            evidence; None where there is nothing to do. It takes evidence with a row per name, no masks.
    """

    name: str
    title: str
    description: str
    run: Callable[[ScoreMap, NDArray[np.uint8], Steps, threading.Event | None], ScoreMap] | None


def _run_pamr(
    score_map: ScoreMap, pixels: NDArray[np.uint8], steps: Steps, cancel: threading.Event | None
) -> ScoreMap:
    return refine_pamr(score_map, pixels, progress=steps, cancel=cancel)


REFINERS: Mapping[str, RefinerSpec] = MappingProxyType(
    {
        "none": RefinerSpec("none", "No refinement", "Edges as fine as the model's own grid.", None),
        "pamr": RefinerSpec(
            "pamr",
            "PAMR",
            "Pulls edges to the photo's colours: neighbours that look alike share their scores (2005.08104).",
            _run_pamr,
        ),
    }
)


def refiners_for(masks: bool) -> tuple[str, ...]:
    """Names of the refiners that take what a method answers with: mask proposals or rows of evidence."""
    return tuple(name for name, spec in REFINERS.items() if spec.run is None or not masks)
