"""Class names: from typed text or class lists to a `Vocabulary`."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType

from ovs_core.class_lists import file_classes, typed_classes
from ovs_core.class_tables import ClassList, Entry, Name, VocabularyError
from ovs_core.shipped_files import shipped_folder
from ovs_core.spelling import (
    Lexicon,
    asked_form,
    comparison_keys,
    lexicon_of,
    singulars,
    with_singulars,
)
from ovs_core.templates import TEMPLATES
from ovs_core.types import Vocabulary
from ovs_core.user_folders import without_tilde

__all__ = [
    "BENCHMARKS",
    "MAX_NAMES",
    "MAX_NAME_LENGTH",
    "TEMPLATES",
    "VocabularyError",
    "background_names",
    "default_background",
    "default_stuff",
    "parse_vocabulary",
    "read_vocabulary",
    "singulars",
    "thing_labels",
]

MAX_NAME_LENGTH = 200
MAX_NAMES = 2000
MAX_FILE_BYTES = 4_000_000

_LISTS = shipped_folder("assets") / "vocabularies"
_BENCHMARK_NAMES = (
    "voc20",
    "voc21",
    "context59",
    "context60",
    "context459",
    "ade150",
    "ade847",
    "cocostuff171",
    "cocopanoptic133",
    "cocoobject80",
    "cocoobject81",
    "cityscapes19",
)
BENCHMARKS: Mapping[str, Path] = MappingProxyType({name: _LISTS / f"{name}.txt" for name in _BENCHMARK_NAMES})
"""Class lists of the benchmarks, `id:name,name` files; `@NAME` reads one."""

_NAMES_NO_THING = frozenset(  # what lists call pixels that no class is about, and numbers that no class has
    {
        *("invalid_class_id", "n/a", "void", "ignore", "ignored", "unlabeled", "unlabelled", "dontcare"),
        *("don't care", "__ignore__", "__background__", "_background_", "__void__", "__unlabeled__"),
    }
)
_NO_THING_TYPED = re.compile(r"__\w+__|_background_|n/a|invalid_class_id", re.IGNORECASE)
_NO_THING_NUMBERS = frozenset({-1, 0, 255, 65535})
_NO_THING_THERE = frozenset(
    {"background", "bg", "other", "others", "none", "nothing", "unknown", "undefined"}
)
# Zero-width space, soft hyphen, word joiner, byte order mark and the controls that turn the text around them.
_DECEPTIVE = frozenset(
    "\u00ad\u200b\u200e\u200f\u2060\ufeff\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
)
_NAMED_IN_NOTE = 5


def parse_vocabulary(
    text: str | Sequence[str | Sequence[str]], background: str | None = "default"
) -> Vocabulary:
    """Read typed classes: separated by `;`, `,` or new lines, synonyms of one class by `|`.

    Blank and repeated names (compared as they are asked, without case) are dropped with a note. What stands
    around a word is kept for show and not asked ("sky." asks for sky, `Vocabulary.queries`), which a note
    says. A name in double quotation marks is meant to the letter (`Vocabulary.literal`), separators in it
    included. Pasted lists of other programs are read as such (`ovs_core.class_lists`). Text is never taken
    for a path.

    Args:
        text: what the user typed; or a list with a name, or a list of synonyms, for each class.
        background: the hidden "everything else" names: "default" for our list without what the user typed;
            "none", nothing or None for no such names, the papers' plain argmax; else names, separated as in
            `text`.

    Raises:
        VocabularyError: if no name is left, one is too long, there are too many, or `text` is something else.
    """
    return _vocabulary(_typed(text) if isinstance(text, str) else _given(text), background, typed=True)


def read_vocabulary(
    spec: str | Sequence[str | Sequence[str]], background: str | None = "default"
) -> Vocabulary:
    """Read typed classes, or `@NAME` for a list in `BENCHMARKS`, or `@FILE`. Not for text from the web.

    A file holds one class per line, its names separated by `|` or `,`; or `id:name,name` lines, taken in
    order of their ids; or it is a list of another program (`ovs_core.class_lists`). Names such as
    "invalid_class_id" or "void" mark pixels and numbers without a class, and id 0 lists the background names
    if the first of them is "background". With `background="default"` that list is used where there is one; a
    benchmark without it is run as its papers do, with no background names, and its names are asked to the
    letter.

    Raises:
        VocabularyError: as `parse_vocabulary`, or if the file is missing, too large or not text.
    """
    if not isinstance(spec, str) or not spec.lstrip().startswith("@"):
        return parse_vocabulary(spec, background)
    name = spec.strip()[1:].strip()
    benchmark = BENCHMARKS.get(name.casefold())
    path = benchmark or without_tilde(name)
    listed = file_classes(_read_text(path), path.suffix.lower())
    return _vocabulary(listed, background, typed=False, benchmark=benchmark is not None)


def common_words() -> Vocabulary:
    """First names of COCO's things, ADE's 847 classes and COCO-Stuff, each a class asked to the letter."""
    lists = (read_vocabulary(f"@{name}", "none").names for name in ("cocoobject80", "ade847", "cocostuff171"))
    names = tuple(dict.fromkeys(name for names in lists for name in names))
    return Vocabulary(tuple((name,) for name in names), literal=frozenset(names))


def default_background() -> tuple[str, ...]:
    """The hidden "everything else" names, "background" first (assets/vocabularies/everything_else.txt)."""
    text = (_LISTS / "everything_else.txt").read_text(encoding="utf-8")
    return tuple(filter(None, map(_clean, text.splitlines())))


def default_stuff() -> tuple[str, ...]:
    """Names of materials and grounds, which are not counted (assets/vocabularies/stuff.txt)."""
    text = (_LISTS / "stuff.txt").read_text(encoding="utf-8")
    return tuple(filter(None, map(_clean, text.splitlines())))


def thing_labels(vocabulary: Vocabulary, stuff: str = "default") -> frozenset[int]:
    """Labels of the classes whose objects are told apart; of all others ("stuff") a photo has one region.

    Every class is a thing unless one of its names, or the last word of one, is in the list, in the singular
    or the plural: "blue sky" and "trees" are stuff where "sky" and "tree" are listed.

    Args:
        vocabulary: what was asked.
        stuff: "default" for our list; "none" or nothing for no such names; else names, separated as classes.
    """
    names = default_stuff() if stuff.strip() == "default" else _typed_names(stuff)
    lexicon = _lexicon()
    listed = with_singulars(name.casefold() for name in names if name.casefold() != "none")
    return frozenset(
        label
        for label, names in enumerate(vocabulary.asked, start=1)
        if listed.isdisjoint(with_singulars(key for name in names for key in comparison_keys(name, lexicon)))
    )


def _typed(text: str) -> ClassList:
    """Classes of typed text.

    Raises:
        VocabularyError: if it is longer than any list of words.
    """
    if len(text) > MAX_FILE_BYTES:
        raise VocabularyError(f"The words have {len(text):,} characters; {MAX_FILE_BYTES:,} are the most.")
    return typed_classes(text)


def _given(classes: object) -> ClassList:
    """Classes of a Python list, whose texts are names and not to be split.

    Raises:
        VocabularyError: if it is none.
    """
    hint = 'classes must be text like "dog; grass; sky | clouds" or a list of names'
    if not isinstance(classes, Sequence) or isinstance(classes, bytes | bytearray):
        raise VocabularyError(f"{hint}; got {type(classes).__name__}.")
    entries = []
    for item in classes:
        names = [item] if isinstance(item, str) else item
        if not isinstance(names, Sequence) or not all(isinstance(name, str) for name in names):
            raise VocabularyError(f"{hint}; the list holds {type(item).__name__}.")
        entries.append(Entry(tuple(map(Name, names))))
    return ClassList(tuple(entries))


def _read_text(path: Path) -> str:
    """Read a small UTF-8 file the user named, or UTF-16 as some editors and spreadsheets write it."""
    title = f'The class list "{path}"'
    try:
        if not path.is_file():
            known = ", ".join(BENCHMARKS)
            raise VocabularyError(f"{title} is not a file, nor one of the built-in lists: {known}.")
        if path.stat().st_size > MAX_FILE_BYTES:
            raise VocabularyError(f"{title} is larger than {MAX_FILE_BYTES // 1_000_000} MB.")
        content = path.read_bytes()
        return content.decode("utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise VocabularyError(f"{title} is not UTF-8 text.") from error
    except (OSError, ValueError) as error:
        if isinstance(error, VocabularyError):
            raise
        reason = getattr(error, "strerror", None) or str(error)
        raise VocabularyError(f"{title} cannot be read: {reason}.") from error


def _vocabulary(
    listed: ClassList, background: str | None, *, typed: bool, benchmark: bool = False
) -> Vocabulary:
    """Clean names, drop blank and repeated ones, add the background.

    Args:
        listed: classes as written.
        background: as for `parse_vocabulary`.
        typed: not a file; plain words such as "void" are then meant.
        benchmark: names are asked to the letter, and leave nothing in a photo without a name.
    """
    numbered = bool(listed.entries) and all(entry.number is not None for entry in listed.entries)
    entries, own, fillers = _without_fillers(listed.entries, numbered, typed)
    if numbered:
        entries = _in_order(entries)
    read = _Reading(_lexicon() if not benchmark else None, unique=not numbered)
    kept = [(entry.number, names) for entry in entries if (names := read.names(entry.names))]
    if not kept:
        raise VocabularyError("Type at least one class name.")
    classes = tuple(tuple(written for written, _ in names) for _, names in kept)
    queries = tuple(tuple(query for _, query in names) for _, names in kept)
    _check_number(sum(map(len, classes)))
    if background == "default" and (own or benchmark):
        other = _hidden([name.text for name in own], queries)
    else:
        other = background_names(queries, background)
    left_out = [f"Left out, for they name nothing to look for: {_some(fillers)}."] if fillers else []
    return Vocabulary(
        classes,
        other,
        (*listed.notes, *left_out, *read.notes()),
        frozenset(read.literal),
        () if queries == classes else queries,
        tuple(number for number, _ in kept if number is not None) if numbered else (),
    )


def _without_fillers(
    entries: Sequence[Entry], numbered: bool, typed: bool
) -> tuple[list[Entry], tuple[Name, ...], list[str]]:
    """Entries that name something, the names of a list's own background, and what was left out.

    Numbers without a class are left out without a word; they are many in some lists.
    """
    kept: list[Entry] = []
    own: tuple[Name, ...] = ()
    fillers = []
    for entry in entries:
        first = _clean(entry.names[0].text).casefold() if entry.names and not entry.names[0].literal else ""
        if numbered and entry.number == 0 and first == "background":
            own = entry.names
        elif first == "invalid_class_id":
            continue
        elif (
            _NO_THING_TYPED.fullmatch(first)
            or (first in _NAMES_NO_THING and (numbered or not typed))
            or (numbered and first in _NO_THING_THERE and entry.number in _NO_THING_NUMBERS)
        ):
            fillers.append(_clean(entry.names[0].text))
        else:
            kept.append(entry)
    return kept, own, fillers


def _in_order(entries: Sequence[Entry]) -> list[Entry]:
    """Entries by their numbers.

    Raises:
        VocabularyError: if two have the same.
    """
    numbers = sorted(entry.number or 0 for entry in entries)
    twice = [number for number, following in pairwise(numbers) if number == following]
    if twice:
        raise VocabularyError(f"The class list uses id {twice[0]} more than once.")
    return sorted(entries, key=lambda entry: entry.number or 0)


class _Reading:
    """Reads names one class after the other, and remembers what is to be said about them.

    Args:
        lexicon: None asks names to the letter.
        unique: a name may belong to one class only; numbered lists keep theirs, the first class wins a tie.
    """

    def __init__(self, lexicon: Lexicon | None, unique: bool) -> None:
        self.literal: set[str] = set()
        self._lexicon = lexicon
        self._unique = unique
        self._seen: set[str] = set()
        self._repeated: list[str] = []
        self._changed: dict[str, str] = {}
        self._blank = 0

    def names(self, group: Sequence[Name]) -> list[tuple[str, str]]:
        """The names of one class that are new, each as written and as it is asked."""
        if not self._unique:
            self._seen.clear()
        names = []
        for name in group:
            written = _clean(name.text)
            if not written:
                self._blank += 1
                continue
            to_the_letter = name.literal or self._lexicon is None
            query = written if to_the_letter else asked_form(written, self._lexicon or Lexicon())
            if query.casefold() in self._seen:
                self._repeated.append(written)
                continue
            self._seen.add(query.casefold())
            if name.literal:
                self.literal.add(written)
            if query.casefold() != written.casefold():
                self._changed[written] = query
            names.append((written, query))
        return names

    def notes(self) -> tuple[str, ...]:
        """What was dropped or is asked in other words, one sentence each."""
        notes = []
        if self._blank:
            were = "1 blank name was" if self._blank == 1 else f"{self._blank} blank names were"
            notes.append(f"{were} left out.")
        if self._repeated:
            notes.append(f"Named more than once, counted once: {_some(self._repeated)}.")
        if self._changed:
            pairs = [f"{written} as {query}" for written, query in self._changed.items()]
            asked = _some(pairs, _NAMED_IN_NOTE)
            notes.append(
                f'Asked without what stands around the words: {asked} ("quotation marks" ask to the letter).'
            )
        return tuple(notes)


def background_names(classes: Sequence[Sequence[str]], background: str | None = "default") -> tuple[str, ...]:
    """Hidden names of "everything else", without those that the classes ask for.

    Args:
        classes: names of each class, as they are asked.
        background: as for `parse_vocabulary`.

    Raises:
        VocabularyError: if a name is too long or there are too many.
    """
    wanted = (background or "none").strip() or "none"
    if wanted.casefold() == "none":
        return ()
    return _hidden(default_background() if wanted == "default" else _typed_names(wanted), classes)


def _hidden(names: Iterable[str], asked: Sequence[Sequence[str]]) -> tuple[str, ...]:
    """The names not said by an asked name or by the thing in it, also in the plural."""
    lexicon = _lexicon()
    # Whoever types "dining table" does not want "table" to win it.
    keys = {key for group in asked for name in group for key in comparison_keys(name, lexicon)}
    forms = with_singulars(keys)
    kept: dict[str, str] = {}
    for name in filter(None, map(_clean, names)):
        key = asked_form(name, lexicon).casefold()
        if key not in forms and not singulars(key) & keys:
            kept.setdefault(key, name)
    _check_number(len(kept))
    return tuple(kept.values())


def _typed_names(text: str) -> tuple[str, ...]:
    """The names in typed text, each as it is asked, whatever class they would be of."""
    names = (name for entry in _typed(text).entries for name in entry.names)
    lexicon = _lexicon()
    cleaned = ((_clean(name.text), name.literal) for name in names)
    return tuple(name if literal else asked_form(name, lexicon) for name, literal in cleaned if name)


@lru_cache(maxsize=1)
def _lexicon() -> Lexicon:
    """Words of the lists that come with the program."""
    paths = (*BENCHMARKS.values(), _LISTS / "everything_else.txt", _LISTS / "stuff.txt")
    lines = [line for path in paths for line in path.read_text(encoding="utf-8").splitlines()]
    return lexicon_of(name for line in lines for name in re.sub(r"^\d+:", "", line).split(","))


def _clean(name: str) -> str:
    """Normalise (NFC), drop controls, collapse white space; "" if nothing visible is left."""
    kept = (
        c for c in name if c.isspace() or not (c in _DECEPTIVE or unicodedata.category(c) in ("Cc", "Cs"))
    )
    text = unicodedata.normalize("NFC", " ".join("".join(kept).split()))
    if all(unicodedata.category(c) in ("Cf", "Zs") for c in text):
        return ""
    if len(text) > MAX_NAME_LENGTH:
        raise VocabularyError(
            f'A class name can have up to {MAX_NAME_LENGTH} characters; "{text[:20]}…" has {len(text)}.'
        )
    return text


def _check_number(count: int) -> None:
    """Refuse lists that no text tower should be asked to embed at once."""
    if count > MAX_NAMES:
        raise VocabularyError(f"A list can have up to {MAX_NAMES:,} names; this one has {count:,}.")


def _some(names: Sequence[str], limit: int = 10) -> str:
    """The first few names for a note."""
    text = ", ".join(names[:limit])
    return text if len(names) <= limit else f"{text} and {len(names) - limit} more"
