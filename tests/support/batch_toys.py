"""A stand-in for the engine that is quick and can be sent to another process, and photos to ask it about."""

import functools
import os
import sys
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from ovs_core.batch.cluster import Cluster, label_on_ray
from ovs_core.batch.plan import Answerer, BatchPlan
from ovs_core.batch.rows import Row, header_of, row_of
from ovs_core.batch.sources import Source, without
from ovs_core.batch.tables import done_ids
from ovs_core.engine import Result
from ovs_core.engine.labelling import label_classes
from ovs_core.evidence.decide import summarise
from ovs_core.evidence.proposals import MaskProposals
from ovs_core.evidence.score_map import ScoreMap
from ovs_core.image import Photo
from ovs_core.options import Preset
from ovs_core.types import LabelMap, Vocabulary
from ovs_core.vocabulary import parse_vocabulary

PLAN = BatchPlan(parse_vocabulary("dog; grass", "sky"))


def make_result(labels, evidence=None) -> Result:
    """A result of dog and grass with these labels (H, W)."""
    labels = np.asarray(labels).astype(np.uint8)
    vocabulary = Vocabulary((("dog",), ("grass",)), ("sky",))
    if evidence is None:
        evidence = ScoreMap(torch.zeros(3, 2, 3), vocabulary, labels.shape)
    label_map = LabelMap(labels, label_classes(evidence.vocabulary))
    confidence = np.full(labels.shape, 0.5, np.float16)
    return Result(
        image=np.full((*labels.shape, 3), 100, np.uint8),
        label_map=label_map,
        confidence=confidence,
        vocabulary=evidence.vocabulary,
        classes=summarise(label_map, confidence, evidence.vocabulary),
        method="naclip",
        encoder="mini",
        weights={"mini.safetensors": "ab" * 32},
        preset=Preset(40.0, 0.0, 336, None, 0, "single1"),
        refiner="none",
        seconds={"method": 0.25},
        evidence=evidence,
    )


def make_mask_result(masks, scores) -> Result:
    """A result with masks (N, H, W) of 0 and 1, one frame pixel a cell: exact edges."""
    masks, scores = np.asarray(masks), torch.tensor(scores)
    vocabulary = Vocabulary((("dog",), ("grass",)))
    logits = torch.from_numpy(np.where(masks > 0, 8.0, -8.0)).float()
    size = masks.shape[1:]
    proposals = MaskProposals(logits, scores, 1 - scores.sum(dim=1), vocabulary, size, size, size)
    return make_result(np.zeros(size), proposals)


def answer_by_brightness(plan: BatchPlan) -> Answerer:
    """Bright pixels are dog, the others grass; a photo 13 pixels wide is more than it can take."""

    def row(photo: Photo, photo_id: str, path: str) -> Row:
        if photo.size[1] == 13:
            raise RuntimeError("the model broke")
        labels = np.where(photo.pixels[..., 0] > 127, 1, 2)
        return row_of(make_result(labels), photo_id, path)

    return Answerer(header_of(make_result(np.ones((2, 3))), plan.settings), row)


def make_photos(folder: Path, number: int, size=(6, 9)) -> Path:
    """`photo-000.png` and so on, each with one more bright pixel than the one before."""
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(number):
        pixels = np.zeros((*size, 3), np.uint8)
        pixels.reshape(-1, 3)[: index + 1] = 255
        Image.fromarray(pixels).save(folder / f"photo-{index:03}.png")
    return folder


def sources_in(folder: Path) -> tuple[Source, ...]:
    """Every file of a folder by name."""
    return tuple(Source(path.name, str(path)) for path in sorted(folder.iterdir()))


def same_rows(first, second):
    """Whether rows are the same but for the time that they took."""
    return [replace(row, seconds=0.0) for row in first] == [replace(row, seconds=0.0) for row in second]


def noted_answers(plan: BatchPlan, notes: Path, blocked: str = "") -> Answerer:
    """The same; every photo that is asked about is noted, and one is never answered."""
    quick = answer_by_brightness(plan)

    def row(photo: Photo, photo_id: str, path: str) -> Row:
        with (notes / f"{os.getpid()}-{threading.get_ident()}").open("a") as file:
            file.write(f"{photo_id}\n")
        if photo_id == blocked:
            threading.Event().wait()
        return quick.row(photo, photo_id, path)

    return replace(quick, row=row)


def noted(notes: Path) -> list[str]:
    """Ids of all photos that were asked about, the probe left out."""
    return [line for file in notes.iterdir() for line in file.read_text().splitlines()]


def run_on_ray(address: str, folder: Path, blocked: str = "") -> None:
    """Label `folder/photos` into `folder/out`, what is left of them, three photos to a file."""
    out = str(folder / "out")
    left = without(sources_in(folder / "photos"), done_ids(out))
    notes = folder / ("first" if blocked else "second")
    notes.mkdir()
    make = functools.partial(noted_answers, notes=notes, blocked=blocked)
    cluster = Cluster(address, workers=1)
    for _ in label_on_ray(left, PLAN, out, cluster, rows_per_file=3, make=make):
        pass


if __name__ == "__main__":
    run_on_ray(sys.argv[1], Path(sys.argv[2]), *sys.argv[3:])
