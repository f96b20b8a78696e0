"""A refiner at work on a photo's evidence: its look at the photo is remembered, the rest is quick."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

import torch

from ovs_core.devices import Compute
from ovs_core.engine.cache import ByteCache
from ovs_core.engine.request import Job
from ovs_core.evidence.protocol import Evidence
from ovs_core.image import Photo
from ovs_core.options import Options
from ovs_core.refine.spec import RefinerSpec

_CPU = torch.device("cpu")


@dataclass(frozen=True, eq=False)
class Refining:
    """A refiner with its settings.

    Attributes:
        spec: bound to its model, if it needs one.
        options: values by name.
        cache: remembers looks at photos.
        compute: where it works.
        job: whom to tell.
    """

    spec: RefinerSpec
    options: Options
    cache: ByteCache
    compute: Compute
    job: Job

    @property
    def key(self) -> Hashable:
        """All that its answer depends on beside photo and evidence."""
        values = tuple((option.name, self.options[option.name]) for option in self.spec.options)
        return (self.spec.name, self.spec.model, values)

    def __call__(self, photo: Photo, evidence: Evidence) -> Evidence:
        """Finer evidence, on the CPU; the same if there is nothing to do."""
        look, refine = self.spec.look, self.spec.refine
        if look is None or refine is None:
            return evidence
        h, w = evidence.rows.shape[1:] if self.spec.needs_rows else (0, 0)  # else its look needs no grid
        key = (photo.key, self.key, (h, w), str(self.compute.device))
        steps, cancel = self.job.steps("refine"), self.job.cancel
        looked: Any | None = self.cache.get("looks", key)
        if looked is None:
            with self.job.on_device("refine", self.compute):
                looked = look(photo.pixels, (h, w), self.options, self.compute.device, steps, cancel)
            self.cache.put("looks", key, looked, looked.nbytes)
        with self.job.on_device("refine", self.compute):
            there = evidence.to(self.compute.device)
            return refine(looked, there, self.options, steps, cancel).to(_CPU)
