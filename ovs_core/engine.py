"""The engine: what is loaded, what is remembered, and how a photo and some words become a Result.

    photo  -> features   slow; remembered by (photo, tower, frame and windows), shared by every method
    words  -> text bank  remembered by (text tower, templates, names)
    both   -> evidence   quick; remembered by (features, text, method, switches, refiner)
    evidence -> labels   `relabel` starts here: a slider never runs a model

An engine may serve several threads: values are frozen, the cache has a lock, and the device is owned only
while it works. Nothing a caller holds can stop another caller.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Collection, Generator, Hashable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from ovs_core.build import (
    DEFAULT_ENCODER,
    DEFAULT_METHOD,
    ENCODERS,
    METHODS,
    REFINERS,
    EncoderSpec,
    Ready,
    Tower,
    missing_sentence,
    preset_for,
    refiners_for,
    why_not,
)
from ovs_core.cache import ByteCache
from ovs_core.checkpoints import WeightStore
from ovs_core.devices import Cancelled, choose_compute, is_out_of_memory
from ovs_core.image import Photo
from ovs_core.labelling import label, resized
from ovs_core.loaded import Loaded, check_method
from ovs_core.methods.base import expect_rows
from ovs_core.near_words import with_near_words
from ovs_core.requests import (
    EncoderInfo,
    Job,
    MethodInfo,
    NotEnoughMemory,
    PhotoSource,
    Progress,
    Request,
    make_request,
)
from ovs_core.scores import mean_evidence, on_cpu
from ovs_core.stream import stream
from ovs_core.types import (
    Features,
    Preset,
    Pyramid,
    Result,
    Segmentation,
    TextBank,
    Vocabulary,
)
from ovs_core.vocabulary import TEMPLATES

__all__ = ["Cancelled", "EncoderInfo", "Engine", "MethodInfo", "NotEnoughMemory", "Progress", "Request"]

logger = logging.getLogger(__name__)

CACHE_BYTES = 1 << 30
TOO_LARGE = "This photo does not fit into memory. Make it smaller, type fewer classes or turn refinement off."
SMALLEST_WINDOW = 96  # pixels; below this a window no longer holds a thing to recognise


class _WindowsTooLarge(RuntimeError):  # noqa: N818 - a turn on the way, never seen outside
    """Memory ran out where smaller windows help."""


class Engine:
    """Answers requests; the one object a program needs.

    Args:
        device: "auto", "cpu", "cuda" or "mps".
        precision: of image towers: "auto" (float32, on CUDA bfloat16 or else float16), "fp32", "bf16",
            "fp16".
        weights_dir: folder with weight files, looked at before the project's own.
        offline: never touch the network.
        cache_bytes: budget for features, text and evidence together.
        text_dir: folder that keeps text embeddings between runs; None takes the user's cache folder.
        encoders: name -> spec; other than the registry's only in tests and benchmarks.

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
        text_dir: Path | None = None,
        encoders: Mapping[str, EncoderSpec] = ENCODERS,
    ) -> None:
        self.compute = choose_compute(device, precision)
        self.store = WeightStore(None if weights_dir is None else Path(weights_dir), offline)
        self.cache = ByteCache(cache_bytes)
        self._encoders = encoders
        self._loaded = Loaded(encoders, self.compute, text_dir or _user_cache() / "text")

    def segment(
        self,
        image: PhotoSource,
        classes: str | Vocabulary,
        *,
        method: str = DEFAULT_METHOD,
        encoder: str = DEFAULT_ENCODER,
        background: str = "default",
        refine: str = "none",
        preset: Preset | None = None,
        switches: Collection[str] = (),
    ) -> Result:
        """Label every pixel of a photo with one of the classes, or 0.

        Args:
            image: path, bytes of a file, PIL picture, array or Photo.
            classes: "dog; grass; sky | clouds", "@FILE", a benchmark's "@voc20", or a Vocabulary.
            method: registry name.
            encoder: registry name.
            background: hidden names that mean "none of these": "default", "none" or a list; unused if
                `classes` is a Vocabulary.
            refine: registry name.
            preset: settings; None takes those that suit method and encoder.
            switches: optional parts of the method to turn on (`methods()` lists them).

        Raises:
            ValueError: bad photo, vocabulary, name or setting, missing or wrong weights, too little memory;
                one sentence each.
        """
        request = make_request(image, classes, method, encoder, background, refine, preset)
        request = replace(request, switches=frozenset(switches))
        self._check(request)
        return self._answer(request, Job(lambda _: None, None))

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
        refine: str = "none",
        preset: Preset | None = None,
        several_frames: bool = False,
        cancel: threading.Event | None = None,
    ) -> Generator[Progress | Result, None, None]:
        """Answer with several methods on one photo: Progress, and each Result as soon as it is ready.

        Those that read tokens look at the same frame in the same windows (of the default method, unless
        `preset` says otherwise) and the same prompts, each with its own scale and threshold: pictures then
        differ by method alone, and the photo is encoded once. Those that read a pyramid keep their own frame
        and prompts: their heads were trained with them.

        Args:
            image: as in `segment`.
            classes: as in `segment`.
            methods: registry names, answered in this order; None takes all that are available on the encoder
                and go with the refiner.
            encoder: as in `segment`.
            background: as in `segment`.
            refine: as in `segment`.
            preset: settings for all of them, scale and threshold included.
            several_frames: without `preset`, those that read tokens look at frames of three sizes.
            cancel: as in `run`.

        Raises:
            ValueError: as `segment`.
            Cancelled: as `run`.
        """
        if methods is None:
            known = self.methods(encoder)
            methods = [info.name for info in known if info.available and refine in info.refiners]
            if not methods:
                raise ValueError(
                    self._why_not(self._spec(encoder))
                    or f"No method on {encoder} goes with refine {refine!r}."
                )
        if not methods:
            raise ValueError("methods must hold at least one name, got none")
        first = make_request(image, classes, methods[0], encoder, background, refine, preset)
        requests = [
            replace(first, method=name, preset=preset or self._compared(name, encoder, several_frames))
            for name in methods
        ]
        return self._run_all(requests, cancel)

    def relabel(
        self,
        result: Result,
        *,
        scale: float | None = None,
        threshold: float | None = None,
        size: tuple[int, int] | None = None,
    ) -> Result:
        """Label a result's evidence anew with other settings; no model runs.

        Args:
            result: from this or any other engine.
            scale: None keeps the result's own.
            threshold: None keeps the result's own, in [0, 1].
            size: (H, W) of the labels, e.g. a display copy's; `image` then has that size too. None keeps the
                size of the result.

        Raises:
            ValueError: for a setting out of range.
        """
        preset = result.preset.changed(scale=scale, threshold=threshold)
        image = result.image if size is None else resized(result.image, size)
        started = time.perf_counter()
        labels, classes = label(result.segmentation.score_map, preset, image.shape[:2])
        seconds = {"decide": time.perf_counter() - started}
        return replace(result, image=image, labels=labels, classes=classes, preset=preset, seconds=seconds)

    def preset(self, method: str = DEFAULT_METHOD, encoder: str = DEFAULT_ENCODER) -> Preset:
        """Settings that suit a method on an encoder and this engine's device.

        Raises:
            ValueError: for an unknown name.
        """
        return preset_for(method, self._spec(encoder), self.compute.device)

    def methods(self, encoder: str = DEFAULT_ENCODER) -> tuple[MethodInfo, ...]:
        """Every method, in menu order, and whether it can be asked on an encoder.

        Whether the encoder's own weights are here is said by `encoders`.

        Raises:
            ValueError: for an unknown name.
        """
        tower = self._spec(encoder)
        return tuple(
            MethodInfo(
                spec.name,
                spec.title,
                spec.paper,
                spec.description,
                spec.rule,
                spec.switches,
                available=not (reason := why_not(spec, tower, self.store)),
                reason=reason,
                masks=spec.masks,
                views=spec.views,
                refiners=refiners_for(spec.masks),
            )
            for spec in METHODS.values()
        )

    def encoders(self) -> tuple[EncoderInfo, ...]:
        """Every encoder, in menu order, and whether its weights are on this machine."""
        return tuple(
            EncoderInfo(
                name=name,
                title=spec.title,
                tier=spec.tier,
                available=not (reason := self._why_not(spec)),
                reason=reason,
                weights=reason or self.describe_weights(name),
            )
            for name, spec in self._encoders.items()
        )

    def describe_weights(self, encoder: str = DEFAULT_ENCODER) -> str:
        """One plain sentence: which weights an encoder uses, where they come from, or how to get them.

        Raises:
            ValueError: for an unknown name.
        """
        spec = self._spec(encoder)
        if spec.entry is None:
            return f"{spec.title}: made by the program that started this engine."
        entry, path = self.store.entry(spec.entry), self.store.locate(spec.entry)
        if path is None:
            return missing_sentence(entry)
        size = path.stat().st_size / 1e6
        return f"{entry.title}: {path.name}, {size:.0f} MB, licence {entry.licence}, {entry.source}."

    def _run_all(
        self, requests: Sequence[Request], cancel: threading.Event | None
    ) -> Generator[Progress | Result, None, None]:
        for request in requests:
            self._check(request)

        def work(report: Callable[[Progress | Result], None], stop: threading.Event) -> None:
            for request in requests:
                report(self._answer(request, Job(report, stop)))

        return stream(work, cancel)

    def _answer(self, request: Request, job: Job) -> Result:
        try:
            tower, ready = self._loaded.ready(request, self.store, job)
            request = replace(request, vocabulary=with_near_words(request.vocabulary, tower.near_words))
            segmentation, preset = self._evidence(request, tower, ready, job)
            image = request.photo.pixels
            with job.stage("decide"):
                labels, classes = label(segmentation.score_map, preset, image.shape[:2])
        except (RuntimeError, MemoryError) as error:
            if is_out_of_memory(error):
                raise NotEnoughMemory(TOO_LARGE) from error
            raise
        return Result(
            image=image,
            labels=labels,
            vocabulary=request.vocabulary,
            classes=classes,
            method=request.method,
            encoder=request.encoder,
            weights={**tower.weights, **ready.weights},
            preset=preset,
            refine=request.refine,
            seconds=dict(job.seconds),
            segmentation=segmentation,
            switches=tuple(sorted(request.switches)),
            notes=_memory_notes(request.preset or self.preset(request.method, request.encoder), preset),
        )

    def _evidence(
        self, request: Request, tower: Tower, ready: Ready, job: Job
    ) -> tuple[Segmentation, Preset]:
        """Evidence, and the preset it was made with: smaller windows than asked if memory ran out."""
        preset: Preset | None = request.preset or self.preset(request.method, request.encoder)
        while preset is not None:
            try:
                coarse = self._over_frames(request, preset, tower, ready, job)
                return self._refined(coarse, request, preset, tower, ready, job), preset
            except _WindowsTooLarge as error:
                logger.warning("Out of memory with %s: %s", preset, error.__cause__)
            # Outside the handler: the error's traceback would keep the tensors that did not fit alive.
            self.cache.drop("features")
            self.compute.free_memory()
            preset, what = _smaller(preset, windows=METHODS[request.method].reads == "tokens")
            if preset is not None:
                job.report(Progress("encode", 0, 1, f"Memory ran out; trying again with {what}."))
        raise NotEnoughMemory(TOO_LARGE)

    def _over_frames(
        self, request: Request, preset: Preset, tower: Tower, ready: Ready, job: Job
    ) -> Segmentation:
        """Mean evidence of every frame of the preset; views are those of the first one."""
        first, *more = preset.alone
        found = self._coarse(request, first, tower, ready, job)
        plain = replace(request, views=frozenset())
        others = [self._coarse(plain, one, tower, ready, job) for one in more]
        if not others:
            return found
        rows = [expect_rows(one.score_map) for one in (found, *others)]
        return replace(found, score_map=mean_evidence(rows))

    def _coarse(self, request: Request, preset: Preset, tower: Tower, ready: Ready, job: Job) -> Segmentation:
        """What the method says on its own grid."""
        key = self._key(request, preset, tower, ready)
        found: Segmentation | None = self.cache.get("scores", key)
        if found is None:
            text = self._text(request.vocabulary, preset, tower, job)
            try:
                features = self._features(request.photo, preset, ready, job)
                with job.on_device("method", self.compute):
                    found = _on_cpu(
                        ready.method.segment(features, text, views=request.views, point=request.point)
                    )
            except (RuntimeError, MemoryError) as error:
                if is_out_of_memory(error):
                    raise _WindowsTooLarge from error
                raise
            self.cache.put("scores", key, found, found.nbytes)
        # The same rows may have been asked for as other classes ("cat | kitten" or "cat; kitten").
        return replace(found, score_map=replace(found.score_map, vocabulary=request.vocabulary))

    def _refined(
        self, coarse: Segmentation, request: Request, preset: Preset, tower: Tower, ready: Ready, job: Job
    ) -> Segmentation:
        """What the refiner makes of it."""
        refine = REFINERS[request.refine].run
        if refine is None:
            return coarse
        rows = expect_rows(coarse.score_map)
        key = (self._key(request, preset, tower, ready), request.refine)
        evidence: torch.Tensor | None = self.cache.get("scores", key)
        if evidence is None:
            with job.on_device("refine", self.compute):
                there = replace(rows, evidence=rows.evidence.to(self.compute.device))
                finer = refine(there, request.photo.pixels, job.steps("refine"), job.cancel)
                evidence = finer.evidence.float().cpu()
            self.cache.put("scores", key, evidence, evidence.nbytes)
        return replace(coarse, score_map=replace(rows, evidence=evidence))

    def _key(self, request: Request, preset: Preset, tower: Tower, ready: Ready) -> Hashable:
        """Everything evidence depends on."""
        vocabulary = request.vocabulary
        features = (request.photo.key, *(ready.encoder.features_identity(one) for one in preset.alone))
        text = (tower.text.identity, preset.templates, vocabulary.rows)
        method = (request.method, request.switches, tuple(ready.weights.values()))
        views = (request.views, request.point) if request.views else None
        # Rows of names do not depend on how names make classes; shares of masks and pictures do.
        classes = vocabulary.classes if views or METHODS[request.method].masks else None
        return (features, text, method, views, classes)

    def _features(self, photo: Photo, preset: Preset, ready: Ready, job: Job) -> Features | Pyramid:
        key = (photo.key, ready.encoder.features_identity(preset))
        features: Features | Pyramid | None = self.cache.get("features", key)
        if features is None:
            with job.on_device("encode", self.compute):
                features = ready.encoder.encode(
                    photo.pixels, preset, progress=job.steps("encode"), cancel=job.cancel
                )
            self.cache.put("features", key, features, features.nbytes)
        return features

    def _text(self, vocabulary: Vocabulary, preset: Preset, tower: Tower, job: Job) -> TextBank:
        key = (tower.text.identity, preset.templates, vocabulary.rows)
        embeddings: torch.Tensor | None = self.cache.get("text", key)
        if embeddings is None:
            templates = TEMPLATES[preset.templates]
            with job.on_device("text", self.compute):
                bank = tower.text.embed(vocabulary, templates, progress=job.steps("text"), cancel=job.cancel)
            embeddings = bank.embeddings
            self.cache.put("text", key, embeddings, embeddings.nbytes)
        return TextBank(vocabulary, embeddings)

    def _spec(self, encoder: str) -> EncoderSpec:
        return self._loaded.spec(encoder)

    def _check(self, request: Request) -> None:
        """Refuse what cannot be answered before anything is loaded."""
        check_method(request.method, self._spec(request.encoder), self.store)

    def _compared(self, method: str, encoder: str, several_frames: bool) -> Preset:
        """Settings of one method among others on a photo; see `compare`."""
        own = self.preset(method, encoder)
        if METHODS[method].reads != "tokens":
            return own
        plan = self.preset(DEFAULT_METHOD, encoder)
        return plan.changed(scale=own.scale, threshold=own.threshold, several_frames=several_frames)

    def _why_not(self, spec: EncoderSpec) -> str:
        if spec.entry is None or self.store.locate(spec.entry) is not None:
            return ""
        return missing_sentence(self.store.entry(spec.entry))


def _on_cpu(found: Segmentation) -> Segmentation:
    """Evidence and views in float32 in main memory: labels come from there, and the device stays free."""
    views = tuple(replace(view, maps=view.maps.float().cpu()) for view in found.views)
    return Segmentation(on_cpu(found.score_map), views)


def _smaller(preset: Preset, windows: bool) -> tuple[Preset | None, str]:
    """Settings that need less memory, and what to call them: windows, smaller ones, then a smaller frame."""
    side = preset.short_side if preset.window is None else preset.window // 2
    if windows and side >= SMALLEST_WINDOW:
        return replace(preset, window=side, stride=max(1, side // 2)), "smaller windows"
    if preset.short_side >= 2 * SMALLEST_WINDOW:
        return replace(preset, short_side=preset.short_side // 2), "a smaller frame"
    return None, ""


def _memory_notes(asked: Preset, used: Preset) -> tuple[str, ...]:
    """Say what an answer is worth that memory was too small for as asked; nothing where it was not."""
    if used == asked:
        return ()
    where = f"a frame of {used.short_side} pixels on its shorter side"
    if used.window is not None:
        where = f"windows of {used.window} pixels in {where}"
    return (f"Memory ran out: this was answered in {where}, smaller than asked.",)


def _user_cache() -> Path:
    """Folder of this program in the user's cache folder; made by whoever writes there first."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ovs-lens"
