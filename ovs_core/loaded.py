"""Towers, and methods with trained parts, that stay in memory between questions."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path

from ovs_core.build import (
    METHODS,
    EncoderSpec,
    HeadFile,
    Ready,
    Tower,
    build_method,
    build_tower,
    find_head,
    lookup,
    usable_head,
    why_not,
)
from ovs_core.checkpoints import WeightStore
from ovs_core.devices import Compute
from ovs_core.requests import Job, Request

MAX_TOWERS = 2  # loaded at once; a third one pushes out the one not used for longest


class Loaded:
    """What is in memory; loads what is not. Safe to use from several threads.

    Args:
        encoders: registry name -> spec.
        compute: where everything goes.
        text_dir: folder that keeps text embeddings between runs.
    """

    def __init__(self, encoders: Mapping[str, EncoderSpec], compute: Compute, text_dir: Path) -> None:
        self._encoders = encoders
        self._compute = compute
        self._text_dir = text_dir
        self._towers: OrderedDict[str, Tower] = OrderedDict()
        # Files may be exchanged while the program runs: the checksum of a head stays beside what it made.
        self._methods: dict[tuple[str, str, frozenset[str]], tuple[HeadFile | None, Ready]] = {}
        self._loading = threading.Lock()

    def spec(self, encoder: str) -> EncoderSpec:
        """Spec of an encoder.

        Raises:
            ValueError: for an unknown name.
        """
        return lookup("encoder", self._encoders, encoder)

    def ready(self, request: Request, store: WeightStore, job: Job) -> tuple[Tower, Ready]:
        """Tower and method of a request.

        Raises:
            ValueError: if weights are missing or wrong; one sentence each.
        """
        with self._loading:
            tower = self._tower(request.encoder, store, job)
            return tower, self._method(request, tower, store, job)

    def _tower(self, name: str, store: WeightStore, job: Job) -> Tower:
        spec = self.spec(name)
        if name in self._towers and not _is_current(self._towers[name], spec, store):
            self._forget(name)
        if name not in self._towers:
            with job.on_device("load", self._compute):
                self._towers[name] = build_tower(spec, spec.load(store), self._compute, self._text_dir)
            while len(self._towers) > MAX_TOWERS:
                self._forget(next(iter(self._towers)))
        self._towers.move_to_end(name)
        return self._towers[name]

    def _forget(self, name: str) -> None:
        del self._towers[name]
        self._methods = {key: one for key, one in self._methods.items() if key[0] != name}

    def _method(self, request: Request, tower: Tower, store: WeightStore, job: Job) -> Ready:
        key = (request.encoder, request.method, request.switches)
        spec = self.spec(request.encoder)
        headless = METHODS[request.method].build is not None
        head = None if headless else find_head(store, request.method, spec, tower.sha256)
        kept = self._methods.get(key)
        if kept is not None and kept[0] == head:
            return kept[1]
        if headless:
            ready = build_method(request.method, tower, request.switches)
        else:
            with job.on_device("load", self._compute):
                head = usable_head(store, request.method, spec, tower.sha256)
                ready = build_method(request.method, tower, request.switches, head)
        self._methods[key] = (head, ready)
        return ready


def _is_current(tower: Tower, spec: EncoderSpec, store: WeightStore) -> bool:
    """Whether the file on disk is still the one a tower was made from."""
    path = None if spec.entry is None else store.locate(spec.entry)
    return path is None or store.sha256_of(path) == tower.sha256


def check_method(method: str, encoder: EncoderSpec, store: WeightStore) -> None:
    """Return if a method runs on an encoder with what is on this machine.

    Raises:
        ValueError: saying why not, and what to do.
    """
    reason = why_not(lookup("method", METHODS, method), encoder, store)
    if reason:
        raise ValueError(reason)
