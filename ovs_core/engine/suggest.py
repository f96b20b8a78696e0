"""What is in this photo: words to click into the class box, and what an empty one asks."""

from __future__ import annotations

from ovs_core.engine.engine import Engine
from ovs_core.engine.request import PhotoSource, Request
from ovs_core.engine.result import Result
from ovs_core.evidence.ranking import Ranked, strongest_classes
from ovs_core.image import Photo
from ovs_core.vocabulary import common_words


def suggest(engine: Engine, image: PhotoSource, limit: int = 10) -> tuple[Ranked, ...]:
    """Words of the built-in lists, about 900 things and materials, that a photo holds, the surest first.

    On COCO val the embedded model's first ten hold 45 % [39, 51] of the labelled things (99 photos,
    `python -m recipes.hands suggestions`).

    Args:
        engine: asks its default method on its default encoder.
        image: as for `Engine.segment`.
        limit: words wanted.

    Raises:
        ValueError: as `Engine.segment`, or for a limit below 1.
    """
    return suggested(engine.segment(image, common_words()), limit)


def suggestion_request(photo: Photo) -> Request:
    """The question behind `suggest`, for `Engine.run`: it tells how far it is, and can be stopped."""
    return Request(photo, common_words())


def suggested(result: Result, limit: int = 10) -> tuple[Ranked, ...]:
    """Words of a `suggestion_request`'s answer, the surest first.

    Raises:
        ValueError: for a limit below 1.
    """
    return strongest_classes(result.evidence, result.preset.scale, limit)
