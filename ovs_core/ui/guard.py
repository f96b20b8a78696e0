"""The one door for files: of what a request names, only the visitor's own uploads and our samples pass.

Gradio checks a path only where the request marks it as a file; a picture field reads one without the mark as
well. So the check stands before gradio, on the body of every request, and compares names: no path that a
visitor writes is ever looked up on the disk, hence no answer can tell whether it exists.
"""

from __future__ import annotations

import asyncio
import json
import re
import secrets
import threading
from collections import OrderedDict
from collections.abc import Collection, Mapping, Sequence
from http.cookies import CookieError, SimpleCookie
from pathlib import Path
from typing import Any

from gradio.utils import abspath
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

NO_FILE = ""  # stands for a path that was refused; `asking` answers it with its one sentence
MAX_BODY = 80_000_000  # bytes of a request; an upload of 50 MB is 67 MB where it is sent as base64
MOST_SILENT = 30.0  # seconds between two parts of a body
MOST_UPLOADS = 20_000  # remembered; the oldest are forgotten first, and deleted
MOST_KEPT = 5_000_000_000  # bytes of all uploads together

SEGMENT, MCP = "/v1/segment", "/mcp"  # take bytes, no paths

_COOKIE = "ovs_lens_visitor"
_TOKEN = re.compile(r"[0-9a-f]{32}")
_API = "/gradio_api/"
# What page and gradio_client use. Left out: developers' tools, and what fetches from elsewhere (proxy=).
_GET = frozenset(
    {
        *("app_id", "call", "custom_component", "heartbeat", "info", "login_check", "openapi.json", "queue"),
        *("startup-events", "theme.css", "token", "upload_progress", "user"),
    }
)
_POST = frozenset({"api", "call", "cancel", "login", "queue", "reset", "run", "upload"})
_FORMS = frozenset({"/login", "/login/", SEGMENT, MCP})
_FILE = re.compile(r"file[=/](.*)", re.DOTALL)
_ELSEWHERE = re.compile(r"/?[a-zA-Z][a-zA-Z0-9+.-]+:/")  # more than a drive's letter


class Uploads:
    """Who may name which file; safe to be used by several threads."""

    def __init__(
        self, samples: Collection[str] = (), most: int = MOST_UPLOADS, most_bytes: int = MOST_KEPT
    ) -> None:
        """Start with nothing uploaded.

        Args:
            samples: paths that everybody may name and see.
            most: uploads to remember.
            most_bytes: of all of them; the oldest are deleted first.
        """
        self._samples = frozenset(samples)
        self._sizes: dict[str, int] = {}
        self._most_bytes = most_bytes
        self._owners: OrderedDict[str, frozenset[str]] = OrderedDict()
        self._most = most
        self._lock = threading.Lock()

    def add(self, files: Mapping[str, int], visitor: Collection[str]) -> tuple[str, ...]:
        """Remember uploads; of a visitor without a name, until the first one who asks about them.

        The bytes of a sample are kept where the sample is: they stay everybody's, and are not deleted.

        Args:
            files: size in bytes by path.
            visitor: whose they are.

        Returns:
            Paths that were forgotten in turn, to be deleted.
        """
        forgotten = []
        with self._lock:
            for path, size in files.items():
                if path in self._samples:
                    continue
                self._owners[path] = self._owners.pop(path, frozenset()) | frozenset(visitor)
                self._sizes[path] = size
            while len(self._owners) > self._most or sum(self._sizes.values()) > self._most_bytes:
                path, _ = self._owners.popitem(last=False)
                del self._sizes[path]
                forgotten.append(path)
        return tuple(forgotten)

    def may_name(self, path: str, visitor: Collection[str]) -> bool:
        """Whether a file is the visitor's own, or a sample."""
        if path in self._samples:
            return True
        with self._lock:
            owners = self._owners.get(path)
            if owners is None or (owners and not owners & set(visitor)):
                return False
            if not owners and visitor:
                self._owners[path] = frozenset(visitor)
            return True

    def hidden(self, path: str, cookie: Collection[str]) -> bool:
        """Whether a file belongs to a browser, and not to this one."""
        with self._lock:
            owners = {owner for owner in self._owners.get(path, ()) if owner.startswith("cookie ")}
        return bool(owners) and not owners & set(cookie)


class Guard:
    """ASGI middleware; see the module."""

    def __init__(
        self, app: ASGIApp, uploads: Uploads, max_body: int = MAX_BODY, most_silent: float = MOST_SILENT
    ) -> None:
        self._app = app
        self._uploads = uploads
        self._max_body = max_body
        self._most_silent = most_silent

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or hand on, one request."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return  # nothing of the page uses other protocols
        cookie, headers = _cookie(scope), Headers(scope=scope)
        path, method = _path(scope), scope["method"]
        receive = _while_sent(receive, self._most_silent)
        if not self._is_open(method, path, cookie):
            await _refuse(404, "Not found.", scope, receive, send)
        elif not _content_length(headers) <= self._max_body:
            await _refuse(413, "The request is too large.", scope, receive, send)
        elif method != "POST":
            await self._app(scope, receive, send if cookie else _naming(send, path))
        elif path.rstrip("/") == f"{_API}upload":
            limited = _limited(receive, self._max_body)
            await self._app(scope, limited, self._remembering(send, cookie))
        elif path in _FORMS:
            await self._app(scope, _limited(receive, self._max_body), send)
        else:
            await self._pass_json(scope, receive, send, cookie)

    def _is_open(self, method: str, path: str, cookie: Collection[str]) -> bool:
        if not path.startswith(_API):
            return method in ("GET", "HEAD", "OPTIONS") or path in _FORMS
        rest = path.removeprefix(_API)
        file = _FILE.fullmatch(rest)
        if file is not None:
            hidden = self._uploads.hidden(str(abspath(file[1])), cookie)
            return method != "POST" and not _ELSEWHERE.match(file[1]) and not hidden
        first = rest.split("/", 1)[0]
        return method == "OPTIONS" or first in (_POST if method == "POST" else _GET)

    async def _pass_json(self, scope: Scope, receive: Receive, send: Send, cookie: Collection[str]) -> None:
        """Hand on a JSON body in which every file is the visitor's own."""
        content = await _whole_body(receive, self._max_body)
        if content is None:
            await _refuse(413, "The request is too large.", scope, receive, send)
            return
        try:
            body = json.loads(content) if content else None
            body = self.cleaned(body, {*cookie, *_session(body)})
            content = json.dumps(body).encode() if content else b""
        except (ValueError, RecursionError):
            await _refuse(400, "The request is not JSON that can be read.", scope, receive, send)
            return
        headers = MutableHeaders(scope=scope)
        headers["content-length"] = str(len(content))
        await self._app(scope, _one_message(content, receive), send)

    def cleaned(self, body: Any, visitor: Collection[str]) -> Any:
        """Copy a parsed body; a file that is not the visitor's has the path `NO_FILE` and nothing else.

        A file is whatever has a path, marked as gradio marks files or not. A file's `url` is dropped, so that
        nothing is fetched; the bytes of a picture may be sent as a data URL without a path.
        """
        if isinstance(body, list):
            return [self.cleaned(part, visitor) for part in body]
        if not isinstance(body, dict):
            return body
        if body.get("path") is not None:
            path = body["path"]
            if not isinstance(path, str) or not self._uploads.may_name(path, visitor):
                return {"path": NO_FILE}
            return {"path": path, "meta": {"_type": "gradio.FileData"}}
        return {key: self.cleaned(value, visitor) for key, value in body.items()}

    def _note(self, paths: Sequence[str], cookie: Collection[str]) -> None:
        for path in self._uploads.add({path: _size(path) for path in paths}, cookie):
            Path(path).unlink(missing_ok=True)

    def _remembering(self, send: Send, cookie: Collection[str]) -> Send:
        """Pass on the answer to an upload, and note whose files these are before the visitor knows them."""
        start: list[Message] = []
        parts: list[bytes] = []

        async def noting(message: Message) -> None:
            if message["type"] == "http.response.start":
                start.append(message)
                return
            parts.append(message.get("body", b""))
            if message.get("more_body", False):
                return
            content = b"".join(parts)
            if start[0]["status"] == 200:
                self._note(json.loads(content), cookie)
            await send(start[0])
            await send({"type": "http.response.body", "body": content})

        return noting


def _size(path: str) -> int:
    """Bytes of an upload; 0 for one that is still being moved."""
    try:
        return Path(path).stat().st_size
    except OSError:
        return 0


def _path(scope: Scope) -> str:
    """Path of a request as routes see it, without the sub-path that a proxy adds."""
    path, root = str(scope["path"]), str(scope.get("root_path", "")).rstrip("/")
    return path.removeprefix(root) if root and path.startswith(f"{root}/") else path


def _content_length(headers: Headers) -> int:
    """What a request says of its own length in bytes; 0 where it says nothing."""
    told = headers.get("content-length", "")
    return int(told) if told.isascii() and told.isdigit() and len(told) < 20 else 0


def _cookie(scope: Scope) -> frozenset[str]:
    """What names the visitor's browser; nothing where it has no name yet."""
    try:
        cookie = SimpleCookie(Headers(scope=scope).get("cookie", "")).get(_COOKIE)
    except CookieError:
        return frozenset()
    if cookie is None or not _TOKEN.fullmatch(cookie.value):
        return frozenset()
    return frozenset({f"cookie {cookie.value}"})


def _session(body: Any) -> frozenset[str]:
    """What names the visitor's page, or gradio_client; nothing for a lone request."""
    session = body.get("session_hash") if isinstance(body, dict) else None
    return frozenset({f"session {session}"}) if isinstance(session, str) and session else frozenset()


def _naming(send: Send, path: str) -> Send:
    """Give a browser that opens the page a name that nobody can guess."""
    if path.startswith((_API, "/static/", "/assets/", "/svelte/")):
        return send

    async def named(message: Message) -> None:
        if message["type"] == "http.response.start":
            cookie = f"{_COOKIE}={secrets.token_hex(16)}; Path=/; HttpOnly; SameSite=Lax"
            MutableHeaders(scope=message).append("set-cookie", cookie)
        await send(message)

    return named


async def _whole_body(receive: Receive, most: int) -> bytes | None:
    """The bytes of a request; None above the limit."""
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return b"".join(parts)  # the visitor went away
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > most:
            return None
        if not message.get("more_body", False):
            return b"".join(parts)


def _while_sent(receive: Receive, most_silent: float) -> Receive:
    """The parts of a body; who sends none of it for so many seconds has gone away."""
    ended = False

    async def timed() -> Message:
        nonlocal ended
        if ended:
            return await receive()
        try:
            message = await asyncio.wait_for(receive(), most_silent)
        except TimeoutError:
            return {"type": "http.disconnect"}
        ended = not message.get("more_body", False)
        return message

    return timed


def _limited(receive: Receive, most: int) -> Receive:
    """Cut the bytes of a request at a limit, as if the visitor had gone away."""
    size = 0

    async def counted() -> Message:
        nonlocal size
        message = await receive()
        size += len(message.get("body", b""))
        return message if size <= most else {"type": "http.disconnect"}

    return counted


def _one_message(content: bytes, receive: Receive) -> Receive:
    """The bytes as one message, then whatever else the visitor's side says."""
    waiting = [content]

    async def given() -> Message:
        if waiting:
            return {"type": "http.request", "body": waiting.pop(), "more_body": False}
        return await receive()

    return given


async def _refuse(status: int, sentence: str, scope: Scope, receive: Receive, send: Send) -> None:
    await JSONResponse({"detail": sentence}, status)(scope, receive, send)
