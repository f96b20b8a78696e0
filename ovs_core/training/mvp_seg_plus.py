"""Recipe of MVP-SEG+ (arXiv 2304.06957, after MaskCLIP+, arXiv 2112.01071, section 3.4): a student network.

Transductive: names of unseen classes are known while training, their masks are not. Pixels of seen classes
keep their labels; pixels of unseen classes are marked UNLISTED and get, in the first part of the run, the
teacher's best unseen class (pseudo labels), and afterwards the student's own best one (self-training). The
student is a DeepLabv2: a trunk, four dilated convolutions that are summed, and fixed text embeddings as
classifier: T_c = sum_i t_i^c, the summed prompts of the views, so that any name can be asked later.

Teacher's scores, the soft-max included, are taken among the unseen classes alone; MaskCLIP+'s official
pseudo labels come out only so. Every marked pixel gets an unseen label, so the lists must be right.

Inferred: T in this form. Deviations: the house's AdamW instead of SGD with a polynomial rate; the student's
features are read at stride 8 (timm trunks) or 16 (the embedded stem's own trunk, the default: it is trained).
"""

from __future__ import annotations

import copy
import dataclasses
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from ovs_core.checkpoints import CheckpointError, load_strict, read_metadata, read_state
from ovs_core.encoders.clip_resnet import ResNetEncoder
from ovs_core.encoders.clip_vit import VisionEncoder
from ovs_core.encoders.mini import ConvStem
from ovs_core.methods.mvp_seg.model import ContextText, MvpSeg
from ovs_core.methods.trained_files import trained_tower
from ovs_core.options import Preset
from ovs_core.training.data import Sample, crop_sample
from ovs_core.training.loop import Schedule, fit, seed_torch
from ovs_core.training.plans import keep_recipe, plan_from_json
from ovs_core.training.split_photos import Photos
from ovs_core.types import IGNORE, UNLISTED, Vocabulary
from ovs_core.vocabulary.splits import spoken_name

log = logging.getLogger(__name__)

KIND = "mvp-seg+ student"
DILATIONS = (6, 12, 18, 24)
OUTPUT_STRIDE = 8  # of timm trunks, as published
EMBEDDED_TRUNK = "embedded"
_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

TeacherScores = Callable[[Sequence[Sample]], Tensor]
"""Crops to logits of the unseen classes, (B, U, h, w)."""


@dataclass(frozen=True)
class PlusPlan:
    """The recipe in numbers; lengths and rates are for a few hundred photos, published ones in brackets.

    Attributes:
        trunk: "embedded" copies the VOC trunk of the embedded model's stem; else a timm network, e.g.
            "resnet101c" (published).
        side: training crop, pixels (512).
        short_side: range of the photo's shorter side before cropping, pixels.
        label_stride: pixels per label that the loss sees (1).
        steps: in all (20,000 for VOC).
        teacher_part: part of the steps with the teacher's labels (0.1).
        batch: crops a step (16).
        rate: peak learning rate of the head; the trunk's is `trunk_factor` times that.
        trunk_factor: see `rate`.
        confidence: a guess below this probability among the unseen classes is left out; 0 keeps all (0).
        seed: of everything that is drawn.
    """

    trunk: str = EMBEDDED_TRUNK
    side: int = 384
    short_side: tuple[int, int] = (320, 720)
    label_stride: int = 4
    steps: int = 1000
    teacher_part: float = 0.1
    batch: int = 4
    rate: float = 1e-3
    trunk_factor: float = 0.1
    confidence: float = 0.0
    seed: int = 0


def plus_plan(values: Mapping[str, Any]) -> PlusPlan:
    """Read a recipe from JSON; what is left out keeps its default.

    Raises:
        ValueError: for a name that no recipe has.
    """
    return plan_from_json(PlusPlan(), values)


class DeepLabV2Head(nn.Module):
    """Four parallel 3x3 convolutions, batch norm and ReLU, of growing dilation, summed.

    Args:
        inputs, outputs: channels; outputs are the width of the joint space.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(inputs, outputs, 3, padding=dilation, dilation=dilation, bias=False),
                nn.BatchNorm2d(outputs),
                nn.ReLU(),
            )
            for dilation in DILATIONS
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, h, w) to (B, outputs, h, w)."""
        return torch.stack([branch(x) for branch in self.branches]).sum(dim=0)


class _TimmTrunk(nn.Module):
    """The last stage of a timm network at stride 8."""

    net: Any

    def __init__(self, name: str) -> None:
        super().__init__()
        self.net = timm.create_model(
            name, pretrained=False, features_only=True, output_stride=OUTPUT_STRIDE, out_indices=(-1,)
        )
        self.channels: int = self.net.feature_info.channels()[-1]

    def forward(self, x: Tensor) -> Tensor:
        last: Tensor = self.net(x)[-1]
        return last


class Student(nn.Module):
    """DeepLabv2 whose features live in the joint image-text space.

    Args:
        trunk: (B, 3, H, W) to (B, C, h, w).
        channels: C of the trunk.
        width: of the joint space.
        mean, std: what the trunk was trained with, per RGB channel of [0, 1].
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        trunk: nn.Module,
        channels: int,
        width: int,
        mean: tuple[float, float, float] = (0.5, 0.5, 0.5),
        std: tuple[float, float, float] = (0.5, 0.5, 0.5),
    ) -> None:
        super().__init__()
        self.trunk, self.head = trunk, DeepLabV2Head(channels, width)
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1))

    def forward(self, pixels: Tensor) -> Tensor:
        """Features (B, D, h, w), not normalised, of photos (B, 3, H, W) in [0, 1]."""
        return self.head(self.trunk((pixels - self.mean) / self.std))


def make_student(trunk: str, visual: nn.Module, width: int) -> Student:
    """A student on the embedded stem's trunk (a copy, trained weights) or on a timm trunk (random weights).

    Raises:
        ValueError: if the tower has no such stem, or timm no such network.
    """
    if trunk == EMBEDDED_TRUNK:
        stem = getattr(visual, "conv1", None)
        if not isinstance(stem, ConvStem):
            raise ValueError('trunk "embedded" needs the embedded model; name a timm network instead')
        return Student(copy.deepcopy(stem.voc).requires_grad_(True), stem.voc_aspp.in_channels, width)
    if not timm.is_model(trunk):
        raise ValueError(f'trunk must be "embedded" or a timm network, e.g. resnet101c; got {trunk!r}')
    net = _TimmTrunk(trunk)
    return Student(net, net.channels, width, _IMAGENET_MEAN, _IMAGENET_STD)


def classify(features: Tensor, embeddings: Tensor) -> Tensor:
    """Logits (B, C, h, w): products of features (B, D, h, w) with class embeddings (C, D), not normalised."""
    return torch.einsum("cd,bdhw->bchw", embeddings, features)


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


def student_loss(
    student: Student,
    embeddings: Tensor,
    pixels: Tensor,
    labels: Tensor,
    first_unseen: int,
    teacher: Tensor | None,
    confidence: float = 0.0,
) -> Tensor:
    """Cross-entropy over all classes, IGNORE left out, a scalar.

    Args:
        student: in training mode.
        embeddings: T of seen, then unseen classes, (C, D).
        pixels: (B, 3, H, W) in [0, 1].
        labels: class, UNLISTED or IGNORE, (B, H', W').
        first_unseen: class number of the first unseen class.
        teacher: logits of the unseen classes, (B, U, h, w); None guesses by the student itself.
        confidence: see `fill_unseen`.
    """
    logits = classify(student(pixels), embeddings)
    guesses = logits[:, first_unseen:].detach() if teacher is None else teacher
    labels = fill_unseen(labels, guesses, first_unseen, confidence)
    fine = F.interpolate(logits, size=labels.shape[1:], mode="bilinear", align_corners=False)
    counted = (labels != IGNORE).sum().clamp(min=1)
    return F.cross_entropy(fine, labels, ignore_index=IGNORE, reduction="sum") / counted


def mvp_teacher(
    vision: VisionEncoder | ResNetEncoder, method: MvpSeg, text: ContextText, unseen: Sequence[str]
) -> TeacherScores:
    """Logits of MVP-SEG among the unseen classes: tau1 sum_i m_i + log g."""
    bank = text.embed(Vocabulary(tuple((name,) for name in unseen)))

    def scores(crops: Sequence[Sample]) -> Tensor:
        scored = []
        for crop in crops:
            preset = Preset(1.0, 0.0, crop.pixels.shape[0], None, 0, "single1")
            answer = method.ask(vision.encode(crop.pixels, preset), bank, {})
            scored.append(answer.evidence.rows.cpu())
        return torch.stack(scored)

    return scores


def fit_student(
    student: Student, embeddings: Tensor, photos: Photos, teacher: TeacherScores, plan: PlusPlan, out: Path
) -> None:
    """Train a student in place, first on the teacher's labels, then on its own.

    Args:
        student: what learns.
        embeddings: T of `photos.seen`, then of `photos.unseen`, (C, D); fixed.
        photos: with their seen masks; masks of unseen classes only say "unseen".
        teacher: guesses of the first part.
        plan: the recipe.
        out: folder of the run; a stopped run goes on from there.
    """
    until = round(plan.teacher_part * plan.steps)

    def step_loss(step: int, rng: np.random.Generator) -> dict[str, Tensor]:
        student.train()
        crops = [_draw(photos, plan, rng) for _ in range(plan.batch)]
        pixels = torch.from_numpy(np.stack([crop.pixels for crop in crops])).permute(0, 3, 1, 2) / 255
        rows = slice(plan.label_stride // 2, None, plan.label_stride)
        labels = torch.from_numpy(np.stack([crop.labels[rows, rows] for crop in crops]).astype(np.int64))
        guesses = teacher(crops) if step < until else None
        first = len(photos.seen)
        return {"ce": student_loss(student, embeddings, pixels, labels, first, guesses, plan.confidence)}

    schedule = Schedule(plan.steps, min(50, max(1, plan.steps // 10)), weight_decay=5e-4, seed=plan.seed)
    parts: list[tuple[nn.Module, float]] = [
        (student.head, plan.rate),
        (student.trunk, plan.rate * plan.trunk_factor),
    ]
    fit(student, parts, step_loss, schedule, out)
    student.eval()


def _draw(photos: Photos, plan: PlusPlan, rng: np.random.Generator) -> Sample:
    sample = photos.sample(int(rng.integers(len(photos.paths))), unseen=UNLISTED)
    return crop_sample(sample, plan.side, plan.short_side, rng)


def train_mvp_seg_plus(
    vision: VisionEncoder | ResNetEncoder,
    method: MvpSeg,
    text: ContextText,
    photos: Photos,
    plan: PlusPlan,
    out: Path,
) -> Path:
    """Train a student of `method` on `photos`; skipped where the result is there.

    Args:
        vision: image tower of the teacher.
        method: MVP-SEG with trained contexts.
        text: its text half.
        photos: with seen and unseen classes.
        plan: the recipe.
        out: working folder; `mvp_seg_plus.safetensors` ends there.

    Raises:
        FileExistsError: if `out` holds a run of another recipe or tower.
        ValueError: if the plan's trunk is not there.
    """
    tower = method.contexts.tower
    seed_torch(plan.seed, 0)
    names = tuple(map(spoken_name, (*photos.seen, *photos.unseen)))
    embeddings = summed_embeddings(text, names)
    student = make_student(plan.trunk, method.visual, embeddings.shape[1])
    keep_recipe(dataclasses.asdict(plan) | {"tower": tower}, out)
    path = out / "mvp_seg_plus.safetensors"
    if path.exists():
        log.info("%s is there, training skipped", path.name)
        return path
    teacher = mvp_teacher(vision, method, text, names[len(photos.seen) :])
    fit_student(student, embeddings, photos, teacher, plan, out)
    return save_student(student, plan.trunk, tower, path)


def summed_embeddings(text: ContextText, names: Sequence[str]) -> Tensor:
    """T (C, D) of names: their prompts summed over the views."""
    prompts = text.embed(Vocabulary(tuple((name,) for name in names))).embeddings
    return prompts[-text.contexts.k :].sum(dim=0).detach().cpu()


def save_student(student: Student, trunk: str, tower: str, path: Path) -> Path:
    """Write a student; its notes name its trunk and the tower whose text space it answers in."""
    state = {name: value.detach().clone().contiguous() for name, value in student.state_dict().items()}
    partial = path.with_suffix(".part")
    save_file(state, partial, metadata={"kind": KIND, "trunk": trunk, "tower": tower})
    return partial.replace(path)


def load_student(path: Path, visual: nn.Module, tower: str, width: int) -> Student:
    """Read a student of the tower in use.

    Args:
        path: file written by `save_student`.
        visual: the image tower, for the layout of the embedded trunk.
        tower: SHA-256 of its weights.
        width: of the joint space.

    Raises:
        CheckpointError: if it is another file, another tower's, or damaged.
    """
    notes = read_metadata(path)
    if notes.get("kind") != KIND:
        raise CheckpointError(f"{path} is not a file of an MVP-SEG+ student.")
    trained_tower(path, notes, tower, "a student only answers in its own tower's text space.")
    student = make_student(notes.get("trunk", ""), visual, width)
    load_strict(student, read_state(path), source=str(path))
    return student.eval().requires_grad_(False)
