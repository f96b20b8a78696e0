"""Objects by clicks: SAM's two halves behind the engine's cache, device and weights."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Protocol

import torch

from ovs_core.checkpoints import WeightStore
from ovs_core.devices import Compute
from ovs_core.engine.cache import ByteCache
from ovs_core.engine.loaded import refiner_file
from ovs_core.engine.request import Job, PhotoSource
from ovs_core.image import Photo, read_photo
from ovs_core.refine.sam.click import Clicked, clicked_mask
from ovs_core.refine.sam.embedding import SamEmbedding, look
from ovs_core.refine.sam.load import load_sam
from ovs_core.refine.sam.prompts import Click, check_prompt
from ovs_core.refine.sam.refiners import PROMPTS
from ovs_core.vocabulary.boxes import Box

WHO, INSTEAD = "Pointing at an object", "take areas and the brush, which need none"


class Means(Protocol):
    """What an engine has for this."""

    store: WeightStore
    cache: ByteCache
    compute: Compute


def clicks_are_ready(engine: Means) -> bool:
    """Whether a file of SAM's weights is on this machine."""
    return any(map(engine.store.has, PROMPTS.weights))


def click_object(
    engine: Means,
    image: PhotoSource,
    clicks: Sequence[Click],
    box: Box | None = None,
    previous: Clicked | None = None,
    cancel: threading.Event | None = None,
) -> Clicked:
    """The object under some clicks, or in a box; the photo is looked at once.

    Args:
        engine: whose weights, cache and device are used.
        image: as for `Engine.segment`.
        clicks: all places so far, in pixels of the photo.
        box: around the object.
        previous: answer to the clicks before the last one.
        cancel: looked at before the photo is looked at.

    Raises:
        ValueError: without a file of weights, or for a prompt that means nothing; one sentence.
        Cancelled: if `cancel` was set.
    """
    photo = image if isinstance(image, Photo) else read_photo(image)
    check_prompt(photo.size, clicks, box)
    path = refiner_file(PROMPTS, engine.store, WHO, INSTEAD)
    sha256 = engine.store.sha256_of(path)
    job = Job(lambda _: None, cancel)
    sam = engine.cache.get("models", sha256)
    if sam is None:
        with job.on_device("load", engine.compute):
            sam = load_sam(path).to(engine.compute.device)
        engine.cache.put("models", sha256, sam, _nbytes(sam))
    key = (photo.key, "sam-click", sha256, str(engine.compute.device))
    embedding: SamEmbedding | None = engine.cache.get("looks", key)
    if embedding is None:
        with job.on_device("encode", engine.compute):
            embedding = look(sam, photo.pixels, weights=sha256, cancel=cancel)
        engine.cache.put("looks", key, embedding, embedding.nbytes)
    with job.on_device("method", engine.compute):
        return clicked_mask(sam, embedding, clicks, box, previous)


def _nbytes(model: torch.nn.Module) -> int:
    """Bytes that a model holds."""
    return sum(value.nbytes for value in model.state_dict().values())
