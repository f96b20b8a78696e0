"""What goes into the engine and what it says on the way: requests, progress and menu entries."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import get_args

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from ovs_core.build import DEFAULT_ENCODER, DEFAULT_METHOD, METHODS, REFINERS, lookup, refiners_for
from ovs_core.devices import Compute, stop_if_cancelled
from ovs_core.image import Photo, read_photo
from ovs_core.types import Preset, Result, ViewKind, Vocabulary
from ovs_core.vocabulary import TEMPLATES, read_vocabulary

PhotoSource = Photo | str | Path | bytes | Image.Image | NDArray[np.generic]


class NotEnoughMemory(ValueError):  # noqa: N818 - reads as the sentence it carries
    """A photo does not fit, not even in small windows; the message says what to do."""


@dataclass(frozen=True)
class Request:
    """One question to the engine.

    Attributes:
        photo: from `ovs_core.image.read_photo`.
        vocabulary: from `ovs_core.vocabulary.parse_vocabulary`.
        method, encoder, refine: registry names (`ovs_core.build`).
        preset: settings; None takes those that suit method and encoder (`Engine.preset`).
        views: intermediate quantities to return in `result.segmentation.views`.
        point: (row, column), each in [0, 1] of the photo, for views about one place.
        switches: optional parts of the method (`MethodSpec.switches`).

    Raises:
        ValueError: for an unknown name or a setting out of range, before anything is loaded.
    """

    photo: Photo
    vocabulary: Vocabulary
    method: str = DEFAULT_METHOD
    encoder: str = DEFAULT_ENCODER
    refine: str = "none"
    preset: Preset | None = None
    views: frozenset[ViewKind] = frozenset()
    point: tuple[float, float] | None = None
    switches: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        spec = lookup("method", METHODS, self.method)
        refiner = lookup("refine", REFINERS, self.refine)
        if self.refine not in refiners_for(spec.masks):
            raise ValueError(
                f"{refiner.title} cannot refine the mask proposals of {spec.title}; "
                f"refine must be one of {', '.join(refiners_for(spec.masks))} there."
            )
        if self.preset is not None:
            if len(self.preset.frames) > 1 and spec.masks:
                raise ValueError(
                    f"{spec.title} looks once; frames must hold one size, got {self.preset.frames}."
                )
            lookup("templates", TEMPLATES, self.preset.templates)
        check_among("views", self.views, get_args(ViewKind))
        check_among(f"switches of {spec.name}", self.switches, tuple(spec.switches))
        if self.point is not None and not all(0 <= side <= 1 for side in self.point):
            raise ValueError(f"point must be (row, column), each in [0, 1]; got {self.point}")


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


@dataclass(frozen=True)
class MethodInfo:
    """One method on one encoder, for a menu.

    Attributes:
        name, title, paper, description, rule, switches, masks, views: see `ovs_core.build.MethodSpec`.
        available: it runs on the encoder, and what was trained for it is on this machine.
        reason: why not, and what to do about it; empty if available.
        refiners: names of the refiners that take its answers.
    """

    name: str
    title: str
    paper: str
    description: str
    rule: str
    switches: Mapping[str, str]
    available: bool = True
    reason: str = ""
    masks: bool = False
    views: frozenset[ViewKind] = frozenset()
    refiners: tuple[str, ...] = tuple(REFINERS)


@dataclass(frozen=True)
class EncoderInfo:
    """One encoder, for a menu.

    Attributes:
        name, title, tier: see `ovs_core.build.EncoderSpec`.
        available: its weights are on this machine.
        reason: why not, and what to do about it; empty if available.
        weights: one sentence about the weights.
    """

    name: str
    title: str
    tier: str
    available: bool
    reason: str
    weights: str


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
        """The same for a stage that owns the device while it lasts."""
        if compute.lock.locked():
            self.report(Progress(stage, 0, 1, "Waiting for another request."))
        with compute.hold(self.cancel), torch.no_grad(), self.stage(stage):
            yield
            compute.wait()

    def steps(self, stage: str) -> Callable[[int, int], None]:
        """Callback for parts that count their own steps."""
        return lambda done, total: self.report(Progress(stage, done, total))


def check_among(what: str, given: frozenset[str], known: tuple[str, ...]) -> None:
    """Return if every one of `given` is known.

    Raises:
        ValueError: naming the first one that is not, and all that are.
    """
    for name in sorted(given - set(known)):
        raise ValueError(f"{what} must be among {', '.join(known) or '(none)'}; got {name!r}")


def make_request(
    image: PhotoSource,
    classes: str | Vocabulary,
    method: str,
    encoder: str,
    background: str,
    refine: str,
    preset: Preset | None,
) -> Request:
    """Read a photo and some words, unless they are read already; see `Engine.segment`."""
    photo = image if isinstance(image, Photo) else read_photo(image)
    vocabulary = classes if isinstance(classes, Vocabulary) else read_vocabulary(classes, background)
    return Request(photo, vocabulary, method, encoder, refine, preset)
