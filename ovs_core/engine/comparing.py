"""Several methods on one photo: what each is asked, so that pictures differ by method alone."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import replace

from ovs_core.encoders.towers import EncoderSpec
from ovs_core.engine.request import Progress, Request
from ovs_core.engine.result import Result
from ovs_core.engine.settings import refines
from ovs_core.methods.spec import MethodSpec
from ovs_core.options import Options, Preset
from ovs_core.refine import NO_REFINER
from ovs_core.refine.spec import RefinerSpec

Events = Generator[Progress | Result, None, None]


def compared_requests(
    first: Request,
    methods: Sequence[MethodSpec],
    encoder: EncoderSpec,
    refiner: RefinerSpec,
    plan: Preset | None,
) -> list[Request]:
    """One request for each method: one frame and prompt for all; what a refiner cannot refine stays as it is.

    Args:
        first: photo, words and options for all; what nobody declares stays, and is refused later.
        methods: that are compared.
        encoder: the tower of all.
        refiner: of all.
        plan: the frame that methods without one of their own look at together; None where there is none.
    """
    requests = []
    for method in methods:
        asked, used = first.options, refiner.name
        if not refines(refiner, method):
            used = NO_REFINER
            known = {option.name for option in refiner.options}
            asked = {name: value for name, value in asked.items() if name not in known}
        options = _options(method, methods, encoder, refiner, asked, plan)
        requests.append(replace(first, method=method.name, refiner=used, options=options))
    return requests


def _options(
    method: MethodSpec,
    others: Sequence[MethodSpec],
    encoder: EncoderSpec,
    refiner: RefinerSpec,
    asked: Options,
    plan: Preset | None,
) -> Options:
    """Options of one method among others: what was asked, and one frame and prompt for all."""
    declared = {option.name for option in (*method.options, *encoder.options, *refiner.options)}
    everywhere = declared.union(option.name for other in others for option in other.options)
    own = {name: value for name, value in asked.items() if name in declared or name not in everywhere}
    if method.own_frame or plan is None:
        return own
    decided = {option.name for option in method.options if option.stage == "decide"}
    shared = {name: value for name, value in plan.options.items() if name in declared and name not in decided}
    return {**shared, **own}


def unrefined(refiner: RefinerSpec, method: MethodSpec) -> str:
    """Say that a method's answer was not refined."""
    return f"{refiner.title} cannot refine the masks of {method.title}: they are as the method gave them."


def told_what_is_unrefined(events: Events, methods: Sequence[MethodSpec], refiner: RefinerSpec) -> Events:
    """The same events, with a note on every result that could not be refined."""
    notes = {method.name: unrefined(refiner, method) for method in methods if not refines(refiner, method)}
    with closing(events):  # who leaves stops the work
        for event in events:
            if isinstance(event, Result) and event.method in notes:
                yield replace(event, notes=(*event.notes, notes[event.method]))
            else:
                yield event
