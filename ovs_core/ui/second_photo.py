"""A second photo beside the first in Inspect: where is this patch there?"""

from __future__ import annotations

import threading
from dataclasses import replace

import gradio as gr

from ovs_core.engine import Cancelled, Engine
from ovs_core.engine.beside import patch_cosines
from ovs_core.ui.asking import Question
from ovs_core.ui.hover import SecondPhoto
from ovs_core.ui.pictures import base_picture, photo_field
from ovs_core.ui.places import without_places
from ovs_core.ui.words import STOPPED, note_html

ABOUT = (
    "Optional. Press Inspect and move over the first photo: the second one shows how alike each of its "
    "places is to the patch under the pointer. It works with every rule on CLIP's last block."
)


def second_photo_field() -> gr.Image:
    """Lay out the field, folded away."""
    with gr.Accordion("A second photo: where is this patch there?", open=False, elem_id="beside"):
        gr.HTML(note_html(ABOUT), padding=False)
        return photo_field(
            label="Second photo",
            sources=["upload", "clipboard"],
            height=160,
            elem_id="beside-photo",
            alt_text="The second photo",
        )


def searched(
    engine: Engine, question: Question, method: str, path: str | None, token: threading.Event | None
) -> tuple[SecondPhoto | None, str]:
    """Compare the question's photo with a second one, patch by patch.

    Args:
        engine: asks the method.
        question: photo, words and options.
        method: registry name.
        path: of the second photo as the field hands it over; None if there is none.
        token: stops the work.

    Returns:
        What stands beside the photo, or None and a sentence that says why not; "" where none was chosen.
    """
    if path is None:
        return None, ""
    try:
        photo = replace(question, photo=path).read_photo(engine)
        alike = patch_cosines(engine, question.request(engine, method), photo, cancel=token)
    except Cancelled:
        return None, STOPPED
    except ValueError as error:
        return None, f"Second photo: {without_places(str(error), engine.store)}"
    return SecondPhoto(base_picture(photo.pixels), alike), ""
