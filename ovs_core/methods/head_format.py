"""How files of trained heads look, and which one is published for a tower."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ovs_core.encoders.towers import EncoderSpec


@dataclass(frozen=True)
class HeadFile:
    """A file of trained weights for one method on one tower."""

    path: Path
    sha256: str


@dataclass(frozen=True)
class HeadFormat:
    """How the file of a method's head looks.

    Attributes:
        kind: note "kind" of its files.
        read: reads a file whole and strictly for a tower of this SHA-256, as it will be read when it is used;
            raises CheckpointError.
        published: weights of a tower -> head that was trained on them, by their names in the catalogue.
        named: whether its files also name the method, because several methods share the kind.
    """

    kind: str
    read: Callable[[Path, str], object]
    published: Mapping[str, str] = field(default_factory=dict)
    named: bool = False


def published_head(head: HeadFormat | None, method: str, encoder: EncoderSpec) -> str | None:
    """Name in the catalogue of the head of a method on a tower; None if nobody publishes one."""
    shipped = {} if head is None else head.published
    return encoder.heads.get(method) or (shipped.get(encoder.entry) if encoder.entry else None)
