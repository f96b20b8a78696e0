"""What is asked of every photo of a run, and the engine that answers it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ovs_core.batch.rows import Row, header_of, row_of
from ovs_core.encoders.towers import DEFAULT_ENCODER
from ovs_core.engine import Engine, Result
from ovs_core.image import Photo
from ovs_core.methods import DEFAULT_METHOD
from ovs_core.options import Options
from ovs_core.refine import NO_REFINER
from ovs_core.types import Vocabulary

CACHE_BYTES = 64 << 20
"""No photo comes twice, so only embedded words are worth keeping."""

_PROBE_SIZE = (48, 64)  # (H, W) of the grey photo that is asked about first


@dataclass(frozen=True, eq=False)  # Ray hashes what it sends, and options are a mapping
class BatchPlan:
    """The same question for every photo; can be sent to another machine.

    Attributes:
        vocabulary: what is asked.
        method, encoder, refiner: registry names.
        options: values by name; those left out suit method and encoder.
        stuff: classes that are not counted (`ovs_core.vocabulary.thing_labels`).
        device, precision, weights_dir, offline: where and how it runs; see `Engine`.
    """

    vocabulary: Vocabulary
    method: str = DEFAULT_METHOD
    encoder: str = DEFAULT_ENCODER
    refiner: str = NO_REFINER
    options: Options = field(default_factory=dict)
    stuff: str = "default"
    device: str = "auto"
    precision: str = "auto"
    weights_dir: Path | None = None
    offline: bool = False

    @property
    def settings(self) -> dict[str, Any]:
        """What makes rows differ, ready for JSON; where a run happens is not among it."""
        return {
            "method": self.method,
            "encoder": self.encoder,
            "refiner": self.refiner,
            "options": dict(self.options),
            "stuff": self.stuff,
            "classes": [list(names) for names in self.vocabulary.classes],
            "other": list(self.vocabulary.other),
            "literal": sorted(self.vocabulary.literal),
        }


@dataclass(frozen=True, eq=False)
class Answerer:
    """A plan that is ready to be asked.

    Attributes:
        header: what files of its rows say once.
        row: makes a photo's row from the photo, its id and its path; raises as `Engine.segment`.
        on_gpu: the engine's device is not the CPU.
    """

    header: Mapping[str, Any]
    row: Callable[[Photo, str, str], Row]
    on_gpu: bool = False


Prepare = Callable[[BatchPlan], Answerer]


def prepare(plan: BatchPlan) -> Answerer:
    """Make an engine and ask it about a small grey photo, so that what is wrong is told before any work.

    Raises:
        ValueError: for an unknown name, a setting out of range, or weights that are missing; one sentence.
    """
    engine = Engine(
        plan.device,
        plan.precision,
        weights_dir=plan.weights_dir,
        offline=plan.offline,
        cache_bytes=CACHE_BYTES,
    )

    def row(photo: Photo, photo_id: str, path: str) -> Row:
        return row_of(_ask(engine, plan, photo), photo_id, path, plan.stuff)

    probe = Photo(np.full((*_PROBE_SIZE, 3), 127, np.uint8))
    header = header_of(_ask(engine, plan, probe), plan.settings)
    return Answerer(header, row, on_gpu=engine.compute.device.type != "cpu")


def _ask(engine: Engine, plan: BatchPlan, photo: Photo) -> Result:
    return engine.segment(
        photo,
        plan.vocabulary,
        method=plan.method,
        encoder=plan.encoder,
        refiner=plan.refiner,
        options=plan.options,
    )
