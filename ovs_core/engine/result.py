"""What a person, a file or a test gets: one label per pixel of the photo, and what it means."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ovs_core.edit.record import Edit, apply_edits
from ovs_core.engine.labelling import Winners
from ovs_core.evidence.decide import summarise
from ovs_core.evidence.protocol import Evidence
from ovs_core.export.detections import to_detections
from ovs_core.export.files import save_result
from ovs_core.options import Options, Preset
from ovs_core.types import ClassSummary, LabelMap, View, Vocabulary

if TYPE_CHECKING:
    from supervision import Detections


@dataclass(frozen=True, eq=False)
class Result:
    """One answer.

    Attributes:
        image: the photo, upright, (H, W, 3) uint8 RGB, at the size of the labels.
        label_map: (H, W) labels, 0 = other, k = k-th class as typed, with names and colours.
        confidence: (H, W) float16, probability of what each label was decided by, in [0, 1].
        vocabulary: what was asked.
        classes: one summary per class in typed order, then "other" (label 0) if the vocabulary has `other`
            names or it won pixels.
        method: registry name of the method, e.g. "naclip".
        encoder: registry name of the tower, e.g. "mini".
        weights: file name -> SHA-256 of every weight file that made this answer.
        preset: settings used of frame, prompts and labels.
        refiner: "none" or the refiner's registry name.
        seconds: stage name -> seconds spent; a stage answered from a cache is absent.
        evidence: what labels are made of; re-labelling starts here. Classes that were switched off
            (`Engine.relabel(without=...)`) are its `excluded`.
        options: value of every option that was declared, by name.
        views: intermediate quantities that were asked for.
        notes: what was out of the ordinary in answering, one sentence each, to be shown to the user.
        source: file name of the photo with its ending, "" if it had none; files are named after it.
        edits: what was put right by hand since, in order; `label_map` and `classes` are after them.
        exemplars: name, and SHA-256 of its photo's pixels, of every box that was asked for besides words.
        unrefined: evidence as the method gave it, where another refiner starts; None without a refiner.
        photo: the photo at its own size, where `image` is a smaller copy of it; None where it is not.
        winners: where a step of the threshold starts; None for many pixels.
    """

    image: NDArray[np.uint8]
    label_map: LabelMap
    confidence: NDArray[np.float16]
    vocabulary: Vocabulary
    classes: tuple[ClassSummary, ...]
    method: str
    encoder: str
    weights: Mapping[str, str]
    preset: Preset
    refiner: str
    seconds: Mapping[str, float]
    evidence: Evidence
    options: Options = field(default_factory=dict)
    views: tuple[View, ...] = ()
    notes: tuple[str, ...] = ()
    source: str = ""
    edits: tuple[Edit, ...] = ()
    exemplars: tuple[tuple[str, str], ...] = ()
    unrefined: Evidence | None = None
    photo: NDArray[np.uint8] | None = None
    winners: Winners | None = None

    def __post_init__(self) -> None:
        height, width = self.image.shape[:2]
        for name, value in (("label_map", self.label_map), ("confidence", self.confidence)):
            if value.shape != (height, width):
                raise ValueError(f"{name} must be {(height, width)}, got {value.shape}")

    @property
    def labels(self) -> NDArray[np.integer]:
        """(H, W) uint8, or uint16 above 255 classes; 0 = other, k = k-th class as typed."""
        return self.label_map.labels

    @property
    def photo_size(self) -> tuple[int, int]:
        """(H, W) of the photo in pixels; `Engine.relabel` gives labels of this size."""
        height, width = (self.image if self.photo is None else self.photo).shape[:2]
        return height, width

    @property
    def switches(self) -> tuple[str, ...]:
        """Names of the switches that were on."""
        return tuple(sorted(name for name, value in self.options.items() if value is True))

    def edited(self, edits: Iterable[Edit]) -> Result:
        """The same answer with more of it put right by hand; the legend is measured anew.

        Raises:
            ValueError: for an edit that cannot be done, or labels that are not of the photo's own size; one
                sentence.
        """
        if self.photo is not None:
            raise ValueError(
                f"edits are in pixels of the photo: relabel it at its own size, {self.photo_size}"
            )
        more = tuple(edits)
        label_map = apply_edits(self.label_map, more, self.confidence)
        classes = summarise(label_map, self.confidence, self.vocabulary)
        return replace(self, label_map=label_map, classes=classes, edits=(*self.edits, *more))

    def detections(self, *, parts: bool = False) -> Detections:
        """The answer as `supervision.Detections`; see `ovs_core.export.detections.to_detections`."""
        return to_detections(self, parts=parts)

    def save(
        self, folder: str | Path, stem: str | None = None, formats: Iterable[str] = ()
    ) -> tuple[Path, ...]:
        """Write label map, overlay and report, and `formats`, named after the photo unless `stem` says how.

        See `ovs_core.export.files.save_result`.
        """
        return save_result(self, folder, stem, formats)
