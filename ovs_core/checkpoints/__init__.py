"""Weight files: what exists, where it lies, whether it is the right one, and what is in it.

The only room that reads weights. Nothing here touches the network except `WeightStore.fetch`.
"""

from ovs_core.checkpoints.catalogue import CHECKPOINTS, Check, WeightFile, load_catalogue
from ovs_core.checkpoints.reading import (
    CheckpointError,
    load_strict,
    read_metadata,
    read_state,
    read_training_state,
    sha256_of,
)
from ovs_core.checkpoints.store import WeightStore

__all__ = [
    "CHECKPOINTS",
    "Check",
    "CheckpointError",
    "WeightFile",
    "WeightStore",
    "load_catalogue",
    "load_strict",
    "read_metadata",
    "read_state",
    "read_training_state",
    "sha256_of",
]
