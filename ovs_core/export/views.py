"""A view of an answer as a file of numbers: every map of it, and what is needed to read them."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ovs_core.types import View
from ovs_core.views import ViewSpec


def view_npz(
    view: View, spec: ViewSpec, *, method: str, classes: tuple[str, ...], photo_size: tuple[int, int]
) -> bytes:
    """An NPZ file of all maps of a view; docs/formats.md lists the arrays. Nothing in it is pickled.

    Args:
        view: maps (M, h, w) of an answer.
        spec: what is declared of it, with its whole source.
        method: registry name.
        classes: as typed, (K,).
        photo_size: (H, W) in pixels, which the maps span from edge to edge unless there are columns.
    """
    maps = view.maps.detach().float().cpu().numpy()
    scale = view.limits or (float(maps.min()), float(maps.max()))
    arrays: dict[str, NDArray[Any]] = {
        "maps": maps,
        "labels": np.array(view.labels, np.str_),
        "scale": np.array(scale, np.float32),
        "photo_size": np.array(photo_size, np.int64),
        "classes": np.array(classes, np.str_),
        **_texts(
            {
                "kind": view.kind,
                "title": view.title,
                "heading": spec.heading,
                "sentence": spec.sentence,
                "method": method,
                "equation": spec.source.shows,
                "paper": spec.source.title,
                "arxiv": spec.source.arxiv,
            }
        ),
    }
    if view.columns:
        arrays["columns"] = np.array(view.columns, np.str_)
    if view.words:
        arrays["words"] = np.array(view.words, np.str_).reshape(maps.shape)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


def _texts(texts: Mapping[str, str]) -> dict[str, NDArray[Any]]:
    return {name: np.array(text, np.str_) for name, text in texts.items()}
