"""What weights exist: the entries of `catalogue.json`."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Literal

from ovs_core.checkpoints.reading import CheckpointError
from ovs_core.folders import shipped_folder

CHECKPOINTS = shipped_folder("checkpoints")


@dataclass(frozen=True)
class WeightFile:
    """One line of the catalogue.

    Attributes:
        name: what the user types.
        title: what the user reads.
        kind: the sort of model inside.
        files: paths below a weights folder; the first holds the tensors, the others belong beside it.
        url: where the first file comes from; None if it is shipped, or if only a person can fetch it.
        sha256: published checksum of the first file, or None if its publisher gives none.
        bytes: size of the first file, or None if unknown.
        licence: SPDX name where there is one.
        source: who publishes it.
        paper: arXiv id such as "2103.00020", or "".
        open_clip_model: open_clip architecture these weights were trained as; a "-quickgelu" one differs from
            its plain namesake in the activation alone, and mixing them up silently gives wrong features.
        page: where a person downloads the first file, if no program can; "" otherwise.
    """

    name: str
    title: str
    kind: Literal["clip", "sam", "head", "clip+head"]
    files: tuple[str, ...]
    url: str | None
    sha256: str | None
    bytes: int | None
    licence: str
    source: str
    paper: str
    open_clip_model: str | None
    page: str = ""

    def __post_init__(self) -> None:
        if self.sha256 is not None and not re.fullmatch("[0-9a-f]{64}", self.sha256):
            raise ValueError(f"{self.name}: sha256 must be 64 hex digits, got {self.sha256!r}")
        if not self.files:
            raise ValueError(f"{self.name}: needs at least one file")

    @property
    def original_name(self) -> str:
        """File name at the publisher, which is how a file downloaded by hand is called."""
        return PurePosixPath(self.url or self.files[0]).name


@dataclass(frozen=True)
class Check:
    """What is known about a weight file on disk.

    Attributes:
        path: the file.
        sha256: its measured checksum.
        basis: what it was compared with: the published checksum, the one recorded on first fetch, or none.
    """

    path: Path
    sha256: str
    basis: Literal["published", "recorded", "none"]

    @property
    def sentence(self) -> str:
        """What the user is told."""
        return {
            "published": "matches the published checksum",
            "recorded": "has no published checksum; unchanged since it was first fetched",
            "none": "has no known checksum: checked for size and readability only",
        }[self.basis]


def load_catalogue(root: Path = CHECKPOINTS) -> Mapping[str, WeightFile]:
    """Name -> entry of `catalogue.json` in `root`, in its order.

    Raises:
        CheckpointError: if the catalogue is missing or malformed.
    """
    path = root / "catalogue.json"
    try:
        lines = json.loads(path.read_text(encoding="utf-8"))["weights"]
        entries = [WeightFile(**{**line, "files": tuple(line["files"])}) for line in lines]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"The catalogue of weights {path} cannot be read: {error}.") from error
    return MappingProxyType({entry.name: entry for entry in entries})
