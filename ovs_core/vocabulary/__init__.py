"""Class names: from typed text or class lists to a `Vocabulary`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType

from ovs_core.folders import shipped_folder, without_tilde
from ovs_core.types import Vocabulary
from ovs_core.vocabulary.class_lists import file_classes, typed_classes
from ovs_core.vocabulary.class_tables import ClassList, Entry, Name, VocabularyError
from ovs_core.vocabulary.cleaning import MAX_NAME_LENGTH, MAX_NAMES, Reading, check_number, clean, some
from ovs_core.vocabulary.spelling import (
    Lexicon,
    asked_form,
    comparison_keys,
    lexicon_of,
    singulars,
    with_singulars,
)
from ovs_core.vocabulary.templates import TEMPLATES

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

MAX_FILE_BYTES = 4_000_000

_LISTS = shipped_folder("assets") / "vocabularies"
_NOT_SAID = frozenset({"plant-other", "solid", "structural"})  # classes of COCO-Stuff that nobody says
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


def parse_vocabulary(
    text: str | Sequence[str | Sequence[str]], background: str | None = "default"
) -> Vocabulary:
    """Read typed classes: separated by `;`, `,` or new lines, synonyms of one class by `|`.

    Blank and repeated names (compared as they are asked, without case) are dropped with a note. What stands
    around a word is kept for show and not asked ("sky." asks for sky, `Vocabulary.queries`), which a note
    says. A name in double quotation marks is meant to the letter (`Vocabulary.literal`), separators in it
    included. Pasted lists of other programs are read as such (`ovs_core.vocabulary.class_lists`). Text is
    never taken for a path.

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
    order of their ids; or it is a list of another program (`ovs_core.vocabulary.class_lists`). Names such as
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
    """What COCO's things, ADE's 847 classes and COCO-Stuff are called, each a class asked to the letter."""
    lists = (
        read_vocabulary(f"@{name}", "none").classes for name in ("cocoobject80", "ade847", "cocostuff171")
    )
    called = (_everyday_name(names) for classes in lists for names in classes)
    names = tuple(dict.fromkeys(name for name in called if name not in _NOT_SAID))
    return Vocabulary(tuple((name,) for name in names), literal=frozenset(names))


def _everyday_name(names: Sequence[str]) -> str:
    """What people call a class of a benchmark: "brick wall" for "wall-brick", "sky" for "sky-other"."""
    first, *more = names
    parts = set(first.split("-"))
    return next((name for name in more if "-" in first and parts.issuperset(name.split())), first)


def default_background() -> tuple[str, ...]:
    """The hidden "everything else" names, "background" first (assets/vocabularies/everything_else.txt)."""
    text = (_LISTS / "everything_else.txt").read_text(encoding="utf-8")
    return tuple(filter(None, map(clean, text.splitlines())))


def default_stuff() -> tuple[str, ...]:
    """Names of materials and grounds, which are not counted (assets/vocabularies/stuff.txt)."""
    text = (_LISTS / "stuff.txt").read_text(encoding="utf-8")
    return tuple(filter(None, map(clean, text.splitlines())))


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
    read = Reading(_lexicon() if not benchmark else None, unique=not numbered)
    kept = [(entry.number, names) for entry in entries if (names := read.names(entry.names))]
    if not kept:
        raise VocabularyError("Type at least one class name.")
    classes = tuple(tuple(written for written, _ in names) for _, names in kept)
    queries = tuple(tuple(query for _, query in names) for _, names in kept)
    check_number(sum(map(len, classes)))
    if background == "default" and (own or benchmark):
        other = _hidden([name.text for name in own], queries)
    else:
        other = background_names(queries, background)
    left_out = [f"Left out, for they name nothing to look for: {some(fillers)}."] if fillers else []
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
        first = clean(entry.names[0].text).casefold() if entry.names and not entry.names[0].literal else ""
        if numbered and entry.number == 0 and first == "background":
            own = entry.names
        elif first == "invalid_class_id":
            continue
        elif (
            _NO_THING_TYPED.fullmatch(first)
            or (first in _NAMES_NO_THING and (numbered or not typed))
            or (numbered and first in _NO_THING_THERE and entry.number in _NO_THING_NUMBERS)
        ):
            fillers.append(clean(entry.names[0].text))
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
    if wanted != "default":
        return _hidden(_typed_names(wanted), classes)
    kin = _kin(classes)
    return _hidden([name for name in default_background() if name not in kin], classes)


def _kin(classes: Sequence[Sequence[str]]) -> frozenset[str]:
    """Names of our hidden list that would win places of an asked word: water, for who asks for the sea."""
    lexicon = _lexicon()
    forms = with_singulars(
        key for group in classes for name in group for key in comparison_keys(name, lexicon)
    )
    kin: set[str] = set()
    for line in (_LISTS / "everything_else_kin.txt").read_text(encoding="utf-8").splitlines():
        typed, _, hidden = line.partition(":")
        if not line.startswith("#") and not forms.isdisjoint(map(clean, typed.split(","))):
            kin.update(map(clean, hidden.split(",")))
    return frozenset(kin)


def _hidden(names: Iterable[str], asked: Sequence[Sequence[str]]) -> tuple[str, ...]:
    """The names not said by an asked name or by the thing in it, also in the plural."""
    lexicon = _lexicon()
    # Whoever types "dining table" does not want "table" to win it.
    keys = {key for group in asked for name in group for key in comparison_keys(name, lexicon)}
    forms = with_singulars(keys)
    kept: dict[str, str] = {}
    for name in filter(None, map(clean, names)):
        key = asked_form(name, lexicon).casefold()
        if key not in forms and not singulars(key) & keys:
            kept.setdefault(key, name)
    check_number(len(kept))
    return tuple(kept.values())


def _typed_names(text: str) -> tuple[str, ...]:
    """The names in typed text, each as it is asked, whatever class they would be of."""
    names = (name for entry in _typed(text).entries for name in entry.names)
    lexicon = _lexicon()
    cleaned = ((clean(name.text), name.literal) for name in names)
    return tuple(name if literal else asked_form(name, lexicon) for name, literal in cleaned if name)


@lru_cache(maxsize=1)
def _lexicon() -> Lexicon:
    """Words of the lists that come with the program."""
    paths = (*BENCHMARKS.values(), _LISTS / "everything_else.txt", _LISTS / "stuff.txt")
    lines = [line for path in paths for line in path.read_text(encoding="utf-8").splitlines()]
    return lexicon_of(name for line in lines for name in re.sub(r"^\d+:", "", line).split(","))
