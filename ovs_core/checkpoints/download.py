"""Fetch one URL into one `.part` file: resumed where it stopped, stopped when asked, clear about failure.

What the bytes are, and whether they are the right ones, is the caller's business (`ovs_core.checkpoints`).
"""

from __future__ import annotations

import errno
import http.client
import logging
import re
import shutil
import threading
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from email.message import Message
from pathlib import Path

from ovs_core.devices import stop_if_cancelled

Progress = Callable[[int, int | None], None]

_CHUNK = 1 << 18
_TIMEOUT_SECONDS = 30.0
_MAX_FRUITLESS = 4  # tries in a row that bring no new byte before giving up
_BUSY = frozenset({408, 425, 429, 500, 502, 503, 504})  # answers worth a second try
_RANGE_PAST_THE_END = 416
_PARTIAL = 206
_log = logging.getLogger(__name__)


class DownloadError(ValueError):
    """Why a download did not finish, in words that complete "Could not download X: ..."."""


class _Interrupted(Exception):  # noqa: N818 - not an error yet: the next try may finish
    """The connection failed or ended early; what arrived so far is kept."""


@dataclass(frozen=True)
class _Start:
    """Where a response begins and how long the whole file is, in bytes."""

    offset: int
    total: int | None


def download(
    url: str,
    part: Path,
    *,
    progress: Progress | None = None,
    cancel: threading.Event | None = None,
    will_verify: bool = False,
    wait_seconds: float = 0.5,
) -> None:
    """Bring all bytes of `url` into `part`, continuing what an earlier call left there.

    A started file is continued only if the server confirms it is still the same one (If-Range with the ETag
    or date kept in `<part>.tag`); otherwise it starts again from zero.

    Args:
        url: http or https address.
        part: file to write; its folder must exist. It stays behind on failure, for the next call to continue.
        progress: called with (bytes so far, bytes in all or None if the server does not say).
        cancel: set it to stop within one chunk.
        will_verify: the caller knows the checksum; a part may then be continued without a confirmed version.
        wait_seconds: pause before the second try; doubled for each further one.

    Raises:
        DownloadError: if the file cannot be had; network trouble is tried again a few times first.
        Cancelled: if `cancel` was set.
    """
    pause = cancel or threading.Event()
    furthest, fruitless = _size(part), 0
    while True:
        try:
            _attempt(url, part, progress, cancel, will_verify)
        except _Interrupted as trouble:
            reached = _size(part)
            fruitless = 0 if reached > furthest else fruitless + 1
            furthest = max(furthest, reached)
            if fruitless >= _MAX_FRUITLESS:
                raise DownloadError(str(trouble)) from trouble
            _log.info("download of %s: %s; trying again from byte %d", url, trouble, reached)
            pause.wait(wait_seconds * 2**fruitless)
            stop_if_cancelled(cancel)
        except OSError as error:
            raise DownloadError(_disk_trouble(error, part.parent)) from error
        else:
            _tag_file(part).unlink(missing_ok=True)
            return


def discard(part: Path) -> None:
    """Forget a started download, so that the next one begins at zero."""
    part.unlink(missing_ok=True)
    _tag_file(part).unlink(missing_ok=True)


def _attempt(
    url: str, part: Path, progress: Progress | None, cancel: threading.Event | None, will_verify: bool
) -> None:
    """One request, written to the end or to the first failure.

    Raises:
        _Interrupted: network trouble worth another try.
        DownloadError: an answer that will not change.
        OSError: the disk refused.
    """
    stop_if_cancelled(cancel)
    tag = _read_tag(part)
    have = _size(part) if tag or will_verify else 0
    request = urllib.request.Request(url, headers={"User-Agent": "ovs-lens", "Accept-Encoding": "identity"})
    if have:
        request.add_header("Range", f"bytes={have}-")
        if tag:
            request.add_header("If-Range", tag)
    try:
        response = urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS)
    except urllib.error.HTTPError as error:
        with error:
            if error.code == _RANGE_PAST_THE_END and have:
                if _total_in_range(error.headers) == have:
                    return  # everything had arrived; only the last step was missing
                discard(part)
                raise _Interrupted("the server no longer has the rest of this file") from error
            reason = f"the server answered {error.code} {error.reason}"
            raise (_Interrupted(reason) if error.code in _BUSY else DownloadError(reason)) from error
    except (OSError, http.client.HTTPException) as error:
        raise _Interrupted(_network_trouble(error)) from error
    with response:
        start = _where_it_starts(response, part, have)
        _check_space(part, start)
        if start.offset == 0:
            _write_tag(part, response)
        _receive(response, part, start, progress, cancel)


def _where_it_starts(response: http.client.HTTPResponse, part: Path, have: int) -> _Start:
    """Read from the headers which byte comes first: `have` if the server continues, 0 if it starts again."""
    if response.status == _PARTIAL:
        first = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
        if first is None or int(first[1]) != have:
            discard(part)
            raise _Interrupted("the server continued at the wrong place")
        return _Start(have, _total_in_range(response.headers))
    length = response.headers.get("Content-Length", "")
    return _Start(0, int(length) if length.isdigit() else None)


def _receive(
    response: http.client.HTTPResponse,
    part: Path,
    start: _Start,
    progress: Progress | None,
    cancel: threading.Event | None,
) -> None:
    """Append the body to `part` (or write it anew from offset 0), chunk by chunk."""
    done = start.offset
    with part.open("ab" if start.offset else "wb") as out:
        while True:
            stop_if_cancelled(cancel)
            try:
                chunk = response.read1(_CHUNK)
            except (OSError, http.client.HTTPException) as error:
                raise _Interrupted(_network_trouble(error)) from error
            if not chunk:
                break
            out.write(chunk)
            done += len(chunk)
            if progress is not None:
                progress(done, start.total)
    if start.total is not None and done < start.total:
        raise _Interrupted(f"the connection ended after {done} of {start.total} bytes")


def _check_space(part: Path, start: _Start) -> None:
    """Refuse early what cannot fit.

    Raises:
        DownloadError: if the rest is larger than the free space.
    """
    free = shutil.disk_usage(part.parent).free + (_size(part) if start.offset == 0 else 0)
    if start.total is not None and start.total - start.offset > free:
        sizes = f"{(start.total - start.offset) / 1e6:.0f} MB needed, {free / 1e6:.0f} MB free"
        raise DownloadError(f"no space left in {part.parent}: {sizes}")


def _size(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _tag_file(part: Path) -> Path:
    return part.with_name(part.name + ".tag")


def _read_tag(part: Path) -> str | None:
    tag_file = _tag_file(part)
    return tag_file.read_text(encoding="utf-8").strip() or None if tag_file.exists() else None


def _write_tag(part: Path, response: http.client.HTTPResponse) -> None:
    """Keep what If-Range may name: a strong ETag, else the date; a weak ETag promises nothing about bytes."""
    etag = response.headers.get("ETag", "")
    tag = etag if etag and not etag.startswith("W/") else response.headers.get("Last-Modified", "")
    _tag_file(part).write_text(tag, encoding="utf-8")


def _total_in_range(headers: Message) -> int | None:
    total = re.search(r"/(\d+)$", headers.get("Content-Range", ""))
    return int(total[1]) if total else None


def _network_trouble(error: OSError | http.client.HTTPException) -> str:
    reason = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(reason, TimeoutError):
        return f"the server did not answer within {_TIMEOUT_SECONDS:.0f} seconds"
    return f"the connection failed ({reason or type(reason).__name__})"


def _disk_trouble(error: OSError, folder: Path) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"no space left in {folder}; free some and run it again, it continues where it stopped"
    return f"cannot write to {folder} ({error.strerror or error})"
