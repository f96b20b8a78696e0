"""What LDVC and ZegCLIP can show of an answer: who looks at whom, who moves where, and what routing does.

Paper: LDVC (arXiv 2403.08426), figures 1 (cross-attention of both methods), 2 (which side moves) and 5
(route attention on and off). Switching it off at test time, with the same weights, is not the paper's
ablation, which trains without it; titles say so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from types import MappingProxyType

import torch
import torch.nn.functional as F
from torch import Tensor

from ovs_core.decoders.route_attention import Routes
from ovs_core.decoders.semantic_decoder import Decoded, Routing
from ovs_core.evidence.base import class_counts, largest_per_group
from ovs_core.methods.ldvc.model import GAMMA, gamma_offsets
from ovs_core.types import Features, TextBank, View, ViewKind, Vocabulary, Window
from ovs_core.windows import accumulate

Decode = Callable[[Window, Tensor, Routing], Decoded]
Limits = tuple[float, float]

CLASS_ATTENTION, CLASS_PROBABILITY, CLASS_SOFTMAX = "class_attention", "class_probability", "class_softmax"
CALIBRATION, ROUTING_OFF, ROUTING_WINDOWS = "calibration", "routing_off", "routing_windows"
CLASS_DRIFT, CONTRACTION = "class_drift", "contraction"
_ROUTINGS: tuple[tuple[str, Routing], ...] = (
    ("as trained", "routed"),
    ("all windows", "everywhere"),
    ("off", "skipped"),
)


@dataclass(frozen=True, eq=False)
class Trace:
    """One answer from inside.

    Attributes:
        features: of the photo.
        decoded: what the decoder said of each window.
        text: what was asked.
        rows: its embeddings on the features' device, (S, D).
        seen: names that training saw, in lower case.
        decode: asks the decoder of a window again, with another routing.
    """

    features: Features
    decoded: tuple[Decoded, ...]
    text: TextBank
    rows: Tensor
    seen: frozenset[str]
    decode: Decode

    @property
    def vocabulary(self) -> Vocabulary:
        """What was asked."""
        return self.text.vocabulary

    @property
    def names(self) -> tuple[str, ...]:
        """The name shown for each class."""
        return self.vocabulary.names

    @property
    def blocks(self) -> int:
        """Decoder blocks."""
        return len(self.decoded[0].attention)

    def on_frame(self, maps: Sequence[Tensor]) -> Tensor:
        """One map (S, h, w) of the frame from a map of each window."""
        return accumulate(zip(self.features.windows, maps, strict=True), self.features.grid)

    def per_class(self, rows: Tensor) -> Tensor:
        """Maps of typed classes (K, h, w), each its best name's, from those of all names."""
        return largest_per_group(rows, class_counts(self.vocabulary))[: len(self.names)]

    def scores(self) -> Tensor:
        """Scores of all names on the frame, (S, h, w)."""
        return self.on_frame([window.scores[0] for window in self.decoded])


def prompted_views(
    trace: Trace, kinds: AbstractSet[ViewKind], point: tuple[float, float] | None
) -> tuple[View, ...]:
    """The views that were asked for; those of a part that the head has not do not exist.

    Args:
        trace: one answer from inside.
        kinds: which views.
        point: (row, column), each in [0, 1] of the photo, that "routing_windows" is about; None: the middle.
    """
    views = [make(trace) for kind, make in _MAKERS.items() if kind in kinds]
    if ROUTING_WINDOWS in kinds:
        views.append(_routing_windows(trace, point or (0.5, 0.5)))
    return tuple(view for view in views if view is not None)


def _limits(maps: Tensor) -> Limits:
    return float(maps.min()), float(maps.max())


def _class_attention(trace: Trace) -> View:
    """Class by class the cross-attention logits A of every block, all on one colour scale."""
    blocks = [
        trace.per_class(trace.on_frame([window.attention[block][0] for window in trace.decoded]))
        for block in range(trace.blocks)
    ]
    maps = torch.stack(blocks, dim=1).flatten(0, 1)  # (K*L, h, w)
    labels = tuple(f"{name}, block {block}" for name in trace.names for block in range(1, trace.blocks + 1))
    return View(CLASS_ATTENTION, "Cross-attention with each class", maps, labels, _limits(maps))


def _class_probability(trace: Trace) -> View:
    maps = trace.per_class(trace.scores().sigmoid())
    return View(CLASS_PROBABILITY, "Probability of each class on its own", maps, trace.names, (0.0, 1.0))


def _class_softmax(trace: Trace) -> View:
    maps = trace.per_class(
        trace.on_frame([window.attention[-1][0] for window in trace.decoded]).softmax(dim=0)
    )
    title = "What each place takes from each class in the last block"
    return View(CLASS_SOFTMAX, title, maps, trace.names, (0.0, 1.0))


def _calibration(trace: Trace) -> View | None:
    """For each class its probability, and the same lowered by gamma where training saw the class."""
    offsets = gamma_offsets(trace.vocabulary, trace.seen, GAMMA)
    if not offsets:
        return None
    before = trace.per_class(trace.scores().sigmoid())  # (K, h, w)
    lowered = torch.tensor([offsets.get(k, 0.0) for k in range(1, len(before) + 1)], device=before.device)
    maps = torch.stack([before, before + lowered[:, None, None]], dim=1).flatten(0, 1)
    labels = tuple(f"{name}, {when} gamma" for name in trace.names for when in ("before", "after"))
    return View(CALIBRATION, f"Before and after gamma = {GAMMA}", maps, labels, (-GAMMA, 1.0))


def _routing_off(trace: Trace) -> View | None:
    """For each class the last block's A with route attention as trained, over all windows, and off."""
    if not trace.decoded[0].routes:
        return None
    attention = []
    for _, routing in _ROUTINGS:
        decoded = trace.decoded
        if routing != "routed":
            decoded = tuple(trace.decode(window, trace.rows, routing) for window in trace.features.windows)
        attention.append(trace.per_class(trace.on_frame([window.attention[-1][0] for window in decoded])))
    maps = torch.stack(attention, dim=1).flatten(0, 1)  # (K*3, h, w)
    labels = tuple(f"{name}, {routing}" for name in trace.names for routing, _ in _ROUTINGS)
    title = "Route attention as trained, over all windows, and off (same weights, not retrained)"
    return View(ROUTING_OFF, title, maps, labels, _limits(maps))


def _class_drift(trace: Trace) -> View:
    """1 - cos of each class's embedding with what it became for this photo, one bar per class."""
    drifts = []
    for window in trace.decoded:
        moved = F.normalize(window.asked[-1][0], dim=-1)  # (S, D)
        drifts.append(1 - (moved * trace.rows).sum(dim=1))
    mean = torch.stack(drifts).mean(dim=0)  # (S,)
    counts = class_counts(trace.vocabulary)
    first = [sum(counts[:k]) for k in range(len(trace.names))]  # the shown name of each class
    title = "How far each class's embedding moved: 1 - cos(T, T_new)"
    return View(CLASS_DRIFT, title, mean[first][:, None, None], trace.names, (0.0, 2.0))


def _contraction(trace: Trace) -> View:
    """Mean over places of the largest cosine with a class, before the first block and after each."""
    values = torch.stack([contraction(window) for window in trace.decoded]).mean(dim=0)  # (L + 1,)
    labels = ("before", *(f"after block {block}" for block in range(1, trace.blocks + 1)))
    title = "Mean over places of the largest cosine with a class embedding"
    return View(CONTRACTION, title, values[:, None, None], labels, (-1.0, 1.0))


def contraction(decoded: Decoded) -> Tensor:
    """How near tokens and class embeddings of a batch are, before block 0 and after each block, (L + 1,).

    Mean over places of the largest cosine: figure 2 in numbers. One side stays where it is, which one is what
    the two methods differ in.
    """
    steps = []
    for step in range(len(decoded.attention) + 1):
        tokens = decoded.visual[min(step, len(decoded.visual) - 1)]  # (B, N, D)
        classes = decoded.asked[min(step, len(decoded.asked) - 1)]  # (B, S, D)
        cosines = F.normalize(tokens, dim=-1) @ F.normalize(classes, dim=-1).transpose(1, 2)
        steps.append(cosines.amax(dim=2).mean())
    return torch.stack(steps)


def _routing_windows(trace: Trace, point: tuple[float, float]) -> View | None:
    """Of each block the affinity of the point's window to every window, and the windows that it reads."""
    if not trace.decoded[0].routes:
        return None
    grid = trace.features.grid
    row, column = (min(int(part * side), side - 1) for part, side in zip(point, grid, strict=True))
    held = [
        number
        for number, window in enumerate(trace.features.windows)
        if 0 <= row - window.top < window.grid[0] and 0 <= column - window.left < window.grid[1]
    ]
    number = held[0]
    window = trace.features.windows[number]
    maps, labels = [], []
    for block, routes in enumerate(trace.decoded[number].routes, start=1):
        affinity, read = window_maps(routes, (row - window.top, column - window.left), window.grid)
        for values, kind in ((affinity, "affinity"), (read, "windows read")):
            whole = values.new_full(grid, float(values.min()))
            whole[window.top : window.top + window.grid[0], window.left : window.left + window.grid[1]] = (
                values
            )
            maps.append(whole)
            labels.append(f"block {block}: {kind}")
    title = f"Windows related to row {row + 1}, column {column + 1}"
    return View(ROUTING_WINDOWS, title, torch.stack(maps), tuple(labels))


def window_maps(routes: Routes, cell: tuple[int, int], grid: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Affinity of a token's window to every token's window, and 1 where that is read, (h, w) each.

    Args:
        routes: of a block, a batch of one.
        cell: (row, column) of the token.
        grid: (h, w) of the map that was routed.
    """
    per_side = round(routes.affinity.shape[1] ** 0.5)
    height, width = routes.window
    own = cell[0] // height * per_side + cell[1] // width
    affinity = routes.affinity[0, own]  # (W,)
    read = torch.zeros_like(affinity)
    read[routes.chosen[0, own]] = 1
    maps = torch.stack([affinity, read]).view(2, per_side, per_side)
    maps = maps.repeat_interleave(height, dim=1).repeat_interleave(width, dim=2)[:, : grid[0], : grid[1]]
    return maps[0], maps[1]


_MAKERS: Mapping[ViewKind, Callable[[Trace], View | None]] = MappingProxyType(
    {
        CLASS_ATTENTION: _class_attention,
        CLASS_PROBABILITY: _class_probability,
        CLASS_SOFTMAX: _class_softmax,
        CALIBRATION: _calibration,
        ROUTING_OFF: _routing_off,
        CLASS_DRIFT: _class_drift,
        CONTRACTION: _contraction,
    }
)
