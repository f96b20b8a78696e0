"""The pictures of the model card: sample photos beside what the embedded model makes of them.

Each picture is the photo, the answer with the app's defaults, and the legend. The captions in the model card
are written by a person who has looked: with new weights, look again and write them anew.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ovs_core.engine import Engine, Result
from ovs_core.render.legend import percent, shrunk, with_legend
from ovs_core.render.overlay import paint

REPOSITORY = Path(__file__).resolve().parents[2]
PHOTOS = REPOSITORY / "assets" / "photos"
PICTURES = REPOSITORY / "checkpoints" / "mini" / "pictures"
SIDE = 320  # pixels of the longer side of photo and answer
GAP = 8
QUALITY = 85


@dataclass(frozen=True)
class Case:
    """One picture: the name of its file, a sample photo, and what is typed about it."""

    name: str
    photo: str
    words: str


CASES = (
    Case("cat", "cat.jpg", "cat"),
    Case("temple", "temple.jpg", "temple | building; sky; trees"),
    Case("camera", "camera.jpg", "man; camera; tripod; sky; grass"),
    Case("coffee", "coffee.jpg", "cup; saucer; spoon; table"),
    Case("astronaut", "astronaut.jpg", "woman; helmet; flag; space shuttle"),
    Case("parts", "astronaut.jpg", "face; hair; orange suit"),
    Case("rocket", "rocket.jpg", "rocket; sky; ground"),
    Case("absent", "cat.jpg", "dog"),
)


def side_by_side(result: Result, side: int = SIDE) -> NDArray[np.uint8]:
    """Photo and labelled photo, each at most `side` pixels long, and the legend below: (H, W, 3)."""
    image, labels = shrunk(result.image, result.labels, side)
    gap = np.full((image.shape[0], GAP, 3), 255, np.uint8)
    return with_legend(
        np.hstack([image, gap, paint(image, labels, result.label_map.color_table)]), result.classes
    )


def write_pictures(engine: Engine, out: Path) -> Iterator[str]:
    """Write every picture into a folder; yields a line for each, of what was typed and what each class won.

    Raises:
        ValueError: if a photo cannot be read.
    """
    out.mkdir(parents=True, exist_ok=True)
    for case in CASES:
        result = engine.segment(PHOTOS / case.photo, case.words)
        path = out / f"{case.name}.jpg"
        Image.fromarray(side_by_side(result)).save(path, quality=QUALITY, optimize=True)
        won = ", ".join(f"{summary.names[0]} {percent(summary.area_share)}" for summary in result.classes)
        yield f"{path.name} ({path.stat().st_size / 1000:.0f} KB): typed `{case.words}`; {won}"
