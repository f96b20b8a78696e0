"""Where the official tensors of GKC lie, if they are here: their licence keeps them out of the project."""

from pathlib import Path

import pytest

_PLACE = Path("shared") / "reference" / "parity" / "gkc"
FOLDER = next(
    (folder / _PLACE for folder in Path(__file__).resolve().parents if (folder / _PLACE).is_dir()), _PLACE
)

needs_reference = pytest.mark.skipif(
    not (FOLDER / "gkc_tiny_train.npz").is_file(), reason="GKC's reference tensors are not beside the project"
)
