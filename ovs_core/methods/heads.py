"""Trained heads of methods: their files, and the one place that says whether a file can be used.

A head's file names by SHA-256 the tower that it was trained on. Heads that this project or others publish are
in the catalogue; one that the user trained is taken in by `add_head`, which puts it below a folder of weights
as heads/METHOD-DIGITS.safetensors, digits being the first 16 of that checksum: the one that a tower needs is
found by its name, without opening files.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ovs_core.checkpoints import CheckpointError, WeightStore, read_metadata
from ovs_core.encoders.loading import checked_file, missing_sentence
from ovs_core.encoders.towers import EncoderSpec
from ovs_core.methods.head_format import HeadFile, published_head
from ovs_core.methods.spec import MethodSpec

FOLDER = "heads"
_DIGITS = 16
_SUFFIX = ".safetensors"


@dataclass(frozen=True)
class HeadNotes:
    """What a head's file says of itself.

    Attributes:
        method: registry name.
        tower: SHA-256 of the weights it was trained on.
    """

    method: str
    tower: str


def head_notes(path: Path, methods: Mapping[str, MethodSpec]) -> HeadNotes:
    """Read what a head's file says of itself, its tensors unseen.

    Raises:
        CheckpointError: if it is absent, damaged or no head of these methods; one sentence.
    """
    notes = read_metadata(path)
    formats = {name: spec.head for name, spec in methods.items() if spec.head is not None}
    owners = [
        name
        for name, head in formats.items()
        if head.kind == notes.get("kind") and (not head.named or notes.get("method") == name)
    ]
    if not owners:
        titles = [methods[name].title for name in formats]
        raise CheckpointError(
            f"{path} is no head of {', '.join(titles[:-1])} or {titles[-1]} that this project trained."
        )
    tower = notes.get("tower", "")
    if not re.fullmatch("[0-9a-f]{64}", tower):
        raise CheckpointError(f"{path} does not say which tower it was trained on.")
    return HeadNotes(owners[0], tower)


def find_head(store: WeightStore, spec: MethodSpec, encoder: EncoderSpec, tower: str) -> HeadFile | None:
    """The head of a method on weights of this SHA-256: the user's own, else the published one, unchecked."""
    path = own_head(store, spec.name, tower) if encoder.own_heads else None
    entry = published_head(spec.head, spec.name, encoder)
    if path is None and entry is not None:
        path = store.locate(entry)
    return None if path is None else HeadFile(path, store.sha256_of(path))


def verified_head(
    store: WeightStore,
    spec: MethodSpec,
    encoder: EncoderSpec,
    methods: Mapping[str, MethodSpec],
    *,
    tower: str | None = None,
    whole: bool = True,
) -> HeadFile | None:
    """The head that a method uses on a tower; None if it needs none. The one judge of whether it can be used.

    Args:
        store: where files are.
        spec: the method.
        encoder: its tower.
        methods: of which the head's file may be.
        tower: SHA-256 of the tower in use; None takes that of its file, or compares nothing without one.
        whole: compare a published file with the catalogue's checksum; False looks at notes alone, so that
            menus are quick.

    Raises:
        CheckpointError: saying in one sentence why it cannot be used, and the next step.
    """
    if spec.head is None:
        return None
    file = None if encoder.entry is None else store.locate(encoder.entry)
    entry = published_head(spec.head, spec.name, encoder)
    own_ones = encoder.own_heads and any(own_heads(store))
    if tower is None and file is not None and (entry is not None or own_ones):
        tower = store.sha256_of(file)  # long work the first time: only where something is compared with it
    if tower is not None and own_ones:
        own = own_head(store, spec.name, tower)
        if own is not None:
            return _verified_own(store, own, HeadNotes(spec.name, tower), methods)
    if entry is None:
        raise CheckpointError(
            f"{spec.title} needs a part that is trained on {encoder.title}, and nobody publishes one. "
            "Train it, then `python -m ovs_core.cli.weights add FILE` (docs/weights.md)."
        )
    path = store.locate(entry)
    if path is None:
        raise CheckpointError(missing_sentence(store.entry(entry)))
    if tower is not None and path != file and read_metadata(path).get("tower", "") != tower:
        raise CheckpointError(
            f"{store.entry(entry).title}: {path} was trained on another tower than {file or encoder.title}; "
            "restore the two that belong together."
        )
    return HeadFile(*checked_file(store, entry)) if whole else HeadFile(path, "")


def _verified_own(
    store: WeightStore, path: Path, expected: HeadNotes, methods: Mapping[str, MethodSpec]
) -> HeadFile:
    if head_notes(path, methods) != expected:
        raise CheckpointError(
            f"{path} belongs to another method or tower than its name says; "
            "delete it, then add the right one."
        )
    return HeadFile(path, store.sha256_of(path))


def check_head(path: Path, methods: Mapping[str, MethodSpec]) -> HeadNotes:
    """Read a head whole, as it will be read when it is used.

    Raises:
        CheckpointError: if it is absent, damaged or no head; one sentence.
    """
    notes = head_notes(path, methods)
    head = methods[notes.method].head
    if head is not None:
        head.read(path, notes.tower)
    return notes


def own_head(store: WeightStore, method: str, tower: str) -> Path | None:
    """The head that was added for a method on weights of this SHA-256; None if there is none."""
    name = f"{method}-{tower[:_DIGITS]}{_SUFFIX}"
    return next((path for path in own_heads(store) if path.name == name), None)


def own_heads(store: WeightStore) -> Iterator[Path]:
    """Every head that was added, those that count first."""
    for folder in store.folders:
        yield from sorted((folder / FOLDER).glob(f"*-*{_SUFFIX}"))


def trained_on(store: WeightStore, tower: str, encoders: Mapping[str, EncoderSpec]) -> EncoderSpec | None:
    """The encoder whose weights have this SHA-256; None if it is none that is known or here."""
    for spec in encoders.values():
        if spec.entry is None or spec.entry not in store.catalogue or not spec.own_heads:
            continue
        path, published = store.locate(spec.entry), store.entry(spec.entry).sha256
        measured = store.sha256_of(path) if published is None and path is not None else published
        if measured == tower:
            return spec
    return None


def add_head(
    store: WeightStore, path: Path, methods: Mapping[str, MethodSpec], encoders: Mapping[str, EncoderSpec]
) -> Path:
    """Check a head that the user trained and copy it to where its method finds it.

    One that was added before for the same method and tower is replaced.

    Args:
        store: whose `folder` takes it.
        path: the file.
        methods: whose heads can be used.
        encoders: on which.

    Raises:
        CheckpointError: if it is no head, is damaged, belongs to no tower that is known, or the folder cannot
            be written; one sentence.
    """
    notes = check_head(path, methods)
    if trained_on(store, notes.tower, encoders) is None:
        raise CheckpointError(
            f"{path} was trained on weights that are not here (SHA-256 {notes.tower[:12]}...): "
            "a head works on its own tower only. Get that one first."
        )
    target = store.folder / FOLDER / f"{notes.method}-{notes.tower[:_DIGITS]}{_SUFFIX}"
    if target.exists() and target.samefile(path):
        return target
    staged = target.with_name(target.name + ".new")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, staged)
        staged.replace(target)
    except OSError as error:
        with suppress(OSError):
            staged.unlink()
        raise CheckpointError(f"Cannot put {path} into {target.parent} ({error.strerror}).") from error
    return target


def describe_head(
    store: WeightStore, path: Path, methods: Mapping[str, MethodSpec], encoders: Mapping[str, EncoderSpec]
) -> str:
    """What a head that was added is for, e.g. "MVP-SEG on CLIP ViT-B/16, OpenAI (vit_b16_openai)"."""
    try:
        notes = head_notes(path, methods)
    except CheckpointError as error:
        return str(error)
    encoder = trained_on(store, notes.tower, encoders)
    where = "weights that are not here" if encoder is None else f"{encoder.title} ({encoder.name})"
    return f"{methods[notes.method].title} on {where}"
