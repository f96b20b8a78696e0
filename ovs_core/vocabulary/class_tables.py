"""Class lists in the files of other programs: CSV with a header, JSON, YAML, Python lists, pbtxt."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml  # type: ignore[import-untyped]

_TREE_ENDINGS = frozenset({".json", ".yaml", ".yml", ".pbtxt"})
_TABLE_ENDINGS = frozenset({".csv", ".tsv"})
_BRACKETS = ("[]", "{}", "()")
_MOST_NAMES = 50_000
_DEEPEST = 8  # levels of a tree that are looked at

# Keys under which programs keep their classes: Ultralytics, COCO, detectron2, Hugging Face, Supervisely, ...
_LIST_KEYS = (
    *("names", "classes", "class_names", "categories", "labels", "label_names", "id2label", "label2id"),
    *("thing_classes", "stuff_classes", "readable_label", "features"),
)
_NAME_KEYS = ("name", "class", "class_name", "label", "title", "readable", "display_name", "category")
_NUMBER_KEYS = ("id", "class_id", "category_id", "index", "idx", "value", "label_id")
_SYNONYM_KEYS = ("synonyms", "aliases")
_LIST_KEY = re.compile(rf"""^["']?(?:{"|".join(_LIST_KEYS)})["']?[ \t]*:""", re.MULTILINE)
_ASSIGNED = re.compile(r"^\s*[\w.]+\s*[=:]\s*(?=[\[{(])")
_PBTXT_ITEM = re.compile(r"\bitem\s*\{([^{}]*)\}")
_PBTXT_FIELD = re.compile(r"""\b(id|name|display_name)\s*:\s*(?:"([^"]*)"|'([^']*)'|(-?\d+))""")

_NAME_HEADS = (
    *(
        "displayname",
        "classname",
        "categoryname",
        "labelname",
        "objectname",
        "names",
        "name",
        "classes",
        "class",
    ),
    *("labels", "label", "category", "categories", "title", "object", "objects", "word", "english"),
)
_SINGLE_HEADS = frozenset(
    {"name", "names", "classname", "classnames", "classes", "class", "category", "categories"}
)
_NUMBER_HEADS = (
    *("id", "classid", "categoryid", "labelid", "catid", "idx", "index", "number", "no", "value", "class"),
    *("label", "trainid"),
)
_OTHER_HEADS = frozenset(
    {
        *(
            "r",
            "g",
            "b",
            "red",
            "green",
            "blue",
            "color",
            "colour",
            "hex",
            "rgb",
            "supercategory",
            "description",
        ),
        *("train", "val", "test", "ratio", "stuff", "count", "frequency", "synonyms", "isthing", "trainid"),
    }
)
_HEADS = frozenset((*_NAME_HEADS, *_NUMBER_HEADS, *_OTHER_HEADS))
SEPARATORS = ";,\n\uff1b\uff0c\u3001\u061b\u060c\u3002\uff61\u037e"
"""What separates classes: with the signs of Chinese, Japanese, Arabic and Greek keyboards."""
OR = "|\uff5c\u00a6"
"""What separates the names of one class."""

_QUOTES = '"\u201c\u201d\u201e\u201f\uff02'  # straight, and those that keyboards of telephones make
_PAIRED = {
    **dict.fromkeys(_QUOTES, _QUOTES),
    "\u00ab": "\u00bb",
    "\u300c": "\u300d",
    "\u300e": "\u300f",
}.items()


class VocabularyError(ValueError):
    """Class names that cannot be used; the message is one sentence for the user."""


@dataclass(frozen=True)
class Name:
    """A name as written; `literal` if it stood in double quotation marks, which are taken off."""

    text: str
    literal: bool = False


@dataclass(frozen=True)
class Entry:
    """One class of a list: its names, and its number if the list gives one."""

    names: tuple[Name, ...]
    number: int | None = None


@dataclass(frozen=True)
class ClassList:
    """A class list as written, and notes on what was left out of it."""

    entries: tuple[Entry, ...]
    notes: tuple[str, ...] = ()


def split_names(line: str, between: str, within: str, more_quotes: str = "") -> list[tuple[Name, ...]]:
    """Split a line into classes and their names; separators in double quotation marks separate nothing.

    Args:
        line: to split.
        between: characters that separate classes.
        within: characters that separate the names of one class.
        more_quotes: characters that are quotation marks, too.
    """
    closing_of = {**dict(_PAIRED), **{mark: mark for mark in more_quotes}}
    hopeless: set[str] = set()  # quotation marks that nothing on the rest of the line closes
    classes: list[list[Name]] = [[]]
    place = 0
    while True:
        while place < len(line) and line[place].isspace():
            place += 1
        opening = line[place : place + 1]
        end = -1
        if opening in closing_of and opening not in hopeless:
            end = _closing(line, place + 1, closing_of[opening], between + within)
            if end < 0:
                hopeless.add(opening)
        if end >= 0:
            name = Name(line[place + 1 : end].replace('""', '"').strip(), literal=True)
            place = end + 1
        else:
            start = place
            while place < len(line) and line[place] not in between and line[place] not in within:
                place += 1
            name = Name(line[start:place].strip())
        while place < len(line) and line[place].isspace() and line[place] not in between:
            place += 1
        classes[-1].append(name)
        if place >= len(line):
            return [tuple(names) for names in classes]
        if line[place] in between:
            classes.append([])
        place += 1


def _closing(line: str, start: int, marks: str, separators: str) -> int:
    """Place of the quotation mark that ends a name: one that a separator or the end follows; -1 if none."""
    place = start
    while place < len(line):
        if place > start and line[place : place + 2] == '""':  # a quotation mark within, as CSV has it
            place += 2
            continue
        if line[place] in marks:
            behind = line[place + 1 : place + 64].lstrip()[:1]
            if not behind or behind in separators:
                return place
        place += 1
    return -1


def tree(text: str, ending: str = "") -> ClassList | None:
    """Read JSON, YAML, a Python list or dict, or a pbtxt label map; None if the text is none of these.

    Args:
        text: anything.
        ending: of the file's name; one that promises such a file is held to it.

    Raises:
        VocabularyError: if it was promised and there are no class names in it.
    """
    bare = text.strip()
    listed = _ASSIGNED.sub("", bare, count=1).rstrip(";")
    promised = ending in _TREE_ENDINGS
    entries: tuple[Entry, ...] = ()
    if items := _PBTXT_ITEM.findall(bare):
        entries = tuple(entry for entry in map(_pbtxt_entry, items) if entry.names)
    elif listed[:1] + listed[-1:] in _BRACKETS:
        entries = _bracketed(listed)
    elif promised or (_LIST_KEY.search(bare) and "\n" in bare):
        entries = _entries(_parsed(bare), _DEEPEST)
    if not entries and promised:
        raise VocabularyError(
            f"There are no class names in this {ending[1:].upper()} file; they stand in a list, "
            f"under {', '.join(_LIST_KEYS[:4])} or the like."
        )
    return ClassList(entries) if entries else None


def _bracketed(text: str) -> tuple[Entry, ...]:
    """Classes of a list or dict as JSON, Python or a person writes it."""
    inner = text[1:-1]
    flat = not re.search(r"[\[\](){}]", inner) and not (text[0] == "{" and ":" in inner)
    if not flat and text[0] == "(" and not re.search("[\"']", inner):
        return ()
    if not flat:
        return _entries(_parsed(f"[{inner}]" if text[0] == "(" else text), _DEEPEST)
    try:
        return _entries(json.loads(text), _DEEPEST)
    except ValueError:
        apart = split_names(inner.rstrip(f"{SEPARATORS} \n"), SEPARATORS, OR, more_quotes="'")
        # Here quotation marks are how a list is written, not a wish.
        return (
            tuple(Entry(tuple(Name(name.text) for name in names)) for names in apart) if inner.strip() else ()
        )


def _parsed(text: str) -> Any:
    """What JSON or YAML holds; None if it is neither."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass
    try:
        # Leaves stay text, so that a class may be called "no" or "on"; no object is ever made.
        return yaml.load(text, Loader=getattr(yaml, "CBaseLoader", yaml.BaseLoader))
    except (yaml.YAMLError, ValueError, RecursionError):
        return None


def _entries(node: Any, deepest: int) -> tuple[Entry, ...]:
    """Classes of a parsed tree, from wherever its program keeps them."""
    if deepest == 0:
        return ()
    if isinstance(node, list):
        return _limited(_listed(item) for item in node)
    if not isinstance(node, Mapping) or not node:
        return ()
    if any(key in node for key in _LIST_KEYS):
        return tuple(entry for key in _LIST_KEYS if key in node for entry in _entries(node[key], deepest - 1))
    numbers = [_integer(key) for key in node]
    if None not in numbers:
        pairs = zip(numbers, map(_listed, node.values()), strict=True)
        return _limited(entry and Entry(entry.names, number) for number, entry in pairs)
    below = [entries for value in node.values() if (entries := _entries_below(value, deepest - 1))]
    if below:
        return below[0]
    numbers = [_integer(value) for value in node.values()]
    counts = {number for number in numbers if number is not None}
    counted = len(counts) == len(numbers) and min(counts) in (0, 1)
    listed = all(isinstance(value, list) or value in (None, "") for value in node.values())
    return _limited(_keyed(str(key), value) for key, value in node.items()) if counted or listed else ()


def _entries_below(node: Any, deepest: int) -> tuple[Entry, ...]:
    """Classes of a part of a tree, if it is a part with a name of its own."""
    return _entries(node, deepest) if isinstance(node, Mapping) else ()


def _limited(entries: Iterable[Entry | None]) -> tuple[Entry, ...]:
    """Those that are there; a small file may repeat its parts until no memory holds them."""
    kept = []
    names = 0
    for entry in entries:
        if entry is not None:
            kept.append(entry)
            names += len(entry.names)
        if names > _MOST_NAMES:
            raise VocabularyError(f"The class list holds more than {_MOST_NAMES:,} names.")
    return tuple(kept)


def _listed(item: Any) -> Entry | None:
    """One class of a list: a name, a list of its names, or a record; None if it has no name."""
    if isinstance(item, str):
        return Entry(tuple(Name(part.strip()) for part in item.split("|")))
    if isinstance(item, list):
        names = tuple(Name(name) for name in item if isinstance(name, str))
        return Entry(names) if names else None
    if not isinstance(item, Mapping):
        return None
    name = next((item[key] for key in _NAME_KEYS if isinstance(item.get(key), str)), None)
    if name is None:
        return None
    more: list[Any] = next((item[key] for key in _SYNONYM_KEYS if isinstance(item.get(key), list)), [])
    number = next((number for key in _NUMBER_KEYS if (number := _integer(item.get(key))) is not None), None)
    others = (Name(other) for other in more if isinstance(other, str) and other != name)
    return Entry((Name(name), *others), number)


def _keyed(key: str, value: Any) -> Entry:
    """One class whose name is a key: its value is a number, more names, or nothing."""
    more = [name for name in value if isinstance(name, str)] if isinstance(value, list) else []
    return Entry((Name(key), *map(Name, more)), _integer(value))


def _integer(value: Any) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int | str):
        return None
    return int(value) if re.fullmatch(r"\s*-?\d{1,9}\s*", str(value)) else None


def _pbtxt_entry(item: str) -> Entry:
    """One item of a TensorFlow label map."""
    fields = {match[1]: match[2] or match[3] or match[4] or "" for match in _PBTXT_FIELD.finditer(item)}
    name = fields.get("display_name") or fields.get("name", "")
    return Entry((Name(name),) if name else (), _integer(fields.get("id")))


def table(text: str, ending: str = "", typed: bool = False) -> ClassList | None:
    """Read a table whose first line says which column holds the names; None if there is no such line.

    Args:
        text: anything.
        ending: of the file's name.
        typed: pasted text, where every cell of that line must be a word that tables have there.
    """
    lines = [line for line in text.splitlines() if line.strip()]
    if len(lines) < 2:
        return None
    delimiter = max(",;\t|", key=lines[0].count)
    try:
        first, *rows = [row for row in csv.reader(lines, delimiter=delimiter) if row]
    except csv.Error:
        return None
    heads = [re.sub(r"[\s_.-]", "", cell).casefold() for cell in first]
    if len(heads) == 1:
        sure = _SINGLE_HEADS | (frozenset(_NAME_HEADS) if ending in _TABLE_ENDINGS else frozenset())
        if typed or heads[0] not in sure:
            return None
    elif not _HEADS.issuperset(heads) and (typed or ending not in _TABLE_ENDINGS):
        return None
    names = _column(_NAME_HEADS, heads, lambda cells: any(_integer(cell) is None for cell in cells), rows)
    if names is None:
        return None
    numbers = _column(_NUMBER_HEADS, heads, _numbers_once, rows)
    pairs = zip(names, numbers or [""] * len(rows), strict=True)
    return ClassList(
        tuple(
            Entry(tuple(Name(part.strip()) for part in re.split("[|;]", name)), _integer(number))
            for name, number in pairs
        )
    )


def _column(
    wanted: Iterable[str],
    heads: Sequence[str],
    fits: Callable[[Sequence[str]], bool],
    rows: Sequence[Sequence[str]],
) -> list[str] | None:
    """Cells of the first column with a wanted head that fits; None if there is no such column."""
    for head in wanted:
        if head in heads:
            place = heads.index(head)
            cells = [row[place] if len(row) > place else "" for row in rows]
            if fits(cells):
                return cells
    return None


def _numbers_once(cells: Sequence[str]) -> bool:
    """Whether the cells are whole numbers, each there once."""
    numbers = {_integer(cell) for cell in cells}
    return None not in numbers and len(numbers) == len(cells)
