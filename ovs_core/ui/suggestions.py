"""What is in this photo: words that it may hold, as chips to be clicked into the class box."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from html import escape
from typing import Any

import gradio as gr

from ovs_core.engine import Engine
from ovs_core.engine.suggest import suggested, suggestion_request
from ovs_core.ui.asking import Question, answers
from ovs_core.ui.places import without_places
from ovs_core.ui.runs import MODEL_QUEUE
from ovs_core.ui.words import Status

NOTHING_TYPED = "Nothing was typed: these words may be in the photo. Click some, then press Segment."
# In the browser, at once: what is typed, or clicked, before a server could answer stays.
_CLICKED = """element.addEventListener("click", (event) => {
  const word = event.target.closest("[data-word]")?.dataset.word;
  const box = document.querySelector("#classes textarea");
  if (!word || !box) return;
  const known = box.value.split(/[|;\\n,\\uff1b\\uff0c\\uff5c]/).map((name) => name.trim().toLowerCase());
  if (known.includes(word.toLowerCase())) return;
  box.value = [box.value.trim().replace(/[;\\s]+$/, ""), word].filter(Boolean).join("; ");
  box.dispatchEvent(new Event("input", { bubbles: true }));
});"""


def suggestion_steps(
    engine: Engine, token: threading.Event | None, question: Question
) -> Iterator[tuple[Status, str | None]]:
    """Find words for a photo; progress first, then the chips, or a sentence saying why not."""
    try:
        request = suggestion_request(question.read_photo(engine))
    except ValueError as error:
        yield Status(without_places(str(error), engine.store), "error"), None
        return
    for event in answers(engine, lambda: engine.run(request, token)):
        if isinstance(event, Status):
            yield event, None
        else:
            words = [word.name for word in suggested(event)]
            yield Status(NOTHING_TYPED, "warning", answers=False), chips_html(words)


def chips_html(words: Sequence[str]) -> str:
    """Words as buttons; a click on one adds it to the class box."""
    chips = "".join(
        f'<button type="button" data-word="{escape(word)}">{escape(word)}</button>' for word in words
    )
    return (
        f'<p class="ovs-note">May be in the photo, the surest first:</p><div class="ovs-chips">{chips}</div>'
    )


def suggestion_fields() -> tuple[gr.Button, gr.HTML]:
    """Lay out the button and the place of the chips."""
    button = gr.Button("What is in this photo?", size="sm", elem_id="suggest")
    return button, gr.HTML("", padding=False, elem_id="chips", js_on_load=_CLICKED)


def connect_suggestions(engine: Engine, button: gr.Button, chips: gr.HTML, photo: gr.Image) -> None:
    """Let the button fill the chips, and another photo take them away."""

    def fill(photo: str | None) -> Any:
        for status, html in suggestion_steps(engine, None, Question(photo, "", "", "", "")):
            if status.kind == "error":
                raise gr.Error(escape(status.text), title="That did not work", print_exception=False)
            if html is not None:
                return html
        return gr.skip()

    button.click(
        fill,
        [photo],
        [chips],
        concurrency_id=MODEL_QUEUE,
        concurrency_limit=1,
        api_visibility="private",
    )
    photo.change(lambda: "", None, [chips], queue=False, show_progress="hidden", api_visibility="private")
