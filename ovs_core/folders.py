"""Folders: of what comes with the program, and of whoever runs it.

In the repository `checkpoints/` and `assets/` lie beside the package, where people look for them. A wheel
carries them inside it (`setup.py`), since only what is inside a package is found wherever it is installed.
Some users have no folders: services, containers, users of a cluster.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Literal

_PROGRAM = "ovs-lens"
_PACKAGE = Path(__file__).resolve().parent
_IN_PACKAGE = _PACKAGE / "shipped"  # only in a wheel; `setup.py` has the same name


def home_folder() -> Path | None:
    """The user's home; None for a user who has none, so that whoever asks does without."""
    try:
        return Path.home()
    except RuntimeError:
        return None


def without_tilde(path: Path | str) -> Path:
    """A path whose `~` is the user's home; as it is where there is none."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)


def cache_folder() -> Path | None:
    """Folder of this program in the user's cache; made by whoever writes there first. None: keep nothing."""
    home = home_folder()
    place = os.environ.get("XDG_CACHE_HOME") or (home and home / ".cache")
    return Path(place) / _PROGRAM if place else None


def data_folder() -> Path:
    """Folder of this program among the user's data; for a user without a home among the temporary files."""
    home = home_folder()
    place = os.environ.get("XDG_DATA_HOME") or (home and home / ".local" / "share")
    return Path(place or tempfile.gettempdir()) / _PROGRAM


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
    return data_folder() / "checkpoints" if shipped.is_relative_to(_IN_PACKAGE) else shipped
