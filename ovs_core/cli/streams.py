"""Output that outlives its reader: `ovs-lens segment ... | head -1` does all of its work, and quietly."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO, cast


class _Lasting:
    """A stream that is no trouble once nobody reads it.

    Args:
        stream: to write to; None where the process was started without one.
    """

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        if self._stream is not None:
            try:
                return self._stream.write(text)
            except BrokenPipeError:
                self._let_go()
        return len(text)

    def flush(self) -> None:
        if self._stream is not None:
            try:
                self._stream.flush()
            except BrokenPipeError:
                self._let_go()

    def __getattr__(self, name: str) -> Any:
        if self._stream is None and name in ("encoding", "errors"):
            return {"encoding": "utf-8", "errors": "replace"}[name]
        return getattr(self._stream, name)

    def isatty(self) -> bool:
        return self._stream is not None and self._stream.isatty()

    def _let_go(self) -> None:
        """Send what is still to come nowhere, what the stream holds back included."""
        stream, self._stream = self._stream, None
        if stream is not None:
            with contextlib.suppress(OSError, ValueError):
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, stream.fileno())
                os.close(nowhere)


@contextmanager
def lasting_output() -> Iterator[None]:
    """Let stdout and stderr of a command be closed by whoever reads them."""
    before = sys.stdout, sys.stderr
    out, err = _Lasting(sys.stdout), _Lasting(sys.stderr)
    sys.stdout, sys.stderr = cast(TextIO, out), cast(TextIO, err)
    try:
        yield
    finally:
        out.flush()
        err.flush()
        sys.stdout, sys.stderr = before
