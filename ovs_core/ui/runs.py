"""One Start button, one Stop button, one status line: how long work is started, shown and stopped."""

from __future__ import annotations

import json
import secrets
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import gradio as gr

from ovs_core.ui.words import Status, status_html

# A step of work: what to say, and new values for the outputs (None leaves all of them as they are).
Step = tuple[Status, tuple[Any, ...] | None]
Work = Callable[..., Iterator[Step]]

BROKE = "Something unexpected went wrong; the app's terminal says what. Your inputs are still here."
MODEL_QUEUE = "model"  # everything that runs a model waits in this one line
STATE_SECONDS = 3600  # an idle page is forgotten after this


@dataclass(frozen=True)
class RunBar:
    """The controls of one kind of work; `token` is the event that stops it, one per browser tab."""

    start: gr.Button
    stop: gr.Button
    status: gr.HTML
    token: gr.State


def stop_work(token: threading.Event | None) -> None:
    """Ask running work to stop at its next window or tile of labels."""
    if token is not None:
        token.set()


def run_bar(start_label: str, name: str) -> tuple[gr.Button, gr.Button]:
    """Lay out Start and Stop; `name` makes their element ids."""
    start = gr.Button(start_label, variant="primary", elem_id=f"{name}-start", min_width=120)
    stop = gr.Button("Cancel", interactive=False, elem_id=f"{name}-stop", min_width=90)
    return start, stop


def status_line(name: str) -> tuple[gr.HTML, gr.State]:
    """Lay out the status line and the state that holds the stop event."""
    status = gr.HTML("", elem_id=f"{name}-status", padding=False)
    return status, gr.State(None, time_to_live=STATE_SECONDS, delete_callback=stop_work)


def wire(
    bar: RunBar,
    work: Work,
    inputs: Sequence[Any],
    outputs: Sequence[Any],
    *,
    triggers: Sequence[Any] = (),
    after: Sequence[Any] = (),
    queue: str = MODEL_QUEUE,
    postprocess: bool = True,
    tab: str | None = None,
    asked: Sequence[Any] = (),
) -> None:
    """Connect a run bar to work.

    Args:
        bar: controls.
        work: generator function (stop event, *input values) -> steps; the last step must not be "busy".
        inputs: components whose values `work` takes.
        outputs: components that the values of a step go to.
        triggers: further events that start the work, besides the Start button.
        after: event chains at whose end the work starts, too.
        queue: concurrency id; one piece of work per id runs at a time.
        postprocess: whether gradio prepares the values for the outputs; False if `work` did.
        tab: name of the tab whose answer is dimmed where it is no longer that of the question.
        asked: of `inputs` those that make the question.
    """
    controls = [bar.status, bar.start, bar.stop]
    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}

    def arm() -> list[Any]:
        return [threading.Event(), *_controls(Status("Waiting for its turn", "busy"))]

    def steps(token: threading.Event, *values: Any) -> Iterator[list[Any]]:
        name, answer = secrets.token_hex(4), ""  # two answers in a row may say the same
        for status, new_values in work(token, *values):
            if status.kind == "error":
                gr.Warning(escape(status.text), title="That did not work")
            shown = [gr.skip()] * len(outputs) if new_values is None else list(new_values)
            if new_values is not None and status.answers:
                answer = name
            yield [*_controls(status, answer), *shown]
        yield [gr.skip()] * (len(controls) + len(outputs))  # gradio sends the last values twice: nothing

    def stop(token: threading.Event | None) -> Any:
        stop_work(token)
        return gr.update(interactive=False)

    armed = [gr.on([bar.start.click, *triggers], arm, None, [bar.token, *controls], queue=False, **quiet)]
    armed += [chain.then(arm, None, [bar.token, *controls], queue=False, **quiet) for chain in after]
    if tab is not None:
        _watch_question(bar, tab, asked)
    running = [
        event.then(
            steps,
            [bar.token, *inputs],
            [*controls, *outputs],
            concurrency_id=queue,
            concurrency_limit=1,
            postprocess=postprocess,
            js=None if tab is None else _ask_js(tab, [bar.token, *inputs], asked),
            **quiet,
        )
        for event in armed
    ]
    for event in running:
        event.failure(lambda: _controls(Status(BROKE, "error")), None, controls, queue=False, **quiet)
    # No `cancels=`: gradio would call the work failed and free its place in the line while it still runs.
    # The work itself sees the event within a moment, says so and gives the buttons back.
    bar.stop.click(stop, [bar.token], [bar.stop], queue=False, **quiet)


def _ask_js(tab: str, inputs: Sequence[Any], asked: Sequence[Any]) -> str:
    """Let the page's script see a question as it is asked."""
    places = [inputs.index(component) for component in asked]
    return f"(...values) => ovs.ask({json.dumps(tab)}, {places}, {_slider_ids(inputs)}, ...values)"


def _watch_question(bar: RunBar, tab: str, asked: Sequence[Any]) -> None:
    """Let the page's script see when an answer comes and when the question changes."""
    name = json.dumps(tab)
    bar.status.change(None, [bar.status], None, js=f"(html) => ovs.status({name}, html)")
    changes = [component.change for component in asked]
    gr.on(changes, None, list(asked), None, js=f"(...values) => ovs.changed({name}, ...values)")


def clamped(inputs: Sequence[Any]) -> str:
    """Script for an event: numbers typed beside a slider are put into its range before they are sent."""
    return f"(...values) => ovs.clamped({_slider_ids(inputs)}, ...values)"


def settled(inputs: Sequence[Any]) -> str:
    """Script for an event that an answer sets off: its sliders' values, once they have come to the page."""
    return f"(...values) => ovs.settled({_slider_ids(inputs)}, ...values)"


def _slider_ids(components: Sequence[Any]) -> str:
    """Element ids of the sliders among components, null for all others, as JSON."""
    return json.dumps(
        [component.elem_id if isinstance(component, gr.Slider) else None for component in components]
    )


def _controls(status: Status, answer: str = "") -> list[Any]:
    busy = status.kind == "busy"
    shown = status_html(status, answer=answer)
    return [shown, gr.update(interactive=not busy), gr.update(interactive=busy)]
