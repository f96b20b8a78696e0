"""The line of plain HTTP: one request at a time is worked on, in a thread, while its visitor is there."""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import secrets
import threading
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import anyio.to_thread
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response

from ovs_core.engine import Engine, Request, Result
from ovs_core.image import read_photo
from ovs_core.ui.arguments import by_name
from ovs_core.ui.asking import asked_words
from ovs_core.ui.boxes import exemplars_of, sent_boxes
from ovs_core.ui.http import results_of
from ovs_core.ui.places import without_places

MOST_WAITING = 16  # requests in line; who comes then is told to come again
MOST_SENDING = 64  # requests whose photo is on its way: a slow one holds no place in the line
_TOO_MANY = "Too many requests wait; try again later."
ASKED = ""  # stands for the photo that is asked about where boxes name theirs
_LOOK_SECONDS = 0.5  # between looks whether the visitor is still there


class TooManyWaitError(ValueError):
    """The line is full; the message is one sentence."""


@dataclass(frozen=True)
class Asked:
    """What was sent: a photo's bytes, its file's name, the fields, and photos of boxes by file name."""

    content: bytes
    source: str
    fields: Mapping[str, str]
    photos: Mapping[str, bytes]


class Line:
    """The line before an engine."""

    def __init__(self, engine: Engine, auth: tuple[str, str] | None = None) -> None:
        """Start with nobody in it.

        Args:
            engine: answers.
            auth: name and password to ask for, by HTTP Basic.
        """
        self.engine = engine
        self._auth = auth
        self._turn = asyncio.Semaphore(1)
        self._waiting = 0
        self._sending = 0

    def __len__(self) -> int:
        """Requests that wait or are worked on."""
        return self._waiting

    def refusal(self, request: HttpRequest) -> Response | None:
        """What a visitor without the name and password gets; None for who may ask."""
        if self._auth is None or _has_password(request, self._auth):
            return None
        challenge = {"WWW-Authenticate": 'Basic realm="OVS Lens"'}
        return JSONResponse({"error": "Name and password are needed."}, 401, challenge)

    async def answer(
        self,
        request: HttpRequest,
        read: Callable[[], Awaitable[Asked]],
        told: Callable[[Asked, Result], dict[str, Any]],
    ) -> dict[str, Any]:
        """Read what is asked, wait for its turn, segment.

        Args:
            request: whose visitor may go away.
            read: gives what is asked; raises ValueError with one sentence.
            told: makes of the answer what is sent.

        Raises:
            TooManyWaitError: if the line is full.
            ValueError: anything wrong with what is asked; one sentence, without places on this machine.
        """
        if self._waiting >= MOST_WAITING or self._sending >= MOST_SENDING:
            raise TooManyWaitError(_TOO_MANY)
        self._sending += 1
        try:
            asked = await read()
        finally:
            self._sending -= 1
        if self._waiting >= MOST_WAITING:
            raise TooManyWaitError(_TOO_MANY)
        self._waiting += 1
        try:
            async with self._turn:
                return await _unless_gone(request, partial(_told, self.engine, asked, told))
        except ValueError as error:
            raise ValueError(without_places(str(error), self.engine.store)) from error
        finally:
            self._waiting -= 1


def _told(
    engine: Engine,
    asked: Asked,
    told: Callable[[Asked, Result], dict[str, Any]],
    cancel: threading.Event,
) -> dict[str, Any]:
    return told(asked, segmented(engine, asked, cancel))


def segmented(engine: Engine, asked: Asked, cancel: threading.Event) -> Result:
    """Segment what was sent.

    Raises:
        ValueError: anything wrong with the photo, the words or a name; one sentence.
    """
    fields, photo = asked.fields, read_photo(asked.content)
    options = by_name("options", _json(fields["options"], "options must be a JSON object of values by name"))
    sent = _json(fields["exemplars"], "exemplars must be a JSON list of boxes")
    boxes = sent_boxes(sent, ASKED, partial(_named, asked.photos))
    request = Request(
        photo,
        asked_words(fields["classes"], fields["background"], boxes),
        fields["method"],
        fields["encoder"],
        fields["refine"],
        options,
        exemplars=exemplars_of(
            boxes, lambda name: photo if name == ASKED else read_photo(asked.photos[name])
        ),
    )
    engine.check(request)
    (result,) = results_of(engine, lambda: engine.run(request, cancel))
    return result


def _json(text: str, refusal: str) -> Any:
    try:
        return json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise ValueError(refusal) from error


def _named(photos: Mapping[str, bytes], image: object) -> str:
    """File name of a photo that was sent: what the image of a box is here, and never a path."""
    if not isinstance(image, str) or image not in photos:
        names = ", ".join(photos) or "none"
        raise ValueError(f"The image of an exemplar must be the name of a file sent as photos: {names}.")
    return image


async def _unless_gone(
    request: HttpRequest, work: Callable[[threading.Event], dict[str, Any]]
) -> dict[str, Any]:
    """Do work in a thread, and stop it when the visitor goes away."""
    cancel = threading.Event()

    async def watch() -> None:
        while not await request.is_disconnected():
            await asyncio.sleep(_LOOK_SECONDS)
        cancel.set()

    watching = asyncio.create_task(watch())
    try:
        return await anyio.to_thread.run_sync(work, cancel)
    finally:
        watching.cancel()


def _has_password(request: HttpRequest, auth: tuple[str, str]) -> bool:
    kind, _, given = request.headers.get("authorization", "").partition(" ")
    try:
        sent = base64.b64decode(given, validate=True)
    except (binascii.Error, ValueError):
        return False
    return kind.lower() == "basic" and secrets.compare_digest(sent, ":".join(auth).encode())
