"""Trained parts of methods: their files, and how methods are built with them on a tower."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Literal

from open_clip.transformer import VisionTransformer
from torch import Tensor

from ovs_core.checkpoints import CheckpointError, WeightStore, read_metadata, read_state
from ovs_core.encoders.clip_vit import VisionEncoder
from ovs_core.encoders.contexts import load_contexts
from ovs_core.encoders.mini_pyramid import MiniPyramid, dense_map
from ovs_core.methods import mask_checkpoints, mask_heads_file
from ovs_core.methods.base import Method
from ovs_core.methods.maft_plus import MaftPlus
from ovs_core.methods.mvp_seg import build_mvp_seg
from ovs_core.registry.own_heads import HeadNotes, head_notes, own_head, own_heads
from ovs_core.registry.towers import EncoderSpec, PyramidEncoder, Tower, checked_file, missing_sentence
from ovs_core.types import Pyramid
from ovs_core.vocabulary import read_vocabulary

PER_PIXEL = "per_pixel"
"""Switch of MAFT+: official weights read tokens in the sound order, which heads of ours always do."""


@dataclass(frozen=True)
class HeadFile:
    """A file of trained weights for one method on one tower."""

    path: Path
    sha256: str


@dataclass(frozen=True, eq=False)
class Ready:
    """A method on a tower, ready to answer.

    Attributes:
        method: the quick half.
        encoder: makes the features it reads; methods whose encoders have equal identities share them.
        weights: file name -> SHA-256 of what it read beside the tower's own file.
    """

    method: Method
    encoder: VisionEncoder | PyramidEncoder
    weights: Mapping[str, str] = field(default_factory=dict)


def checked_head(store: WeightStore, entry: str) -> HeadFile:
    """The file of a head, which is what the catalogue promises.

    Raises:
        CheckpointError: if it is absent (the sentence says how to get it), damaged or another version.
    """
    return HeadFile(*checked_file(store, entry))


def find_head(store: WeightStore, method: str, encoder: EncoderSpec, tower: str) -> HeadFile | None:
    """The head of a method on weights of this SHA-256: the user's own, else the catalogue's, unchecked."""
    path = own_head(store, method, tower) if encoder.own_heads else None
    if path is None and method in encoder.heads:
        path = store.locate(encoder.heads[method])
    return None if path is None else HeadFile(path, store.sha256_of(path))


def usable_head(store: WeightStore, method: str, encoder: EncoderSpec, tower: str) -> HeadFile | None:
    """The same, as the catalogue promises it where it is the catalogue's; None where there can be none.

    Raises:
        CheckpointError: as `checked_head`.
    """
    if encoder.own_heads and own_head(store, method, tower) is not None:
        return find_head(store, method, encoder, tower)
    return checked_head(store, encoder.heads[method]) if method in encoder.heads else None


def head_problem(store: WeightStore, method: str, title: str, encoder: EncoderSpec) -> str:
    """Why the head of a method cannot be used, in one sentence with the next step; "" if nothing says so.

    Looks at the file's notes alone, so that menus are quick; a tower that is no file is not compared.

    Args:
        store: where files are.
        method: registry name.
        title: what people call it.
        encoder: on which it would run.
    """
    tower = None if encoder.entry is None else store.locate(encoder.entry)
    own = None
    if tower is not None and encoder.own_heads and any(own_heads(store)):
        own = own_head(store, method, store.sha256_of(tower))
    if tower is not None and own is not None:
        return _own_problem(own, HeadNotes(method, store.sha256_of(tower)))
    if method not in encoder.heads:
        return (
            f"{title} needs a part that is trained on {encoder.title}, and nobody publishes one. "
            "Train it, then `python -m ovs_core.cli.weights add FILE` (docs/weights.md)."
        )
    return _catalogue_problem(store, encoder.heads[method], tower)


def _own_problem(path: Path, expected: HeadNotes) -> str:
    try:
        found = head_notes(path)
    except CheckpointError as error:
        return str(error)
    if found == expected:
        return ""
    return f"{path} belongs to another method or tower than its name says; delete it, then add the right one."


def _catalogue_problem(store: WeightStore, entry: str, tower: Path | None) -> str:
    path = store.locate(entry)
    if path is None:
        return missing_sentence(store.entry(entry))
    if tower is None or tower == path:  # an official file holds both
        return ""
    try:
        trained_on = read_metadata(path).get("tower", "")
    except CheckpointError as error:
        return str(error)
    if trained_on == store.sha256_of(tower):
        return ""
    title = store.entry(entry).title
    return f"{title}: {path} was trained on another tower than {tower}; restore the two that belong together."


def build_with_contexts(tower: Tower, head: HeadFile, switches: frozenset[str]) -> Ready:
    """MVP-SEG with the contexts of a file.

    Raises:
        CheckpointError: if the file is no file of contexts, or of another tower's.
    """
    contexts = load_contexts(head.path, tower.sha256)
    return Ready(build_mvp_seg(tower.vision.visual, tower.text, contexts, switches), tower.vision)


def build_with_mask_head(
    name: Literal["fc_clip", "maft_plus"], tower: Tower, head: HeadFile, switches: frozenset[str]
) -> Ready:
    """FC-CLIP or MAFT+ with the head of a file: ours on the embedded tower, an official one elsewhere.

    Raises:
        CheckpointError: if the file is of another kind, method or tower.
    """
    if tower.pyramid is None:
        raise ValueError(f"{name} needs an image tower that gives a pyramid")
    if isinstance(tower.pyramid, MiniPyramid):
        return _build_embedded(name, tower, tower.pyramid, head)
    source = str(head.path)
    state = read_state(head.path)
    form = mask_checkpoints.recognise(state, source=source)
    if form.method != name:
        raise CheckpointError(f"{source} holds a head of {form.method}, expected one of {name}.")
    method = mask_checkpoints.build_method(name, state, form, tower.model, seen_names(), source=source)
    method.head.to(tower.device)
    if isinstance(method, MaftPlus) and PER_PIXEL in switches:
        method = replace(method, image_tokens="per_pixel")
    return Ready(method, tower.pyramid)


def _build_embedded(
    name: Literal["fc_clip", "maft_plus"], tower: Tower, pyramid: MiniPyramid, head: HeadFile
) -> Ready:
    trained = mask_heads_file.load_mask_head(head.path, tower.sha256, method=name)
    visual = mask_heads_file.tuned_tower(pyramid.visual, trained, source=str(head.path))
    method = mask_heads_file.build_mask_method(trained, visual, tower.model.logit_scale.detach())
    method.head.to(tower.device)
    if visual is not pyramid.visual:
        if isinstance(method, MaftPlus):
            method = replace(method, frozen=partial(dense_of_stem, pyramid.visual))
        pyramid = replace(pyramid, visual=visual, identity=f"{pyramid.identity}+{head.sha256[:12]}")
    return Ready(method, pyramid)


def dense_of_stem(visual: VisionTransformer, pyramid: Pyramid) -> Tensor:
    """Dense map (C, h, w) of the embedded tower for a photo, from a pyramid that has the same stem.

    The map at stride 16 begins with the stem's patches; tuning leaves the stem as it is.
    """
    patches = pyramid.maps[2][: visual.conv1.mix.out_channels]
    return dense_map(visual, patches[None])[0]


def seen_names() -> frozenset[str]:
    """Names of the classes that official heads of FC-CLIP were trained on, synonyms included."""
    return frozenset(name for names in read_vocabulary("@cocopanoptic133").classes for name in names)
