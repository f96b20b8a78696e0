"""GKC's head as a file: what was trained, on which tower, with which words.

A file is safetensors in half precision: "head." tensors of a `GkcHead`; where the student's tower learnt
along (CLIP's ResNets), also its tensors as "tower.", under open_clip's names. Notes: SHA-256 of the tower
as it was, sizes, names that training said, settings of the run. What training alone needs (projections of
earlier predictions and of distillation) is not kept.
"""

from __future__ import annotations

import copy
import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors.torch import save_file
from torch import Tensor

from ovs_core.checkpoints import CheckpointError, load_strict, read_metadata, read_state
from ovs_core.decoders.mask_decoder import MaskDecoderConfig
from ovs_core.decoders.pixel_decoder import PixelDecoderConfig
from ovs_core.methods.gkc.student import GkcHead, GkcHeadConfig
from ovs_core.methods.trained_files import part_of, trained_tower

if TYPE_CHECKING:  # types only: who builds the model loads its library, which takes seconds
    from open_clip.modified_resnet import ModifiedResNet

KIND = "gkc head"
_HEAD, _TOWER = "head.", "tower."


@dataclass(frozen=True, eq=False)
class TrainedGkc:
    """A head with all it takes to use it.

    Attributes:
        head: in float32, evaluation mode.
        tower: SHA-256 of the weights it was trained on, before any tuning.
        seen: every name that training said, synonyms included.
        tuned: tensors of the image tower that were trained along, under open_clip's names.
        training: settings of the run, for people.
    """

    head: GkcHead
    tower: str
    seen: frozenset[str]
    tuned: Mapping[str, Tensor] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)


def save_gkc_head(trained: TrainedGkc, path: Path) -> Path:
    """Write a head; a write that is cut leaves no file of that name."""
    named = {_HEAD + name: value for name, value in trained.head.state_dict().items()}
    named |= {_TOWER + name: value for name, value in trained.tuned.items()}
    notes = {
        "kind": KIND,
        "method": "gkc",
        "tower": trained.tower,
        "head": json.dumps(dataclasses.asdict(trained.head.config)),
        "seen": json.dumps(sorted(trained.seen)),
        "training": json.dumps(dict(trained.training)),
    }
    partial_path = path.with_suffix(".part")
    halves = {name: value.detach().half().contiguous().cpu().clone() for name, value in named.items()}
    save_file(halves, partial_path, metadata=notes)
    return partial_path.replace(path)


def load_gkc_head(path: Path, tower: str | None) -> TrainedGkc:
    """Read a head for the tower it was trained on.

    Args:
        path: file written by `save_gkc_head`.
        tower: SHA-256 of the weights of the tower in use; None takes any head.

    Raises:
        CheckpointError: if the file is not one of a GKC head, is damaged, or belongs to another tower.
    """
    notes, tensors = read_metadata(path), read_state(path)
    if notes.get("kind") != KIND:
        raise CheckpointError(f"{path} is not a file of a GKC head.")
    trained_on = trained_tower(path, notes, tower, "a head only works on the tower it was trained on.")
    try:
        head = GkcHead(_config(json.loads(notes["head"])))
        seen, training = frozenset(json.loads(notes["seen"])), json.loads(notes["training"])
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read as a GKC head: {error}.") from error
    load_strict(head, part_of(tensors, _HEAD), source=str(path))
    tuned = {name: value.float() for name, value in part_of(tensors, _TOWER).items()}
    return TrainedGkc(head.eval().requires_grad_(False), trained_on, seen, tuned, training)


def tuned_resnet(visual: ModifiedResNet, trained: TrainedGkc, *, source: str) -> ModifiedResNet:
    """The student's tower: `visual` itself, or a copy of it with the tuned tensors in it.

    Raises:
        CheckpointError: if a tuned tensor has no place in the tower or another shape.
    """
    if not trained.tuned:
        return visual
    tower = copy.deepcopy(visual)
    load_strict(tower, {**tower.state_dict(), **trained.tuned}, source=source)
    return tower


def _config(values: Mapping[str, Any]) -> GkcHeadConfig:
    """Sizes as JSON has them."""
    pixels = {**values["pixels"], "inputs": tuple(values["pixels"]["inputs"])}
    masks = MaskDecoderConfig(**values["masks"])
    reads_dense = bool(values.get("reads_dense", False))  # files of older versions have neither
    return GkcHeadConfig(PixelDecoderConfig(**pixels), masks, reads_dense, values.get("class_width"))
