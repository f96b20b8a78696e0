"""VIPSeg: clips with every pixel labelled, and how answers are measured: seen, unseen, how quiet.

Data set: Miao et al., CVPR 2022 (VIPSeg-Dataset/VIPSeg-Dataset), `imgs/CLIP/FRAME.jpg` (or `images`, as its
720P script writes), `panomasks/CLIP/FRAME.png`, `val.txt` with one clip a line,
`panoVIPSeg_categories.json`. A mask value is 0 for void, up to 124 the number of a class, above that 100
times the number of a thing's class and its instance. A value above 124 of a class that is no thing is a
known mistake of the data set (its issue 1) and counts as void. Unseen classes are those of GKC (arXiv
2303.09181).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ovs_core.engine import Engine
from ovs_core.image import read_photo
from ovs_core.labelled.mask_values import MaskValues, mask_values, read_mask
from ovs_core.metrics.confusion import class_iou, label_margins, mean_without_nan, seen_unseen
from ovs_core.render.palette import colors_for
from ovs_core.types import LabelClass, LabelMap, Vocabulary
from ovs_core.video.clips import VideoError
from ovs_core.video.consistency import Consistency, FlickerCount
from ovs_core.video.segment import VideoSettings

UNSEEN_NAMES = frozenset(
    {
        *("pillar", "ice", "grandstand", "tyre", "box", "basket"),
        *("trash_can", "bathtub", "fan", "blackboard", "printer", "instrument"),
    }
)
LARGEST_CLASS = 124
CONSISTENCY_LENGTHS = (8, 16)


@dataclass(frozen=True)
class VipSegClass:
    """One of 124 classes; things are told apart by instance."""

    name: str
    thing: bool


@dataclass(frozen=True)
class VipSegClip:
    """A labelled clip: photos and masks of its frames, in order."""

    name: str
    frames: tuple[Path, ...]
    masks: tuple[Path, ...]


@dataclass(frozen=True)
class VipSeg:
    """A part of the data set."""

    classes: tuple[VipSegClass, ...]
    clips: tuple[VipSegClip, ...]

    @property
    def vocabulary(self) -> Vocabulary:
        """All classes, as words; nothing else competes."""
        return Vocabulary(tuple((entry.name.replace("_", " "),) for entry in self.classes))

    @cached_property
    def values(self) -> MaskValues:
        """What the numbers in masks mean; void is not known."""
        numbers = range(1, min(len(self.classes), LARGEST_CLASS) + 1)
        things = [number for number, entry in enumerate(self.classes, start=1) if entry.thing]
        objects = ((100 * number + instance, number) for number in things for instance in range(100))
        pairs = [(number, number) for number in numbers]
        return mask_values([*pairs, *((value, number) for value, number in objects if value > LARGEST_CLASS)])

    @cached_property
    def label_classes(self) -> tuple[LabelClass, ...]:
        """The classes as a label map has them."""
        names = self.vocabulary.names
        colors = colors_for(names)
        return tuple(LabelClass(label, (name,), colors[label]) for label, name in enumerate(names, start=1))


def open_vipseg(root: Path, part: str = "val") -> VipSeg:
    """Read the index of a folder.

    Args:
        root: the data set's folder.
        part: name of a list of clips, "val" for `val.txt`.

    Raises:
        VideoError: if a file is missing or holds something else; one sentence.
    """
    try:
        entries = json.loads((root / "panoVIPSeg_categories.json").read_text(encoding="utf-8"))
        classes = tuple(
            VipSegClass(str(entry["name"]), bool(entry["isthing"]))
            for entry in sorted(entries, key=lambda entry: int(entry["id"]))
        )
        names = (root / f"{part}.txt").read_text(encoding="utf-8").split()
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise VideoError(f"{root} cannot be read as VIPSeg: {error}.") from error
    photos = next((root / name for name in ("imgs", "images") if (root / name).is_dir()), root / "imgs")
    return VipSeg(classes, tuple(_clip(photos, root / "panomasks", name) for name in names))


def _clip(photos: Path, masks: Path, name: str) -> VipSegClip:
    frames = tuple(sorted((photos / name).glob("*.jpg")))
    drawn = tuple(masks / name / f"{frame.stem}.png" for frame in frames)
    missing = [path for path in drawn if not path.is_file()]
    if not frames or missing:
        what = missing[0] if missing else photos / name
        raise VideoError(f"VIPSeg's clip {name} is not whole: {what} is missing.")
    return VipSegClip(name, frames, drawn)


def read_truth(path: Path, data: VipSeg, size: tuple[int, int] | None = None) -> LabelMap:
    """Truth of a frame; void is not known.

    Args:
        path: a file of `panomasks`.
        data: whose classes it has.
        size: (H, W) of its frame; None takes any.

    Raises:
        ValueError: if the mask is missing, damaged or of another size.
    """
    return data.values.truth(read_mask(path, size), data.label_classes)


@dataclass(frozen=True)
class VideoScores:
    """How good and how quiet the answers were.

    Attributes:
        iou: of each class over all frames, NaN where it was neither there nor answered.
        seen, unseen: mean IoU of GKC's seen and unseen classes.
        harmonic: of the two; as those NaN where there is no such class.
        consistency: frames -> mVC, the share of lasting pixels that are right all along; None without any.
        flicker: share of unmoved pixels whose label changed.
        frames: how many were asked.
    """

    iou: tuple[float, ...]
    seen: float
    unseen: float
    harmonic: float
    consistency: dict[int, float | None]
    flicker: float | None
    frames: int

    @property
    def mean(self) -> float:
        """Mean IoU over all classes that were there or answered."""
        return float(mean_without_nan(np.array(self.iou)))


def measure_vipseg(engine: Engine, data: VipSeg, settings: VideoSettings) -> VideoScores:
    """Ask for all classes in every frame and compare.

    Args:
        engine: answers.
        data: from `open_vipseg`.
        settings: method, encoder, refiner and options; smoothing and opacity are not read.

    Raises:
        ValueError: as `Engine.segment`.
    """
    count = len(data.classes) + 1  # "other" is a class of answers, never of the truth
    total = np.zeros((3, count), np.int64)
    windows = {length: list[float]() for length in CONSISTENCY_LENGTHS}
    changed, still, frames = 0, 0, 0
    for clip in data.clips:
        quiet = {length: Consistency(length) for length in CONSISTENCY_LENGTHS}
        flicker = FlickerCount()
        for pixels, truth, labels in _answers(engine, data, clip, settings):
            frames += 1
            total += label_margins(truth.labels, labels, count, truth.known)
            flicker.add(labels, pixels)
            for windowed in quiet.values():
                windowed.add(truth, labels == truth.labels)
        changed, still = changed + flicker.changed, still + flicker.still
        for length, windowed in quiet.items():
            windows[length] += windowed.scores
    total = total[:, 1:]
    unseen = [place for place, entry in enumerate(data.classes) if entry.name in UNSEEN_NAMES]
    seen, new, harmonic = seen_unseen(total, unseen, "either").tolist()
    return VideoScores(
        tuple(class_iou(total, "either").tolist()),
        seen,
        new,
        harmonic,
        {length: float(np.mean(scores)) if scores else None for length, scores in windows.items()},
        changed / still if still else None,
        frames,
    )


def _answers(
    engine: Engine, data: VipSeg, clip: VipSegClip, settings: VideoSettings
) -> Iterator[tuple[NDArray[np.uint8], LabelMap, NDArray[np.integer]]]:
    """Pixels, truth and labels of each frame."""
    for frame, mask in zip(clip.frames, clip.masks, strict=True):
        photo = read_photo(frame)
        truth = read_truth(mask, data, photo.size)
        result = engine.segment(
            photo,
            data.vocabulary,
            method=settings.method,
            encoder=settings.encoder,
            refiner=settings.refiner,
            options=settings.options,
        )
        yield photo.pixels, truth, result.labels
