"""The same questions over HTTP, for gradio_client: docs/http.md shows every endpoint with an example."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from html import escape
from typing import Any

import gradio as gr
from gradio.data_classes import FileData

from ovs_core.encoders.towers import DEFAULT_ENCODER
from ovs_core.engine import Engine, Progress, Result
from ovs_core.engine.paired import run_paired
from ovs_core.export.files import check_formats, result_files
from ovs_core.export.report import report as report_of
from ovs_core.methods import DEFAULT_METHOD
from ovs_core.methods.base import AFFINITY
from ovs_core.options import Options, lookup
from ovs_core.render.disagreement import consensus_picture, disagreement_picture, pairwise_agreement
from ovs_core.types import View
from ovs_core.ui.arguments import as_sent, by_name, names, number, switch, text, whole_number
from ovs_core.ui.asking import Question, answers
from ovs_core.ui.boxes import sent_boxes
from ovs_core.ui.inspect_tab import insight, inspect_request
from ovs_core.ui.offered import method_infos
from ovs_core.ui.pictures import photo_field, store, store_png
from ovs_core.ui.places import without_places
from ovs_core.ui.runs import MODEL_QUEUE
from ovs_core.ui.view_pictures import sections

Report = dict[str, Any]


def api_segment(
    engine: Engine,
    question: Question,
    method: str,
    options: Options | None = None,
    export: Sequence[str] = (),
    stuff: str = "default",
) -> tuple[str, Report]:
    """Segment a photo; gives the path of the indexed label PNG and the report.

    With `export`, names from `ovs_core.export.files.FORMATS`, the report has "files": the overlay and those
    files by the end of their names, as gradio's file dicts, which gradio_client fetches. `stuff` says what
    panoptic and instance files do not count.

    Raises:
        ValueError: anything wrong with the photo, the words or a name; one sentence.
    """
    request = question.request(engine, method, options)
    check_formats(export, method, masks=engine.method_specs[method].masks)
    result = results_of(engine, lambda: engine.run(request))[0]
    return saved(result, request.photo.name, export, stuff)


def api_compare(
    engine: Engine, question: Question, methods: Sequence[str]
) -> tuple[list[str], str | None, Report]:
    """Segment with several methods; gives label PNGs in the order asked, the disagreement and a report.

    Raises:
        ValueError: as `api_segment`.
    """
    photo, vocabulary = question.read(engine)
    chosen = list(methods) or None
    results = results_of(engine, lambda: question.compare(engine, photo, vocabulary, chosen))
    files = [saved(result, photo.name) for result in results]
    report: Report = {
        "methods": {result.method: entry for result, (_, entry) in zip(results, files, strict=True)}
    }
    picture = None
    if len(results) > 1:
        pixels, disagreement = disagreement_picture(results)
        picture = store_png(pixels, "disagreement.png")
        report["disagreement_share"] = float((disagreement > 0).mean())
        report |= _agreement(results)
    return [path for path, _ in files], picture, report


def _agreement(results: Sequence[Result]) -> Report:
    """Consensus of several answers as a picture, who agrees with whom, and on how much how many do."""
    pixels, votes = consensus_picture(results)
    shares = pairwise_agreement([result.labels for result in results])
    names = [result.method for result in results]
    picture = FileData(path=store_png(pixels, "consensus.png"), orig_name="consensus.png")
    return {
        "files": {"consensus.png": picture.model_dump()},
        "agreement": {
            name: dict(zip(names, row, strict=True)) for name, row in zip(names, shares.tolist(), strict=True)
        },
        "agreeing": {str(n): float((votes == n).mean()) for n in range(len(results), 0, -1)},
    }


def api_inspect(
    engine: Engine,
    question: Question,
    method: str,
    across: float,
    down: float,
    views: Sequence[str] = (),
    label: int = 0,
) -> tuple[list[str], str | None, Report]:
    """Look inside one method.

    Args:
        engine: answers.
        question: photo and words.
        method: registry name.
        across: of the point, in [0, 1].
        down: of the point, in [0, 1].
        views: kinds to draw beside the cosines and the affinity; "all" for all that the method has.
        label: class of views that are shown for one class, from 1; 0 for the largest one.

    Returns:
        Paths of a heat map per class and then of a picture per further view, path of the affinity picture of
        the point, and a report.

    Raises:
        ValueError: as `api_segment`, a point outside [0, 1], a view that the method does not have, or a class
            that was not typed.
    """
    point = (down, across)
    specs = lookup("method", engine.method_specs, method).cited_views
    usual = {view.kind for view in specs if view.special and view.kind != AFFINITY.kind}
    asked = None if "all" in views else usual | set(views)
    request = inspect_request(engine, question, method, point, asked)
    result = results_of(engine, lambda: run_paired(engine, request))[0]
    inside = insight(result, specs, point)
    shown = sections(inside.seen, label or inside.seen.first)
    figures = [(section.kind, section.figure) for section in shown if section.figure is not None]
    maps = [store_png(picture, f"similarity-{k}.png") for k, (picture, _) in enumerate(inside.similarity, 1)]
    maps += [store_png(figure, f"{kind}.png") for kind, figure in figures]
    affinity = None if inside.affinity is None else store_png(inside.affinity, "affinity.png")
    sources = {spec.kind: dict(vars(spec.source)) for spec in specs}
    report: Report = {
        "method": method,
        "classes": list(result.vocabulary.names),
        "low": inside.low,
        "high": inside.high,
        "views": [_described(view, sources[view.kind]) for view in result.views],
        "figures": [kind for kind, _ in figures],
    }
    return maps, affinity, report


def _described(view: View, source: Report) -> Report:
    """Say what a view holds: its numbers and words, too, where cells are no places in the photo."""
    about: Report = {
        "kind": view.kind,
        "title": view.title,
        "labels": list(view.labels),
        "shape": list(view.maps.shape),
        "source": source,
    }
    if view.columns or view.words or view.maps[0].numel() == 1:
        about["values"] = view.maps.tolist()
    if view.columns:
        about["columns"] = list(view.columns)
    if view.words:
        about["words"] = [list(row) for row in view.words]
    return about


def api_methods(engine: Engine, encoder: str = DEFAULT_ENCODER) -> Report:
    """List methods on an image-text model, and all such models, with what is needed to use them.

    Raises:
        ValueError: for an unknown name.
    """
    return {
        "default": DEFAULT_METHOD,
        "methods": [
            {
                **vars(info),
                "switches": dict(info.switches),
                "options": [vars(option) for option in info.options],
                "views": sorted(info.views),
            }
            for info in method_infos(engine, encoder)
        ],
        "encoders": [dict(vars(info)) for info in engine.encoders()],
    }


def results_of(engine: Engine, ask: Callable[[], Iterator[Progress | Result]]) -> list[Result]:
    """Follow the engine to the end; a refusal becomes a `ValueError`."""
    results = []
    for event in answers(engine, ask):
        if isinstance(event, Result):
            results.append(event)
        elif event.kind != "busy":
            raise ValueError(event.text)
    return results


def saved(
    result: Result, stem: str, export: Sequence[str] = (), stuff: str = "default"
) -> tuple[str, Report]:
    """Keep the label PNG of a result as a file, and more on request; gives its path and the JSON report."""
    files = result_files(result, stem, export, stuff=stuff)
    name, content = next(files)
    labels, report = store(content, name), report_of(result)
    if export:
        start = name.removesuffix("labels.png")
        report["files"] = {
            name.removeprefix(start): FileData(path=store(content, name), orig_name=name).model_dump()
            for name, content in files
            if name != f"{start}json"  # that is the report
        }
    return labels, report


def http_endpoints(engine: Engine, default_background: str) -> None:
    """Add the endpoints to the page that is being built; nothing of them is visible."""
    with gr.Row(visible=False):
        image = photo_field(label="image")
        classes = as_sent(gr.Textbox(label="classes"))
        method = as_sent(gr.Textbox(DEFAULT_METHOD, label="method"))
        methods = gr.JSON([], label="methods")  # none: all that can be asked on the encoder
        encoder = as_sent(gr.Textbox(DEFAULT_ENCODER, label="encoder"))
        background = as_sent(gr.Textbox(default_background, label="background"))
        refine = as_sent(gr.Textbox("none", label="refine"))
        scale = as_sent(gr.Number(None, label="scale"))
        threshold = as_sent(gr.Number(None, label="threshold"))
        switches = gr.JSON([], label="switches")
        export = gr.JSON([], label="export")
        stuff = as_sent(gr.Textbox("default", label="stuff"))
        several = as_sent(gr.Checkbox(False, label="several_frames"))
        options = gr.JSON({}, label="options")  # by name; /methods lists what each method declares
        exemplars = gr.JSON([], label="exemplars")
        across = as_sent(gr.Number(0.5, label="across"))
        down = as_sent(gr.Number(0.5, label="down"))
        views = gr.JSON([], label="views")
        label = as_sent(gr.Number(0, label="label", precision=0))
        files = gr.File(file_count="multiple", label="pictures")
        file = gr.File(label="labels")
        report = gr.JSON(label="report")
        press = gr.Button()

    answered = partial(refusing, engine)

    def question(
        image: str | None, classes: Any, encoder: Any, background: Any, refine: Any, options: Options
    ) -> Question:
        return Question(
            image,
            text("classes", classes),
            text("background", background, default_background),
            text("encoder", encoder, DEFAULT_ENCODER),
            text("refine", refine, "none"),
            options,
        )

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
        export: list[str] | None = None,
        stuff: str = "default",
        several_frames: bool = False,
        options: dict[str, Any] | None = None,
        exemplars: list[dict[str, Any]] | None = None,
    ) -> tuple[str, Report]:
        """Segment a photo from typed classes and boxes."""

        def answer() -> tuple[str, Report]:
            shared = older_options(switch("several_frames", several_frames))
            asked = question(image, classes, encoder, background, refine, shared)
            asked = replace(asked, boxes=sent_boxes(exemplars, image))
            own = {**dict.fromkeys(names("switches", switches), True), **by_name("options", options)}
            settings = {"scale": number("scale", scale), "threshold": number("threshold", threshold)}
            own |= {name: value for name, value in settings.items() if value is not None}
            files = names("export", export), text("stuff", stuff, "default")
            return api_segment(engine, asked, text("method", method, DEFAULT_METHOD), own, *files)

        return answered(answer)

    def compare(
        image: str | None,
        classes: str,
        methods: list[str] | None,
        encoder: str,
        background: str,
        refine: str,
        several_frames: bool = False,
        options: dict[str, Any] | None = None,
        exemplars: list[dict[str, Any]] | None = None,
    ) -> tuple[list[str], str | None, Report]:
        """Segment a photo with several methods and show where they disagree."""

        def answer() -> tuple[list[str], str | None, Report]:
            shared = older_options(switch("several_frames", several_frames))
            shared = {**shared, **by_name("options", options)}
            asked = question(image, classes, encoder, background, refine, shared)
            asked = replace(asked, boxes=sent_boxes(exemplars, image))
            return api_compare(engine, asked, names("methods", methods))

        return answered(answer)

    def inspect(
        image: str | None,
        classes: str,
        method: str,
        encoder: str,
        background: str,
        across: float,
        down: float,
        views: list[str] | None = None,
        label: int = 0,
        options: dict[str, Any] | None = None,
        exemplars: list[dict[str, Any]] | None = None,
    ) -> tuple[list[str], str | None, Report]:
        """Look inside a method: heat map per class, what the patch at a point looks at, and its own views."""

        def answer() -> tuple[list[str], str | None, Report]:
            asked = question(image, classes, encoder, background, "none", by_name("options", options))
            asked = replace(asked, boxes=sent_boxes(exemplars, image))
            point = number("across", across), number("down", down)
            right, low = (0.5 if place is None else place for place in point)
            wanted = names("views", views), whole_number("label", label, 0)
            return api_inspect(engine, asked, text("method", method, DEFAULT_METHOD), right, low, *wanted)

        return answered(answer)

    common: dict[str, Any] = {
        "concurrency_id": MODEL_QUEUE,
        "concurrency_limit": 1,
        "api_visibility": "public",
    }
    press.click(
        segment,
        [
            image,
            classes,
            method,
            encoder,
            background,
            refine,
            scale,
            threshold,
            switches,
            export,
            stuff,
            several,
            options,
            exemplars,
        ],
        [file, report],
        api_name="segment",
        **common,
    )
    press.click(
        compare,
        [image, classes, methods, encoder, background, refine, several, options, exemplars],
        [files, file, report],
        api_name="compare",
        **common,
    )
    press.click(
        inspect,
        [image, classes, method, encoder, background, across, down, views, label, options, exemplars],
        [files, file, report],
        api_name="inspect",
        **common,
    )

    def list_methods(encoder: str) -> Report:
        """List the methods that an image-text model can be asked with, and the models."""
        return answered(lambda: api_methods(engine, text("encoder", encoder, DEFAULT_ENCODER)))

    press.click(list_methods, [encoder], [report], api_name="methods", queue=False)


def older_options(several_frames: bool) -> Options:
    """The argument that was there before options had names of their own."""
    return {"multi_scale": True} if several_frames else {}


def refusing(engine: Engine, answer: Callable[[], Any]) -> Any:
    """Turn a `ValueError` into the one sentence that gradio_client shows."""
    try:
        return answer()
    except ValueError as error:
        message = without_places(str(error), engine.store)
        raise gr.Error(escape(message, quote=False), print_exception=False) from error
