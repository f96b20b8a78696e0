"""The steps from a photo and words to evidence, each remembered by exactly what it depends on.

look    photo, image half, frame and windows      -> Features
embed   words, text half, prompts                 -> TextBank
ask     both, method and its options, views       -> Answer
refine  evidence, photo, refiner and its options  -> Evidence
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

from torch import Tensor

from ovs_core.devices import Compute, is_out_of_memory
from ovs_core.encoders.base import ImageEncoder, Parts
from ovs_core.encoders.lone_word import lowered
from ovs_core.encoders.towers import EncoderSpec
from ovs_core.engine.cache import ByteCache
from ovs_core.engine.exemplars import joint_tokens
from ovs_core.engine.looks import Looks
from ovs_core.engine.memory import TOO_LARGE, smaller_preset
from ovs_core.engine.refining import Refining
from ovs_core.engine.request import Job, NotEnoughMemory, Progress, Request
from ovs_core.engine.settings import Settings, with_preset
from ovs_core.evidence.protocol import Evidence
from ovs_core.image import Photo
from ovs_core.methods.base import Answer, BoundMethod
from ovs_core.methods.spec import MethodSpec
from ovs_core.options import Preset
from ovs_core.refine.spec import RefinerSpec
from ovs_core.types import TextBank
from ovs_core.vocabulary import TEMPLATES
from ovs_core.vocabulary.alike import alike_notes
from ovs_core.vocabulary.exemplars import Exemplar, box_vector, with_exemplars

logger = logging.getLogger(__name__)

Value = TypeVar("Value")

LEAST_ROOM = 8  # stems that a budget has room for where one is kept: features and answers come first


@dataclass(frozen=True, eq=False)
class Pipeline:
    """One request's way through one bound method.

    Attributes:
        request: what is asked, near words added.
        settings: checked options.
        bound: who answers.
        refiner: what makes it finer.
        cache: what is remembered.
        compute: where it is computed.
        looks: what other requests want to look at in this moment.
        job: whom to tell.
        by_class: whether evidence depends on how names make classes; rows of names do not.
    """

    request: Request
    settings: Settings
    bound: BoundMethod[Any]
    refiner: RefinerSpec
    cache: ByteCache
    compute: Compute
    looks: Looks
    job: Job
    by_class: bool = False

    def ask(self) -> Answer:
        """Evidence on the method's own grid, mean over all frames, and the views of the first one."""
        first, *more = self.settings.preset.single_scale
        answer = self._ask(first, self.request)
        plain = replace(self.request, views=frozenset(), point=None)
        others = [self._ask(preset, plain).evidence for preset in more]
        if others:
            answer = replace(answer, evidence=answer.evidence.mean(others))
        return answer

    def refine(self, answer: Answer) -> Answer:
        """The same answer with the refiner's evidence."""
        return replace(answer, evidence=self._refined(answer.evidence))

    def alike_notes(self, least: float | None) -> tuple[str, ...]:
        """Say which typed words have a cosine of at least `least`; nothing for None or learned contexts."""
        text = None if least is None else self._embed(self.settings.preset.single_scale[0])
        if least is None or text is None or text.embeddings.ndim != 2 or self.request.exemplars:
            return ()
        return alike_notes(text, least)

    def _ask(self, preset: Preset, request: Request) -> Answer:
        """What the method says on its own grid, of one frame."""

        def ask() -> Answer:
            answer = self.bound.method.ask(
                features, text, self.settings.options, views=request.views, point=request.point
            )
            if request.vocabulary.guards:
                rows = lowered(answer.evidence.rows, request.vocabulary)
                answer = replace(answer, evidence=answer.evidence.with_rows(rows))
            return answer.to_cpu()

        key = self._evidence_key(preset, request)
        kept: Answer | None = self.cache.get("scores", key)
        if kept is None:
            text = self._embed(preset)
            features = self._look(self._image(request), preset, self.request.photo)
            with self.job.on_device("method", self.compute):
                kept = ask()
            self.cache.put("scores", key, kept, kept.nbytes)
        # Notes of the same words may differ from question to question.
        return replace(kept, evidence=kept.evidence.for_vocabulary(self.request.vocabulary))

    def _image(self, request: Request) -> ImageEncoder[Any]:
        return self.bound.image_for(request.views, self.settings.options)

    def _look(self, image: ImageEncoder[Any], preset: Preset, photo: Photo) -> Any:
        key, deeper = (photo.key, image.features_identity(preset)), self.bound.deeper
        # What `deeper` gives holds what `image` gives.
        more = () if deeper is None else ((photo.key, deeper.features_identity(preset)),)
        kept = self.cache.get("features", key, *more)
        if kept is None:
            kept = self.looks.features(image, preset, photo, self.job, partial(self._stem, photo))
            self.cache.put("features", key, kept, kept.nbytes)
        return kept

    def _stem(self, photo: Photo, name: str, make: Callable[[], Parts]) -> Parts:
        """What a stem makes of a photo: remembered, or made now."""
        kept: Parts | None = self.cache.get("stems", (photo.key, name))
        if kept is None:
            kept = make()
            nbytes = sum(0 if part is None else part.nbytes for part in kept)
            if LEAST_ROOM * nbytes <= self.cache.budget:
                self.cache.put("stems", (photo.key, name), kept, nbytes)
        return kept

    def _embed(self, preset: Preset) -> TextBank:
        text, vocabulary = self.bound.text, self.request.vocabulary
        bank: TextBank = self._cached(
            "text",
            (text.identity, preset.templates, vocabulary.rows),
            "text",
            lambda: text.embed(
                vocabulary,
                TEMPLATES[preset.templates],
                progress=self.job.steps("text"),
                cancel=self.job.cancel,
            ),
        )
        bank = TextBank(vocabulary, bank.embeddings)
        if not self.request.exemplars:
            return bank
        return with_exemplars(
            bank, [self._box(exemplar, preset, bank) for exemplar in self.request.exemplars]
        )

    def _box(self, exemplar: Exemplar, preset: Preset, bank: TextBank) -> tuple[str, Tensor]:
        """Name and vector of a box on its own photo, seen as the photo that is asked about is seen."""
        photo, image = exemplar.photo, self.bound.image

        def vector() -> Tensor:
            tokens = joint_tokens(self.bound, features, bank.embeddings.shape[-1])
            return box_vector(tokens, exemplar.box, photo.size)

        key = (
            (photo.key, exemplar.box, image.features_identity(preset)),
            (self.request.method, tuple(self.bound.weights.values())),
        )
        kept: Tensor | None = self.cache.get("boxes", key)
        if kept is None:  # a clip asks for the same boxes at every frame
            features = self._look(image, preset, photo)
            with self.job.on_device("method", self.compute):
                kept = vector().cpu()
            self.cache.put("boxes", key, kept, kept.nbytes)
        return exemplar.name, kept

    def tokens(self, photo: Photo) -> Tensor:
        """Tokens of any photo in the space of text, (D, h, w), seen as this request sees its first frame."""
        preset = self.settings.preset.single_scale[0]
        width = self._embed(preset).embeddings.shape[-1]
        features = self._look(self.bound.image, preset, photo)
        with self.job.on_device("method", self.compute):
            return joint_tokens(self.bound, features, width)

    def _refined(self, evidence: Evidence) -> Evidence:
        refining = Refining(self.refiner, self.settings.options, self.cache, self.compute, self.job)
        if self.refiner.look is None:
            return evidence
        frames = tuple(
            self._evidence_key(preset, self.request) for preset in self.settings.preset.single_scale
        )
        kept: Evidence | None = self.cache.get("scores", (frames, refining.key))
        if kept is None:
            kept = refining(self.request.photo, evidence)
            self.cache.put("scores", (frames, refining.key), kept, kept.nbytes)
        return kept.for_vocabulary(self.request.vocabulary)

    def _cached(self, kind: str, key: Hashable, stage: str, make: Callable[[], Value]) -> Value:
        """A value by its key: remembered, or made on the device in a stage of this name."""
        kept: Value | None = self.cache.get(kind, key)
        if kept is None:
            with self.job.on_device(stage, self.compute):
                kept = make()
            self.cache.put(kind, key, kept, kept.nbytes)  # type: ignore[attr-defined]
        return kept

    def _evidence_key(self, preset: Preset, request: Request) -> Hashable:
        """Everything that evidence of one frame depends on."""
        vocabulary = request.vocabulary
        by_class = self.by_class or request.views or request.exemplars
        classes = vocabulary.classes if by_class else None
        return (
            (request.photo.key, self._image(request).features_identity(preset)),
            (self.bound.text.identity, preset.templates, vocabulary.rows, classes),
            vocabulary.guards,
            tuple((exemplar.photo.key, exemplar.box, exemplar.name) for exemplar in request.exemplars),
            (request.method, self.settings.asked, tuple(self.bound.weights.values())),
            (request.views, request.point if request.views else None),
        )


def answered(pipeline: Pipeline, method: MethodSpec, encoder: EncoderSpec) -> tuple[Pipeline, Answer]:
    """What the method says, not refined, and the pipeline it came from: smaller windows if memory ran out.

    Raises:
        NotEnoughMemory: if the smallest ones do not fit.
    """
    while True:
        try:
            return pipeline, pipeline.ask()
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            logger.warning("Out of memory with %s: %s", pipeline.settings.preset, error)
        # Outside the handler: the error's traceback would keep the tensors that did not fit alive.
        pipeline.cache.drop("features")
        pipeline.cache.drop("stems")
        pipeline.cache.drop("looks")
        pipeline.compute.free_memory()
        settings, windows = pipeline.settings, method.option("window") is not None
        smaller, what = smaller_preset(settings.preset, windows)
        if smaller is None:
            raise NotEnoughMemory(TOO_LARGE)
        pipeline = replace(pipeline, settings=with_preset(method, encoder, smaller, settings.options))
        pipeline.job.report(Progress("encode", 0, 1, f"Memory ran out; trying again with {what}."))
