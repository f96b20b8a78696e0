"""Folders of whoever runs the program; some users have none: services, containers, users of a cluster."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

_PROGRAM = "ovs-lens"


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
