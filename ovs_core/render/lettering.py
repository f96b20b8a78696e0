"""Letters in pictures: a font of this machine that has them, or an honest stand-in.

Pillow's own font writes Latin, DejaVu Sans (it comes with matplotlib) also Greek, Cyrillic, Arabic and more.
For every other script the system's fonts are searched. A name that no font here can write is never drawn as
a row of boxes: `picture_name` puts the number of its class there.
"""

from __future__ import annotations

import os
import sys
import unicodedata
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

from PIL import ImageDraw, ImageFont, features

from ovs_core.folders import home_folder

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
Ink = tuple[int, int, int]

PAPER: Ink = (255, 255, 255)
INK: Ink = (32, 33, 36)
MUTED: Ink = (110, 113, 118)
FAINT: Ink = (205, 207, 211)

_LATIN_END = 0x250  # Pillow's own font goes up to here
# Hebrew, Arabic, Indic and neighbouring scripts: letters join or change places, which needs a layout engine.
_NEEDS_LAYOUT = range(0x0590, 0x10A0)
_CACHED_NAMES = 512


def one_line(text: str) -> str:
    """The text on one line, without control characters and lone surrogates, which no font engine takes."""
    kept = (" " if unicodedata.category(letter)[0] == "C" else letter for letter in text)
    return " ".join("".join(kept).split()) or "?"


def font_for(text: str, size: int) -> Font | None:
    """A font of this height in pixels that has every letter of a line, or None."""
    letters = frozenset(text) - {" "}
    if all(ord(letter) < _LATIN_END or letter == "…" for letter in letters):
        return ImageFont.load_default(size)
    path = font_file(letters, font_folders())
    return None if path is None else ImageFont.truetype(path, size)


def latin(size: int) -> Font:
    """The font for numbers and our own words."""
    return ImageFont.load_default(size)


def picture_name(name: str, label: int) -> str:
    """A class's name as a picture can show it: itself, or its number and the letters that can be written."""
    line = one_line(name)
    if font_for(line, 16) is not None:
        return line
    writable = (letter if font_file(frozenset(letter), ()) is not None else " " for letter in line)
    rest = one_line("".join(writable))
    return f"class {label}: {rest}" if any(map(str.isalnum, rest)) else f"class {label}"


def shorten(text: str, font: Font, room: float) -> str:
    """The text, cut with an ellipsis where it is wider than `room` pixels."""
    if font.getlength(text) <= room:
        return text
    low, high = 0, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        if font.getlength(text[:middle].rstrip() + "…") <= room:
            low = middle
        else:
            high = middle - 1
    return text[:low].rstrip() + "…"


def write(
    pen: ImageDraw.ImageDraw, place: tuple[float, float], text: str, font: Font, ink: Ink, anchor: str = "lm"
) -> None:
    """Write a line with its left middle (or another of Pillow's anchors) at `place`."""
    pen.text(place, text, fill=ink, font=font, anchor=anchor)


def wrap(text: str, font: Font, room: float) -> list[str]:
    """The text in lines at most `room` pixels wide; a word that is wider is cut."""
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and font.getlength(longer) <= room:
            lines[-1] = longer
        else:
            lines.append(shorten(word, font, room))
    return lines


def font_folders() -> tuple[Path, ...]:
    """Where this kind of machine keeps its fonts, whether or not the folders are there."""
    home = home_folder() or Path("/nonexistent")
    if sys.platform == "win32":
        own = Path(os.environ.get("LOCALAPPDATA", home)) / "Microsoft" / "Windows" / "Fonts"
        return (Path(os.environ.get("WINDIR", "C:/Windows")) / "Fonts", own)
    if sys.platform == "darwin":
        return (Path("/System/Library/Fonts"), Path("/Library/Fonts"), home / "Library" / "Fonts")
    shared = (Path("/usr/share/fonts"), Path("/usr/local/share/fonts"))
    return (*shared, home / ".local" / "share" / "fonts", home / ".fonts")


@lru_cache(maxsize=_CACHED_NAMES)
def font_file(letters: frozenset[str], folders: tuple[Path, ...]) -> Path | None:
    """File of a font with all these letters: DejaVu Sans or one in the folders; None if there is none."""
    import matplotlib as mpl  # takes half a second to load: only for letters that are not Latin

    if not features.check("raqm") and any(ord(letter) in _NEEDS_LAYOUT for letter in letters):
        return None
    dejavu = Path(mpl.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
    return next((path for path in (dejavu, *_fonts_in(folders)) if _can_write(path, letters)), None)


@lru_cache(maxsize=1)
def _fonts_in(folders: tuple[Path, ...]) -> tuple[Path, ...]:
    """Font files below these folders, upright sans-serif ones first."""
    from matplotlib.font_manager import findSystemFonts

    listed = map(Path, findSystemFonts([str(folder) for folder in folders if folder.is_dir()]))
    fonts = (path for path in listed if "lastresort" not in path.stem.lower())  # a box for every letter
    odd = ("italic", "oblique", "serif", "mono", "bold", "light", "thin", "black")
    return tuple(sorted(fonts, key=lambda path: (sum(map(path.stem.lower().count, odd)), path.name)))


def _can_write(path: Path, letters: Iterable[str]) -> bool:
    """Whether a font has all these letters and draws them at any size (old colour fonts have one size)."""
    from matplotlib.ft2font import FT2Font

    try:
        font = FT2Font(str(path))
    except (OSError, RuntimeError):  # a damaged file, or a format that this FreeType does not know
        return False
    return bool(font.scalable) and all(font.get_char_index(ord(letter)) for letter in letters)
