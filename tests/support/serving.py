"""Pages served to a browser, and photos as they are sent."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from PIL import Image

from ovs_core.ui.app import launch

PHOTO_SIZE = (60, 90)  # H, W


@contextmanager
def served(page: Any, **settings: Any) -> Iterator[str]:
    """Serve a page on a free port, with settings of `launch`; gives its address without the final slash."""
    try:
        yield launch(page, host="127.0.0.1", port=None, browser=False, **settings).rstrip("/")
    finally:
        page.close(verbose=False)


def png(pixels: np.ndarray) -> bytes:
    """A picture (H, W, 3) or (H, W) as the bytes of a PNG file."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()
