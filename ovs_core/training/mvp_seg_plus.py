"""Recipe of MVP-SEG+ (arXiv 2304.06957, after MaskCLIP+, arXiv 2112.01071, section 3.4): a student network.

Transductive: names of unseen classes are known while training, their masks are not. Pixels of seen classes
keep their labels; pixels of unseen classes are marked UNLISTED and get, in the first part of the run, the
teacher's best unseen class (pseudo labels), and afterwards the student's own best one (self-training). The
student is a DeepLabv2 with a classifier of words (`ovs_core.methods.mvp_seg.student`), so that any name can
be asked later.

Teacher's scores, the soft-max included, are taken among the unseen classes alone; MaskCLIP+'s official
pseudo labels come out only so. Every marked pixel gets an unseen label, so the lists must be right.

Deviations: the house's AdamW instead of SGD with a polynomial rate; on the embedded model the trunk is its
frozen stem, so that crops pass it once and a step costs the head alone, and the head starts at what a linear
convolution can say of its teacher (`ovs_core.training.mvp_seg_start`).
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from ovs_core.encoders.clip_resnet import ResNetEncoder, is_resnet
from ovs_core.encoders.clip_vit import VisionEncoder, tokens_and_taps
from ovs_core.methods.mvp_seg.model import ContextText, MvpSeg, dense_features
from ovs_core.methods.mvp_seg.student import (
    EMBEDDED_TRUNK,
    Student,
    TrainedStudent,
    classify,
    make_student,
    save_student,
)
from ovs_core.options import Preset
from ovs_core.training.data import Sample, Sampler, crop_sample
from ovs_core.training.loop import Schedule, fit, seed_torch
from ovs_core.training.mvp_seg_start import FeaturesOf, some_of, start_at_teacher
from ovs_core.training.plans import keep_recipe, plan_from_json
from ovs_core.training.split_photos import Photos
from ovs_core.types import IGNORE, UNLISTED, Vocabulary, Window
from ovs_core.vocabulary.splits import spoken_name

log = logging.getLogger(__name__)

TeacherScores = Callable[[Sequence[Sample]], Tensor]
"""Crops to logits of the unseen classes, (B, U, h, w)."""
TrunkMap = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Teacher:
    """What a student is told.

    Attributes:
        scores: guesses for pixels of unseen classes.
        features: from what the tower's own stem made of a crop, (C, h, w), to MaskCLIP's features, (D, h, w);
            a student on that stem starts there.
        scale: its tau1.
    """

    scores: TeacherScores
    features: FeaturesOf | None = None
    scale: float = 1.0


@dataclass(frozen=True)
class Lessons:
    """What a student learns from.

    Attributes:
        seen: names whose masks are known.
        unseen: names without masks.
        draw: photos whose labels are indices into `seen`, UNLISTED where one of `unseen` is, or IGNORE.
    """

    seen: tuple[str, ...]
    unseen: tuple[str, ...]
    draw: Sampler


def lessons_of(photos: Photos) -> Lessons:
    """Photos of one data set with its split, each as often as the others."""

    def draw(rng: np.random.Generator) -> Sample:
        return photos.sample(int(rng.integers(len(photos.paths))), unseen=UNLISTED)

    return Lessons(tuple(map(spoken_name, photos.seen)), tuple(map(spoken_name, photos.unseen)), draw)


STARTING = 300  # crops that its start is worked out on


class KeptLessons(NamedTuple):
    """Crops behind a frozen trunk.

    Attributes:
        maps: what the trunk makes of them, (N, C, h, w) float16.
        labels: as drawn, and with the teacher's word on marked pixels, (N, 2, H', W') int16.
    """

    maps: NDArray[np.float16]
    labels: NDArray[np.int16]


@dataclass(frozen=True)
class PlusPlan:
    """The recipe in numbers; lengths and rates are for a few hundred photos, published ones in brackets.

    Attributes:
        trunk: "embedded" is the embedded model's stem, frozen; else a timm network, e.g. "resnet101c"
            (published), which starts untrained and is trained.
        side: training crop, pixels (512).
        short_side: range of the photo's shorter side before cropping, pixels.
        label_stride: pixels per label that the loss sees (1).
        steps: in all (20,000 for VOC).
        teacher_part: part of the steps with the teacher's labels (0.1).
        batch: crops a step (16).
        kept: crops that are drawn once for a frozen trunk.
        rate: peak learning rate of the head, small as it starts at the teacher; 1e-3 suits timm trunks. The
            trunk's is `trunk_factor` times that.
        trunk_factor: see `rate`.
        confidence: a guess below this probability among the unseen classes is left out; 0 keeps all (0).
        seed: of everything that is drawn.
    """

    trunk: str = EMBEDDED_TRUNK
    side: int = 384
    short_side: tuple[int, int] = (320, 720)
    label_stride: int = 4
    steps: int = 400
    teacher_part: float = 0.1
    batch: int = 8
    kept: int = 1600
    rate: float = 4e-6
    trunk_factor: float = 0.1
    confidence: float = 0.0
    seed: int = 0


def plus_plan(values: Mapping[str, Any]) -> PlusPlan:
    """Read a recipe from JSON; what is left out keeps its default.

    Raises:
        ValueError: for a name that no recipe has.
    """
    return plan_from_json(PlusPlan(), values)


def fill_unseen(labels: Tensor, logits: Tensor, first_unseen: int, confidence: float = 0.0) -> Tensor:
    """Labels whose UNLISTED pixels have the best unseen class, (B, H, W).

    Args:
        labels: class, UNLISTED or IGNORE, (B, H, W).
        logits: of the unseen classes, (B, U, h, w), upsampled here (bilinear, half-pixel centres).
        first_unseen: class number of the first of them.
        confidence: guesses whose soft-max over the U classes is below this become IGNORE.
    """
    fine = F.interpolate(logits, size=labels.shape[1:], mode="bilinear", align_corners=False)
    guess = fine.argmax(dim=1) + first_unseen
    if confidence:
        guess = guess.masked_fill(fine.softmax(dim=1).amax(dim=1) < confidence, IGNORE)
    return torch.where(labels == UNLISTED, guess, labels)


def pixel_loss(logits: Tensor, labels: Tensor, first_unseen: int, confidence: float = 0.0) -> Tensor:
    """Cross-entropy over all classes, IGNORE left out, a scalar; marked pixels get the student's own word.

    Args:
        logits: of all classes, (B, C, h, w), upsampled here.
        labels: class, UNLISTED or IGNORE, (B, H', W'); those that a teacher filled hold no UNLISTED.
        first_unseen: class number of the first unseen class.
        confidence: see `fill_unseen`.
    """
    labels = fill_unseen(labels, logits[:, first_unseen:].detach(), first_unseen, confidence)
    fine = F.interpolate(logits, size=labels.shape[1:], mode="bilinear", align_corners=False)
    counted = (labels != IGNORE).sum().clamp(min=1)
    return F.cross_entropy(fine, labels, ignore_index=IGNORE, reduction="sum") / counted


def mvp_teacher(
    vision: VisionEncoder | ResNetEncoder, method: MvpSeg, text: ContextText, unseen: Sequence[str]
) -> Teacher:
    """MVP-SEG among the unseen classes: logits tau1 sum_i m_i + log g."""
    bank = text.embed(Vocabulary(tuple((name,) for name in unseen)))

    def scores(crops: Sequence[Sample]) -> Tensor:
        scored = []
        for crop in crops:
            preset = Preset(1.0, 0.0, crop.pixels.shape[0], None, 0, "single1")
            answer = method.ask(vision.encode(crop.pixels, preset), bank, {})
            scored.append(answer.evidence.rows.cpu())
        return torch.stack(scored)

    visual = vision.visual
    if is_resnet(visual):
        return Teacher(scores)

    def features(patches: Tensor) -> Tensor:
        tokens = tokens_and_taps(visual, patches[None]).tokens[0]
        return dense_features(visual, Window(0, 0, (patches.shape[1], patches.shape[2]), tokens))

    return Teacher(scores, features, method.contexts.tau1)


def kept_lessons(
    trunk: TrunkMap, lessons: Lessons, teacher: TeacherScores, plan: PlusPlan, folder: Path
) -> KeptLessons:
    """Draw `plan.kept` crops once and keep what a frozen trunk makes of them, read from `folder` if there.

    Args:
        trunk: crops (B, 3, side, side) in [0, 1] to (B, C, h, w).
        lessons: what is drawn.
        teacher: guesses for marked pixels, made once.
        plan: the recipe.
        folder: of the run.
    """
    folder.mkdir(parents=True, exist_ok=True)
    maps, labels = (folder / f"{what}.npy" for what in ("trunk", "labels"))
    if not (maps.exists() and labels.exists()):
        partial, stored, drawn = maps.with_suffix(".part"), None, []
        for number in range(plan.kept):
            crop = _crop(lessons, plan, np.random.default_rng((plan.seed, number)))
            values = trunk(_frames([crop]))[0].half().numpy()
            if stored is None:
                shape = (plan.kept, *values.shape)
                stored = np.lib.format.open_memmap(partial, mode="w+", dtype=np.float16, shape=shape)
            stored[number] = values
            drawn.append(torch.cat([_labels([crop], plan), _taught([crop], plan, lessons, teacher)]))
            if (number + 1) % 100 == 0:
                log.info("%d of %d crops", number + 1, plan.kept)
        partial.replace(maps)
        np.save(labels, torch.stack(drawn).numpy().astype(np.int16))
    return KeptLessons(np.load(maps, mmap_mode="r"), np.load(labels))


def fit_student(
    student: Student, embeddings: Tensor, lessons: Lessons, teacher: Teacher, plan: PlusPlan, out: Path
) -> None:
    """Train a student in place, first on the teacher's labels, then on its own.

    Args:
        student: what learns; of one on a frozen trunk the head, from crops that are kept in `out`.
        embeddings: T of `lessons.seen`, then of `lessons.unseen`, (C, D); fixed.
        lessons: crops with masks of seen classes; where there is an unseen one they only say "unseen".
        teacher: guesses in the first part; a student on a frozen stem starts at its features.
        plan: the recipe.
        out: folder of the run; a stopped run goes on from there.
    """
    first, until = len(lessons.seen), round(plan.teacher_part * plan.steps)
    kept: KeptLessons | None = None
    if student.frozen:
        student.eval()
        kept = kept_lessons(lambda frames: student.trunk_map(frames)[0], lessons, teacher.scores, plan, out)
        if teacher.features is not None:
            start_at_teacher(student.head, some_of(kept.maps, STARTING), teacher.features, teacher.scale)

    def step_loss(step: int, rng: np.random.Generator) -> dict[str, Tensor]:
        if kept is None:
            student.learnt.train()
            crops = [_crop(lessons, plan, rng) for _ in range(plan.batch)]
            features = student(_frames(crops))
            labels = _taught(crops, plan, lessons, teacher.scores) if step < until else _labels(crops, plan)
        else:
            chosen = rng.choice(len(kept.labels), size=min(plan.batch, len(kept.labels)), replace=False)
            features = student.head(torch.from_numpy(kept.maps[np.sort(chosen)].astype(np.float32)))
            of_both = torch.from_numpy(kept.labels[np.sort(chosen)].astype(np.int64))
            labels = of_both[:, 1 if step < until else 0]
        return {"ce": pixel_loss(classify(features, embeddings), labels, first, plan.confidence)}

    schedule = Schedule(plan.steps, min(50, max(1, plan.steps // 10)), weight_decay=5e-4, seed=plan.seed)
    parts: list[tuple[nn.Module, float]] = [(student.head, plan.rate)]
    if not student.frozen:
        parts.append((student.trunk, plan.rate * plan.trunk_factor))
    fit(student.learnt, parts, step_loss, schedule, out)
    student.eval()


def _crop(lessons: Lessons, plan: PlusPlan, rng: np.random.Generator) -> Sample:
    return crop_sample(lessons.draw(rng), plan.side, plan.short_side, rng)


def _frames(crops: Sequence[Sample]) -> Tensor:
    """Crops as (B, 3, side, side) in [0, 1]."""
    return torch.from_numpy(np.stack([crop.pixels for crop in crops])).permute(0, 3, 1, 2).float() / 255


def _labels(crops: Sequence[Sample], plan: PlusPlan) -> Tensor:
    """Labels that the loss sees, (B, H', W') int64."""
    rows = slice(plan.label_stride // 2, None, plan.label_stride)
    return torch.from_numpy(np.stack([crop.labels[rows, rows] for crop in crops]).astype(np.int64))


def _taught(crops: Sequence[Sample], plan: PlusPlan, lessons: Lessons, teacher: TeacherScores) -> Tensor:
    """Labels whose marked pixels have the teacher's word, (B, H', W')."""
    labels = _labels(crops, plan)
    if not (labels == UNLISTED).any():
        return labels
    return fill_unseen(labels, teacher(crops), len(lessons.seen), plan.confidence)


def train_mvp_seg_plus(
    vision: VisionEncoder | ResNetEncoder,
    method: MvpSeg,
    text: ContextText,
    lessons: Lessons,
    plan: PlusPlan,
    out: Path,
) -> Path:
    """Train a student of `method`; skipped where the result is there.

    Args:
        vision: image tower of the teacher.
        method: MVP-SEG with trained contexts.
        text: its text half.
        lessons: with seen and unseen classes.
        plan: the recipe.
        out: working folder; `mvp_seg_plus.safetensors` ends there.

    Raises:
        FileExistsError: if `out` holds a run of another recipe, classes or tower.
        ValueError: if the plan's trunk is not there.
    """
    seed_torch(plan.seed, 0)
    embeddings = summed_embeddings(text, (*lessons.seen, *lessons.unseen))
    student = make_student(plan.trunk, method.visual, embeddings.shape[1])
    classes = {"seen": list(lessons.seen), "unseen": list(lessons.unseen)}
    keep_recipe(dataclasses.asdict(plan) | classes | {"tower": method.contexts.tower}, out)
    path = out / "mvp_seg_plus.safetensors"
    if path.exists():
        log.info("%s is there, training skipped", path.name)
        return path
    fit_student(student, embeddings, lessons, mvp_teacher(vision, method, text, lessons.unseen), plan, out)
    trained = TrainedStudent(plan.trunk, {}, text.contexts, lessons.seen, lessons.unseen)
    return save_student(student, trained, path)


def summed_embeddings(text: ContextText, names: Sequence[str]) -> Tensor:
    """T (C, D) of names: their prompts summed over the views."""
    prompts = text.embed(Vocabulary(tuple((name,) for name in names))).embeddings
    return prompts[-text.contexts.k :].sum(dim=0).detach().cpu()
