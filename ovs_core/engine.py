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
from collections import OrderedDict
from collections.abc import Callable, Collection, Generator, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from ovs_core.build import (
    DEFAULT_ENCODER,
    DEFAULT_METHOD,
    ENCODERS,
    METHODS,
    REFINERS,
    EncoderSpec,
    Tower,
    build_method,
    build_tower,
    lookup,
    missing_sentence,
    preset_for,
)
from ovs_core.cache import ByteCache
from ovs_core.checkpoints import WeightStore
from ovs_core.devices import Cancelled, choose_compute, is_out_of_memory
from ovs_core.image import Photo, display_copy
from ovs_core.render.palette import colors_for
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
from ovs_core.scores import decide, summarise
from ovs_core.stream import stream
from ovs_core.types import (
    ClassSummary,
    Features,
    Preset,
    Result,
    ScoreMap,
    Segmentation,
    TextBank,
    Vocabulary,
)
from ovs_core.vocabulary import TEMPLATES

__all__ = ["Cancelled", "EncoderInfo", "Engine", "MethodInfo", "NotEnoughMemory", "Progress", "Request"]

logger = logging.getLogger(__name__)

CACHE_BYTES = 1 << 30
MAX_TOWERS = 2  # loaded at once; a third one pushes out the one not used for longest
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
        self._text_dir = text_dir or _user_cache() / "text"
        self._encoders = encoders
        self._towers: OrderedDict[str, Tower] = OrderedDict()
        self._loading = threading.Lock()

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
        cancel: threading.Event | None = None,
    ) -> Generator[Progress | Result, None, None]:
        """Answer with several methods on one photo: Progress, and each Result as soon as it is ready.

        All of them look at the same frame in the same windows (those of the default method, unless `preset`
        says otherwise) and the same prompts, each with its own scale and threshold: pictures then differ by
        method alone, and the photo is encoded once.

        Args:
            image: as in `segment`.
            classes: as in `segment`.
            methods: registry names, answered in this order; None takes all.
            encoder: as in `segment`.
            background: as in `segment`.
            refine: as in `segment`.
            preset: settings for all of them, scale and threshold included.
            cancel: as in `run`.

        Raises:
            ValueError: as `segment`.
            Cancelled: as `run`.
        """
        names = tuple(METHODS) if methods is None else tuple(methods)
        if not names:
            raise ValueError("methods must hold at least one name, got none")
        first = make_request(image, classes, names[0], encoder, background, refine, preset)
        plan = self.preset(DEFAULT_METHOD, encoder)
        requests = []
        for name in names:
            own = self.preset(name, encoder)
            shared = preset or replace(plan, scale=own.scale, threshold=own.threshold)
            requests.append(replace(first, method=name, preset=shared))
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
        old = result.preset
        preset = replace(
            old,
            scale=old.scale if scale is None else scale,
            threshold=old.threshold if threshold is None else threshold,
        )
        image = result.image if size is None else _resized(result.image, size)
        started = time.perf_counter()
        labels, classes = _labels(result.segmentation.score_map, preset, image.shape[:2])
        seconds = {"decide": time.perf_counter() - started}
        return replace(result, image=image, labels=labels, classes=classes, preset=preset, seconds=seconds)

    def preset(self, method: str = DEFAULT_METHOD, encoder: str = DEFAULT_ENCODER) -> Preset:
        """Settings that suit a method on an encoder and this engine's device.

        Raises:
            ValueError: for an unknown name.
        """
        return preset_for(method, self._spec(encoder), self.compute.device)

    def methods(self) -> tuple[MethodInfo, ...]:
        """Every method, in menu order."""
        return tuple(
            MethodInfo(spec.name, spec.title, spec.paper, spec.description, spec.rule, spec.switches)
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
            self._spec(request.encoder)

        def work(report: Callable[[Progress | Result], None], stop: threading.Event) -> None:
            for request in requests:
                report(self._answer(request, Job(report, stop)))

        return stream(work, cancel)

    def _answer(self, request: Request, job: Job) -> Result:
        try:
            tower = self._tower(request.encoder, job)
            segmentation, preset = self._evidence(request, tower, job)
            image = request.photo.pixels
            with job.stage("decide"):
                labels, classes = _labels(segmentation.score_map, preset, image.shape[:2])
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
            weights=tower.weights,
            preset=preset,
            refine=request.refine,
            seconds=dict(job.seconds),
            segmentation=segmentation,
            switches=tuple(sorted(request.switches)),
        )

    def _evidence(self, request: Request, tower: Tower, job: Job) -> tuple[Segmentation, Preset]:
        """Evidence, and the preset it was made with: smaller windows than asked if memory ran out."""
        preset: Preset | None = request.preset or self.preset(request.method, request.encoder)
        while preset is not None:
            try:
                coarse = self._coarse(request, preset, tower, job)
                return self._refined(coarse, request, preset, tower, job), preset
            except _WindowsTooLarge as error:
                logger.warning("Out of memory with %s: %s", preset, error.__cause__)
            # Outside the handler: the error's traceback would keep the tensors that did not fit alive.
            self.cache.drop("features")
            self.compute.free_memory()
            preset = _smaller(preset)
            if preset is not None:
                job.report(Progress("encode", 0, 1, "Memory ran out; trying again with smaller windows."))
        raise NotEnoughMemory(TOO_LARGE)

    def _coarse(self, request: Request, preset: Preset, tower: Tower, job: Job) -> Segmentation:
        """What the method says on the token grid."""
        key = self._key(request, preset, tower)
        found: Segmentation | None = self.cache.get("scores", key)
        if found is None:
            text = self._text(request.vocabulary, preset, tower, job)
            method = build_method(request.method, tower.vision.visual, request.switches)
            try:
                features = self._features(request.photo, preset, tower, job)
                with self._stage("method", job):
                    found = _on_cpu(method.segment(features, text, views=request.views, point=request.point))
            except (RuntimeError, MemoryError) as error:
                if is_out_of_memory(error):
                    raise _WindowsTooLarge from error
                raise
            self.cache.put("scores", key, found, _nbytes(found))
        # The same rows may have been asked for as other classes ("cat | kitten" or "cat; kitten").
        return replace(found, score_map=replace(found.score_map, vocabulary=request.vocabulary))

    def _refined(
        self, coarse: Segmentation, request: Request, preset: Preset, tower: Tower, job: Job
    ) -> Segmentation:
        """What the refiner makes of it."""
        refine = REFINERS[request.refine].run
        if refine is None:
            return coarse
        key = (self._key(request, preset, tower), request.refine)
        evidence: torch.Tensor | None = self.cache.get("scores", key)
        if evidence is None:
            with self._stage("refine", job):
                there = replace(coarse.score_map, evidence=coarse.score_map.evidence.to(self.compute.device))
                finer = refine(there, request.photo.pixels, job.steps("refine"), job.cancel)
                evidence = finer.evidence.float().cpu()
            self.cache.put("scores", key, evidence, evidence.nbytes)
        return replace(coarse, score_map=replace(coarse.score_map, evidence=evidence))

    def _key(self, request: Request, preset: Preset, tower: Tower) -> Hashable:
        """Everything evidence depends on."""
        features = (request.photo.key, tower.vision.features_identity(preset))
        text = (tower.text.identity, preset.templates, request.vocabulary.rows)
        views = (request.views, request.point, request.vocabulary.classes) if request.views else None
        return (features, text, request.method, request.switches, views)

    def _features(self, photo: Photo, preset: Preset, tower: Tower, job: Job) -> Features:
        key = (photo.key, tower.vision.features_identity(preset))
        features: Features | None = self.cache.get("features", key)
        if features is None:
            with self._stage("encode", job):
                features = tower.vision.encode(
                    photo.pixels, preset, progress=job.steps("encode"), cancel=job.cancel
                )
            self.cache.put("features", key, features, features.nbytes)
        return features

    def _text(self, vocabulary: Vocabulary, preset: Preset, tower: Tower, job: Job) -> TextBank:
        key = (tower.text.identity, preset.templates, vocabulary.rows)
        embeddings: torch.Tensor | None = self.cache.get("text", key)
        if embeddings is None:
            templates = TEMPLATES[preset.templates]
            with self._stage("text", job):
                bank = tower.text.embed(vocabulary, templates, progress=job.steps("text"), cancel=job.cancel)
            embeddings = bank.embeddings
            self.cache.put("text", key, embeddings, embeddings.nbytes)
        return TextBank(vocabulary, embeddings)

    def _tower(self, name: str, job: Job) -> Tower:
        with self._loading:
            if name not in self._towers:
                spec = self._spec(name)
                with self._stage("load", job):
                    loaded = spec.load(self.store)
                    self._towers[name] = build_tower(spec, loaded, self.compute, self._text_dir)
                while len(self._towers) > MAX_TOWERS:
                    self._towers.popitem(last=False)
            self._towers.move_to_end(name)
            return self._towers[name]

    @contextmanager
    def _stage(self, stage: str, job: Job) -> Iterator[None]:
        """One stage of a job that owns the device while it lasts."""
        if self.compute.lock.locked():
            job.report(Progress(stage, 0, 1, "Waiting for another request."))
        with self.compute.hold(job.cancel), torch.no_grad(), job.stage(stage):
            yield
            self.compute.wait()

    def _spec(self, encoder: str) -> EncoderSpec:
        return lookup("encoder", self._encoders, encoder)

    def _why_not(self, spec: EncoderSpec) -> str:
        if spec.entry is None or self.store.locate(spec.entry) is not None:
            return ""
        return missing_sentence(self.store.entry(spec.entry))


def _labels(
    score_map: ScoreMap, preset: Preset, size: tuple[int, int]
) -> tuple[NDArray[np.uint8] | NDArray[np.uint16], tuple[ClassSummary, ...]]:
    """Labels (H, W) of the evidence under a preset, and the legend that goes with them."""
    labels, share = decide(score_map, preset, size)
    vocabulary = score_map.vocabulary
    return labels, summarise(labels, share, vocabulary, colors_for(vocabulary))


def _resized(image: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    if image.shape[:2] == size:
        return image
    if min(size) < 1:
        raise ValueError(f"size must be (H, W) in pixels, each at least 1; got {size}")
    copy = display_copy(image, max(size))
    if copy.shape[:2] == size:
        return copy
    return np.asarray(Image.fromarray(image).resize((size[1], size[0]), Image.Resampling.BILINEAR))


def _on_cpu(found: Segmentation) -> Segmentation:
    """Evidence and views in float32 in main memory: labels come from there, and the device stays free."""
    score_map: ScoreMap = replace(found.score_map, evidence=found.score_map.evidence.float().cpu())
    views = tuple(replace(view, maps=view.maps.float().cpu()) for view in found.views)
    return Segmentation(score_map, views)


def _nbytes(found: Segmentation) -> int:
    return found.score_map.nbytes + sum(view.maps.nbytes for view in found.views)


def _smaller(preset: Preset) -> Preset | None:
    """Settings that need less memory: windows instead of the frame, smaller ones, then a smaller frame."""
    side = preset.short_side if preset.window is None else preset.window // 2
    if side >= SMALLEST_WINDOW:
        return replace(preset, window=side, stride=max(1, side // 2))
    if preset.short_side >= 2 * SMALLEST_WINDOW:
        return replace(preset, short_side=preset.short_side // 2)
    return None


def _user_cache() -> Path:
    """Folder of this program in the user's cache folder; made by whoever writes there first."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ovs-lens"
