"""The engine: what is loaded, what is remembered, and how a photo and some words become a Result.

An engine may serve several threads: values are frozen, the cache has a lock, and the device is taken only
while it works. The steps are in `ovs_core.engine.pipeline`; a slider starts behind them, at `relabel`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from ovs_core.checkpoints import WeightStore
from ovs_core.devices import choose_compute
from ovs_core.encoders.lone_word import with_guards
from ovs_core.encoders.towers import DEFAULT_ENCODER, ENCODERS, EncoderSpec
from ovs_core.engine.cache import ByteCache
from ovs_core.engine.comparing import compared_requests, told_what_is_unrefined
from ovs_core.engine.exemplars import takes_exemplars
from ovs_core.engine.heap import Heap
from ovs_core.engine.kept import refined, relabelled, with_objects
from ovs_core.engine.labelling import label
from ovs_core.engine.loaded import Loaded, refiner_file, refiner_weights
from ovs_core.engine.looks import Looks
from ovs_core.engine.memory import memory_notes, too_large_in_one_sentence
from ovs_core.engine.menus import (
    EncoderInfo,
    MethodInfo,
    describe_weights,
    encoder_info,
    method_info,
    weights_missing,
    why_not,
)
from ovs_core.engine.photos import remembered_copy
from ovs_core.engine.pipeline import Pipeline, answered
from ovs_core.engine.refining import Refining
from ovs_core.engine.request import Job, PhotoSource, Progress, Request, make_request, replaces
from ovs_core.engine.result import Result
from ovs_core.engine.settings import Settings, check_refiner, checked_values, declared_options, settings_of
from ovs_core.engine.stream import stream
from ovs_core.folders import cache_folder
from ovs_core.image import fitted
from ovs_core.methods import DEFAULT_METHOD, METHODS
from ovs_core.methods.spec import MethodSpec
from ovs_core.options import Option, Options, Preset, lookup
from ovs_core.refine import NO_REFINER, REFINERS
from ovs_core.refine.sam.prompts import ObjectPrompt
from ovs_core.refine.spec import RefinerSpec
from ovs_core.types import Vocabulary
from ovs_core.vocabulary.exemplars import Exemplar

CACHE_BYTES = 1 << 30


class Engine:
    """Answers requests; the one object a program needs.

    Args:
        device: "auto", "cpu", "cuda" or "mps".
        precision: of image towers: "auto" (float32, on CUDA bfloat16 or else float16), "fp32", "bf16",
            "fp16".
        weights_dir: folder with weight files, looked at before the project's own.
        offline: never touch the network.
        cache_bytes: budget for photos, features, text and evidence together.
        at_once: requests that a CPU may work for at the same time (`ovs_core.devices.choose_compute`).
        text_dir: folder that keeps text embeddings between runs; None takes the user's cache folder,
            or memory where the user has none.
        encoders, methods, refiners: registry name -> spec; all that is known by default.

    Raises:
        ValueError: for an unknown or absent device, or an unknown precision.
    """

    def __init__(
        self,
        device: str = "auto",
        precision: str = "auto",
        weights_dir: Path | str | None = None,
        offline: bool = False,
        cache_bytes: int = CACHE_BYTES,
        *,
        at_once: int = 1,
        text_dir: Path | None = None,
        encoders: Mapping[str, EncoderSpec] = ENCODERS,
        methods: Mapping[str, MethodSpec] = METHODS,
        refiners: Mapping[str, RefinerSpec] = REFINERS,
    ) -> None:
        self.compute = choose_compute(device, precision, at_once)
        self.store = WeightStore(None if weights_dir is None else Path(weights_dir), offline)
        self.cache = ByteCache(cache_bytes)
        self.looks, self.heap = Looks(self.compute), Heap()
        self.encoder_specs, self.method_specs, self.refiner_specs = encoders, methods, refiners
        cache = cache_folder()
        self.loaded = Loaded(methods, self.compute, text_dir or (cache and cache / "text"), self.cache)

    def segment(
        self,
        image: PhotoSource,
        classes: str | Vocabulary,
        *,
        method: str = DEFAULT_METHOD,
        encoder: str = DEFAULT_ENCODER,
        background: str = "default",
        refiner: str = NO_REFINER,
        options: Options | None = None,
        exemplars: Sequence[Exemplar] = (),
        side: int | None = None,
        cancel: threading.Event | None = None,
    ) -> Result:
        """Label every pixel of a photo with one of the classes, or 0.

        Args:
            image: path, bytes of a file, PIL picture, array or Photo.
            classes: "dog; grass; sky | clouds", "@FILE", a benchmark's "@voc20", or a Vocabulary.
            method: registry name.
            encoder: registry name.
            background: hidden names that mean "none of these": "default", "none" or a list; unused if
                `classes` is a Vocabulary.
            refiner: registry name.
            options: values by name (`options` lists them); what is left out suits method and encoder.
            exemplars: boxes on this or other photos to be found too; `classes` may then be empty.
            side: as in `Request`.
            cancel: as in `run`.

        Raises:
            ValueError: in one sentence: bad photo, vocabulary, name, option or weights, too little memory.
            Cancelled: as `run`.
        """
        request = make_request(image, classes, method, encoder, background, refiner, options, exemplars)
        return self._answer(replace(request, side=side), self.check(request), Job(lambda _: None, cancel))

    def run(
        self, request: Request, cancel: threading.Event | None = None
    ) -> Generator[Progress | Result, None, None]:
        """Answer one request piece by piece: Progress, and last the Result.

        Raises:
            ValueError: as `segment`.
            Cancelled: if `cancel` was set; what was finished by then is remembered.
        """
        return self._run_all([request], cancel)

    def compare(
        self,
        image: PhotoSource,
        classes: str | Vocabulary,
        methods: Sequence[str] | None = None,
        *,
        encoder: str = DEFAULT_ENCODER,
        background: str = "default",
        refiner: str = NO_REFINER,
        options: Options | None = None,
        exemplars: Sequence[Exemplar] = (),
        side: int | None = None,
        cancel: threading.Event | None = None,
    ) -> Generator[Progress | Result, None, None]:
        """Answer with several methods on one photo: Progress, and each Result as soon as it is ready.

        Methods without a frame of their own look at the same frame in the same windows (of the default
        method) and the same prompts, each with its own scale and threshold: pictures then differ by method
        alone, and the photo is encoded once. Those that were trained at one frame with one prompt keep them.
        Answers that the refiner cannot take are given as they are, with a note.

        Args:
            image: as in `segment`.
            classes: as in `segment`.
            methods: registry names, in this order; None takes all that can be asked and go with the refiner.
            encoder: as in `segment`.
            background: as in `segment`.
            refiner: as in `segment`.
            options: for all of them; each method takes those that it declares.
            exemplars: as in `segment`; without `methods`, those that cannot be asked by boxes are left out.
            side: as in `Request`.
            cancel: as in `run`.

        Raises:
            ValueError: as `segment`, or for an option that no method has.
            Cancelled: as `run`.
        """
        if methods is None:
            known = self.methods(encoder)
            methods = [info.name for info in known if info.available and refiner in info.refiners]
            if exemplars:
                methods = [name for name in methods if takes_exemplars(self._method(name))]
            if not methods:
                none = f"No method on {encoder} goes with refiner {refiner!r}."
                raise ValueError(weights_missing(self._encoder(encoder), self.store) or none)
        if not methods:
            raise ValueError("methods must hold at least one name, got none")
        first = make_request(image, classes, methods[0], encoder, background, refiner, options, exemplars)
        first = replace(first, side=side)
        tower, refiner_spec = self._encoder(encoder), self._refiner(refiner)
        specs = [self._method(name) for name in methods]
        shared = self._method(DEFAULT_METHOD).presets.get(tower.family) and self.preset(encoder=encoder)
        requests = compared_requests(first, specs, tower, refiner_spec, shared)
        return told_what_is_unrefined(self._run_all(requests, cancel), specs, refiner_spec)

    def relabel(
        self,
        result: Result,
        options: Options | None = None,
        *,
        size: tuple[int, int] | None = None,
        without: Collection[str | int] | None = None,
    ) -> Result:
        """Label a result's evidence anew with other options of the stage "decide"; no model runs.

        What was put right by hand is put right again.

        Args:
            result: from this or any other engine.
            options: values by name; what is left out stays as it was.
            size: (H, W) of the labels, e.g. a display copy's; `image` then has that size too. None keeps it.
            without: names or labels of classes that leave their area to the others; an empty one brings all
                back, None leaves that as it is.

        Raises:
            ValueError: an option of an earlier stage or out of range, an unknown class, no class left.
        """
        return relabelled(result, self._method(result.method), options or {}, size, without)

    def refine(
        self,
        result: Result,
        prompts: Sequence[ObjectPrompt] = (),
        *,
        refiner: str | None = None,
        options: Options | None = None,
        cancel: threading.Event | None = None,
    ) -> Result:
        """Make a kept result finer; the method is not asked again.

        Args:
            result: from this or any other engine, at the size of its photo.
            prompts: objects that belong to a class: Segment Anything draws them, and each is an edit, as done
                by hand.
            refiner: registry name of one that goes over all that the method gave, in place of the refiner
                before; edits by hand are done again. None leaves that as it is.
            options: of the refiner, by name; what is left out has its default.
            cancel: as in `run`.

        Raises:
            ValueError: for an unknown name or option, a refiner that cannot take the method's answers,
                missing weights, a prompt that means nothing, or too little memory; one sentence each.
            Cancelled: if `cancel` was set.
        """
        job = Job(lambda _: None, cancel)
        with too_large_in_one_sentence():
            if refiner is not None:
                result = self._refined(result, self._refiner(refiner), options or {}, job)
            return with_objects(self, result, prompts, job) if prompts else result

    def _refined(self, result: Result, spec: RefinerSpec, options: Options, job: Job) -> Result:
        method, before = self._method(result.method), self._refiner(result.refiner)
        check_refiner(method, spec)
        values = checked_values(f"options of {spec.title}", spec.options, options)
        loaded = self.loaded.refiner(spec, self.store, job)
        refining = Refining(loaded, values, self.cache, self.compute, job)
        files, dropped = (refiner_weights(refiner, self.store) for refiner in (spec, before))
        return refined(result, method, before, refining, files, dropped)

    def preset(self, method: str = DEFAULT_METHOD, encoder: str = DEFAULT_ENCODER) -> Preset:
        """Settings that suit a method on an encoder and this engine's device.

        Raises:
            ValueError: for an unknown name, or a method that does not run on the encoder.
        """
        spec, tower = self._method(method), self._encoder(encoder)
        if tower.family not in spec.presets:
            raise ValueError(self._why_not(spec, tower))
        return spec.preset(tower, self.compute.device)

    def options(
        self, method: str = DEFAULT_METHOD, encoder: str = DEFAULT_ENCODER, refiner: str = NO_REFINER
    ) -> tuple[Option, ...]:
        """What can be set of a method on an encoder with a refiner, with the defaults that suit them.

        Raises:
            ValueError: for an unknown name, or a method that does not run on the encoder.
        """
        preset = self.preset(method, encoder)
        return declared_options(self._method(method), self._encoder(encoder), self._refiner(refiner), preset)

    def methods(self, encoder: str = DEFAULT_ENCODER) -> tuple[MethodInfo, ...]:
        """Every method, in menu order, and whether it can be asked on an encoder.

        Whether the encoder's own weights are here is said by `encoders`.

        Raises:
            ValueError: for an unknown name.
        """
        tower = self._encoder(encoder)
        refiners = tuple(self.refiner_specs.values())
        return tuple(
            method_info(spec, tower, self._why_not(spec, tower), refiners, self.compute.device)
            for spec in self.method_specs.values()
        )

    def encoders(self) -> tuple[EncoderInfo, ...]:
        """Every encoder, in menu order, and whether its weights are on this machine."""
        return tuple(encoder_info(name, spec, self.store) for name, spec in self.encoder_specs.items())

    def describe_weights(self, encoder: str = DEFAULT_ENCODER) -> str:
        """One plain sentence: which weights an encoder uses, where they come from, or how to get them.

        Raises:
            ValueError: for an unknown name.
        """
        return describe_weights(self._encoder(encoder), self.store)

    def check(self, request: Request) -> Settings:
        """Refuse what cannot be answered, before anything is loaded; gives the checked settings.

        Raises:
            ValueError: saying why not, and what to do; one sentence.
        """
        method, encoder = self._method(request.method), self._encoder(request.encoder)
        refiner = self._refiner(request.refiner)
        reason = self._why_not(method, encoder)
        if reason:
            raise ValueError(reason)
        if refiner.load is not None:
            refiner_file(refiner, self.store)
        if request.exemplars and not takes_exemplars(method):
            able = ", ".join(spec.name for spec in self.method_specs.values() if takes_exemplars(spec))
            raise ValueError(f"{method.title} cannot be asked by boxes; choose one of: {able}.")
        return settings_of(request, method, encoder, refiner, self.compute.device)

    def _run_all(
        self, requests: Sequence[Request], cancel: threading.Event | None
    ) -> Generator[Progress | Result, None, None]:
        checked = [(request, self.check(request)) for request in requests]

        def work(report: Callable[[Progress | Result], None], stop: threading.Event) -> None:
            for request, settings in checked:
                report(self._answer(request, settings, Job(report, stop)))

        return stream(work, cancel, replaces)

    def _answer(self, request: Request, settings: Settings, job: Job) -> Result:
        method, encoder = self._method(request.method), self._encoder(request.encoder)
        spec = self._refiner(request.refiner)
        with too_large_in_one_sentence():
            tower, bound = self.loaded.bound(method, encoder, self.store, job)
            vocabulary = tower.asked(request.vocabulary, trained=method.head is not None)
            if encoder.guards_lone_word and method.head is None:  # heads were not measured
                vocabulary = with_guards(vocabulary)
            request = replace(request, vocabulary=vocabulary)
            refiner = self.loaded.refiner(spec, self.store, job)
            alike = encoder.alike_from if method.head is None else None  # heads were not measured
            parts = (request, settings, bound, refiner, self.cache, self.compute, self.looks, job)
            asked = Pipeline(*parts, by_class=method.masks)
            pipeline, given = answered(asked, method, encoder)
            answer, used = pipeline.refine(given), pipeline.settings
            size = request.photo.size if request.side is None else fitted(request.photo.size, request.side)
            image = remembered_copy(self.cache, request.photo, size)
            with job.stage("decide"):
                evidence = method.calibrate(answer.evidence, used.options)
                labelled = label(evidence, used.preset, size, job.cancel)
        self.heap.tidy()
        return Result(
            image=image,
            label_map=labelled.label_map,
            confidence=labelled.confidence,
            vocabulary=request.vocabulary,
            classes=labelled.classes,
            winners=labelled.winners,
            method=request.method,
            encoder=request.encoder,
            weights={
                **tower.weights,
                **bound.weights,
                **refiner_weights(spec, self.store),
            },
            preset=used.preset,
            refiner=request.refiner,
            seconds=dict(job.seconds),
            evidence=answer.evidence,
            options=used.options,
            views=answer.views,
            notes=(*memory_notes(settings.preset, used.preset), *pipeline.alike_notes(alike)),
            source=request.photo.file_name,
            exemplars=tuple((box.name, box.photo.key) for box in request.exemplars),
            unrefined=None if request.refiner == NO_REFINER else given.evidence,
            photo=None if image is request.photo.pixels else request.photo.pixels,
        )

    def _method(self, name: str) -> MethodSpec:
        return lookup("method", self.method_specs, name)

    def _encoder(self, name: str) -> EncoderSpec:
        return lookup("encoder", self.encoder_specs, name)

    def _refiner(self, name: str) -> RefinerSpec:
        return lookup("refiner", self.refiner_specs, name)

    def _why_not(self, method: MethodSpec, encoder: EncoderSpec) -> str:
        return why_not(method, encoder, self.store, self.method_specs, self.encoder_specs)
