"""What Compare says beside its pictures: how methods are grouped, who agrees with whom, keys of the maps."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from html import escape

import numpy as np
from numpy.typing import NDArray

from ovs_core.engine import MethodInfo, Result
from ovs_core.methods import DEFAULT_METHOD
from ovs_core.methods.spec import GROUPS, Group
from ovs_core.render.disagreement import consensus_colors, disagreement_colors, pairwise_agreement
from ovs_core.render.heatmap import heatmap
from ovs_core.render.legend import percent
from ovs_core.render.palette import PALETTE, text_color
from ovs_core.types import Color
from ovs_core.ui.words import captioned_table, hex_color, note_html, swatch


def grouped(infos: Collection[MethodInfo]) -> dict[Group, list[MethodInfo]]:
    """Methods by what they are, in the order of `GROUPS`; groups without a method are left out."""
    return {
        group: members for group in GROUPS if (members := [info for info in infos if info.group == group])
    }


def usual_ticks(infos: Collection[MethodInfo]) -> list[str]:
    """Names of the methods that can be asked, differ, and do not take far longer than the others."""
    return [info.name for info in infos if info.available and info.ticked]


def keep_selection(
    infos: Collection[MethodInfo], ticked: Collection[str], before: Collection[MethodInfo]
) -> list[str]:
    """Names to tick now that `infos` are offered.

    The usual ones where the ticks were the usual ones `before`; else all that were ticked and can be asked,
    and the usual ones among those that could not be asked before.
    """
    usual = usual_ticks(infos)
    if set(ticked) == set(usual_ticks(before)):
        return usual
    known = {info.name for info in before if info.available}
    names = [info.name for info in infos if info.available]
    return [name for name in names if name in ticked or (name not in known and name in usual)]


def likeness_note(infos: Collection[MethodInfo], encoder: str) -> str:
    """Say above the panels whether the rules on the last block can be told apart; `encoder` is a title."""
    rules = [info for info in infos if info.group == "last_block" and info.available]
    alike = [info.title for info in rules if info.alike]
    default = next((info.title for info in rules if info.name == DEFAULT_METHOD), "")
    if alike and default:
        return note_html(
            f"{encoder}: {', '.join(alike)} give nearly the labels of {default}, because its tower was "
            "trained through all of these rules; on CLIP's own weights they differ widely. "
            "At first only methods that differ are ticked."
        )
    if len(rules) > 1:
        return note_html(
            f"{encoder} was trained for none of the rules on its last block: they differ widely."
        )
    return ""


def agreement_table(results: Sequence[Result], titles: Mapping[str, str]) -> str:
    """Give the share of pixels with the same label for every two methods; nothing for fewer than two."""
    if len(results) < 2:
        return ""
    shares = pairwise_agreement([result.labels for result in results])
    colors = heatmap(shares, shares.shape, 0, 1)
    names = [escape(titles.get(result.method, result.method)) for result in results]
    head = "".join(f'<th scope="col">{name}</th>' for name in ("Method", *names))
    rows = [
        f'<tr><th scope="row">{name}</th>{"".join(map(_cell, shares[row], colors[row]))}</tr>'
        for row, name in enumerate(names)
    ]
    caption = "Agreement: share of the photo to which two methods give the same label, “other” included"
    table = captioned_table(caption, f"<tr>{head}</tr>", rows)
    return table.replace('class="ovs-table"', 'class="ovs-table matrix"', 1)


def agreement_key(votes: NDArray[np.integer], count: int) -> str:
    """Give the keys of consensus and disagreement map with the share of the photo of each of their steps.

    Args:
        votes: how many methods gave the most frequent label, (H, W) in 1..count.
        count: of methods.
    """
    steps = [(agreeing, float((votes == agreeing).mean())) for agreeing in range(count, 0, -1)]
    steps = [step for step in steps if step[1] > 0]
    strong, bright = consensus_colors(PALETTE[0], count), disagreement_colors(count)
    agree = [(strong[count - n], f"{n} of {count} agree · {percent(share)}") for n, share in steps]
    differ = [(bright[count - n], f"{count - n} of {count} differ · {percent(share)}") for n, share in steps]
    return (
        note_html("Consensus: the label that most methods give, in the colours above; paler where fewer do.")
        + _key(agree)
        + note_html("Disagreement: brighter where more methods leave the most frequent label.")
        + _key(differ)
    )


def _key(entries: Sequence[tuple[Color, str]]) -> str:
    items = "".join(f"<span>{swatch(color)}{escape(text)}</span>" for color, text in entries)
    return f'<div class="ovs-legend">{items}</div>'


def _cell(share: float, color: NDArray[np.uint8]) -> str:
    red, green, blue = (int(value) for value in color)
    ink = hex_color(text_color((red, green, blue)))
    style = f"background:{hex_color((red, green, blue))} !important;color:{ink}"
    return f'<td style="{style}">{percent(share)}</td>'
