"""A view of one method beside the same view of another, on one colour scale: figure 1 of LDVC."""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterator
from dataclasses import replace
from types import MappingProxyType

import torch
import torch.nn.functional as F

from ovs_core.engine.engine import Engine
from ovs_core.engine.request import Progress, Request
from ovs_core.engine.result import Result
from ovs_core.types import View


def run_paired(
    engine: Engine, request: Request, cancel: threading.Event | None = None
) -> Iterator[Progress | Result]:
    """As `Engine.run`; views that name another method (`ViewSpec.beside`) hold that method's maps, too.

    The other method is asked the same words with its own settings. Where it cannot be asked, because its
    weights are not here, the view stays as it is.

    Args:
        engine: asks both.
        request: method and views.
        cancel: stops the work.

    Raises:
        ValueError: as `Engine.run`.
        Cancelled: if `cancel` was set.
    """
    for event in engine.run(request, cancel):
        if isinstance(event, Result):
            yield (yield from _paired(engine, request, event, cancel))
        else:
            yield event


def _paired(
    engine: Engine, request: Request, result: Result, cancel: threading.Event | None
) -> Generator[Progress | Result, None, Result]:
    """Ask the other methods; progress on the way, the result in the end."""
    spec = engine.method_specs[request.method]
    for view in spec.views:
        if view.beside not in engine.method_specs or view.kind not in {shown.kind for shown in result.views}:
            continue
        other = engine.method_specs[view.beside]
        asked = replace(
            request, method=other.name, options=MappingProxyType({}), views=frozenset({view.kind})
        )
        try:
            engine.check(asked)
        except ValueError:
            continue  # its weights are not here
        for event in engine.run(asked, cancel):
            if isinstance(event, Result):
                titles, count = (spec.title, other.title), len(request.vocabulary.classes)
                views = (
                    beside(shown, event.views[0], titles, count) if shown.kind == view.kind else shown
                    for shown in result.views
                )
                result = replace(result, views=tuple(views))
            else:
                yield event
    return result


def beside(first: View, second: View, titles: tuple[str, str], classes: int) -> View:
    """Two views of one kind in one, class by class: first the maps of the one, then those of the other.

    Args:
        first: maps (classes * m, h, w), class by class.
        second: maps (classes * n, H, W), class by class; they are brought to the grid of `first`.
        titles: of the two methods.
        classes: how many.

    Returns:
        Maps (classes * (m + n), h, w) on one colour scale that holds all of them.
    """
    size = first.maps.shape[1:]
    there = F.interpolate(second.maps[None], size=size, mode="bilinear", align_corners=False)[0]
    maps, labels = [], []
    for k in range(classes):
        for grid, view, title in zip((first.maps, there), (first, second), titles, strict=True):
            each = len(view.labels) // classes
            own = slice(k * each, (k + 1) * each)
            maps.append(grid[own])
            labels += [f"{title}: {label}" for label in view.labels[own]]
    ends = [view.limits or (float(view.maps.min()), float(view.maps.max())) for view in (first, second)]
    limits = min(low for low, _ in ends), max(high for _, high in ends)
    title = f"{first.title}: {titles[0]} beside {titles[1]}"
    return View(first.kind, title, torch.cat(maps), tuple(labels), limits)
