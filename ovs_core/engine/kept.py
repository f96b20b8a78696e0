"""What can be done to a kept answer without its method: labels anew, another refiner, objects to classes."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from ovs_core.edit.record import Paint, runs_of
from ovs_core.engine.clicks import Means, click_object
from ovs_core.engine.labelling import label_again, label_classes, resized
from ovs_core.engine.refining import Refining
from ovs_core.engine.request import Job
from ovs_core.engine.result import Result
from ovs_core.image import Photo
from ovs_core.methods.spec import MethodSpec
from ovs_core.options import Options, lookup
from ovs_core.refine import NO_REFINER
from ovs_core.refine.sam.prompts import ObjectPrompt
from ovs_core.refine.spec import RefinerSpec


def relabelled(
    result: Result,
    method: MethodSpec,
    options: Options,
    size: tuple[int, int] | None = None,
    without: Collection[str | int] | None = None,
) -> Result:
    """A result under other options of the stage "decide"; see `Engine.relabel`."""
    quick = {option.name: option for option in method.options if option.stage == "decide"}
    changed = {
        name: lookup(f"options of {method.title} that need no model", quick, name).checked(value)
        for name, value in options.items()
    }
    values = {**result.options, **changed}
    evidence = result.evidence
    if without is not None:
        gone = frozenset(_label_of(result, name) for name in without)
        evidence = evidence if gone == evidence.excluded else evidence.without(gone)
    preset = result.preset.with_overrides(changed)
    whole = result.image if result.photo is None else result.photo
    image = result.image if size is None else resized(whole, size)
    started = time.perf_counter()
    labelled = label_again(
        method.calibrate(evidence, values),
        preset,
        result.photo_size,
        image.shape[:2],
        result.edits,
        result.winners,
    )
    return replace(
        result,
        image=image,
        photo=None if image.shape == whole.shape else whole,
        evidence=evidence,
        label_map=labelled.label_map,
        confidence=labelled.confidence,
        classes=labelled.classes,
        winners=labelled.winners,
        preset=preset,
        options=values,
        seconds={"decide": time.perf_counter() - started},
    )


def _label_of(result: Result, name: str | int) -> int:
    """Label of a class by any of its names, upper and lower case alike; a label is itself."""
    if isinstance(name, int):
        return name
    for entry in (*result.label_map.classes, *label_classes(result.vocabulary)):
        if name.casefold() in map(str.casefold, entry.names):
            return entry.id
    known = ", ".join(result.vocabulary.names)
    raise ValueError(f'without must hold names of classes that were asked for ({known}), got "{name}"')


def refined(
    result: Result,
    method: MethodSpec,
    before: RefinerSpec,
    refining: Refining,
    weights: Mapping[str, str],
    dropped: Mapping[str, str],
) -> Result:
    """A result with another refiner's evidence.

    Args:
        result: at its photo's own size.
        method: that gave it.
        before: the refiner that it has.
        refining: the one that it gets.
        weights: files of that one, with their checksums.
        dropped: those of `before`.

    Raises:
        ValueError: for a result at another size than its photo's.
    """
    given = result.evidence if result.unrefined is None else result.unrefined
    if result.image.shape[:2] != given.image_size:
        raise ValueError(f"refine takes a result at the size of its photo, {given.image_size}.")
    gone = {option.name for option in before.options}
    own = {name: value for name, value in result.options.items() if name not in gone}
    files = {name: sha256 for name, sha256 in result.weights.items() if name not in dropped}
    evidence = refining(Photo(result.image), given.without(result.evidence.excluded))
    plain = refining.spec.name == NO_REFINER
    changed = replace(
        result,
        evidence=evidence,
        unrefined=None if plain else given,
        refiner=refining.spec.name,
        options={**own, **refining.options},
        weights={**files, **weights},
    )
    labelled = relabelled(changed, method, {})
    return replace(labelled, seconds={**refining.job.seconds, **labelled.seconds})


def with_objects(engine: Means, result: Result, prompts: Sequence[ObjectPrompt], job: Job) -> Result:
    """A result in which prompted objects were given to their classes, each an edit."""
    photo = Photo(result.image)
    for prompt in prompts:
        result.label_map.class_of(prompt.label)  # or a sentence, before anything is loaded
    objects = [
        click_object(engine, photo, prompt.clicks, prompt.box, cancel=job.cancel) for prompt in prompts
    ]
    return result.edited(
        Paint(runs_of(clicked.mask), prompt.label) for clicked, prompt in zip(objects, prompts, strict=True)
    )
