"""Two photos beside each other: where in the second one is this patch of the first?"""

from __future__ import annotations

import threading
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from ovs_core.engine.engine import Engine
from ovs_core.engine.exemplars import takes_exemplars
from ovs_core.engine.memory import too_large_in_one_sentence
from ovs_core.engine.pipeline import Pipeline
from ovs_core.engine.request import Job, PhotoSource, Request
from ovs_core.image import Photo, read_photo
from ovs_core.methods.base import MOST_PLACES
from ovs_core.methods.training_free.model import coarse_grid
from ovs_core.refine import NO_REFINER

MOST_PLACES_BESIDE = 432  # of the second photo


@dataclass(frozen=True, eq=False)
class PatchCosines:
    """How alike the patches of two photos are.

    Attributes:
        cosines: (h, w, H, W) float32 in [-1, 1]: patch (row, column) of the first photo, then of the second.
        method: registry name of the method whose tokens these are.
    """

    cosines: Tensor
    method: str

    def best(self, row: int, column: int) -> tuple[int, int]:
        """The patch (row, column) of the second photo that is most like one of the first."""
        there = self.cosines[row, column]
        return divmod(int(there.argmax()), there.shape[1])


def patch_cosines(
    engine: Engine,
    request: Request,
    other: PhotoSource,
    *,
    most: tuple[int, int] = (MOST_PLACES, MOST_PLACES_BESIDE),
    cancel: threading.Event | None = None,
) -> PatchCosines:
    """Compare every patch of the request's photo with every patch of another photo.

    Both are looked at in the frame and windows of the request; a patch is the mean of the unit tokens in its
    cell of a coarse grid, as the method compares them with words, its switches off. Looks are remembered, so
    that after an answer only the second photo is looked at.

    Args:
        engine: whose weights, cache and device are used.
        request: photo, method, encoder and options.
        other: the second photo, as for `Engine.segment`.
        most: patches of each photo.
        cancel: looked at before each window.

    Raises:
        ValueError: as `Engine.check`; for a method that compares no tokens with words; one sentence.
        Cancelled: if `cancel` was set.
    """
    settings = engine.check(request)
    spec, encoder = engine.method_specs[request.method], engine.encoder_specs[request.encoder]
    if not takes_exemplars(spec):
        able = ", ".join(one.title for one in engine.method_specs.values() if takes_exemplars(one))
        raise ValueError(f"{spec.title} has no patches to compare between photos; choose one of: {able}.")
    second = other if isinstance(other, Photo) else read_photo(other)
    job = Job(lambda _: None, cancel)
    with too_large_in_one_sentence():
        _, bound = engine.loaded.bound(spec, encoder, engine.store, job)
        refiner = engine.refiner_specs[NO_REFINER]
        pipeline = Pipeline(
            request, settings, bound, refiner, engine.cache, engine.compute, engine.looks, job
        )
        photos = zip((request.photo, second), most, strict=True)
        first, there = (_patches(pipeline.tokens(photo), count) for photo, count in photos)
    cosines = (first.flatten(1).T @ there.flatten(1)).clamp(-1, 1)
    return PatchCosines(cosines.reshape(*first.shape[1:], *there.shape[1:]), request.method)


def _patches(tokens: Tensor, most: int) -> Tensor:
    """Unit patches (D, h, w), at most so many, of tokens (D, H, W): means of unit tokens."""
    unit = F.normalize(tokens.float().cpu(), dim=0)
    rows, columns = coarse_grid((unit.shape[1], unit.shape[2]), most)
    return F.normalize(F.adaptive_avg_pool2d(unit, (rows, columns)), dim=0)
