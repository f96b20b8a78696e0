"""What MVP-SEG lets one look at: its views, the global prompt at work, and the contexts themselves.

Every function gives a render-ready `View`. Maps of places are (M, h, w) on the token grid; numbers that are
no places come as small maps too: a bar is (K, 1, 1), a row of a matrix is (1, V), a context's vectors are
(1, M) with a word for each. A class with synonyms is shown by its best name, as in the answer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor

from ovs_core.methods.mvp_seg.contexts import Contexts
from ovs_core.methods.mvp_seg.formulas import context_cosines, log_gate, pooling_weights
from ovs_core.types import View, ViewKind, Vocabulary

Words = Callable[[], tuple[tuple[tuple[str, ...], ...], Tensor]]
"""Nearest word of each context vector, V tuples of M, and distances (V, M)."""


@dataclass(frozen=True, eq=False)
class MvpSegTrace:
    """What one photo and one vocabulary gave.

    Attributes:
        maps: cosines of each prompt, (V, S, h, w), the global prompt first if there is one.
        prompts: unit text embeddings, (V, S, D).
        vocabulary: what was typed.
        contexts: the learned vectors and temperatures.
    """

    maps: Tensor
    prompts: Tensor
    vocabulary: Vocabulary
    contexts: Contexts

    @property
    def names(self) -> tuple[str, ...]:
        """Shown name of each class, (K,)."""
        return self.vocabulary.names

    @property
    def views(self) -> Tensor:
        """Cosines of the k views to each class, (k, K, h, w)."""
        return torch.stack([self.per_class(rows) for rows in self.maps[-self.contexts.k :]])

    @property
    def whole(self) -> Tensor | None:
        """Cosines of the global prompt to each name, (S, h, w)."""
        return None if self.contexts.whole is None else self.maps[0]

    def per_class(self, rows: Tensor) -> Tensor:
        """Rows of names (S, ...) to rows of classes (K, ...): the largest of each class's names."""
        counts = [len(names) for names in self.vocabulary.classes]
        return torch.stack([group.amax(dim=0) for group in torch.split(rows[: sum(counts)], counts)])

    def first_names(self) -> list[int]:
        """Row of the shown name of each class."""
        counts = [len(names) for names in self.vocabulary.classes]
        return [sum(counts[:index]) for index in range(len(counts))]


def mvp_seg_views(trace: MvpSegTrace, kinds: AbstractSet[ViewKind], words: Words) -> tuple[View, ...]:
    """The views that were asked for; those of an untrained global prompt do not exist.

    Args:
        trace: one answer from inside.
        kinds: which views; kinds of other methods are passed over.
        words: called only for "context_words".
    """
    views = [make(trace) for kind, make in _MAKERS.items() if kind in kinds]
    if "context_words" in kinds:
        spelled, distances = words()
        titles = trace.contexts.titles
        maps = distances[:, None, :]  # (V, 1, M)
        title = "Word nearest to each vector of each context, and its distance"
        views.append(View("context_words", title, maps, titles, words=spelled))
    return tuple(view for view in views if view is not None)


def _view_maps(trace: MvpSegTrace) -> View:
    """Class by class the cosine maps of the k views, all on one colour scale."""
    maps = trace.views.transpose(0, 1).flatten(0, 1)  # (K*k, h, w)
    labels = tuple(f"{name}, view {i}" for name in trace.names for i in range(1, trace.contexts.k + 1))
    limits = (float(maps.min()), float(maps.max()))
    return View("view_maps", "Cosine of each view to each class", maps, labels, limits)


def _view_wins(trace: MvpSegTrace) -> View:
    """For each class the number of the view, from 1, with the largest cosine at each place."""
    wins = trace.views.argmax(dim=0) + 1  # (K, h, w)
    labels = tuple(
        f"{name}: "
        + ", ".join(f"view {i} {float((wins[c] == i).float().mean()):.0%}" for i in _numbers(trace))
        for c, name in enumerate(trace.names)
    )
    limits = (1.0, float(trace.contexts.k))
    return View("view_wins", "Which view is surest of each class where", wins.float(), labels, limits)


def _global_map(trace: MvpSegTrace) -> View | None:
    if trace.whole is None:
        return None
    maps = trace.per_class(trace.whole)
    limits = (float(maps.min()), float(maps.max()))
    return View("global_map", "Cosine of the global prompt to each class", maps, trace.names, limits)


def _pooling_weights(trace: MvpSegTrace) -> View | None:
    if trace.whole is None:
        return None
    weights = pooling_weights(trace.per_class(trace.whole), trace.contexts.gamma)
    title = "Where the global prompt pools from (weights of a class sum to 1)"
    return View("pooling_weights", title, weights, trace.names)


def _class_gates(trace: MvpSegTrace) -> View | None:
    """The bar of g_c: one number per class, in [0, 1]."""
    gates = _log_gates(trace)
    if gates is None:
        return None
    bars = trace.per_class(gates.exp())[:, None, None]  # (K, 1, 1)
    return View("class_gates", "How sure the global prompt is of each class", bars, trace.names, (0.0, 1.0))


def _refining(trace: MvpSegTrace) -> View | None:
    """Label maps on the token grid without and with refining; 0 is other, k the k-th class."""
    gates = _log_gates(trace)
    if gates is None:
        return None
    before = trace.contexts.tau1 * trace.maps[-trace.contexts.k :].sum(dim=0)  # (S, h, w)
    after = before + gates[:, None, None]
    label = torch.tensor(trace.vocabulary.row_label, device=before.device)
    maps = torch.stack([label[rows.argmax(dim=0)] for rows in (before, after)]).float()
    limits = (0.0, float(len(trace.names)))
    return View("refining", "Labels before and after refining", maps, ("before", "after"), limits)


def _context_cosines(trace: MvpSegTrace) -> View:
    maps = context_cosines(trace.contexts.stacked)[:, None, :]  # (V, 1, V)
    title = "|cos| between the mean vectors of the contexts"
    titles = trace.contexts.titles
    return View("context_cosines", title, maps, titles, (0.0, 1.0), columns=titles)


def _prompt_cosines(trace: MvpSegTrace) -> View:
    """For each class |cos| between its embeddings in the contexts, (K, V, V)."""
    prompts = trace.prompts[:, trace.first_names()].transpose(0, 1)  # (K, V, D)
    maps = (prompts @ prompts.transpose(1, 2)).abs()
    title = "|cos| between the prompts of each class"
    return View("prompt_cosines", title, maps, trace.names, (0.0, 1.0), columns=trace.contexts.titles)


def _log_gates(trace: MvpSegTrace) -> Tensor | None:
    """The logarithm of g of each name, (S,)."""
    if trace.whole is None:
        return None
    return log_gate(trace.whole, trace.contexts.gamma, trace.contexts.tau2)


def _numbers(trace: MvpSegTrace) -> range:
    return range(1, trace.contexts.k + 1)


_MAKERS: Mapping[ViewKind, Callable[[MvpSegTrace], View | None]] = MappingProxyType(
    {
        "view_maps": _view_maps,
        "view_wins": _view_wins,
        "global_map": _global_map,
        "pooling_weights": _pooling_weights,
        "class_gates": _class_gates,
        "refining": _refining,
        "context_cosines": _context_cosines,
        "prompt_cosines": _prompt_cosines,
    }
)
