"""What is in this photo: one button writes the words into the class box, to be kept or crossed out."""

from __future__ import annotations

from html import escape
from pathlib import Path

import gradio as gr

from ovs_core.engine import Engine
from ovs_core.engine.suggest import suggest
from ovs_core.image import read_photo
from ovs_core.ui.asking import NO_PHOTO, PHOTO_GONE
from ovs_core.ui.runs import MODEL_QUEUE


def with_suggestions(engine: Engine, photo: str | None, typed: str, limit: int = 10) -> str:
    """What is typed, and behind it the words that the photo holds and nobody typed.

    Args:
        engine: asks its default method.
        photo: path of the uploaded file, None if there is none, "" for one that may not be opened.
        typed: the class box.
        limit: words wanted.

    Raises:
        ValueError: without a photo that can be read; one sentence.
    """
    if photo is None:
        raise ValueError(NO_PHOTO)
    if not photo or not Path(photo).exists():
        raise ValueError(PHOTO_GONE)
    known = {name.strip().casefold() for name in typed.replace("|", ";").replace("\n", ";").split(";")}
    found = [word.name for word in suggest(engine, read_photo(photo), limit)]
    new = [name for name in found if name.casefold() not in known]
    return "; ".join([*filter(None, [typed.strip().rstrip(";").rstrip()]), *new])


def suggestion_button() -> gr.Button:
    """Lay out the button."""
    return gr.Button("What is in this photo?", size="sm", elem_id="suggest")


def connect_suggestions(engine: Engine, button: gr.Button, photo: gr.Image, classes: gr.Textbox) -> None:
    """Let the button write into the class box."""

    def fill(photo: str | None, typed: str | None) -> str:
        try:
            return with_suggestions(engine, photo, typed or "")
        except ValueError as error:
            raise gr.Error(escape(str(error)), title="That did not work", print_exception=False) from error

    button.click(
        fill,
        [photo, classes],
        [classes],
        concurrency_id=MODEL_QUEUE,
        concurrency_limit=1,
        api_visibility="private",
    )
