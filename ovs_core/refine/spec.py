"""What is declared of a refiner, once, and its two halves: look at the photo, then sharpen evidence."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from ovs_core.devices import Cancel, Report
from ovs_core.evidence.base import Evidence
from ovs_core.options import Option, Options


class PhotoLook(Protocol):
    """What a refiner keeps of a photo between questions."""

    @property
    def nbytes(self) -> int:
        """Bytes held, for the cache budget."""
        ...


Look = Callable[[NDArray[np.uint8], tuple[int, int], Options, torch.device, Report, Cancel], Any]
"""From pixels (H, W, 3) and the evidence's grid (h, w), a `PhotoLook`; slow, remembered by exactly these."""
Refine = Callable[[Any, Evidence, Options, Report, Cancel], Evidence]
"""From a `PhotoLook` and evidence, finer evidence; quick."""


@dataclass(frozen=True)
class RefinerSpec:
    """A refiner as menus, parsers, endpoints and reports see it; adding one is adding one of these.

    Attributes:
        name: registry name, e.g. "pamr".
        title: name people know it by.
        description: one sentence in plain words.
        look: the slow half; None where there is nothing to do.
        refine: the quick half.
        options: what can be set.
        needs_rows: whether it takes evidence with a row per name alone, no masks.
    """

    name: str
    title: str
    description: str
    look: Look | None = None
    refine: Refine | None = None
    options: tuple[Option, ...] = ()
    needs_rows: bool = False
