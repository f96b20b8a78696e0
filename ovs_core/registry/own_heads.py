"""Heads that the user trained: taken in once, then found by method and tower.

A head's file names by SHA-256 the tower that it was trained on. `add_head` puts it below a folder of weights
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
from typing import get_args

from ovs_core.checkpoints import CheckpointError, WeightStore, read_metadata
from ovs_core.encoders import contexts
from ovs_core.methods import mask_heads_file
from ovs_core.registry.towers import ENCODERS, EncoderSpec

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


def head_notes(path: Path) -> HeadNotes:
    """Read what a head's file says of itself, its tensors unseen.

    Raises:
        CheckpointError: if it is absent, damaged or no head; one sentence.
    """
    notes = read_metadata(path)
    known = {contexts.KIND: "mvp_seg", mask_heads_file.KIND: notes.get("method", "")}
    method, tower = known.get(notes.get("kind", ""), ""), notes.get("tower", "")
    if method not in ("mvp_seg", *get_args(mask_heads_file.MaskMethod)):
        raise CheckpointError(f"{path} is no head of MVP-SEG, FC-CLIP or MAFT+ that this project trained.")
    if not re.fullmatch("[0-9a-f]{64}", tower):
        raise CheckpointError(f"{path} does not say which tower it was trained on.")
    return HeadNotes(method, tower)


def check_head(path: Path) -> HeadNotes:
    """Read a head whole, as it will be read when it is used.

    Raises:
        CheckpointError: if it is absent, damaged or no head; one sentence.
    """
    notes = head_notes(path)
    if notes.method == "mvp_seg":
        contexts.load_contexts(path, notes.tower)
    else:
        mask_heads_file.load_mask_head(path, notes.tower)
    return notes


def own_head(store: WeightStore, method: str, tower: str) -> Path | None:
    """The head that was added for a method on weights of this SHA-256; None if there is none."""
    name = f"{method}-{tower[:_DIGITS]}{_SUFFIX}"
    return next((path for path in own_heads(store) if path.name == name), None)


def own_heads(store: WeightStore) -> Iterator[Path]:
    """Every head that was added, those that count first."""
    for folder in store.folders:
        yield from sorted((folder / FOLDER).glob(f"*-*{_SUFFIX}"))


def trained_on(
    store: WeightStore, tower: str, encoders: Mapping[str, EncoderSpec] = ENCODERS
) -> EncoderSpec | None:
    """The encoder whose weights have this SHA-256; None if it is none that is known or here."""
    for spec in encoders.values():
        if spec.entry is None or spec.entry not in store.catalogue or not spec.own_heads:
            continue
        path, published = store.locate(spec.entry), store.entry(spec.entry).sha256
        measured = store.sha256_of(path) if published is None and path is not None else published
        if measured == tower:
            return spec
    return None


def add_head(store: WeightStore, path: Path, encoders: Mapping[str, EncoderSpec] = ENCODERS) -> Path:
    """Check a head that the user trained and copy it to where its method finds it.

    One that was added before for the same method and tower is replaced.

    Args:
        store: whose `folder` takes it.
        path: the file.
        encoders: whose heads can be used.

    Raises:
        CheckpointError: if it is no head, is damaged, belongs to no tower that is known, or the folder cannot
            be written; one sentence.
    """
    notes = check_head(path)
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
