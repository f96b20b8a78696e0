"""File names from text that strangers typed."""

from __future__ import annotations

import unicodedata


def safe_name(text: str, most_bytes: int, dots: bool = False) -> str:
    """A part of a file name made of this text's letters and digits; whatever else there is becomes "-".

    Never empty, never a path, never hidden, at most `most_bytes` long as UTF-8, the same on every system.

    Args:
        text: anything.
        most_bytes: limit, at least 4 (one letter of any script).
        dots: keep dots, blanks and underscores inside, as in the name of a photo.
    """
    inside = " ._-" if dots else "-"
    letters = (
        letter if letter in inside or unicodedata.category(letter)[0] in "LNM" else "-"
        for letter in unicodedata.normalize("NFC", text)
    )
    name = "-".join(part for part in "".join(letters).split("-") if part)
    short = name.encode("utf-8")[:most_bytes].decode("utf-8", "ignore")
    return short.strip(" ._-") or "unnamed"[:most_bytes]
