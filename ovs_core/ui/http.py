"""The same questions over HTTP, for gradio_client: docs/http.md shows every endpoint with an example."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from html import escape
from typing import Any

import gradio as gr
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ovs_core.build import DEFAULT_ENCODER, DEFAULT_METHOD
from ovs_core.engine import Engine, Progress
from ovs_core.export.files import result_files
from ovs_core.export.report import report as report_of
from ovs_core.render.disagreement import disagreement_picture
from ovs_core.types import Result
from ovs_core.ui.asking import Question, answers
from ovs_core.ui.inspect_tab import VIEWS, insight
from ovs_core.ui.pictures import photo_field, store
from ovs_core.ui.runs import MODEL_QUEUE

Report = dict[str, Any]


def api_segment(
    engine: Engine,
    question: Question,
    method: str,
    scale: float | None = None,
    threshold: float | None = None,
    switches: Sequence[str] = (),
) -> tuple[str, Report]:
    """Segment a photo; gives the path of the indexed label PNG and the report.

    Raises:
        ValueError: anything wrong with the photo, the words or a name; one sentence.
    """
    request = question.request(engine, method, scale, threshold, switches)
    result = results_of(lambda: engine.run(request))[0]
    return saved(result, request.photo.name)


def api_compare(
    engine: Engine, question: Question, methods: Sequence[str]
) -> tuple[list[str], str | None, Report]:
    """Segment with several methods; gives label PNGs in the order asked, the disagreement and a report.

    Raises:
        ValueError: as `api_segment`.
    """
    photo, vocabulary = question.read()
    chosen = list(methods) or None
    results = results_of(
        lambda: engine.compare(photo, vocabulary, chosen, encoder=question.encoder, refine=question.refine)
    )
    files = [saved(result, photo.name) for result in results]
    report: Report = {
        "methods": {result.method: entry for result, (_, entry) in zip(results, files, strict=True)}
    }
    picture = None
    if len(results) > 1:
        pixels, disagreement = disagreement_picture(results)
        picture = _stored_png(pixels, "disagreement.png")
        report["disagreement_share"] = float((disagreement > 0).mean())
    return [path for path, _ in files], picture, report


def api_inspect(
    engine: Engine, question: Question, method: str, across: float, down: float
) -> tuple[list[str], str | None, Report]:
    """Look inside one method; gives a heat map per class, the affinity picture of a point and a report.

    Raises:
        ValueError: as `api_segment`, or a point outside [0, 1].
    """
    point = (down, across)
    request = replace(question.request(engine, method, None, None), views=VIEWS, point=point)
    result = results_of(lambda: engine.run(request))[0]
    found = insight(result, point)
    report: Report = {
        "method": method,
        "classes": list(result.vocabulary.names),
        "low": found.low,
        "high": found.high,
        "views": [
            {
                "kind": view.kind,
                "title": view.title,
                "labels": list(view.labels),
                "shape": list(view.maps.shape),
            }
            for view in result.segmentation.views
        ],
    }
    maps = [_stored_png(picture, f"similarity-{k}.png") for k, (picture, _) in enumerate(found.similarity, 1)]
    affinity = None if found.affinity is None else _stored_png(found.affinity, "affinity.png")
    return maps, affinity, report


def api_methods(engine: Engine) -> Report:
    """List methods and image-text models with what is needed to use them."""
    return {
        "default": DEFAULT_METHOD,
        "methods": [
            {**vars(info), "switches": dict(info.switches), "views": sorted(info.views)}
            for info in engine.methods()
        ],
        "encoders": [dict(vars(info)) for info in engine.encoders()],
    }


def results_of(ask: Callable[[], Iterator[Progress | Result]]) -> list[Result]:
    """Follow the engine to the end; a refusal becomes a `ValueError`."""
    results = []
    for event in answers(ask):
        if isinstance(event, Result):
            results.append(event)
        elif event.kind != "busy":
            raise ValueError(event.text)
    return results


def saved(result: Result, stem: str) -> tuple[str, Report]:
    """Keep the label PNG of a result as a file; gives its path and the JSON report."""
    files = result_files(result, stem)
    labels = next(store(content, name) for name, content in files if name.endswith(".labels.png"))
    return labels, report_of(result)


def _stored_png(pixels: NDArray[np.uint8], name: str) -> str:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return store(buffer.getvalue(), name)


def http_endpoints(engine: Engine, default_background: str) -> None:
    """Add the endpoints to the page that is being built; nothing of them is visible."""
    with gr.Row(visible=False):
        image = photo_field(label="image")
        classes = gr.Textbox(label="classes")
        method = gr.Textbox(DEFAULT_METHOD, label="method")
        known = [info.name for info in engine.methods() if info.available]
        methods = gr.JSON(known, label="methods")
        encoder = gr.Textbox(DEFAULT_ENCODER, label="encoder")
        background = gr.Textbox(default_background, label="background")
        refine = gr.Textbox("none", label="refine")
        scale = gr.Number(None, label="scale")
        threshold = gr.Number(None, label="threshold")
        switches = gr.JSON([], label="switches")
        across = gr.Number(0.5, label="across")
        down = gr.Number(0.5, label="down")
        files = gr.File(file_count="multiple", label="pictures")
        file = gr.File(label="labels")
        report = gr.JSON(label="report")
        press = gr.Button()

    def segment(
        image: str | None,
        classes: str,
        method: str,
        encoder: str,
        background: str,
        refine: str,
        scale: float | None = None,
        threshold: float | None = None,
        switches: list[str] | None = None,
    ) -> tuple[str, Report]:
        """Segment a photo from typed classes."""
        question = Question(image, classes, background, encoder, refine)
        return refusing(lambda: api_segment(engine, question, method, scale, threshold, switches or []))

    def compare(
        image: str | None, classes: str, methods: list[str] | None, encoder: str, background: str, refine: str
    ) -> tuple[list[str], str | None, Report]:
        """Segment a photo with several methods and show where they disagree."""
        question = Question(image, classes, background, encoder, refine)
        return refusing(lambda: api_compare(engine, question, methods or []))

    def inspect(
        image: str | None,
        classes: str,
        method: str,
        encoder: str,
        background: str,
        across: float,
        down: float,
    ) -> tuple[list[str], str | None, Report]:
        """Look inside a method: heat map per class, and what the patch at a point looks at."""
        question = Question(image, classes, background, encoder, "none")
        return refusing(lambda: api_inspect(engine, question, method, across, down))

    common: dict[str, Any] = {
        "concurrency_id": MODEL_QUEUE,
        "concurrency_limit": 1,
        "api_visibility": "public",
    }
    press.click(
        segment,
        [image, classes, method, encoder, background, refine, scale, threshold, switches],
        [file, report],
        api_name="segment",
        **common,
    )
    press.click(
        compare,
        [image, classes, methods, encoder, background, refine],
        [files, file, report],
        api_name="compare",
        **common,
    )
    press.click(
        inspect,
        [image, classes, method, encoder, background, across, down],
        [files, file, report],
        api_name="inspect",
        **common,
    )
    press.click(lambda: api_methods(engine), None, [report], api_name="methods", queue=False)


def refusing(answer: Callable[[], Any]) -> Any:
    """Turn a `ValueError` into the one sentence that gradio_client shows."""
    try:
        return answer()
    except ValueError as error:
        raise gr.Error(escape(str(error), quote=False), print_exception=False) from error
