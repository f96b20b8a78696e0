"""Plain HTTP beside gradio's own: POST /v1/segment takes a form and gives JSON; /health, /docs."""

from __future__ import annotations

from functools import partial
from pathlib import PurePath
from typing import Any

from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.requests import Request as HttpRequest
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from ovs_core.engine import Result
from ovs_core.export.coco import box, compressed, run_lengths
from ovs_core.export.report import report
from ovs_core.ui.guard import SEGMENT
from ovs_core.ui.line import ASKED, Asked, Line, TooManyWaitError
from ovs_core.ui.openapi import DOCS, FIELDS, FILES, HEALTH, SCHEMA, docs_html, openapi
from ovs_core.ui.pictures import MOST_BYTES
from ovs_core.version import VERSION
from ovs_core.vocabulary.exemplars import MAX_EXEMPLARS

_FIELD_BYTES = 1 << 20
_NOTHING_ELSE = "default-src 'none'; style-src 'unsafe-inline'"  # a page that fetches nothing


def plain_routes(line: Line) -> list[Route]:
    """Routes to serve beside the page's; /health and what describes the endpoints ask for no password.

    Args:
        line: where requests wait, and whose engine answers.
    """

    async def health(_: HttpRequest) -> Response:
        return JSONResponse({"status": "ok", "version": VERSION, "waiting": len(line)})

    async def segment(request: HttpRequest) -> Response:
        if (refusal := line.refusal(request)) is not None:
            return refusal
        try:
            return JSONResponse(await line.answer(request, partial(_read, request), _told))
        except TooManyWaitError as error:
            return JSONResponse({"error": str(error)}, 503)
        except ValueError as error:
            return JSONResponse({"error": str(error)}, 400)

    def described(request: HttpRequest) -> dict[str, Any]:
        return openapi(line.engine, MOST_BYTES // 1_000_000, request.scope.get("root_path", ""))

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


def _told(asked: Asked, result: Result) -> dict[str, Any]:
    """The report with the masks of all classes that won pixels."""
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


async def _read(request: HttpRequest) -> Asked:
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
    except ClientDisconnect as error:  # who went away, fell silent, or sends more than is taken
        raise ValueError("The request ended before its form did.") from error
    except HTTPException as error:
        raise ValueError(f"The form cannot be read: {error.detail}") from error


async def _from_form(form: FormData) -> Asked:
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
    if len(dict(photos)) < len(photos) or ASKED in dict(photos):
        raise ValueError("Every file of photos needs a name of its own.")
    return Asked(await image.read(), source, texts, {name: await file.read() for name, file in photos})


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
