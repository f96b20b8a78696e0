"""Towers, and methods bound to them, that stay in memory between questions."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ovs_core.checkpoints import CheckpointError, WeightStore
from ovs_core.devices import Compute
from ovs_core.encoders.towers import EncoderSpec, Tower, build_tower
from ovs_core.engine.cache import ByteCache
from ovs_core.engine.request import Job
from ovs_core.methods.base import BoundMethod
from ovs_core.methods.head_format import HeadFile
from ovs_core.methods.heads import find_head, verified_head
from ovs_core.methods.spec import MethodSpec
from ovs_core.refine.spec import RefinerSpec

MAX_TOWERS = 2  # loaded at once; a third one pushes out the one not used for longest
MAX_REFINER_MODELS = 1


@dataclass(frozen=True, eq=False)
class _Resident:
    """A tower in memory and the methods bound to it: they come and go together.

    Files may be exchanged while the program runs: the checksum of a head stays beside what was made of it.
    """

    tower: Tower
    bound: dict[str, tuple[HeadFile | None, BoundMethod[Any]]] = field(default_factory=dict)


class Loaded:
    """What is in memory; loads what is not. Safe to use from several threads.

    Args:
        methods: registry name -> spec, of all methods.
        compute: where everything goes.
        text_dir: folder that keeps text embeddings between runs; None keeps them in memory only.
        cache: keeps them in memory.
    """

    def __init__(
        self, methods: Mapping[str, MethodSpec], compute: Compute, text_dir: Path | None, cache: ByteCache
    ) -> None:
        self._methods = methods
        self._compute = compute
        self._text_dir = text_dir
        self._cache = cache
        self._residents: OrderedDict[str, _Resident] = OrderedDict()
        self._refiner_models: OrderedDict[str, Any] = OrderedDict()
        self._loading = threading.Lock()

    def bound(
        self, method: MethodSpec, encoder: EncoderSpec, store: WeightStore, job: Job
    ) -> tuple[Tower, BoundMethod[Any]]:
        """A method on a tower.

        Raises:
            ValueError: if weights are missing or wrong; one sentence each.
        """
        with self._loading:
            resident = self._resident(encoder, store, job)
            return resident.tower, self._bound(method, encoder, resident, store, job)

    def refiner(self, spec: RefinerSpec, store: WeightStore, job: Job) -> RefinerSpec:
        """A refiner with the model that it needs, if it needs one.

        Raises:
            ValueError: if no file for it is here, or the file is wrong; one sentence each.
        """
        if spec.load is None:
            return spec
        path = refiner_file(spec, store)
        with self._loading:
            sha256 = store.sha256_of(path)
            if sha256 not in self._refiner_models:
                with job.on_device("load", self._compute):
                    self._refiner_models[sha256] = spec.load(path, self._compute.device)
                while len(self._refiner_models) > MAX_REFINER_MODELS:
                    self._refiner_models.popitem(last=False)
            return spec.with_model(self._refiner_models[sha256], sha256)

    def _resident(self, encoder: EncoderSpec, store: WeightStore, job: Job) -> _Resident:
        kept = self._residents.get(encoder.name)
        if kept is None or not _is_current(kept.tower, encoder, store):
            self._residents.pop(encoder.name, None)
            with job.on_device("load", self._compute):
                loaded = encoder.load(store)
                tower = build_tower(encoder, loaded, self._compute, self._text_dir, self._cache)
            self._residents[encoder.name] = kept = _Resident(tower)
            while len(self._residents) > MAX_TOWERS:
                self._residents.popitem(last=False)
        self._residents.move_to_end(encoder.name)
        return kept

    def _bound(
        self, method: MethodSpec, encoder: EncoderSpec, resident: _Resident, store: WeightStore, job: Job
    ) -> BoundMethod[Any]:
        tower = resident.tower
        head = None if method.head is None else find_head(store, method, encoder, tower.sha256)
        kept = resident.bound.get(method.name)
        if kept is not None and kept[0] == head:
            return kept[1]
        if method.head is None:
            bound = method.bind(tower, None)
        else:
            with job.on_device("load", self._compute):
                head = verified_head(store, method, encoder, self._methods, tower=tower.sha256)
                bound = method.bind(tower, head)
        resident.bound[method.name] = (head, bound)
        return bound


def refiner_file(spec: RefinerSpec, store: WeightStore, who: str = "", instead: str = "") -> Path:
    """The file of the first model of a refiner that is on this machine.

    Args:
        spec: of the refiner.
        store: of weights.
        who: needs it, for the sentence that says that there is none; "" for the refiner.
        instead: what can be done without, "" for another refinement.

    Raises:
        CheckpointError: if none is; says how to get one, and what works without.
    """
    for name in spec.weights:
        path = store.locate(name)
        if path is not None:
            return path
    entry = store.entry(spec.weights[0])
    size = f", {entry.bytes / 1e6:.0f} MB" if entry.bytes else ""
    raise CheckpointError(
        f"{who or spec.title} needs a model that is not on this machine: get {entry.title}{size} with "
        f"`ovs-lens weights get {entry.name}`, or {instead or 'choose another refinement, which needs none'}."
    )


def refiner_weights(spec: RefinerSpec, store: WeightStore) -> Mapping[str, str]:
    """File name -> SHA-256 of a refiner's model; empty where it needs none."""
    if spec.load is None:
        return {}
    path = refiner_file(spec, store)
    return {path.name: store.sha256_of(path)}


def _is_current(tower: Tower, spec: EncoderSpec, store: WeightStore) -> bool:
    """Whether the file on disk is still the one a tower was made from."""
    path = None if spec.entry is None else store.locate(spec.entry)
    return path is None or store.sha256_of(path) == tower.sha256
