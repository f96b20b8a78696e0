"""What files are made of: a labelled photo, and how it came about."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ovs_core.edit.record import Edit
from ovs_core.evidence.protocol import Evidence
from ovs_core.options import Options, Preset
from ovs_core.types import Labelled


class Answered(Labelled, Protocol):
    """An answer to be written; `ovs_core.engine.result.Result` explains every field."""

    @property
    def confidence(self) -> NDArray[np.float16]:
        """(H, W), probability of what each label was decided by."""
        ...

    @property
    def method(self) -> str:
        """Registry name of the method."""
        ...

    @property
    def encoder(self) -> str:
        """Registry name of the tower."""
        ...

    @property
    def weights(self) -> Mapping[str, str]:
        """File name -> SHA-256."""
        ...

    @property
    def preset(self) -> Preset:
        """Frame, prompts, scale and threshold."""
        ...

    @property
    def options(self) -> Options:
        """Value of every declared option."""
        ...

    @property
    def switches(self) -> tuple[str, ...]:
        """Names of the switches that were on."""
        ...

    @property
    def refiner(self) -> str:
        """Registry name of the refiner."""
        ...

    @property
    def seconds(self) -> Mapping[str, float]:
        """Stage -> seconds."""
        ...

    @property
    def source(self) -> str:
        """File name of the photo, "" if unknown."""
        ...

    @property
    def notes(self) -> tuple[str, ...]:
        """What was out of the ordinary."""
        ...

    @property
    def edits(self) -> tuple[Edit, ...]:
        """What was put right by hand."""
        ...

    @property
    def exemplars(self) -> tuple[tuple[str, str], ...]:
        """Name and photo's SHA-256 of every box that was asked for besides words."""
        ...

    @property
    def evidence(self) -> Evidence:
        """What labels were made of."""
        ...
