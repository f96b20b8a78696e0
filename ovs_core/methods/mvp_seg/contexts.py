"""Learned contexts of MVP-SEG as a value and as a file: what was learnt, for which tower, how.

A file is safetensors: "views" (k, M, C), "whole" (M, C) if Global Prompt Refining was trained, and notes: the
SHA-256 of the tower, k, M, the three temperatures, the place of the class name and the training settings.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

import torch
from safetensors.torch import save_file
from torch import Tensor

from ovs_core.checkpoints import CheckpointError, read_metadata, read_state
from ovs_core.encoders.prompts import ClassPosition
from ovs_core.methods.trained_files import trained_tower

KIND = "mvp-seg contexts"
_NUMBERS = ("tau1", "tau2", "gamma")


@dataclass(frozen=True, eq=False)
class Contexts:
    """What MVP-SEG learns; every class shares it.

    Attributes:
        views: contexts of the k views, (k, M, C) with C the width of the text tower's tokens.
        whole: context of the global prompt, (M, C); None if it was not trained.
        tower: SHA-256 of the weights they were trained on.
        tau1: multiplies the sum of the k cosines before the soft-max over classes.
        tau2: divides the pooled global cosine before the sigmoid.
        gamma: sharpness of the soft-max pooling.
        position: where the class name stands.
        training: settings of the run, for people.
    """

    views: Tensor
    whole: Tensor | None
    tower: str
    tau1: float
    tau2: float
    gamma: float
    position: ClassPosition = "end"
    training: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.views.ndim != 3 or not self.views.shape[0]:
            raise ValueError(f"views must be (k, M, C), got {tuple(self.views.shape)}")
        if self.whole is not None and self.whole.shape != self.views.shape[1:]:
            expected = tuple(self.views.shape[1:])
            raise ValueError(f"whole must be {expected} as each view, got {tuple(self.whole.shape)}")
        for name in _NUMBERS:
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be above 0, got {getattr(self, name)}")

    @property
    def k(self) -> int:
        """Number of views."""
        return len(self.views)

    @property
    def stacked(self) -> Tensor:
        """All contexts, (V, M, C): the global one first, if there is one, then the views."""
        return self.views if self.whole is None else torch.cat([self.whole[None], self.views])

    @property
    def titles(self) -> tuple[str, ...]:
        """What to call each row of `stacked`."""
        views = tuple(f"view {number}" for number in range(1, self.k + 1))
        return views if self.whole is None else ("global", *views)


def save_contexts(contexts: Contexts, path: Path) -> Path:
    """Write contexts; a write that is cut leaves no file of that name."""
    partial = path.with_suffix(".part")
    save_file(tensors_of(contexts), partial, metadata={"kind": KIND, **notes_of(contexts)})
    return partial.replace(path)


def tensors_of(contexts: Contexts) -> dict[str, Tensor]:
    """The tensors of a file that holds contexts."""
    tensors = {"views": contexts.views.detach().float().contiguous().clone()}
    if contexts.whole is not None:
        tensors["whole"] = contexts.whole.detach().float().contiguous().clone()
    return tensors


def notes_of(contexts: Contexts) -> dict[str, str]:
    """The notes of a file that holds contexts, its kind left out."""
    return {
        "tower": contexts.tower,
        "k": str(contexts.k),
        "length": str(contexts.views.shape[1]),
        "position": contexts.position,
        **{name: repr(float(getattr(contexts, name))) for name in _NUMBERS},
        "training": json.dumps(dict(contexts.training)),
    }


def load_contexts(path: Path, tower: str, *, k: int | None = None, width: int | None = None) -> Contexts:
    """Read contexts for the tower they were trained on.

    Args:
        path: file written by `save_contexts`.
        tower: SHA-256 of the weights of the tower in use.
        k: number of views the caller needs; None takes what is there.
        width: width of that tower's text tokens; None does not check.

    Raises:
        CheckpointError: if the file is not one of contexts, is damaged, belongs to another tower or has
            another number of views.
    """
    notes, tensors = read_metadata(path), read_state(path)
    if notes.get("kind") != KIND or not {"views"} <= set(tensors) <= {"views", "whole"}:
        raise CheckpointError(f"{path} is not a file of MVP-SEG contexts.")
    trained_tower(path, notes, tower, "contexts only work on the tower they were trained on.")
    views = tensors["views"]
    shape = (notes.get("k"), notes.get("length"))
    if views.ndim != 3 or shape != (str(views.shape[0]), str(views.shape[1])):
        raise CheckpointError(
            f"{path} is damaged: its notes say {shape[0]} views of {shape[1]} vectors, "
            f"its tensor is {tuple(views.shape)}."
        )
    if k is not None and k != len(views):
        raise CheckpointError(f"{path} holds {len(views)} views, expected {k}.")
    if width is not None and views.shape[2] != width:
        raise CheckpointError(f"{path} holds contexts {views.shape[2]} wide, the text tower takes {width}.")
    return contexts_of(path, notes, tensors)


def contexts_of(path: Path, notes: Mapping[str, str], tensors: Mapping[str, Tensor]) -> Contexts:
    """Contexts from the notes and tensors of a file that holds them.

    Raises:
        CheckpointError: if they cannot be read.
    """
    try:
        position: Any = notes["position"]
        if position not in get_args(ClassPosition):
            raise ValueError(f"position is {position!r}")
        numbers = {name: float(notes[name]) for name in _NUMBERS}
        return Contexts(
            tensors["views"].float(),
            None if "whole" not in tensors else tensors["whole"].float(),
            notes["tower"],
            position=position,
            training=json.loads(notes["training"]),
            **numbers,
        )
    except (KeyError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read as MVP-SEG contexts: {error}.") from error
