"""From what stands on the page to questions for the engine, from its answers to sentences. No gradio here."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Event

from ovs_core.engine import Cancelled, Engine, Progress, Request, Result
from ovs_core.engine.comparing import unrefined
from ovs_core.engine.exemplars import takes_exemplars
from ovs_core.engine.photos import remembered_photo
from ovs_core.engine.settings import refines
from ovs_core.image import Photo
from ovs_core.options import Options
from ovs_core.refine import NO_REFINER
from ovs_core.types import Vocabulary
from ovs_core.ui.boxes import DrawnBox, exemplars_of
from ovs_core.ui.option_fields import declared_only
from ovs_core.ui.places import without_places
from ovs_core.ui.words import STOPPED, Status, progress_text
from ovs_core.vocabulary import parse_vocabulary
from ovs_core.vocabulary.exemplars import asked_vocabulary

NO_PHOTO = "Choose a photo first: drop one on the photo field, paste one, or take an example."
PHOTO_GONE = "This photo was not uploaded here by you, or is no longer kept: choose it again."


@dataclass(frozen=True)
class Question:
    """The inputs that all tabs share, as they stand on the page.

    Attributes:
        photo: path of the uploaded file, None if there is none, "" for one that may not be opened.
        classes: the words as typed.
        background: the "everything else" list as typed; empty or "none" for no list.
        encoder: registry name of the image-text model.
        refiner: "none" or the refiner's registry name.
        options: values that were chosen for all methods; each takes those that it declares.
        boxes: to be found besides the words.
    """

    photo: str | None
    classes: str
    background: str
    encoder: str
    refiner: str
    options: Options = field(default_factory=dict)
    boxes: tuple[DrawnBox, ...] = ()

    @property
    def is_empty(self) -> bool:
        """Whether neither a word nor a box says what to look for."""
        return not (self.classes or "").strip() and all(box.negative for box in self.boxes)

    def read(self, engine: Engine) -> tuple[Photo, Vocabulary]:
        """Read photo and words; the engine remembers the photo.

        Raises:
            ValueError: no photo, an unreadable one, or neither words nor boxes; one sentence.
        """
        return self.read_photo(engine), asked_words(self.classes or "", self.background, self.boxes)

    def read_photo(self, engine: Engine) -> Photo:
        """Read the photo alone; the engine remembers it.

        Raises:
            ValueError: no photo, or an unreadable one; one sentence.
        """
        if self.photo is None:
            raise ValueError(NO_PHOTO)
        if not self.photo or not Path(self.photo).exists():  # uploads are deleted after a day
            raise ValueError(PHOTO_GONE)
        return remembered_photo(engine.cache, Path(self.photo))

    def request(self, engine: Engine, method: str, options: Options | None = None) -> Request:
        """Ask one method with what suits it, but the values that were chosen.

        Args:
            engine: whose methods they are.
            method: registry name.
            options: values for this method alone; an option that it does not declare is refused.

        Raises:
            ValueError: as `read`, an unknown name, or a value out of range.
        """
        photo, vocabulary = self.read(engine)
        shared = declared_only(engine, method, self.encoder, self.refiner, self.options)
        request = Request(
            photo,
            vocabulary,
            method,
            self.encoder,
            self.refiner,
            {**shared, **(options or {})},
            exemplars=exemplars_of(self.boxes),
        )
        engine.check(request)
        return request

    def compare(
        self,
        engine: Engine,
        photo: Photo,
        vocabulary: Vocabulary,
        methods: Sequence[str] | None,
        cancel: Event | None = None,
        side: int | None = None,
    ) -> Iterator[Progress | Result]:
        """Ask several methods about what `read` gave; as `Engine.compare`."""
        return engine.compare(
            photo,
            vocabulary,
            methods,
            encoder=self.encoder,
            refiner=self.refiner,
            options=self.options,
            exemplars=exemplars_of(self.boxes),
            side=side,
            cancel=cancel,
        )


def asked_words(classes: str, background: str, boxes: Sequence[DrawnBox]) -> Vocabulary:
    """What words and boxes ask for between them.

    Args:
        classes: as typed.
        background: hidden words; "default", "none" or a list.
        boxes: may stand without a word.

    Raises:
        ValueError: where neither says what to look for; one sentence.
    """
    return asked_vocabulary(classes, [box.name for box in boxes], background, parse_vocabulary)


def refinable(engine: Engine, question: Question, method: str) -> tuple[Question, str]:
    """A question without refinement where the method's answer cannot be refined, and a sentence saying so."""
    spec, refiner = engine.method_specs.get(method), engine.refiner_specs.get(question.refiner)
    if spec is None or refiner is None or refines(refiner, spec):
        return question, ""
    return replace(question, refiner=NO_REFINER), unrefined(refiner, spec)


def askable(engine: Engine, question: Question, methods: Sequence[str]) -> tuple[list[str], str]:
    """Those of several methods that can be asked a question, and a sentence that names the others.

    Only boxes are not for all.
    """
    if not question.boxes:
        return list(methods), ""
    able = [name for name in methods if takes_exemplars(engine.method_specs[name])]
    others = ", ".join(engine.method_specs[name].title for name in methods if name not in able)
    return able, f"Not asked, because boxes go with rules on tokens alone: {others}." if others else ""


def answers(
    engine: Engine, ask: Callable[[], Iterator[Progress | Result]], count: int = 1
) -> Iterator[Status | Result]:
    """Follow the engine, with progress as sentences.

    Ends early with a "warning" when cancelled and with an "error" sentence when the engine refuses.

    Args:
        engine: the engine; sentences do not tell where its weights lie.
        ask: starts the work; may itself refuse with a `ValueError`.
        count: results expected.
    """
    done = 0
    try:
        for event in ask():
            if isinstance(event, Result):
                done += 1
                yield event
            else:
                yield progress_status(event, done, count)
    except Cancelled:
        yield Status(STOPPED, "warning")
    except ValueError as error:
        yield Status(without_places(str(error), engine.store), "error")


def progress_status(progress: Progress, index: int = 0, count: int = 1) -> Status:
    """Say which stage runs and how far it is; `index` of `count` results are there."""
    part = progress.done / progress.total if progress.total else 0.0
    turn = f"{index + 1} of {count}: " if count > 1 else ""
    text = progress_text(progress.stage, progress.done, progress.total)
    return Status(f"{turn}{text}. {progress.note}".strip(), "busy", (index + part) / count)
