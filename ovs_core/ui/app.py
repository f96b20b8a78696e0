"""The page: shared inputs on the left, tabs on the right, the HTTP endpoints behind it."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Sequence
from functools import partial
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.processing_utils import save_file_to_cache
from gradio.utils import get_upload_folder
from starlette.middleware import Middleware

from ovs_core.engine import Engine
from ovs_core.ui.compare_tab import compare_tab
from ovs_core.ui.guard import Guard, Uploads
from ovs_core.ui.http import http_endpoints
from ovs_core.ui.inputs import NOTHING_SAID, PHOTOS, Example, InputPanel, Opening, input_panel, load_examples
from ovs_core.ui.inspect_tab import inspect_tab
from ovs_core.ui.line import Line
from ovs_core.ui.mcp import mcp_route
from ovs_core.ui.models_tab import models_tab
from ovs_core.ui.offered import encoder_choices, encoder_update, refiner_choices
from ovs_core.ui.pictures import MOST_BYTES
from ovs_core.ui.plain import plain_routes
from ovs_core.ui.recall import connect_recall
from ovs_core.ui.runs import stop_work
from ovs_core.ui.segment_tab import segment_tab
from ovs_core.ui.theme import STYLE_SHEET, page_head, page_theme
from ovs_core.ui.video_tab import video_tab

MOST_WAITING = 64  # requests in line for a model; who comes then is told that it is full
MOST_SESSIONS = 256  # pages whose answers are remembered; the one unused for longest is forgotten
CLOSED_SECONDS = 120  # a closed tab's answer is kept, in case a phone only slept
QUEUE_LOOKS = 0.01, 0.1  # seconds between looks at the line, and at progress bars, of which there are none
_LOOKS = 10  # at the page after its start; each waits for 3 s: a busy machine may need them
NOT_UP = (
    "The page does not answer at its own address: a firewall or a proxy may be in the way (NO_PROXY should "
    "name the host), or this machine is too busy."
)
CACHE_SWEEP = (3600, 86400)  # look every hour, delete files older than a day, in seconds


def weights_line(engine: Engine, encoder: str) -> str:
    """Say in plain words which weights are in use, or how to get some."""
    info = next(info for info in engine.encoders() if info.name == encoder)
    state = "weights" if info.available else "weights missing"
    lead = "Weights in use:" if info.available else "No weights yet:"
    return f'<p class="{state}"><b>{lead}</b> {escape(info.weights)}</p>'


def header_html(engine: Engine, encoder: str) -> str:
    """Give the head of the page."""
    return (
        "<h1>OVS Lens</h1>"
        "<p>Drop a photo, type any class names, and see which pixels belong to which word.</p>"
        f"{weights_line(engine, encoder)}"
    )


def build_ui(
    engine: Engine, examples: Sequence[Example] | None = None, opening: Opening = NOTHING_SAID
) -> gr.Blocks:
    """Lay out the page for an engine.

    Args:
        engine: answers the questions; shared by all users.
        examples: sample photos; None reads those in `assets/photos`.
        opening: photo, words and method that are there from the start.
    """
    choices = encoder_choices(engine)
    samples = load_examples() if examples is None else tuple(examples)
    with gr.Blocks(title="OVS Lens", analytics_enabled=False, delete_cache=CACHE_SWEEP) as page:
        header = gr.HTML(header_html(engine, choices[0][1]), elem_id="ovs-header", padding=False)
        with gr.Row(equal_height=False):
            with gr.Column(scale=4, min_width=280):
                refiners = refiner_choices(engine)
                shown = encoder_update(engine)["visible"]
                inputs = input_panel(
                    engine, choices, refiners, samples, choose_encoder=shown, opening=opening
                )
            with gr.Column(scale=8, min_width=280), gr.Tabs():
                with gr.Tab("Segment", id="segment"):
                    method = segment_tab(engine, inputs)
                with gr.Tab("Compare", id="compare"):
                    compare_tab(engine, inputs)
                with gr.Tab("Inspect", id="inspect"):
                    inspect_tab(engine, inputs)
                with gr.Tab("Video", id="video"):
                    video_tab(engine, inputs)
                with gr.Tab("Models", id="models"):
                    models = models_tab(
                        engine, lambda: [encoder_update(engine)], [inputs.encoder], inputs.arrivals
                    )
        quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private", "queue": False}
        page.load(
            lambda: [encoder_update(engine), *models.values()],
            None,
            [inputs.encoder, *models.components],
            **quiet,
        )
        connect_recall(engine, page, inputs, method, opening)
        http_endpoints(engine, str(inputs.background.value))

        def leave(request: gr.Request) -> None:
            _leave(page, request.session_hash)

        page.unload(leave)
        inputs.encoder.change(
            lambda encoder: header_html(engine, encoder),
            [inputs.encoder],
            [header],
            **quiet,
        )
        for button, example in zip(inputs.examples, samples, strict=True):
            _connect_example(button, example, inputs)
    return page


def _rest_between_looks(page: gr.Blocks) -> None:
    """Gradio looks at its line a thousand times a second, which takes 5 % of a core while nobody asks."""
    page._queue.sleep_when_free, page._queue.progress_update_sleep_when_free = QUEUE_LOOKS


def _leave(page: gr.Blocks, session: str | None) -> None:
    """Stop the work of a tab that was closed, and let its answers be forgotten soon."""
    state = page.app.state_holder.session_data.get(session or "")
    if state is None:
        return
    state.STATE_TTL_WHEN_CLOSED = CLOSED_SECONDS
    for _, value, _ in state.state_components:
        if isinstance(value, threading.Event):
            stop_work(value)


def _connect_example(button: gr.Button, example: Example, inputs: InputPanel) -> None:
    """Let a click fill in photo and words, and ask the tab that is open."""
    button.click(
        lambda: (str(example.file), example.classes),
        None,
        [inputs.photo, inputs.classes],
        queue=False,
        show_progress="hidden",
        api_visibility="private",
    ).then(None, None, None, js="() => ovs.run()")


def _shipped_samples() -> frozenset[str]:
    """Where the browser finds the samples: everybody may ask about these."""
    return _in_cache([example.file for example in load_examples()])


def _icons(page: gr.Blocks) -> frozenset[str]:
    """Pictures that are part of the page itself, such as those of its examples."""
    return frozenset(path for block in page.blocks.values() for path in getattr(block, "keep_in_cache", ()))


def _in_cache(files: Iterable[Path]) -> frozenset[str]:
    return frozenset(save_file_to_cache(file, get_upload_folder()) for file in files)


def launch(
    page: gr.Blocks,
    *,
    host: str,
    port: int | None,
    browser: bool,
    auth: tuple[str, str] | None = None,
    root_path: str | None = None,
    engine: Engine | None = None,
    shown: Sequence[Path] = (),
    mcp: bool = False,
) -> str:
    """Start to serve the page in a thread and give its address.

    Args:
        page: from `build_ui`.
        host: interface to listen on.
        port: port, None for the first free one from 7860.
        browser: open a browser window.
        auth: name and password to ask visitors for.
        root_path: where a proxy serves the page.
        engine: answers plain HTTP, see `ovs_core.ui.plain`; None serves the page alone.
        shown: pictures that every visitor may ask about, besides the samples.
        mcp: serve `ovs_core.ui.mcp`, too; needs an engine.

    Raises:
        OSError: no such interface, the port is taken, or the page does not come up.
    """
    guard = Middleware(Guard, uploads=Uploads(_shipped_samples() | _in_cache(shown) | _icons(page)))
    routes = []
    if engine is not None:
        line = Line(engine, auth)
        routes = [*plain_routes(line), *([mcp_route(line)] if mcp else [])]
    # Gradio sums up its last 10,000 events for a page that we do not serve, after every one of them.
    os.environ.setdefault("GRADIO_ANALYTICS_CACHE_FREQUENCY", "1000")
    line_of_page = page.queue(max_size=MOST_WAITING)
    _rest_between_looks(line_of_page)
    launched = partial(
        line_of_page.launch,
        server_name=f"[{host}]" if ":" in host and not host.startswith("[") else host,
        server_port=port,
        inbrowser=browser,
        prevent_thread_lock=True,
        share=False,
        run_history=False,
        ssr_mode=False,
        max_file_size=MOST_BYTES,
        enable_monitoring=False,
        mcp_server=False,  # gradio's own opens what its callers name by URL
        auth=auth,
        root_path=root_path,
        state_session_capacity=MOST_SESSIONS,
        app_kwargs={"middleware": [guard], "routes": routes},
        footer_links=["api"],
        allowed_paths=[str(PHOTOS)],
        theme=page_theme(),
        css_paths=STYLE_SHEET,
        head=page_head(),
        quiet=True,
    )
    for _ in range(_LOOKS):
        try:
            return str(launched()[1])
        except ValueError as error:
            if "localhost" not in str(error):
                raise
    page.close(verbose=False)
    raise OSError(NOT_UP)
