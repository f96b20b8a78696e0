"""Open-vocabulary segmentation: encode a photo once, ask it about any words.

>>> from ovs_core import Engine
>>> result = Engine().segment("dog.jpg", "dog; grass; sky | clouds")
>>> result.labels  # (H, W): 0 = other, 1 = dog, 2 = grass, 3 = sky or clouds

The names below are looked up when first used, so that `import ovs_core.types` does not load a deep-learning
library.
"""

from __future__ import annotations

from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ovs_core.engine import Cancelled, Engine, Progress, Request, Result
    from ovs_core.image import Photo, read_photo
    from ovs_core.options import Option, Preset
    from ovs_core.types import LabelMap, Vocabulary
    from ovs_core.vocabulary import parse_vocabulary, read_vocabulary

__all__ = [
    "Cancelled",
    "Engine",
    "LabelMap",
    "Option",
    "Photo",
    "Preset",
    "Progress",
    "Request",
    "Result",
    "Vocabulary",
    "parse_vocabulary",
    "read_photo",
    "read_vocabulary",
]

_ROOMS = MappingProxyType(
    {
        "engine": ("Cancelled", "Engine", "Progress", "Request", "Result"),
        "image": ("Photo", "read_photo"),
        "options": ("Option", "Preset"),
        "types": ("LabelMap", "Vocabulary"),
        "vocabulary": ("parse_vocabulary", "read_vocabulary"),
    }
)


def __getattr__(name: str) -> Any:
    for room, names in _ROOMS.items():
        if name in names:
            return getattr(import_module(f"ovs_core.{room}"), name)
    raise AttributeError(f"module 'ovs_core' has no attribute {name!r}")
