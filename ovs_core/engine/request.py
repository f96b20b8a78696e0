"""What goes into the engine and what it says on the way: questions and progress."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from ovs_core.devices import Compute, stop_if_cancelled
from ovs_core.encoders.towers import DEFAULT_ENCODER
from ovs_core.engine.result import Result
from ovs_core.image import Photo, read_photo
from ovs_core.methods import DEFAULT_METHOD
from ovs_core.methods.base import Point
from ovs_core.options import Options
from ovs_core.refine import NO_REFINER
from ovs_core.types import ViewKind, Vocabulary
from ovs_core.vocabulary.exemplars import Exemplar, asked_vocabulary

PhotoSource = Photo | str | Path | bytes | Image.Image | NDArray[np.generic]


class NotEnoughMemory(ValueError):  # noqa: N818 - reads as the sentence it carries
    """A photo does not fit, not even in small windows; the message says what to do."""


@dataclass(frozen=True)
class Request:
    """One question: what the page, the terminal, HTTP, the evaluation and Python all make.

    A plain value: whether names exist and options are in range, the engine checks, once, before anything is
    loaded (`ovs_core.engine.settings`).

    Attributes:
        photo: from `ovs_core.image.read_photo`.
        vocabulary: from `ovs_core.vocabulary.parse_vocabulary`.
        method, encoder, refiner: registry names.
        options: values of options that the method, the encoder or the refiner declares; those left out have
            the values that suit method and encoder (`Engine.preset`).
        views: intermediate quantities to return in `result.views`.
        point: (row, column), each in [0, 1] of the photo, for views about one place.
        exemplars: boxes to be found elsewhere; those of a name that was not typed need its class in the
            vocabulary (`ovs_core.vocabulary.exemplars.exemplar_vocabulary`).
        side: the photo's longer side, in pixels, that is labelled at most; None for its own size.
    """

    photo: Photo
    vocabulary: Vocabulary
    method: str = DEFAULT_METHOD
    encoder: str = DEFAULT_ENCODER
    refiner: str = NO_REFINER
    options: Options = field(default_factory=lambda: MappingProxyType({}))
    views: frozenset[ViewKind] = frozenset()
    point: Point = None
    exemplars: tuple[Exemplar, ...] = ()
    side: int | None = None


@dataclass(frozen=True)
class Progress:
    """How far a request is.

    Attributes:
        stage: "load", "text", "encode", "method", "refine" or "decide".
        done, total: steps of that stage.
        note: a sentence for the user, where something out of the ordinary happened.
    """

    stage: str
    done: int
    total: int
    note: str = ""


def replaces(new: Progress | Result, old: Progress | Result) -> bool:
    """Whether a report says all that an older one said: a later step of the same stage, and no note lost."""
    if not (isinstance(new, Progress) and isinstance(old, Progress)):
        return False
    return new.stage == old.stage and old.note in ("", new.note)


@dataclass(frozen=True, eq=False)
class Job:
    """One request on its way: whom to tell, when to stop, what it cost."""

    report: Callable[[Progress | Result], None]
    cancel: threading.Event | None
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, stage: str) -> Iterator[None]:
        """Tell the beginning and the end of a stage, and time it."""
        stop_if_cancelled(self.cancel)
        self.report(Progress(stage, 0, 1))
        started = time.perf_counter()
        yield
        self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - started
        self.report(Progress(stage, 1, 1))

    @contextmanager
    def on_device(self, stage: str, compute: Compute) -> Iterator[None]:
        """The same for a stage that uses the device while it lasts."""

        def waiting() -> None:
            self.report(Progress(stage, 0, 1, "Waiting for another request."))

        with compute.hold(self.cancel, waiting), torch.no_grad(), self.stage(stage):
            yield
            compute.wait()

    def steps(self, stage: str) -> Callable[[int, int], None]:
        """Callback for parts that count their own steps."""
        return lambda done, total: self.report(Progress(stage, done, total))


def make_request(
    image: PhotoSource,
    classes: str | Vocabulary,
    method: str,
    encoder: str,
    background: str,
    refiner: str,
    options: Options | None,
    exemplars: Sequence[Exemplar] = (),
) -> Request:
    """Read a photo and some words, unless they are read already; see `Engine.segment`."""
    photo = image if isinstance(image, Photo) else read_photo(image)
    asked = asked_vocabulary(classes, [exemplar.name for exemplar in exemplars], background)
    values = MappingProxyType(dict(options or {}))
    return Request(photo, asked, method, encoder, refiner, values, exemplars=tuple(exemplars))
