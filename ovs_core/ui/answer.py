"""What a browser tab remembers about its last answer: enough for the sliders and the downloads."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

from ovs_core.edit.record import Edit
from ovs_core.engine import Engine, Result
from ovs_core.image import fitted
from ovs_core.options import Options


@dataclass(frozen=True, eq=False)
class Answer:
    """The last answer of a tab.

    Attributes:
        result: as the model gave it, labelled at the size of the page's picture, and as it was put right by
            hand since (`result.edits`), which is done at the photo's own size.
        name: photo's name, used in file names.
        base: path of the display copy of the photo.
        undone: edits that were taken back, the last one last.
        warned: whether the person knows that a new answer deletes the edits.
    """

    result: Result
    name: str
    base: str
    undone: tuple[Edit, ...] = ()
    warned: bool = False


def relabelled(
    engine: Engine,
    answer: Answer,
    options: Options,
    side: int | None,
    without: Collection[int] | None = None,
) -> Answer:
    """Label the answer's evidence again with other options; runs no model.

    Args:
        engine: the engine.
        answer: the answer as the model gave it.
        options: of the stage "decide".
        side: longer side of the new label map in pixels; None for the photo's own size.
        without: labels of the words that are switched off; None leaves those that are.
    """
    whole = answer.result.photo_size
    size = whole if side is None else fitted(whole, side)
    return replace(answer, result=engine.relabel(answer.result, options, size=size, without=without))
