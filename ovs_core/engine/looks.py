"""Photos that wait for the device in the same moment are looked at together.

A GPU is far from full with one frame of a small tower. Requests queue for the device one by one; each writes
down what it wants to look at before it queues. Whose turn it is takes all that waits with frames of the same
size for the same encoder and looks at it in one batch; the others find their features made when their turn
comes. A request that is alone is answered as if none of this were there. On a CPU a batch gains nothing and
sums come out in another order: there each looks for itself.
"""

from __future__ import annotations

import threading
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from ovs_core.devices import Compute, is_out_of_memory
from ovs_core.encoders.base import EncodesMany, ImageEncoder, Remember, SharesStem
from ovs_core.engine.request import Job
from ovs_core.image import Photo
from ovs_core.options import Preset

MOST_TOGETHER = 8  # photos of one batch


@dataclass(eq=False)
class _Wanted:
    """A look that somebody waits for.

    Attributes:
        photo: to look at.
        alike: looks that agree on it can be one batch; None for one that stays alone.
        made: features, once somebody made them.
    """

    photo: Photo
    alike: Hashable
    made: Any = None


class Looks:
    """What requests of one engine want to look at. Safe to use from several threads.

    Args:
        compute: the device that they wait for.
    """

    def __init__(self, compute: Compute) -> None:
        self._compute = compute
        self._batches = compute.device.type != "cpu"
        self._waiting: list[_Wanted] = []
        self._lock = threading.Lock()

    def features(
        self, image: ImageEncoder[Any], preset: Preset, photo: Photo, job: Job, remember: Remember
    ) -> Any:
        """What an encoder makes of a photo, as soon as the device is free; `remember` keeps its stem's part.

        Raises:
            Cancelled: if the job is.
            RuntimeError, MemoryError: if this photo alone does not fit into memory.
        """
        alike = None
        if self._batches and isinstance(image, EncodesMany):
            alike = (image.features_identity(preset), image.frame(photo.size, preset))
        wanted = _Wanted(photo, alike)
        with self._listed(wanted), job.on_device("encode", self._compute):
            if wanted.made is None:
                self._look(image, preset, wanted, job, remember)
        return wanted.made

    @contextmanager
    def _listed(self, wanted: _Wanted) -> Iterator[None]:
        with self._lock:
            self._waiting.append(wanted)
        try:
            yield
        finally:
            with self._lock:
                self._waiting.remove(wanted)

    def _look(
        self, image: ImageEncoder[Any], preset: Preset, wanted: _Wanted, job: Job, remember: Remember
    ) -> None:
        """Make what is wanted, and what waits beside it."""
        together = self._beside(wanted)
        if together and isinstance(image, EncodesMany):
            photos = [one.photo.pixels for one in (wanted, *together)]
            try:
                made = image.encode_many(photos, preset, progress=job.steps("encode"), cancel=job.cancel)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
            else:
                for one, features in zip((wanted, *together), made, strict=True):
                    one.made = features
                return
            self._compute.free_memory()
        told: dict[str, Any] = {"progress": job.steps("encode"), "cancel": job.cancel}
        pixels = wanted.photo.pixels
        if isinstance(image, SharesStem) and image.shares_stem:
            wanted.made = image.encode(pixels, preset, remember=remember, **told)
        else:
            wanted.made = image.encode(pixels, preset, **told)

    def _beside(self, wanted: _Wanted) -> list[_Wanted]:
        """Others that wait for a look like this one, those who came first."""
        if wanted.alike is None:
            return []
        with self._lock:
            alike = [one for one in self._waiting if one.alike == wanted.alike and one.made is None]
        return [one for one in alike if one is not wanted][: MOST_TOGETHER - 1]
