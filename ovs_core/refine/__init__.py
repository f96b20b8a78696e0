"""REFINERS: sharper edges from evidence that is already there, in the order of menus."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from ovs_core.refine import guided, pamr
from ovs_core.refine.sam import refiners as sam
from ovs_core.refine.spec import RefinerSpec

_SPECS = (
    RefinerSpec("none", "No refinement", "Edges as fine as the model's own grid."),
    guided.SPEC,
    pamr.SPEC,
    sam.VOTE,
    sam.PROMPTS,
)

REFINERS: Mapping[str, RefinerSpec] = MappingProxyType({spec.name: spec for spec in _SPECS})
NO_REFINER = "none"
