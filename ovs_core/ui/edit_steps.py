"""Putting an answer right on the page: what a click, a button, undo and redo do to it. No gradio here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

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
from ovs_core.ui.answer import Answer, relabelled
from ovs_core.vocabulary.boxes import Box

GIVE, ERASE, PAINT, RUB = "Give the area to the class", "Erase the area", "Paint", "Rub out"
PLUS, MINUS, ROUND = "Object: this (+)", "Object: not this (-)", "Object: in a box"
OBJECT = (PLUS, MINUS, ROUND)
"""What asks Segment Anything, and needs a file of its weights."""
ACTIONS = (GIVE, ERASE, PAINT, RUB, *OBJECT)
"""What a click or a stroke on the picture does."""
NO_ANSWER = "There is nothing to put right yet: press Segment first."
NO_CLASS = "Choose a class first."


@dataclass(frozen=True, eq=False)
class PointedObject:
    """The object that is being pointed at: each further place makes it anew.

    Attributes:
        prompt: the class that it is given to, all places so far and the last box.
        before: the answer without it.
        after: the answer with it; any other edit since ends the pointing.
    """

    prompt: ObjectPrompt
    before: Answer
    after: Answer


def drawn_edit(action: str, places: Sequence[tuple[float, float]], label: int | None, radius: float) -> Edit:
    """The edit that a click or a stroke means.

    Args:
        action: one of `ACTIONS`, not of `OBJECT`.
        places: (x, y) in pixels of the photo; of a click one.
        label: the chosen class; None where none is.
        radius: of the brush, in pixels of the photo.

    Raises:
        ValueError: where a class is needed and none is chosen, or for another action.
    """
    if action not in ACTIONS or action in OBJECT:
        raise ValueError(f"action must be one of {', '.join(ACTIONS)}, got {action!r}")
    if action in (GIVE, PAINT) and label is None:
        raise ValueError(NO_CLASS)
    given = label if action in (GIVE, PAINT) and label is not None else OTHER
    if action in (GIVE, ERASE):
        return Reassign(places[-1], given)
    return Brush(tuple(places), radius, given)


def pointed_object(
    engine: Engine,
    answer: Answer | None,
    options: Options,
    pointed: PointedObject | None,
    label: int | None,
    click: Click | None = None,
    box: Box | None = None,
) -> PointedObject:
    """Give the object that is pointed at to the chosen class; one more place or box makes it more exact.

    Args:
        engine: whose weights and cache are used; the photo is looked at once.
        answer: as it stands.
        options: of the stage "decide", as the sliders stand.
        pointed: what was pointed at so far; unused where the answer was edited otherwise since, or another
            class is chosen.
        label: the chosen class.
        click: one more place.
        box: around the object, in place of an earlier one.

    Raises:
        ValueError: without an answer, a class, a file of weights, or a place that says something.
    """
    if answer is None:
        raise ValueError(NO_ANSWER)
    prompt, start = ObjectPrompt(_chosen(label)), answer
    if pointed is not None and pointed.after is answer and pointed.prompt.label == label:
        prompt, start = pointed.prompt, pointed.before
    prompt = replace(prompt, clicks=(*prompt.clicks, *([click] if click else [])), box=box or prompt.box)
    shown = as_shown(engine, start, options).result
    result = engine.refine(shown, [prompt])
    return PointedObject(prompt, start, replace(start, result=result, undone=(), warned=False))


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
    shown = as_shown(engine, answer, options).result
    return replace(answer, result=shown.edited([edit]), undone=(), warned=False)


def as_shown(engine: Engine, answer: Answer, options: Options) -> Answer:
    """The answer at the photo's own size as the sliders stand, edits done again."""
    return relabelled(engine, answer, options, None)


def undo(engine: Engine, answer: Answer | None, options: Options) -> Answer:
    """The answer with its last edit taken back; `UNDO_STEPS` can be.

    Raises:
        ValueError: where there is nothing to take back.
    """
    if answer is None or not answer.result.edits or len(answer.undone) >= UNDO_STEPS:
        raise ValueError("There is no edit to take back.")
    *kept, last = answer.result.edits
    before = replace(answer, result=replace(answer.result, edits=tuple(kept)))
    return replace(as_shown(engine, before, options), undone=(*answer.undone, last))


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
