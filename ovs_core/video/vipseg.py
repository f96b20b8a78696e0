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
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ovs_core.engine import Engine
from ovs_core.image import read_photo
from ovs_core.types import Vocabulary
from ovs_core.video.clips import VideoError
from ovs_core.video.consistency import Consistency, FlickerCount, harmonic_mean, mean_over
from ovs_core.video.segment import VideoSettings

UNSEEN = frozenset(
    {
        *("pillar", "ice", "grandstand", "tyre", "box", "basket"),
        *("trash_can", "bathtub", "fan", "blackboard", "printer", "instrument"),
    }
)
UNKNOWN = -1  # in truth: void
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


def read_truth(path: Path, classes: tuple[VipSegClass, ...]) -> NDArray[np.int16]:
    """Place of each pixel's class in `classes`, (H, W), UNKNOWN where it is void."""
    with Image.open(path) as picture:
        values = np.asarray(picture, dtype=np.int32)
    number = np.where(values > LARGEST_CLASS, values // 100, values) - 1
    things = np.array([entry.thing for entry in classes])
    void = (number < 0) | (number >= len(classes))
    void |= (values > LARGEST_CLASS) & ~things[number.clip(0, len(classes) - 1)]
    return np.where(void, UNKNOWN, number).astype(np.int16)


@dataclass(frozen=True)
class VideoScores:
    """How good and how quiet the answers were.

    Attributes:
        iou: of each class over all frames, NaN where it was neither there nor answered.
        seen, unseen: mean IoU of GKC's seen and unseen classes.
        harmonic: of the two.
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
        return mean_over(self.iou, range(len(self.iou)))


def measure_vipseg(engine: Engine, data: VipSeg, settings: VideoSettings) -> VideoScores:
    """Ask for all classes in every frame and compare.

    Args:
        engine: answers.
        data: from `open_vipseg`.
        settings: method, encoder, refiner and options; smoothing and opacity are not read.

    Raises:
        ValueError: as `Engine.segment`.
    """
    count = len(data.classes)
    confusion = np.zeros((count, count + 1), np.int64)  # truth down; last column: nothing answered
    windows = {length: list[float]() for length in CONSISTENCY_LENGTHS}
    changed, still, frames = 0, 0, 0
    for clip in data.clips:
        quiet = {length: Consistency(length) for length in CONSISTENCY_LENGTHS}
        flicker = FlickerCount()
        for pixels, truth, labels in _answers(engine, data, clip, settings):
            frames += 1
            known = truth != UNKNOWN
            answered = np.where(labels == 0, count, labels.astype(np.int64) - 1)
            pairs = truth[known].astype(np.int64) * (count + 1) + answered[known]
            confusion += np.bincount(pairs, minlength=confusion.size).reshape(confusion.shape)
            flicker.add(labels, pixels)
            for own in quiet.values():
                own.add(truth, answered == truth)
        changed, still = changed + flicker.changed, still + flicker.still
        for length, own in quiet.items():
            windows[length] += own.scores
    iou = _iou(confusion)
    unseen = [place for place, entry in enumerate(data.classes) if entry.name in UNSEEN]
    seen = [place for place in range(count) if place not in unseen]
    means = mean_over(iou, seen), mean_over(iou, unseen)
    return VideoScores(
        iou,
        *means,
        harmonic_mean(*(0.0 if np.isnan(mean) else mean for mean in means)),
        {length: float(np.mean(own)) if own else None for length, own in windows.items()},
        changed / still if still else None,
        frames,
    )


def _answers(
    engine: Engine, data: VipSeg, clip: VipSegClip, settings: VideoSettings
) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.int16], NDArray[np.integer]]]:
    """Pixels, truth and labels of each frame."""
    for frame, mask in zip(clip.frames, clip.masks, strict=True):
        photo, truth = read_photo(frame), read_truth(mask, data.classes)
        if truth.shape != photo.size:
            raise VideoError(f"{mask} has another size than {frame}.")
        result = engine.segment(
            photo,
            data.vocabulary,
            method=settings.method,
            encoder=settings.encoder,
            refiner=settings.refiner,
            options=settings.options,
        )
        yield photo.pixels, truth, result.labels


def _iou(confusion: NDArray[np.int64]) -> tuple[float, ...]:
    """IoU of each class, NaN where it was neither true nor answered."""
    right = np.diag(confusion).astype(float)
    union = confusion.sum(axis=1) + confusion[:, :-1].sum(axis=0) - right
    with np.errstate(invalid="ignore", divide="ignore"):
        return tuple((right / union).tolist())
