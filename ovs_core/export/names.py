"""File names from text that strangers typed."""

from __future__ import annotations

import unicodedata

_RESERVED = frozenset('<>:"/\\|?*')  # what Windows does not have in names, and paths are made of


def safe_name(text: str, most_bytes: int) -> str:
    """A part of a file name made of this text's letters and digits; whatever else there is becomes "-".

    Never empty, never a path, never hidden, at most `most_bytes` long as UTF-8, the same on every system.

    Args:
        text: anything.
        most_bytes: limit, at least 4 (one letter of any script).
    """
    letters = (
        letter if unicodedata.category(letter)[0] in "LNM" else "-"
        for letter in unicodedata.normalize("NFC", text)
    )
    name = "-".join(part for part in "".join(letters).split("-") if part)
    return _shortened(name, most_bytes).strip("-") or "unnamed"[:most_bytes]


def photo_stem(text: str, most_bytes: int = 120) -> str:
    """The name of a photo as the start of file names: itself, wherever every system can have it.

    Files of labels pair with photos by this name. Never empty, never a path, never hidden, never an option.

    Args:
        text: name of the photo, without its ending.
        most_bytes: limit as UTF-8, at least 4.
    """
    letters = (
        letter if letter.isprintable() and letter not in _RESERVED else "-"
        for letter in unicodedata.normalize("NFC", text)
    )
    name = _shortened("".join(letters).lstrip(" .-"), most_bytes)
    return name.rstrip(" .") or "unnamed"[:most_bytes]


def _shortened(name: str, most_bytes: int) -> str:
    """The beginning of a name, whole letters only."""
    return name.encode("utf-8")[:most_bytes].decode("utf-8", "ignore")
