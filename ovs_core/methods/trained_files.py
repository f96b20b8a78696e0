"""What readers of trained weights have in common: the tower that a file belongs to, parts by their prefix."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from ovs_core.checkpoints import CheckpointError


def trained_tower(path: Path, notes: Mapping[str, str], tower: str | None, why: str) -> str:
    """SHA-256 of the tower that a file was trained on.

    Args:
        path: the file.
        notes: its metadata.
        tower: SHA-256 of the tower in use; None takes any.
        why: end of the sentence where they differ.

    Raises:
        CheckpointError: if it was trained on another one.
    """
    trained_on = notes.get("tower", "")
    if tower is not None and trained_on != tower:
        towers = f"SHA-256 {trained_on[:12]}..., in use is {tower[:12]}..."
        raise CheckpointError(f"{path} was trained on another tower ({towers}); {why}")
    return trained_on


def part_of(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Tensors whose names begin so, by the rest of their names."""
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
