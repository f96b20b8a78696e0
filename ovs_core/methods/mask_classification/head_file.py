"""Mask heads for the embedded tower as a file: what was trained, on which tower, with which classes.

A file is safetensors in half precision: "head." tensors of a `MaskHead`; for MAFT+ also "tower." tensors, the
part of the image tower that was tuned along, under open_clip's names. Notes: method, SHA-256 of the tower
as it was, sizes of the head, names that training saw, settings of the run.
"""

from __future__ import annotations

import copy
import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from safetensors.torch import save_file
from torch import Tensor

from ovs_core.checkpoints import CheckpointError, load_strict, read_metadata, read_state
from ovs_core.decoders.mask_decoder import MaskDecoderConfig
from ovs_core.decoders.pixel_decoder import PixelDecoderConfig
from ovs_core.encoders.mini_pyramid import vectors_to_joint_space
from ovs_core.methods.mask_classification.fc_clip import FcClip
from ovs_core.methods.mask_classification.head import MaskHead, MaskHeadConfig
from ovs_core.methods.mask_classification.maft_plus import MaftPlus
from ovs_core.methods.trained_files import part_of, trained_tower

if TYPE_CHECKING:  # types only: who builds the model loads its library, which takes seconds
    from open_clip.transformer import VisionTransformer

KIND = "mask head"
_HEAD, _TOWER = "head.", "tower."

MaskMethod = Literal["fc_clip", "maft_plus"]


@dataclass(frozen=True, eq=False)
class TrainedHead:
    """A head with all it takes to use it.

    Attributes:
        method: whose head it is.
        head: in float32, evaluation mode.
        tower: SHA-256 of the weights it was trained on, before any tuning.
        seen: every name, synonyms included, of the classes that training saw.
        tuned: tensors of the image tower that were trained along, under open_clip's names; empty for FC-CLIP.
        training: settings of the run, for people.
    """

    method: MaskMethod
    head: MaskHead
    tower: str
    seen: frozenset[str]
    tuned: Mapping[str, Tensor] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        has_transfer = self.head.config.transfer is not None
        if has_transfer != (self.method == "maft_plus"):
            raise ValueError("head must have content-dependent transfer for maft_plus and none for fc_clip")
        if self.tuned and self.method == "fc_clip":
            raise ValueError(f"tuned must be empty for fc_clip, got {len(self.tuned)} tensors")


def save_mask_head(trained: TrainedHead, path: Path) -> Path:
    """Write a head; a write that is cut leaves no file of that name."""
    named = {_HEAD + name: value for name, value in trained.head.state_dict().items()}
    named |= {_TOWER + name: value for name, value in trained.tuned.items()}
    notes = {
        "kind": KIND,
        "method": trained.method,
        "tower": trained.tower,
        "head": json.dumps(dataclasses.asdict(trained.head.config)),
        "seen": json.dumps(sorted(trained.seen)),
        "training": json.dumps(dict(trained.training)),
    }
    partial_path = path.with_suffix(".part")
    halves = {name: value.detach().half().contiguous().clone() for name, value in named.items()}
    save_file(halves, partial_path, metadata=notes)
    return partial_path.replace(path)


def load_mask_head(path: Path, tower: str | None, *, method: MaskMethod | None = None) -> TrainedHead:
    """Read a head for the tower it was trained on.

    Args:
        path: file written by `save_mask_head`.
        tower: SHA-256 of the weights of the tower in use, as they are in its file; None takes any head, to
            train it on.
        method: whose head the caller needs; None takes what is there.

    Raises:
        CheckpointError: if the file is not one of a mask head, is damaged, belongs to another tower or
            another method.
    """
    notes, tensors = read_metadata(path), read_state(path)
    if notes.get("kind") != KIND:
        raise CheckpointError(f"{path} is not a file of a mask head.")
    trained_on = trained_tower(path, notes, tower, "a mask head only works on the tower it was trained on.")
    trained_for = notes.get("method", "")
    if trained_for not in get_args(MaskMethod) or trained_for != (method or trained_for):
        expected = method or " or ".join(get_args(MaskMethod))
        raise CheckpointError(
            f"{path} holds a head of {trained_for or 'nobody'}, expected one of {expected}."
        )
    try:
        head = MaskHead(_config(json.loads(notes["head"])))
        seen, training = frozenset(json.loads(notes["seen"])), json.loads(notes["training"])
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read as a mask head: {error}.") from error
    load_strict(head, part_of(tensors, _HEAD), source=str(path))
    tuned = {name: value.float() for name, value in part_of(tensors, _TOWER).items()}
    kind: MaskMethod = "fc_clip" if trained_for == "fc_clip" else "maft_plus"
    try:
        return TrainedHead(kind, head.eval().requires_grad_(False), trained_on, seen, tuned, training)
    except ValueError as error:
        raise CheckpointError(f"{path} cannot be read as a mask head: {error}.") from error


def tuned_tower(visual: VisionTransformer, trained: TrainedHead, *, source: str) -> VisionTransformer:
    """The image tower a head looks at: `visual` itself, or a copy of it with the tuned tensors in it.

    Args:
        visual: the tower as it is in its own file; unchanged.
        trained: the head.
        source: path or title of the head's file, for the message.

    Raises:
        CheckpointError: if a tuned tensor has no place in the tower or another shape.
    """
    if not trained.tuned:
        return visual
    tower = copy.deepcopy(visual)
    load_strict(tower, {**tower.state_dict(), **trained.tuned}, source=source)
    return tower


def build_mask_method(
    trained: TrainedHead, visual: VisionTransformer, log_scale: Tensor
) -> FcClip | MaftPlus:
    """Build the method of a head.

    Args:
        trained: the head.
        visual: from `tuned_tower`.
        log_scale: logarithm of the model's own scale.
    """
    to_joint_space = partial(vectors_to_joint_space, visual)
    if trained.method == "fc_clip":
        return FcClip(trained.head, to_joint_space, log_scale, trained.seen)
    return MaftPlus(trained.head, to_joint_space, log_scale, image_tokens="per_pixel")


def _config(values: Mapping[str, Any]) -> MaskHeadConfig:
    """Sizes as JSON has them."""
    pixels = {**values["pixels"], "inputs": tuple(values["pixels"]["inputs"])}
    masks = MaskDecoderConfig(**values["masks"])
    return MaskHeadConfig(PixelDecoderConfig(**pixels), masks, values["transfer"])
