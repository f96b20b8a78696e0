"""Models: which image-text models there are, which are here, and how to get the others."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr

from ovs_core.checkpoints import WeightFile, WeightStore
from ovs_core.devices import Cancelled
from ovs_core.engine import Engine
from ovs_core.methods.heads import add_head, describe_head, own_heads
from ovs_core.ui.model_card import model_cards
from ovs_core.ui.places import shown_place, without_places
from ovs_core.ui.runs import RunBar, Step, run_bar, status_line, wire
from ovs_core.ui.words import Status, note_html

MEGABYTE = 1_000_000


def size_text(size: int | None) -> str:
    """Write a file size for people."""
    if size is None:
        return "size unknown"
    return f"{size / MEGABYTE:,.0f} MB" if size >= MEGABYTE else "less than 1 MB"


def card_html(entry: WeightFile, here: Path | None) -> str:
    """Give one model's card; `here` is its file, below the folder of weights it lies in."""
    tag = '<span class="tag here">here</span>' if here else '<span class="tag">not here</span>'
    facts = {
        "Size": size_text(entry.bytes),
        "Licence": entry.licence,
        "Source": entry.source,
        "Paper": f"arXiv {entry.paper}" if entry.paper else "",
        "By hand": "" if here else entry.page,
        "File": here.as_posix() if here else "",
    }
    rows = "".join(f"<dt>{name}</dt><dd>{_linked(text)}</dd>" for name, text in facts.items() if text)
    return f'<div class="ovs-card"><h2>{escape(entry.title)}{tag}</h2><dl>{rows}</dl></div>'


def _linked(text: str) -> str:
    """Give a text as HTML; an address can be followed, in a tab of its own."""
    shown = escape(text)
    if not text.startswith("https://"):
        return shown
    return f'<a href="{shown}" target="_blank" rel="noopener noreferrer">{shown}</a>'


def file_here(store: WeightStore, name: str) -> Path | None:
    """Path of a weight file below the folder of weights it lies in; None if it is nowhere."""
    path = store.locate(name)
    folder = next((root for root in store.folders if path and path.is_relative_to(root)), None)
    return None if path is None or folder is None else path.relative_to(folder)


def fetch_steps(store: WeightStore, name: str, token: threading.Event | None) -> Iterator[Status]:
    """Fetch one weight file, saying how far it is; ends with the verdict of its checksum."""
    entry = store.entry(name)
    yield from _watched(
        store,
        lambda report: store.fetch(name, report, token),
        f"Fetching {entry.title}",
        f"{entry.title} is here now.",
    )


def file_beside(store: WeightStore, typed: str) -> Path:
    """Find a file by its name in the folders of weights, and nowhere else: visitors must not try out paths.

    Raises:
        ValueError: if there is none; the sentence is the same for whatever else was typed.
    """
    name = typed.strip()
    if name and Path(name).name == name:
        for folder in store.folders:
            if (folder / name).is_file():
                return folder / name
    raise ValueError(
        f"Put the file into {store.folder} and type its name alone; files elsewhere are taken by "
        "`python -m ovs_core.cli.weights get NAME --from FILE`."
    )


def use_local_steps(store: WeightStore, name: str, typed: str) -> Iterator[Status]:
    """Take a file that is already beside the weights, after checking that it is the right one."""
    entry = store.entry(name)
    yield Status("Checking the file", "busy")
    try:
        store.use_local(name, file_beside(store, typed))
    except ValueError as error:
        yield Status(without_places(str(error), store), "error")
        return
    yield Status(f"{entry.title} is here now.")


def add_steps(engine: Engine, typed: str) -> Iterator[Status]:
    """Take in a head that the user trained, whose file is beside the weights already."""
    yield Status("Checking the file", "busy")
    store = engine.store
    try:
        path = add_head(store, file_beside(store, typed), engine.method_specs, engine.encoder_specs)
    except ValueError as error:
        yield Status(without_places(str(error), store), "error")
        return
    yield Status(f"{_described(engine, path)} is ready to use.")


def _described(engine: Engine, path: Path) -> str:
    return describe_head(engine.store, path, engine.method_specs, engine.encoder_specs)


def own_heads_html(engine: Engine) -> str:
    """List the heads that were added; nothing where there are none."""
    store = engine.store
    rows = "".join(
        f"<dt>{escape(without_places(_described(engine, path), store))}</dt>"
        f"<dd>{escape(f'{path.parent.name}/{path.name}')}</dd>"
        for path in own_heads(store)
    )
    return f'<div class="ovs-card"><dl>{rows}</dl></div>' if rows else ""


def _watched(
    store: WeightStore, fetch: Callable[[Callable[[int, int | None], None]], Path], doing: str, done: str
) -> Iterator[Status]:
    """Run `fetch` beside this generator and turn its reports into progress."""
    news: queue.SimpleQueue[Status] = queue.SimpleQueue()

    def report(arrived: int, total: int | None) -> None:
        of = f" of {size_text(total)}" if total else ""
        news.put(Status(f"{doing}: {size_text(arrived)}{of}", "busy", arrived / total if total else None))

    def run() -> None:
        try:
            fetch(report)
        except Cancelled:
            news.put(Status("Stopped; what arrived is kept and the next try goes on from there.", "warning"))
        except ValueError as error:
            news.put(Status(without_places(str(error), store), "error"))
        else:
            news.put(Status(done))

    yield Status(doing, "busy")
    threading.Thread(target=run, name="fetch-weights", daemon=True).start()
    while True:
        status = news.get()
        while status.kind == "busy" and not news.empty():
            status = news.get()
        yield status
        if status.kind != "busy":
            return


@dataclass(frozen=True)
class ModelsPanel:
    """Cards as they stand on the page.

    Attributes:
        components: what `values` are for.
        values: what is here now, for a page that opens later than the app.
    """

    components: list[Any]
    values: Callable[[], list[Any]]


def models_tab(
    engine: Engine, refresh: Callable[[], list[Any]], refreshed: list[Any], arrivals: gr.State
) -> ModelsPanel:
    """Lay out a card per weight file of the catalogue, with the ways to get those that are absent.

    Args:
        engine: its store finds and fetches weight files.
        refresh: new values for `refreshed` once a file has arrived.
        refreshed: components elsewhere on the page that name the available models.
        arrivals: counts heads that were added.
    """
    store = engine.store
    offline = "The app was started offline: nothing is fetched; local files work." if store.offline else ""
    gr.HTML(
        note_html(
            "Nothing is fetched unless you press a button here. Every file is checked before it is used.",
            f"Files live in the folder “{shown_place(store.folder)}”.",
            offline,
        ),
        padding=False,
    )
    model_cards(store)
    cards: dict[str, tuple[gr.HTML, gr.Column]] = {}
    with gr.Row(elem_classes="ovs-models", equal_height=False):
        for name, entry in store.catalogue.items():
            here = file_here(store, name)
            if entry.kind == "head" and here is None:  # nothing offers them
                continue
            with gr.Group(elem_classes="ovs-model"):
                card = gr.HTML(card_html(entry, here), padding=False)
                status, token = status_line(f"get-{name}")
                with gr.Column(visible=_can_be_got(store, name)) as ways:
                    cards[name] = card, ways
                    if entry.url or entry.page:
                        _ways_to_get(store, name, status, token, [card, ways, *refreshed], refresh)
    own = _own_part(engine, arrivals)

    def values() -> list[Any]:
        return [*(value for name in cards for value in _card_values(store, name)), own_heads_html(engine)]

    return ModelsPanel([*(part for pair in cards.values() for part in pair), own], values)


def _own_part(engine: Engine, arrivals: gr.State) -> gr.HTML:
    """Lay out what adds a head that the user trained, and the list of those that were added."""

    def work(_: threading.Event, typed: str, count: int) -> Iterator[Step]:
        for status in add_steps(engine, typed):
            yield status, (own_heads_html(engine), count + 1) if status.kind == "done" else None

    with gr.Accordion("Heads you trained yourself", open=False, elem_id="own-heads"):
        own = gr.HTML(own_heads_html(engine), padding=False)
        name = gr.Textbox(
            label="Name of the file",
            info="As training wrote it, e.g. mvp_seg.safetensors. Put it into the folder named above first. "
            "It is used with the model it was trained on, before one that came with the app.",
            elem_id="own-head",
        )
        status, token = status_line("add-head")
        with gr.Row():
            start, stop = run_bar("Check and add", "add-head")
    wire(RunBar(start, stop, status, token), work, [name, arrivals], [own, arrivals], queue="download")
    return own


def _can_be_got(store: WeightStore, name: str) -> bool:
    entry = store.entry(name)
    return bool(entry.url or entry.page) and store.locate(name) is None


def _card_values(store: WeightStore, name: str) -> list[Any]:
    """New values for a card and the ways to get its file."""
    card = card_html(store.entry(name), file_here(store, name))
    return [card, gr.update(visible=_can_be_got(store, name))]


def _ways_to_get(
    store: WeightStore,
    name: str,
    status: gr.HTML,
    token: gr.State,
    outputs: list[Any],
    refresh: Callable[[], list[Any]],
) -> None:
    entry = store.entry(name)

    def steps(statuses: Iterator[Status]) -> Iterator[Step]:
        for status in statuses:
            arrived = status.kind == "done"
            yield status, (*_card_values(store, name), *refresh()) if arrived else None

    if entry.url and not store.offline:
        label = "Download" if entry.bytes is None else f"Download {size_text(entry.bytes)}"
        with gr.Row():
            start, stop = run_bar(label, f"get-{name}")
        wire(
            RunBar(start, stop, status, token),
            lambda token: steps(fetch_steps(store, name, token)),
            [],
            outputs,
            queue="download",
        )
    with gr.Accordion("Use a local file", open=False):
        path = gr.Textbox(
            label="Name of the file",
            info=f"Put it into the folder named above first. Published as {entry.original_name}.",
            elem_id=f"path-{name}",
        )
        with gr.Row():
            start, stop = run_bar("Check and use", f"use-{name}")
        wire(
            RunBar(start, stop, status, token),
            lambda _, typed: steps(use_local_steps(store, name, typed)),
            [path],
            outputs,
            queue="download",
        )
