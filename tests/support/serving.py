"""Pages served to a browser."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ovs_core.ui.app import launch

PHOTO_SIZE = (60, 90)  # H, W


@contextmanager
def served(page: Any, **settings: Any) -> Iterator[str]:
    """Serve a page on a free port, with settings of `launch`; gives its address without the final slash."""
    try:
        yield launch(page, host="127.0.0.1", port=None, browser=False, **settings).rstrip("/")
    finally:
        page.close(verbose=False)
