"""METHODS: what can be asked, in the order of menus. A method is a folder; its line here makes it known."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from ovs_core.methods.gkc import spec as gkc
from ovs_core.methods.ldvc import spec as ldvc
from ovs_core.methods.mask_classification import spec as mask_classification
from ovs_core.methods.mvp_seg import spec as mvp_seg
from ovs_core.methods.spec import MethodSpec
from ovs_core.methods.training_free import spec as training_free
from ovs_core.methods.two_stage import spec as two_stage

_SPECS = (
    *training_free.SPECS,
    *mvp_seg.SPECS,
    *mask_classification.SPECS,
    *ldvc.SPECS,
    *gkc.SPECS,
    *two_stage.SPECS,
)

METHODS: Mapping[str, MethodSpec] = MappingProxyType({spec.name: spec for spec in _SPECS})
DEFAULT_METHOD = "naclip"
