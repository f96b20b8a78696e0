"""Plain HTTP beside gradio's own: POST /v1/segment takes a form and gives JSON; /health, /docs."""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import secrets
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import PurePath
from typing import Any

import anyio.to_thread
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request as HttpRequest
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from ovs_core.engine import Engine, Request, Result
from ovs_core.export.coco import box, compressed, run_lengths
from ovs_core.export.report import report
from ovs_core.image import read_photo
from ovs_core.ui.arguments import by_name
from ovs_core.ui.asking import asked_words
from ovs_core.ui.boxes import exemplars_of, sent_boxes
from ovs_core.ui.guard import SEGMENT
from ovs_core.ui.http import results_of
from ovs_core.ui.openapi import DOCS, FIELDS, FILES, HEALTH, SCHEMA, docs_html, openapi
from ovs_core.ui.pictures import MOST_BYTES
from ovs_core.ui.places import without_places
from ovs_core.version import VERSION
from ovs_core.vocabulary.exemplars import MAX_EXEMPLARS

MOST_WAITING = 16  # requests in line; who comes then is told to come again
_FIELD_BYTES = 1 << 20
_NOTHING_ELSE = "default-src 'none'; style-src 'unsafe-inline'"  # a page that fetches nothing
_ASKED = ""  # stands for the photo that is asked about where boxes name theirs
_LOOK_SECONDS = 0.5  # between looks whether the visitor is still there


@dataclass(frozen=True)
class _Asked:
    """What a form holds: a photo's bytes, its file's name, the fields, and photos of boxes by file name."""

    content: bytes
    source: str
    fields: Mapping[str, str]
    photos: Mapping[str, bytes]


def plain_routes(engine: Engine, auth: tuple[str, str] | None = None) -> list[Route]:
    """Routes to serve beside the page's.

    Args:
        engine: answers; one request at a time.
        auth: name and password to ask for, by HTTP Basic; /health and what describes the endpoints stay open.
    """
    line = asyncio.Semaphore(1)
    waiting: set[int] = set()

    async def health(_: HttpRequest) -> Response:
        return JSONResponse({"status": "ok", "version": VERSION, "waiting": len(waiting)})

    async def segment(request: HttpRequest) -> Response:
        if not _may_ask(request, auth):
            challenge = {"WWW-Authenticate": 'Basic realm="OVS Lens"'}
            return JSONResponse({"error": "Name and password are needed."}, 401, challenge)
        if len(waiting) >= MOST_WAITING:
            return JSONResponse({"error": "Too many requests wait; try again later."}, 503)
        waiting.add(id(request))
        try:
            asked = await _read(request)
            async with line:
                return JSONResponse(await _unless_gone(request, partial(answer, engine, asked)))
        except ValueError as error:
            return JSONResponse({"error": without_places(str(error), engine.store)}, 400)
        finally:
            waiting.discard(id(request))

    def described(request: HttpRequest) -> dict[str, Any]:
        return openapi(engine, MOST_BYTES // 1_000_000, request.scope.get("root_path", ""))

    async def schema(request: HttpRequest) -> Response:
        return JSONResponse(described(request))

    async def docs(request: HttpRequest) -> Response:
        return HTMLResponse(docs_html(described(request)), headers={"Content-Security-Policy": _NOTHING_ELSE})

    return [
        Route(HEALTH, health, methods=["GET"]),
        Route(SCHEMA, schema, methods=["GET"]),
        Route(DOCS, docs, methods=["GET"]),
        Route(SEGMENT, segment, methods=["POST"]),
    ]


def answer(engine: Engine, asked: _Asked, cancel: threading.Event) -> dict[str, Any]:
    """Segment; gives the report with the masks of all classes that won pixels.

    Raises:
        ValueError: anything wrong with the photo, the words or a name; one sentence.
    """
    fields, photo = asked.fields, read_photo(asked.content)
    options = by_name("options", _json(fields["options"], "options must be a JSON object of values by name"))
    sent = _json(fields["exemplars"], "exemplars must be a JSON list of boxes")
    boxes = sent_boxes(sent, _ASKED, partial(_named, asked.photos))
    request = Request(
        photo,
        asked_words(fields["classes"], fields["background"], boxes),
        fields["method"],
        fields["encoder"],
        fields["refine"],
        options,
        exemplars=exemplars_of(
            boxes, lambda name: photo if name == _ASKED else read_photo(asked.photos[name])
        ),
    )
    engine.check(request)
    (result,) = results_of(engine, lambda: engine.run(request, cancel))
    return {**report(result, asked.source), "masks": masks(result)}


def _json(text: str, refusal: str) -> Any:
    try:
        return json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise ValueError(refusal) from error


def _named(photos: Mapping[str, bytes], image: object) -> str:
    """File name of a photo of the form: what the image of a box is here, and never a path."""
    if not isinstance(image, str) or image not in photos:
        names = ", ".join(photos) or "none"
        raise ValueError(f"The image of an exemplar must be the name of a file sent as photos: {names}.")
    return image


def masks(result: Result) -> list[dict[str, Any]]:
    """Each class that won pixels: id, name, area and box in pixels, mask as COCO's compressed RLE."""
    height, width = result.labels.shape
    entries = []
    for summary in result.classes:
        mask = result.labels == summary.label
        if summary.label and mask.any():
            entries.append(
                {
                    "id": summary.label,
                    "name": summary.names[0],
                    "area": int(mask.sum()),
                    "bbox": box(mask),
                    "segmentation": {"size": [height, width], "counts": compressed(run_lengths(mask))},
                }
            )
    return entries


async def _read(request: HttpRequest) -> _Asked:
    """Read the form of a request.

    Raises:
        ValueError: for a form that lacks the photo or holds what nobody asked for; one sentence.
    """
    if not request.headers.get("content-type", "").startswith("multipart/form-data"):
        raise ValueError("The request must be a form: multipart/form-data with an image and classes.")
    try:
        async with request.form(
            max_files=1 + MAX_EXEMPLARS, max_fields=len(FIELDS), max_part_size=_FIELD_BYTES
        ) as form:
            return await _from_form(form)
    except HTTPException as error:
        raise ValueError(f"The form cannot be read: {error.detail}") from error


async def _from_form(form: FormData) -> _Asked:
    for name in form:
        if name not in FILES and name not in FIELDS:
            raise ValueError(f"There is no field {name[:60]!r}; there are {', '.join((*FILES, *FIELDS))}.")
    images = _files(form, "image")
    if len(images) != 1:
        raise ValueError("image must be one file of the form.")
    fields = {name: form.get(name, field.default) for name, field in FIELDS.items()}
    texts = {name: value for name, value in fields.items() if isinstance(value, str)}
    for name in fields.keys() - texts.keys():
        raise ValueError(f"{name} must be text, not a file.")
    ((source, image),) = images
    photos = _files(form, "photos")
    if len(dict(photos)) < len(photos) or _ASKED in dict(photos):
        raise ValueError("Every file of photos needs a name of its own.")
    return _Asked(await image.read(), source, texts, {name: await file.read() for name, file in photos})


def _files(form: FormData, name: str) -> list[tuple[str, UploadFile]]:
    """File name and file of all that a form holds under a name."""
    files = []
    for file in form.getlist(name):
        if not isinstance(file, UploadFile):
            raise ValueError(f"{name} must be a file of the form.")  # noqa: TRY004 (it is the visitor's form)
        if file.size is not None and file.size > MOST_BYTES:
            raise ValueError(f"{name} must be of at most {MOST_BYTES // 1_000_000} MB.")
        files.append((PurePath(file.filename or "").name, file))
    return files


async def _unless_gone(request: HttpRequest, work: partial[dict[str, Any]]) -> dict[str, Any]:
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


def _may_ask(request: HttpRequest, auth: tuple[str, str] | None) -> bool:
    if auth is None:
        return True
    kind, _, given = request.headers.get("authorization", "").partition(" ")
    try:
        sent = base64.b64decode(given, validate=True)
    except (binascii.Error, ValueError):
        return False
    return kind.lower() == "basic" and secrets.compare_digest(sent, ":".join(auth).encode())
