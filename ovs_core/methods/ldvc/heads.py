"""Trained heads of LDVC and ZegCLIP as a value and as a file: what was learnt, on which tower, how.

A file is safetensors, ours in half precision: "head.*" of a `SemanticHead`, "prompts.visual" (blocks, n, C)
as they stand in the sequence (their projection is taken already), "prompts.language" (blocks, m, C) where
there are any. Notes: kind, format, method, SHA-256 of the tower, form of the head, frame, template, names
that training saw, settings of the run.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from ovs_core.checkpoints import CheckpointError, load_strict, read_metadata, read_state
from ovs_core.decoders.route_attention import RouteConfig
from ovs_core.decoders.semantic_decoder import SemanticDecoderConfig
from ovs_core.encoders.base import Channels
from ovs_core.encoders.deep_prompts import LanguagePrompts, VisualPrompts
from ovs_core.methods.ldvc.model import METHODS, HeadConfig, MethodName, SemanticHead
from ovs_core.methods.trained_files import part_of, trained_tower

KIND = "prompted semantic head"
FORMAT = "1"
IMAGENET_MEAN: Channels = (123.675 / 255, 116.28 / 255, 103.53 / 255)
IMAGENET_STD: Channels = (58.395 / 255, 57.12 / 255, 57.375 / 255)
_HEAD, _VISUAL, _LANGUAGE = "head.", "prompts.visual", "prompts.language"


@dataclass(frozen=True)
class Frame:
    """How training looked at photos, and answers should.

    Attributes:
        short_side: of the frame, in pixels.
        window: side of square windows in frame pixels; None looks at the whole frame.
        stride: step between windows, in frame pixels.
        mean: subtracted per RGB channel of [0, 1]; None keeps the tower's.
        std: divided by; None keeps the tower's.
        double_class_token: ZegCLIP's code adds the class embedding twice.
    """

    short_side: int
    window: int | None = None
    stride: int = 0
    mean: Channels | None = None
    std: Channels | None = None
    double_class_token: bool = True


@dataclass(frozen=True, eq=False)
class PromptedHead:
    """A head with all it takes to use it.

    Attributes:
        method: whose head it is.
        head: in float32, evaluation mode.
        visual_prompts: for the image tower.
        language_prompts: for the text tower; None embeds names in `templates`.
        templates: what names are put into where there are no language prompts.
        frame: how photos are looked at.
        tower: SHA-256 of the weights of both towers.
        seen: names of classes that training saw, in lower case.
        training: settings of the run, for people.
    """

    method: MethodName
    head: SemanticHead
    visual_prompts: VisualPrompts
    language_prompts: LanguagePrompts | None
    templates: tuple[str, ...]
    frame: Frame
    tower: str
    seen: frozenset[str]
    training: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        queries = self.head.config.decoder.queries
        if queries != ("class" if self.method == "zegclip" else "visual"):
            raise ValueError(f"a head of {self.method} cannot have {queries} queries")
        if self.language_prompts is None and not self.templates:
            raise ValueError("a head needs language prompts or templates to embed names in")

    @property
    def self_trained(self) -> bool:
        """Whether training guessed at unseen classes; such a head needs no calibration."""
        return bool(self.training.get("self_training"))


def save_prompted_head(trained: PromptedHead, path: Path, *, half: bool = True) -> Path:
    """Write a head; a write that is cut leaves no file of that name.

    Args:
        trained: the head.
        path: where to.
        half: in half precision; False keeps every bit, for heads whose published numbers others compare with.
    """
    named = {_HEAD + name: value for name, value in trained.head.state_dict().items()}
    named[_VISUAL] = torch.stack(trained.visual_prompts.tokens)
    notes = {
        "kind": KIND,
        "format": FORMAT,
        "method": trained.method,
        "tower": trained.tower,
        "head": json.dumps(dataclasses.asdict(trained.head.config)),
        "frame": json.dumps(dataclasses.asdict(trained.frame)),
        "templates": json.dumps(trained.templates),
        "seen": json.dumps(sorted(trained.seen)),
        "training": json.dumps(dict(trained.training)),
    }
    if trained.language_prompts is not None:
        named[_LANGUAGE] = trained.language_prompts.states
        notes["template"] = trained.language_prompts.template
    partial = path.with_suffix(".part")
    dtype = torch.float16 if half else torch.float32
    stored = {name: value.detach().cpu().to(dtype).contiguous().clone() for name, value in named.items()}
    save_file(stored, partial, metadata=notes)
    return partial.replace(path)


def load_prompted_head(path: Path, tower: str | None, *, method: MethodName | None = None) -> PromptedHead:
    """Read a head for the tower it was trained on.

    Args:
        path: file written by `save_prompted_head`.
        tower: SHA-256 of the weights of the tower in use; None takes any head, to look at it.
        method: whose head the caller needs; None takes what is there.

    Raises:
        CheckpointError: if the file is something else, is damaged, of a later format, of another method or
            for another tower.
    """
    notes, tensors = read_metadata(path), read_state(path)
    trained_for = _expect_head(path, notes, tower, method)
    try:
        head = SemanticHead(_config(json.loads(notes["head"])))
        load_strict(head, part_of(tensors, _HEAD), source=str(path))
        visual = VisualPrompts(tuple(tensors[_VISUAL].float()))
        language = None
        if _LANGUAGE in tensors:
            language = LanguagePrompts(tensors[_LANGUAGE].float(), notes["template"])
        return PromptedHead(
            trained_for,
            head.float().eval().requires_grad_(False),
            visual,
            language,
            tuple(json.loads(notes["templates"])),
            _frame(json.loads(notes["frame"])),
            notes["tower"],
            frozenset(json.loads(notes["seen"])),
            json.loads(notes["training"]),
        )
    except CheckpointError:
        raise
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read as a head of {trained_for}: {error}.") from error


def _expect_head(
    path: Path, notes: Mapping[str, str], tower: str | None, method: MethodName | None
) -> MethodName:
    """The method of a head's file, if its notes say that it can be used."""
    if notes.get("kind") != KIND:
        raise CheckpointError(f"{path} is not a file of a head of LDVC or ZegCLIP.")
    if notes.get("format") != FORMAT:
        version = notes.get("format", "none")
        raise CheckpointError(f"{path} has format {version}, this version reads format {FORMAT}.")
    trained_for = next((name for name in METHODS if name == notes.get("method")), None)
    if trained_for is None or trained_for != (method or trained_for):
        expected = method or " or ".join(METHODS)
        raise CheckpointError(f"{path} holds a head of {notes.get('method', 'nobody')}, expected {expected}.")
    trained_tower(path, notes, tower, "a head only works on the tower it was trained on.")
    return trained_for


def _config(values: Mapping[str, Any]) -> HeadConfig:
    """Form of a head as JSON has it."""
    decoder = dict(values["decoder"])
    route = decoder.pop("route")
    config = SemanticDecoderConfig(**decoder, route=None if route is None else RouteConfig(**route))
    return HeadConfig(**{**values, "decoder": config})


def _frame(values: Mapping[str, Any]) -> Frame:
    """A frame as JSON has it."""
    colours = {name: None if values[name] is None else tuple(values[name]) for name in ("mean", "std")}
    return Frame(**{**values, **colours})
