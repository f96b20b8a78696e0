"""POST /mcp: the Model Context Protocol, for programs that hand tools to a language model; off by default.

Two of its methods matter here, `tools/list` and `tools/call`, and every request stands alone, so it is spoken
here and not by Gradio's own server, which opens what its callers name by URL. The one tool takes a photo as
base64 and nothing else: no argument is a path or an address of anything.

The protocol: https://modelcontextprotocol.io/specification/2025-11-25/basic/transports (streamable HTTP;
answers are JSON, never a stream). Clients of later versions fall back to `initialize`.
"""

from __future__ import annotations

import base64
import binascii
import io
import json
from typing import Any

from PIL import Image
from starlette.requests import ClientDisconnect
from starlette.requests import Request as HttpRequest
from starlette.responses import Response
from starlette.routing import Route

from ovs_core.engine import Engine, Result
from ovs_core.export.report import report
from ovs_core.image import display_copy
from ovs_core.render.overlay import overlay
from ovs_core.ui.guard import MCP
from ovs_core.ui.line import Asked, Line
from ovs_core.ui.openapi import FIELDS, Schema, text_fields
from ovs_core.version import VERSION

VERSIONS = ("2025-11-25", "2025-06-18", "2025-03-26")  # the newest first
TOOL = "segment"
_ABOUT = (
    "Label every pixel of a photo with the class that it belongs to, out of classes typed in English. Gives "
    "a JSON report (per class: names, share of the area, mean score; notes on words that may not work) and "
    "the photo with classes in colour."
)
_IMAGE = "The bytes of a picture file (JPEG, PNG, WebP, ...) as base64, or a data: URL. No path, no address."
_NOT_JSON, _NO_REQUEST, _NO_METHOD, _WRONG_ARGUMENTS = -32700, -32600, -32601, -32602  # JSON-RPC 2.0


class _RefusedError(ValueError):
    """An error of the protocol: its code, and one sentence."""


def mcp_route(line: Line) -> Route:
    """The endpoint.

    Args:
        line: where requests wait, and whose engine answers.
    """

    async def endpoint(request: HttpRequest) -> Response:
        if "origin" in request.headers:  # a page in a browser, of whoever it may be
            return _failed(None, _NO_REQUEST, "Browsers are not served here.", 403)
        if (refusal := line.refusal(request)) is not None:
            return refusal
        try:
            message = json.loads(await request.body())
        except ClientDisconnect:  # or sends more than it announced
            return _failed(None, _NO_REQUEST, "The request is too large.", 413)
        except (ValueError, RecursionError):
            return _failed(None, _NOT_JSON, "The request is not JSON that can be read.", 400)
        if not isinstance(message, dict) or not isinstance(message.get("method"), str):
            return _failed(None, _NO_REQUEST, "The request must be one JSON-RPC request.", 400)
        if "id" not in message:  # something is only told
            return Response(status_code=202)
        if not isinstance(message["id"], str | int):
            return _failed(None, _NO_REQUEST, "id must be text or a whole number.", 400)
        given = message.get("params") or {}
        try:
            if not isinstance(given, dict):
                raise _RefusedError(_WRONG_ARGUMENTS, "params must be an object.")
            result = await _answer(line, request, message["method"], given)
        except _RefusedError as error:
            return _failed(message["id"], *error.args)
        return _said({"id": message["id"], "result": result})

    return Route(MCP, endpoint, methods=["POST"])


async def _answer(line: Line, request: HttpRequest, method: str, given: dict[str, Any]) -> dict[str, Any]:
    if method == "initialize":
        wanted = given.get("protocolVersion")
        return {
            "protocolVersion": wanted if wanted in VERSIONS else VERSIONS[0],
            "capabilities": {"tools": {}},
            "serverInfo": {"name": "ovs-lens", "title": "OVS Lens", "version": VERSION},
        }
    if method == "ping":
        return {}
    if method == "tools/list":
        return {"tools": [_tool(line.engine)]}
    if method != "tools/call":
        raise _RefusedError(_NO_METHOD, f"There is no method {method[:60]!r}.")
    if given.get("name") != TOOL:
        raise _RefusedError(_WRONG_ARGUMENTS, f"There is one tool, {TOOL}.")

    async def read() -> Asked:
        return _asked(given.get("arguments"))

    try:
        return await line.answer(request, read, _shown)
    except ValueError as error:
        return {"content": [{"type": "text", "text": str(error)}], "isError": True}


def _tool(engine: Engine) -> Schema:
    return {
        "name": TOOL,
        "title": "Segment a photo",
        "description": _ABOUT,
        "inputSchema": {
            "type": "object",
            "required": ["image", "classes"],
            "properties": {"image": {"type": "string", "description": _IMAGE}, **text_fields(engine)},
            "additionalProperties": False,
        },
        "annotations": {"readOnlyHint": True, "openWorldHint": False},
    }


def _asked(arguments: Any) -> Asked:
    """What the tool's arguments ask for.

    Raises:
        ValueError: if one is unknown, of another kind, or the image is no base64.
    """
    if not isinstance(arguments, dict):
        raise ValueError("arguments must be an object with an image and classes.")  # noqa: TRY004 (the visitor's)
    for name, value in arguments.items():
        if name != "image" and name not in FIELDS:
            raise ValueError(f"There is no argument {name[:60]!r}; there are image, {', '.join(FIELDS)}.")
        if not isinstance(value, str):
            raise ValueError(f"{name} must be text.")  # noqa: TRY004 (it is the visitor's)
    sent = arguments.get("image", "")
    _, _, encoded = sent.partition(",") if sent.startswith("data:") else ("", "", sent)
    try:
        content = base64.b64decode("".join(encoded.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError(
            "image must be the bytes of a picture file as base64, no path or address."
        ) from error
    fields = {name: arguments.get(name, field.default) for name, field in FIELDS.items()}
    return Asked(content, "photo", fields, {})


def _shown(asked: Asked, result: Result) -> dict[str, Any]:
    """An answer as text and as a picture that a model can look at."""
    picture = io.BytesIO()
    Image.fromarray(display_copy(overlay(result))).save(picture, "PNG")
    text = json.dumps(report(result, asked.source), ensure_ascii=False)
    encoded = base64.b64encode(picture.getvalue()).decode()
    return {
        "content": [
            {"type": "text", "text": text},
            {"type": "image", "data": encoded, "mimeType": "image/png"},
        ],
        "isError": False,
    }


def _failed(name: Any, code: int, sentence: str, status: int = 200) -> Response:
    return _said({"id": name, "error": {"code": code, "message": sentence}}, status)


def _said(message: dict[str, Any], status: int = 200) -> Response:
    """As JSON in ASCII: half a surrogate pair that somebody sent is no UTF-8."""
    return Response(json.dumps({"jsonrpc": "2.0", **message}), status, media_type="application/json")
