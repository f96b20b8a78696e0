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
from ovs_core.ui.guard import SEGMENT
from ovs_core.ui.http import results_of
from ovs_core.ui.openapi import DOCS, FIELDS, HEALTH, SCHEMA, docs_html, openapi
from ovs_core.ui.pictures import MOST_BYTES
from ovs_core.ui.places import without_places
from ovs_core.version import VERSION
from ovs_core.vocabulary import parse_vocabulary

MOST_WAITING = 16  # requests in line; who comes then is told to come again
_FIELD_BYTES = 1 << 20
_NOTHING_ELSE = "default-src 'none'; style-src 'unsafe-inline'"  # a page that fetches nothing
_LOOK_SECONDS = 0.5  # between looks whether the visitor is still there


@dataclass(frozen=True)
class _Asked:
    """What a form holds: a photo's bytes, its file's name, and the fields."""

    content: bytes
    source: str
    fields: Mapping[str, str]


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
    fields = asked.fields
    try:
        options = by_name("options", json.loads(fields["options"]))
    except (json.JSONDecodeError, RecursionError) as error:
        raise ValueError("options must be a JSON object of values by name") from error
    request = Request(
        read_photo(asked.content),
        parse_vocabulary(fields["classes"], fields["background"]),
        fields["method"],
        fields["encoder"],
        fields["refine"],
        options,
    )
    engine.check(request)
    (result,) = results_of(engine, lambda: engine.run(request, cancel))
    return {**report(result, asked.source), "masks": masks(result)}


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
        async with request.form(max_files=1, max_fields=len(FIELDS), max_part_size=_FIELD_BYTES) as form:
            return await _from_form(form)
    except HTTPException as error:
        raise ValueError(f"The form cannot be read: {error.detail}") from error


async def _from_form(form: FormData) -> _Asked:
    for name in form:
        if name != "image" and name not in FIELDS:
            raise ValueError(f"There is no field {name[:60]!r}; there are image, {', '.join(FIELDS)}.")
    image = form.get("image")
    if not isinstance(image, UploadFile):
        raise ValueError("image must be a file of the form.")  # noqa: TRY004 (it is the visitor's form)
    if image.size is not None and image.size > MOST_BYTES:
        raise ValueError(f"image must be of at most {MOST_BYTES // 1_000_000} MB.")
    fields = {name: form.get(name, field.default) for name, field in FIELDS.items()}
    texts = {name: value for name, value in fields.items() if isinstance(value, str)}
    for name in fields.keys() - texts.keys():
        raise ValueError(f"{name} must be text, not a file.")
    return _Asked(await image.read(), PurePath(image.filename or "").name, texts)


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
