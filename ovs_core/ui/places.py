"""Files and folders as visitors of the page may see them: never where they lie on this machine."""

from __future__ import annotations

from pathlib import Path

from ovs_core.checkpoints import WeightStore
from ovs_core.folders import home_folder

PROJECT = Path(__file__).resolve().parents[2]


def shown_place(path: Path) -> str:
    """Write a path below the project or the home folder as such, of any other its last part alone."""
    path = path.absolute()
    if path.is_relative_to(PROJECT) and path != PROJECT:
        return path.relative_to(PROJECT).as_posix()
    home = home_folder()
    if home is not None and path.is_relative_to(home) and path != home:
        return f"~/{path.relative_to(home).as_posix()}"
    return path.name


def without_places(text: str, store: WeightStore) -> str:
    """Give a sentence in which the folders of weights, the project and the home folder stand as shown.

    The terminal says where a file lies; on the page that would tell strangers about the machine.
    """
    known = {str(form): shown_place(folder) for folder in store.folders for form in _forms(folder)}
    home = home_folder()
    known |= {str(PROJECT): PROJECT.name, **({} if home is None else {str(home): "~"})}
    for place in sorted(known, key=len, reverse=True):
        if place != Path(place).anchor:
            text = text.replace(place, known[place])
    return text


def _forms(folder: Path) -> tuple[Path, Path]:
    return folder.absolute(), folder.resolve()
