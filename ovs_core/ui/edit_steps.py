"""Putting an answer right on the page: what a click, a button, undo and redo do to it. No gradio here."""

from __future__ import annotations

from dataclasses import replace

from ovs_core.edit.history import UNDO_STEPS
from ovs_core.edit.record import (
    Brush,
    Delete,
    DropIslands,
    Edit,
    Merge,
    Reassign,
    Recolour,
    Rename,
    Threshold,
)
from ovs_core.engine import Engine
from ovs_core.options import Options
from ovs_core.refine.sam.prompts import Click, ObjectPrompt
from ovs_core.types import OTHER, Color
from ovs_core.ui.answer import Answer

GIVE, ERASE, PAINT, RUB = "Give the area to the class", "Erase the area", "Paint", "Rub out"
OBJECT = "Give the object (Segment Anything)"
ACTIONS = (GIVE, ERASE, PAINT, RUB)
"""What a click on the picture does without a model; `OBJECT` needs a file of weights."""
NO_ANSWER = "There is nothing to put right yet: press Segment first."
NO_CLASS = "Choose a class first."


def click_edit(action: str, place: tuple[float, float], label: int | None, radius: float) -> Edit:
    """The edit that a click means.

    Args:
        action: one of `ACTIONS`.
        place: (x, y) in pixels of the photo.
        label: the chosen class; None where none is.
        radius: of the brush, in pixels of the photo.

    Raises:
        ValueError: where a class is needed and none is chosen, or for another action.
    """
    if action not in ACTIONS:
        raise ValueError(f"action must be one of {', '.join(ACTIONS)}, got {action!r}")
    if action in (GIVE, PAINT) and label is None:
        raise ValueError(NO_CLASS)
    if action in (GIVE, ERASE):
        return Reassign(place, label if action == GIVE and label is not None else OTHER)
    return Brush((place,), radius, label if action == PAINT and label is not None else OTHER)


def object_given(
    engine: Engine, answer: Answer | None, options: Options, place: tuple[float, float], label: int | None
) -> Answer:
    """The answer with the object under a place given to the chosen class; what was undone is forgotten.

    Raises:
        ValueError: without an answer, a class or a file of weights.
    """
    if answer is None:
        raise ValueError(NO_ANSWER)
    prompt = ObjectPrompt(_chosen(label), (Click(*place),))
    shown = engine.relabel(answer.result, options)
    return replace(answer, result=engine.refine(shown, [prompt]), undone=(), warned=False)


def merge_edit(label: int | None, into: int | None) -> Edit:
    """Make the chosen class part of another one."""
    return Merge((_chosen(label),), _chosen(into))


def rename_edit(label: int | None, name: str) -> Edit:
    """Call the chosen class something else."""
    return Rename(_chosen(label), name)


def recolour_edit(label: int | None, color: Color) -> Edit:
    """Paint the chosen class in another colour."""
    return Recolour(_chosen(label), color)


def delete_edit(label: int | None) -> Edit:
    """Take the chosen class away."""
    return Delete(_chosen(label))


def threshold_edit(label: int | None, threshold: float) -> Edit:
    """Give the chosen class a threshold of its own."""
    return Threshold(_chosen(label), float(threshold))


def islands_edit(least_pixels: float | None) -> Edit:
    """Dissolve areas of fewer pixels."""
    if least_pixels is None:
        raise ValueError("Say how many pixels an area must have at least.")
    return DropIslands(int(least_pixels))


def edited(engine: Engine, answer: Answer | None, options: Options, edit: Edit) -> Answer:
    """The answer with one edit more; what was undone is forgotten.

    Args:
        engine: the engine.
        answer: as the model gave it, with earlier edits.
        options: of the stage "decide", as the sliders stand.
        edit: what to do.

    Raises:
        ValueError: without an answer, or for an edit that cannot be done; one sentence.
    """
    if answer is None:
        raise ValueError(NO_ANSWER)
    shown = engine.relabel(answer.result, options)
    return replace(answer, result=shown.edited([edit]), undone=(), warned=False)


def as_shown(engine: Engine, answer: Answer, options: Options) -> Answer:
    """The answer at the photo's own size as the sliders stand, edits done again."""
    return replace(answer, result=engine.relabel(answer.result, options))


def undo(engine: Engine, answer: Answer | None, options: Options) -> Answer:
    """The answer with its last edit taken back; `UNDO_STEPS` can be.

    Raises:
        ValueError: where there is nothing to take back.
    """
    if answer is None or not answer.result.edits or len(answer.undone) >= UNDO_STEPS:
        raise ValueError("There is no edit to take back.")
    *kept, last = answer.result.edits
    result = engine.relabel(replace(answer.result, edits=tuple(kept)), options)
    return replace(answer, result=result, undone=(*answer.undone, last))


def redo(engine: Engine, answer: Answer | None, options: Options) -> Answer:
    """The answer with the edit that was taken back last.

    Raises:
        ValueError: where nothing was taken back.
    """
    if answer is None or not answer.undone:
        raise ValueError("There is no edit that was taken back.")
    *left, edit = answer.undone
    return replace(edited(engine, answer, options, edit), undone=tuple(left))


def would_lose(answer: Answer | None) -> str:
    """What a new answer would delete, in one sentence; "" where nothing or it was said before."""
    if answer is None or not answer.result.edits or answer.warned:
        return ""
    count = len(answer.result.edits)
    edits = "1 edit" if count == 1 else f"{count} edits"
    return f"A new answer deletes {edits} by hand. Download what you need, then press Segment once more."


def _chosen(label: int | None) -> int:
    """A class that was chosen.

    Raises:
        ValueError: where none was.
    """
    if label is None:
        raise ValueError(NO_CLASS)
    return label
