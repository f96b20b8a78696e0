"""Where the official tensors of GKC lie, if they are here: their licence keeps them out of the project."""

from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[3] / "shared" / "reference" / "parity" / "gkc"
if not FOLDER.is_dir():
    FOLDER = Path(__file__).resolve().parents[4] / "shared" / "reference" / "parity" / "gkc"

needs_reference = pytest.mark.skipif(
    not (FOLDER / "gkc_tiny_train.npz").is_file(), reason="GKC's reference tensors are not beside the project"
)
