"""MVP-SEG+: MVP-SEG's student answers, CLIP's transformer does not look at the photo.

Paper: MVP-SEG (arXiv 2304.06957), second stage, after MaskCLIP+ (arXiv 2112.01071, section 3.4). The student
has learnt seen classes from their masks and unseen ones from what its teacher and itself found
(`ovs_core.training.mvp_seg_plus`).

    f(x) = student(photo);  score_c(x) = <f(x), T_c>,  T_c = sum_i t_i^c;  label = argmax_c

Evidence is these logits; at scale 1 probabilities are those it was trained with.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ovs_core.devices import Cancel, Report, advance
from ovs_core.encoders.base import ImageEncoder, Remember, made_anew, stem_name
from ovs_core.encoders.upsampling import sharpen
from ovs_core.evidence.score_map import ScoreMap
from ovs_core.image import frame_size, to_frame
from ovs_core.methods.base import Answer, Kinds, Point, check_point, similarity_view
from ovs_core.methods.mvp_seg.model import MvpSeg
from ovs_core.methods.mvp_seg.student import Student, classify
from ovs_core.options import Options, Preset
from ovs_core.types import Features, TextBank, View

STUDENT_TEACHER = "student_teacher"


@dataclass(frozen=True, eq=False)
class StudentFeatures:
    """What the student says about a photo, before any word is known.

    Attributes:
        image_size: (H, W) of the photo in its own pixels.
        features: in the joint space, not normalised, (D, h, w) float32.
        upsampling_weights: how finer positions take after cells, (9, 4h, 4w), or None.
        teacher: what the teacher starts from; None where nobody asked for it.
    """

    image_size: tuple[int, int]
    features: Tensor
    upsampling_weights: Tensor | None = None
    teacher: Features | None = None

    @property
    def nbytes(self) -> int:
        """Bytes held, for the cache budget."""
        more = 0 if self.teacher is None else self.teacher.nbytes
        weights = 0 if self.upsampling_weights is None else self.upsampling_weights.nbytes
        return self.features.nbytes + weights + more


@dataclass(frozen=True, eq=False)
class StudentEncoder:
    """The slow half: one pass of the student over the whole photo.

    Attributes:
        student: in evaluation mode.
        identity: its tower, file and precision in one string.
        device: where it lives.
        teacher: encoder of the teacher's tokens; None leaves them out.
        stem_of: identity of the tower whose stem is the trunk; "" where it is none.
    """

    student: Student
    identity: str
    device: torch.device
    teacher: ImageEncoder[Features] | None = None
    stem_of: str = ""

    @torch.no_grad()
    def encode(
        self,
        pixels: NDArray[np.uint8],
        preset: Preset,
        *,
        progress: Report = None,
        cancel: Cancel = None,
        remember: Remember = made_anew,
    ) -> StudentFeatures:
        """Features of a photo, as `ovs_core.encoders.base.ImageEncoder` says; windows are not read.

        The embedded student's trunk is the stem of its tower.
        """
        height, width = pixels.shape[:2]
        stride = self.student.stride
        size = frame_size((height, width), preset.short_side, stride)
        advance(0, 1, progress, cancel)
        mean, std = (part.flatten().tolist() for part in (self.student.mean, self.student.std))
        whole = [(0, 0, size[0] // stride, size[1] // stride)]  # as a tower's tokens name it
        trunk, weights = remember(
            f"{stem_name(self.stem_of, mean, std, size)}|{whole}",
            lambda: self.student.trunk_map(to_frame(pixels, size).to(self.device)[None]),
        )
        features = self.student.head(trunk.float())[0]
        tokens = None if self.teacher is None else self.teacher.encode(pixels, preset, cancel=cancel)
        advance(1, 1, progress, cancel)
        fine = None if weights is None else weights[0]
        return StudentFeatures((height, width), features, fine, tokens)

    @property
    def shares_stem(self) -> bool:
        """Whether the trunk is the embedded stem."""
        return bool(self.stem_of) and self.student.frozen

    def features_identity(self, preset: Preset) -> str:
        """What presets of equal features agree on; the cache key."""
        own = f"{self.identity}|{preset.short_side}"
        return own if self.teacher is None else f"{own}|{self.teacher.features_identity(preset)}"


@dataclass(frozen=True, eq=False)
class MvpSegPlus:
    """The quick half.

    Attributes:
        views: how many of the text's leading axis are views; the global prompt before them names nothing.
        teacher: MVP-SEG with the same contexts, asked for a view only.
    """

    views: int
    teacher: MvpSeg

    @torch.no_grad()
    def ask(
        self,
        features: StudentFeatures,
        text: TextBank,
        options: Options,
        *,
        views: Kinds = frozenset(),
        point: Point = None,
    ) -> Answer:
        """Evidence for every name of `text`, embedded in the teacher's contexts (`ContextText`).

        Views: "similarity", the cosine of features and T_c; "student_teacher", the best class of both.

        Raises:
            ValueError: if features and text differ in width.
        """
        check_point(point)
        classes = text.embeddings[-self.views :].sum(dim=0).to(features.features)  # T, (S, D)
        if classes.shape[1] != features.features.shape[0]:
            raise ValueError(f"text must be {features.features.shape[0]} wide, got {classes.shape[1]}")
        coarse = classify(features.features[None], classes)[0]
        weights = features.upsampling_weights
        scores = coarse if weights is None else sharpen(coarse, weights)
        answer = Answer(ScoreMap(scores, text.vocabulary, features.image_size))
        shown: list[View] = []
        if "similarity" in views:
            cosines = F.normalize(classes, dim=1), F.normalize(features.features, dim=0)
            near = ScoreMap(classify(cosines[1][None], cosines[0])[0], text.vocabulary, features.image_size)
            shown.append(similarity_view("Cosine of the student's features with each class", near))
        if STUDENT_TEACHER in views and features.teacher is not None:
            shown.append(self._beside_teacher(features.teacher, scores, text))
        return Answer(answer.evidence, tuple(shown))

    def _beside_teacher(self, tokens: Features, student: Tensor, text: TextBank) -> View:
        """Best class of every place by the student's scores (S, h, w) and its teacher's, (2, h, w)."""
        taught = self.teacher.ask(tokens, text, {}).evidence
        if not isinstance(taught, ScoreMap):
            raise TypeError("a teacher answers with a score map")
        rows = F.interpolate(taught.rows[None].float(), size=student.shape[1:], mode="bilinear")[0]
        label = torch.tensor(text.vocabulary.row_label, device=student.device)
        maps = torch.stack([label[scores.argmax(dim=0)] for scores in (student, rows)]).float()
        limits = (0.0, float(len(text.vocabulary.names)))
        return View(STUDENT_TEACHER, "Labels of student and teacher", maps, ("student", "teacher"), limits)
