"""One Start button, one Stop button, one status line: how long work is started, shown and stopped."""

from __future__ import annotations

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
    """Ask running work to stop at its next window."""
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
    """
    controls = [bar.status, bar.start, bar.stop]
    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}

    def arm() -> list[Any]:
        return [threading.Event(), *_controls(Status("Waiting for its turn", "busy"))]

    def steps(token: threading.Event, *values: Any) -> Iterator[list[Any]]:
        for status, new_values in work(token, *values):
            if status.kind == "error":
                gr.Warning(escape(status.text), title="That did not work")
            shown = [gr.skip()] * len(outputs) if new_values is None else list(new_values)
            yield [*_controls(status), *shown]

    def stop(token: threading.Event | None) -> Any:
        stop_work(token)
        return gr.update(interactive=False)

    armed = [gr.on([bar.start.click, *triggers], arm, None, [bar.token, *controls], queue=False, **quiet)]
    armed += [chain.then(arm, None, [bar.token, *controls], queue=False, **quiet) for chain in after]
    running = [
        event.then(
            steps,
            [bar.token, *inputs],
            [*controls, *outputs],
            concurrency_id=queue,
            concurrency_limit=1,
            postprocess=postprocess,
            **quiet,
        )
        for event in armed
    ]
    for event in running:
        event.failure(lambda: _controls(Status(BROKE, "error")), None, controls, queue=False, **quiet)
    # No `cancels=`: gradio would call the work failed and free its place in the line while it still runs.
    # The work itself sees the event within a moment, says so and gives the buttons back.
    bar.stop.click(stop, [bar.token], [bar.stop], queue=False, **quiet)


def _controls(status: Status) -> list[Any]:
    busy = status.kind == "busy"
    return [status_html(status), gr.update(interactive=not busy), gr.update(interactive=busy)]
