"""Cards of models on the page: what a model learnt from, how good it is, where it fails."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

import gradio as gr
from gradio.processing_utils import save_file_to_cache
from gradio.utils import get_upload_folder

from ovs_core.checkpoints import WeightStore
from ovs_core.ui.view_html import file_url

_HEADING = re.compile(r"^(?=#+ )", re.MULTILINE)
_TABLE = re.compile(r"^(?:\|.*\n?)+", re.MULTILINE)
_LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)")


def card_markdown(path: Path) -> str:
    """Give a card as the page shows it.

    Headings go below those of the page, and tables scroll in a box that keys can reach. Pictures beside the
    card become files of the app's own cache; what a link leads to in the repository is no page here, so that
    such a link becomes its text.

    Args:
        path: of the card, one that came with the program.
    """

    def shown(link: re.Match[str]) -> str:
        mark, text, target = link.groups()
        if target.startswith("https://"):
            return link[0]
        picture = path.parent / target
        if not mark or not picture.is_file():
            return text
        return f"![{text}]({file_url(save_file_to_cache(picture, get_upload_folder()))})"

    text = _LINK.sub(shown, path.read_text(encoding="utf-8"))
    text = _TABLE.sub(lambda table: f'<div class="ovs-table" tabindex="0">\n\n{table[0]}\n</div>\n', text)
    return _HEADING.sub("#", text)


def model_cards(store: WeightStore) -> None:
    """Lay out every card that came with a model; each is read when somebody opens it."""
    cards: dict[Path, str] = {}
    for name, entry in store.catalogue.items():
        path = store.card(name)
        if path is not None:
            cards.setdefault(path, entry.title)  # heads lie beside their model and share its card
    for path, title in cards.items():
        with gr.Accordion(f"Model card: {title}", open=False, elem_classes="ovs-model-card") as fold:
            card = gr.Markdown(latex_delimiters=[])
        fold.expand(
            partial(card_markdown, path),
            None,
            [card],
            queue=False,
            show_progress="hidden",
            api_visibility="private",
        )
