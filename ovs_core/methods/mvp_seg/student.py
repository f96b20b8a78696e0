"""The student of MVP-SEG+ (arXiv 2304.06957, after MaskCLIP+, arXiv 2112.01071, section 3.4) and its file.

A DeepLabv2: a trunk and four dilated convolutions that are summed, whose features live in the joint
image-text space. Its classifier is the fixed text embedding T_c = sum_i t_i^c, the summed prompts of
MVP-SEG's views, so that any name can be asked. CLIP's transformer does not look at the photo.

Inferred: T in this form. Deviation: on the embedded model the trunk is the whole stem of its tower, frozen
(ours): a file then holds the head alone, evidence is upsampled as that stem says, and the first branch has no
ReLU. Dilations are DeepLab's for the trunk's stride: 6, 12, 18, 24 at 8 as published, half of them at 16.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from ovs_core.checkpoints import CheckpointError, load_strict, read_metadata, read_state
from ovs_core.encoders.mini import STRIDE, ConvStem
from ovs_core.methods.mvp_seg.contexts import Contexts, contexts_of, notes_of, tensors_of
from ovs_core.methods.trained_files import part_of, trained_tower

KIND = "mvp-seg+ student"
EMBEDDED_TRUNK = "embedded"
OUTPUT_STRIDE = 8  # of timm trunks, as published
DILATIONS: Mapping[int, tuple[int, ...]] = MappingProxyType(
    {OUTPUT_STRIDE: (6, 12, 18, 24), STRIDE: (3, 6, 9, 12)}
)
_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_STUDENT = "student."


class DeepLabV2Head(nn.Module):
    """Four parallel 3x3 convolutions, batch norm and ReLU, of growing dilation, summed.

    Args:
        inputs, outputs: channels; outputs are the width of the joint space.
        dilations: one for each convolution.
        signed: the first branch has no ReLU, so that features can be those of CLIP, which are signed.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        dilations: tuple[int, ...] = DILATIONS[OUTPUT_STRIDE],
        signed: bool = False,
    ) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(inputs, outputs, 3, padding=dilation, dilation=dilation, bias=False),
                nn.BatchNorm2d(outputs),
                nn.Identity() if signed and dilation == dilations[0] else nn.ReLU(),
            )
            for dilation in dilations
        )

    @property
    def pairs(self) -> list[tuple[nn.Conv2d, nn.BatchNorm2d]]:
        """Convolution and norm of each branch."""
        return [(branch[0], branch[1]) for branch in self.branches]  # type: ignore[index]

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, h, w) to (B, outputs, h, w)."""
        return torch.stack([branch(x) for branch in self.branches]).sum(dim=0)


class _TimmTrunk(nn.Module):
    """The last stage of a timm network at stride 8."""

    net: Any

    def __init__(self, name: str) -> None:
        import timm  # takes seconds to load, and the embedded trunk does without

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
        trunk: (B, 3, H, W) to (B, C, h, w); the embedded stem is used as it is and never trained.
        channels: C of the trunk.
        width: of the joint space.
        stride: pixels per cell of the trunk's map.
        mean, std: what the trunk was trained with, per RGB channel of [0, 1].
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        trunk: nn.Module,
        channels: int,
        width: int,
        stride: int = OUTPUT_STRIDE,
        mean: tuple[float, float, float] = (0.5, 0.5, 0.5),
        std: tuple[float, float, float] = (0.5, 0.5, 0.5),
    ) -> None:
        super().__init__()
        self.stride, self.frozen = stride, isinstance(trunk, ConvStem)
        self.trunk, self.head = trunk, DeepLabV2Head(channels, width, DILATIONS[stride], signed=self.frozen)
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1), persistent=False)

    @property
    def learnt(self) -> nn.Module:
        """What training changes and files hold: the head, and the trunk where it is no frozen stem."""
        return nn.ModuleDict({"head": self.head} | ({} if self.frozen else {"trunk": self.trunk}))

    def forward(self, pixels: Tensor) -> Tensor:
        """Features (B, D, h, w), not normalised, of photos (B, 3, H, W) in [0, 1]."""
        features: Tensor = self.head(self.trunk_map(pixels)[0].float())
        return features

    def trunk_map(self, pixels: Tensor) -> tuple[Tensor, Tensor | None]:
        """What the trunk makes of photos (B, 3, H, W) in [0, 1]: (B, C, h, w), upsampling weights or None."""
        precision = next(iter(self.trunk.parameters()), pixels).dtype
        x = ((pixels - self.mean) / self.std).to(precision)
        if isinstance(self.trunk, ConvStem):
            with torch.no_grad():
                return self.trunk.with_upsampling(x)
        return self.trunk(x), None


def make_student(trunk: str, visual: nn.Module, width: int) -> Student:
    """A student on the embedded model's stem (frozen, not copied) or on a timm trunk (random weights).

    Raises:
        ValueError: if the tower has no such stem, or timm no such network.
    """
    if trunk == EMBEDDED_TRUNK:
        stem = getattr(visual, "conv1", None)
        if not isinstance(stem, ConvStem):
            raise ValueError('trunk "embedded" needs the embedded model; name a timm network instead')
        return Student(stem, stem.mix.out_channels, width, STRIDE)
    import timm

    if not timm.is_model(trunk):
        raise ValueError(f'trunk must be "embedded" or a timm network, e.g. resnet101c; got {trunk!r}')
    net = _TimmTrunk(trunk)
    return Student(net, net.channels, width, OUTPUT_STRIDE, _IMAGENET_MEAN, _IMAGENET_STD)


def classify(features: Tensor, embeddings: Tensor) -> Tensor:
    """Logits (B, C, h, w): products of features (B, D, h, w) with class embeddings (C, D), not normalised."""
    return torch.einsum("cd,bdhw->bchw", embeddings, features)


@dataclass(frozen=True, eq=False)
class TrainedStudent:
    """What a student's file holds.

    Attributes:
        trunk: "embedded" or a timm network.
        state: of `Student.learnt`.
        contexts: of its teacher; names are embedded in them.
        seen: names whose masks it learnt from.
        unseen: names that its teacher and itself found in training photos; nobody labelled them.
    """

    trunk: str
    state: Mapping[str, Tensor]
    contexts: Contexts
    seen: tuple[str, ...] = ()
    unseen: tuple[str, ...] = ()

    def on(self, visual: nn.Module, width: int, source: str) -> Student:
        """The student, ready to answer on the tower it was trained beside.

        Raises:
            CheckpointError: if its tensors do not fit the tower.
        """
        try:
            student = make_student(self.trunk, visual, width)
        except ValueError as error:
            raise CheckpointError(f"{source} cannot be used here: {error}.") from error
        load_strict(student.learnt, self.state, source=source)
        return student.eval().requires_grad_(False)


def save_student(student: Student, trained: TrainedStudent, path: Path) -> Path:
    """Write a student; its notes name its trunk, its classes and the tower whose text space it answers in."""
    state = {
        _STUDENT + name: value.half() if value.is_floating_point() else value
        for name, value in student.learnt.state_dict().items()
    }
    tensors = {name: value.detach().clone().contiguous() for name, value in state.items()}
    notes = {"kind": KIND, "trunk": trained.trunk, **notes_of(trained.contexts)}
    notes |= {"seen": json.dumps(trained.seen), "unseen": json.dumps(trained.unseen)}
    partial = path.with_suffix(".part")
    save_file(tensors | tensors_of(trained.contexts), partial, metadata=notes)
    return partial.replace(path)


def load_student(path: Path, tower: str | None) -> TrainedStudent:
    """Read a student.

    Args:
        path: file written by `save_student`.
        tower: SHA-256 of the tower in use; None takes any.

    Raises:
        CheckpointError: if it is another file, another tower's, or damaged.
    """
    notes, tensors = read_metadata(path), read_state(path)
    if notes.get("kind") != KIND or "views" not in tensors:
        raise CheckpointError(f"{path} is not a file of an MVP-SEG+ student.")
    trained_tower(path, notes, tower, "a student only answers in its own tower's text space.")
    state = {
        name: value.float() if value.is_floating_point() else value
        for name, value in part_of(
            {k: v for k, v in tensors.items() if k.startswith(_STUDENT)}, _STUDENT
        ).items()
    }
    try:
        seen, unseen = (tuple(map(str, json.loads(notes[kind]))) for kind in ("seen", "unseen"))
        trunk = notes["trunk"]
    except (KeyError, ValueError, TypeError) as error:
        raise CheckpointError(f"{path} is damaged: its notes do not say what it learnt.") from error
    return TrainedStudent(trunk, state, contexts_of(path, notes, tensors), seen, unseen)
