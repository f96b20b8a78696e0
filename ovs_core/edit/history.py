"""Undo and redo: what was done to a label map, as one frozen value."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ovs_core.edit.record import Edit, Scores
from ovs_core.types import LabelMap

UNDO_STEPS = 20


@dataclass(frozen=True, eq=False)
class EditHistory:
    """The states that can be gone back and forth to, and every edit since the first answer.

    Attributes:
        states: at most `UNDO_STEPS` + 1 label maps, oldest first.
        position: which of them is shown.
        edits: all edits, those that were undone last; older ones than `states` shows are kept too.
    """

    states: tuple[LabelMap, ...]
    position: int = 0
    edits: tuple[Edit, ...] = ()

    def __post_init__(self) -> None:
        if not 0 <= self.position < len(self.states):
            raise ValueError(f"position must lie in 0..{len(self.states) - 1}, got {self.position}")
        if len(self.edits) < len(self.states) - 1:
            raise ValueError(f"{len(self.states)} states need {len(self.states) - 1} edits or more")

    @classmethod
    def start(cls, label_map: LabelMap) -> EditHistory:
        """A label map as the machine made it."""
        return cls((label_map,))

    @property
    def present(self) -> LabelMap:
        """What is shown and exported."""
        return self.states[self.position]

    @property
    def applied(self) -> tuple[Edit, ...]:
        """The edits that lead from the machine's map to `present`; `apply_edits` does them again."""
        return self.edits[: len(self.edits) - (len(self.states) - 1 - self.position)]

    @property
    def can_undo(self) -> bool:
        """Whether there is an edit to take back."""
        return self.position > 0

    @property
    def can_redo(self) -> bool:
        """Whether there is an edit that was taken back."""
        return self.position < len(self.states) - 1

    def edited(self, edit: Edit, scores: Scores = None) -> EditHistory:
        """One edit further; edits that were undone are forgotten, states beyond `UNDO_STEPS` too.

        Raises:
            ValueError: if the edit cannot be done; the history is as before.
        """
        states = (*self.states[: self.position + 1], edit.apply(self.present, scores))[-(UNDO_STEPS + 1) :]
        return EditHistory(states, len(states) - 1, (*self.applied, edit))

    def undo(self) -> EditHistory:
        """One step back; the same where there is none."""
        return replace(self, position=self.position - 1) if self.can_undo else self

    def redo(self) -> EditHistory:
        """One step forth; the same where there is none."""
        return replace(self, position=self.position + 1) if self.can_redo else self
