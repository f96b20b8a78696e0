"""Lists beside labelled photos: names of classes by mask value, and keys of the photos of a split."""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass
from pathlib import Path

from ovs_core.labelled.mask_values import LARGEST_VALUE, MaskValues, mask_values

_LINE = re.compile(r"\s*([0-9]{1,5})(?:\s*(:)|\s)\s*(.*?)\s*")  # value, sign, names
_NO_CLASS = ("void", "ignore", "invalid_class_id", "unlabeled", "unlabelled")


@dataclass(frozen=True, eq=False)
class ClassList:
    """What the values of masks are called.

    Attributes:
        classes: names of class k (from 1) at k - 1, the first one is shown.
        values: mask value -> class.
        background: hidden names for "none of them", as they may be typed, where that is a class that counts
            (0); "" where such pixels are not known.
    """

    classes: tuple[tuple[str, ...], ...]
    values: MaskValues
    background: str

    @property
    def names(self) -> tuple[str, ...]:
        """Name shown for each class, (K,)."""
        return tuple(names[0] for names in self.classes)


def read_classes(path: Path) -> ClassList:
    """Read the names of classes; they stand in the order of their values.

    A line is "VALUE NAME", synonyms separated by `|`, or "VALUE:NAME,NAME"; what follows a tab after the
    names is left out, and so are lines that begin with `#`. "background" is class 0 and may name what stands
    for it; "void", names that stand in parentheses, like "(ignore)", and values without a line are not known.

    Raises:
        ValueError: if the file is missing, a line cannot be read or a value stands twice.
    """
    classes: list[tuple[str, ...]] = []
    values: list[tuple[int, int]] = []
    background = ""
    for value, names in sorted(_entries(path).items()):
        first = names[0].casefold()
        if first.split("(")[0].strip() in ("", *_NO_CLASS):
            continue
        if first == "background":
            background = ";".join(names) if len(names) > 1 else "default"
            values.append((value, 0))
        else:
            classes.append(names)
            values.append((value, len(classes)))
    if not classes:
        raise ValueError(f'{path} must name at least one class, in a line like "1 person".')
    return ClassList(tuple(classes), mask_values(values), background)


def read_keys(path: Path) -> tuple[str, ...]:
    """First word of every line of a split's list; none if there is no such list.

    Names in another encoding than UTF-8 keep their bytes, as the file system's names do.
    """
    if not path.is_file():
        return ()
    lines = _decoded(path.read_bytes(), "surrogateescape").splitlines()
    return tuple(line.split()[0] for line in lines if line.strip())


def read_lines(path: Path) -> list[str]:
    """Lines of a text file a person named, with or without a byte order mark.

    Raises:
        ValueError: if it is missing or no text.
    """
    try:
        return _decoded(path.read_bytes()).splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}.") from error


def _decoded(content: bytes, errors: str = "strict") -> str:
    """Text of UTF-8 or, where its mark says so, of UTF-16 (Windows' PowerShell and Notepad write both)."""
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return content.decode("utf-16")
    return content.decode("utf-8", errors).removeprefix("\ufeff")


def _entries(path: Path) -> dict[int, tuple[str, ...]]:
    """Mask value -> names, in file order."""
    entries: dict[int, tuple[str, ...]] = {}
    for line in read_lines(path):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        match = _LINE.fullmatch(line)
        names = _names(match[3].split("\t")[0], ",|" if match[2] else "|") if match else ()
        if match is None or not names or int(match[1]) > LARGEST_VALUE:
            raise ValueError(
                f'{path} must hold lines like "1 person", values 0 to {LARGEST_VALUE}; got {line!r}.'
            )
        if int(match[1]) in entries:
            raise ValueError(f"{path} names the value {int(match[1])} twice.")
        entries[int(match[1])] = names
    return entries


def _names(text: str, signs: str) -> tuple[str, ...]:
    """Names separated by any of the signs, each once."""
    return tuple(dict.fromkeys(filter(None, (name.strip() for name in re.split(f"[{signs}]", text)))))
