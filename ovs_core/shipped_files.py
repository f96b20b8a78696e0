"""Where the files are that come with the program, and where those go that its user adds.

In the repository `checkpoints/` and `assets/` lie beside the package, where people look for them. A wheel
carries them inside it (`setup.py`), since only what is inside a package is found wherever it is installed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from ovs_core.user_folders import data_folder

_PACKAGE = Path(__file__).resolve().parent
_IN_PACKAGE = _PACKAGE / "shipped"  # only in a wheel; `setup.py` has the same name


def shipped_folder(name: Literal["assets", "checkpoints"], package: Path = _PACKAGE) -> Path:
    """Folder of files that come with the program, from a clone, an editable install or a wheel alike.

    Args:
        name: the folder's name in the repository.
        package: where the package lies.
    """
    inside = package / _IN_PACKAGE.name / name
    return inside if inside.is_dir() else package.parent / name


def folder_for_new_weights(shipped: Path) -> Path:
    """Where weights go that the user fetches: beside the shipped ones, or into the user's own folder.

    An installed package may be read-only, and an update of it replaces everything inside.

    Args:
        shipped: folder of the shipped weights.
    """
    return user_folder() / "checkpoints" if shipped.is_relative_to(_IN_PACKAGE) else shipped


def user_folder() -> Path:
    """Folder of this program among the user's data; made by whoever writes there first."""
    return data_folder()
