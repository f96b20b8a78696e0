"""What is declared of a refiner, once, and its two halves: look at the photo, then sharpen evidence."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import torch

from ovs_core.evidence.protocol import Evidence
from ovs_core.options import Option


class PhotoLook(Protocol):
    """What a refiner keeps of a photo between questions."""

    @property
    def nbytes(self) -> int:
        """Bytes held, for the cache budget."""
        ...


Look = Callable[..., Any]
"""From pixels (H, W, 3), the evidence's grid (h, w), options, device, progress and cancel, a `PhotoLook`;
slow, remembered by exactly these. A refiner with a model of its own takes that first."""
Refine = Callable[..., Evidence]
"""From a `PhotoLook`, evidence, options, progress and cancel, finer evidence; quick. As for `Look`, a model
comes first."""


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
        weights: catalogue names of the models that it can work with, the preferred one first; empty where it
            needs none.
        load: from a file of `weights` and a device, the model.
        model: SHA-256 of the model that `look` and `refine` are bound to; part of cache keys.
    """

    name: str
    title: str
    description: str
    look: Look | None = None
    refine: Refine | None = None
    options: tuple[Option, ...] = ()
    needs_rows: bool = False
    weights: tuple[str, ...] = ()
    load: Callable[[Path, torch.device], Any] | None = None
    model: str = ""

    def with_model(self, model: Any, sha256: str) -> RefinerSpec:
        """The same with its own model given to both halves."""
        if self.look is None or self.refine is None:
            return self
        return replace(
            self, look=partial(self.look, model), refine=partial(self.refine, model), load=None, model=sha256
        )
