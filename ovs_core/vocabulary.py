"""Class names: from typed text or class lists to a `Vocabulary`, and the prompt templates for them."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from open_clip import OPENAI_IMAGENET_TEMPLATES, SIMPLE_IMAGENET_TEMPLATES

from ovs_core.shipped_files import shipped_folder
from ovs_core.types import Vocabulary

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

_UNUSED_ID = "invalid_class_id"
_NUMBERED = re.compile(r"\s*([0-9]{1,9})\s*:(.*)")
# Zero-width space, byte order mark and the controls that reverse the text around them.
_DECEPTIVE = frozenset("\u200b\ufeff\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_QUOTES = '"\u201c\u201d\u201e'  # straight, and those that keyboards of telephones make


class VocabularyError(ValueError):
    """Class names that cannot be used; the message is one sentence for the user."""


def _texts(templates: Iterable[Callable[[str], str]]) -> tuple[str, ...]:
    """Turn open_clip's template functions into texts with one `{}`."""
    return tuple(template("{}") for template in templates)


_IMAGENET_80 = _texts(OPENAI_IMAGENET_TEMPLATES)
_SCENES_5 = (  # MaskCLIP: what a segmentation prompt adds to the 80 of a classifier
    "there is a {} in the scene.",
    "there is the {} in the scene.",
    "this is a {} in the scene.",
    "this is the {} in the scene.",
    "this is one {} in the scene.",
)
_VILD_14 = (  # ViLD's prompts as FC-CLIP and MAFT+ write them; full stops are missing there too
    "a photo of a {}.",
    "This is a photo of a {}",
    "There is a {} in the scene",
    "There is the {} in the scene",
    "a photo of a {} in the scene",
    "a photo of a small {}.",
    "a photo of a medium {}.",
    "a photo of a large {}.",
    "This is a photo of a small {}.",
    "This is a photo of a medium {}.",
    "This is a photo of a large {}.",
    "There is a small {} in the scene.",
    "There is a medium {} in the scene.",
    "There is a large {} in the scene.",
)
TEMPLATES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "imagenet80": _IMAGENET_80,
        "maskclip85": _IMAGENET_80 + _SCENES_5,
        "vild14": _VILD_14,
        "short7": _texts(SIMPLE_IMAGENET_TEMPLATES),
        "single1": ("a photo of a {}.",),
    }
)
"""Prompt template sets; each text holds one `{}` for the class name."""


def parse_vocabulary(text: str, background: str | None = "default") -> Vocabulary:
    """Read typed classes: separated by `;`, `,` or new lines, synonyms of one class by `|`.

    Blank and repeated names (compared without case) are dropped with a note. A name in double quotation marks
    is meant to the letter (`Vocabulary.literal`). Text is never taken for a path.

    Args:
        text: what the user typed.
        background: the hidden "everything else" names: "default" for our list without what the user typed;
            "none", nothing or None for no such names, the papers' plain argmax; else names, separated as in
            `text`.

    Raises:
        VocabularyError: if no name is left, one is too long or there are too many.
    """
    groups: list[Sequence[str]] = []
    for line in text.splitlines():
        # A separator at the end of a line is a habit, not a forgotten name.
        line = re.sub(r"[;,]\s*$", "", line)
        if line.strip():
            groups += [item.split("|") for item in re.split("[;,]", line)]
    return _vocabulary(groups, background)


def read_vocabulary(spec: str, background: str | None = "default") -> Vocabulary:
    """Read typed classes, or `@NAME` for a list in `BENCHMARKS`, or `@FILE`. Not for text from the web.

    A file holds one class per line, its names separated by `|` or `,`; or `id:name,name` lines, taken in
    order of their ids. There, "invalid_class_id" marks an unused number, and id 0 lists the background names
    if the first of them is "background". With `background="default"` that list is used where there is one; a
    benchmark without it is run as its papers do, with no background names.

    Raises:
        VocabularyError: as `parse_vocabulary`, or if the file is missing, too large or not text.
    """
    if not spec.lstrip().startswith("@"):
        return parse_vocabulary(spec, background)
    name = spec.strip()[1:].strip()
    benchmark = BENCHMARKS.get(name.casefold())
    lines = [line for line in _read_text(benchmark or Path(name).expanduser()).splitlines() if line.strip()]
    numbered = [_NUMBERED.fullmatch(line) for line in lines]
    if not lines or not all(numbered):
        return _vocabulary([re.split("[|,;]", line) for line in lines], background)
    entries = [(int(match[1]), match[2].split(",")) for match in numbered if match]
    return _numbered_vocabulary(entries, background, whole=benchmark is not None)


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
    names = default_stuff() if stuff.strip() == "default" else map(_clean, re.split(r"[;,|\n\r]", stuff))
    listed = _forms(name.casefold() for name in names if name.casefold() not in ("", "none"))
    return frozenset(
        label
        for label, names in enumerate(vocabulary.classes, start=1)
        if listed.isdisjoint(_forms(form for name in names for form in _whole_and_last(name.casefold())))
    )


def _whole_and_last(name: str) -> tuple[str, str]:
    """A name and its last word."""
    return name, name.split()[-1]


def _forms(names: Iterable[str]) -> frozenset[str]:
    """The names, and what they may be plurals of."""
    return frozenset(form for name in names for form in (name, *singulars(name)))


def _read_text(path: Path) -> str:
    """Read a small UTF-8 file the user named."""
    title = f'The class list "{path}"'
    try:
        if not path.is_file():
            known = ", ".join(BENCHMARKS)
            raise VocabularyError(f"{title} is not a file, nor one of the built-in lists: {known}.")
        if path.stat().st_size > MAX_FILE_BYTES:
            raise VocabularyError(f"{title} is larger than {MAX_FILE_BYTES // 1_000_000} MB.")
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise VocabularyError(f"{title} is not UTF-8 text.") from error
    except OSError as error:
        raise VocabularyError(f"{title} cannot be read: {error.strerror or error}.") from error


def _numbered_vocabulary(
    entries: list[tuple[int, list[str]]], background: str | None, whole: bool
) -> Vocabulary:
    """Build a vocabulary from (id, names) lines; a `whole` list leaves nothing in a photo without a name."""
    ids = [number for number, _ in entries]
    twice = sorted({number for number in ids if ids.count(number) > 1})
    if twice:
        raise VocabularyError(f"The class list uses id {twice[0]} more than once.")
    groups: list[Sequence[str]] = []
    own: list[str] | None = None
    for number, names in sorted(entries):
        first = _clean(names[0]).casefold()
        if number == 0 and first == "background":
            own = names
        elif first != _UNUSED_ID:
            groups.append(names)
    if background == "default" and (own or whole):
        background = ";".join(own) if own else "none"
    return _vocabulary(groups, background, unique=False)


def _vocabulary(groups: Iterable[Sequence[str]], background: str | None, unique: bool = True) -> Vocabulary:
    """Clean names, drop blank and repeated ones, add the background.

    Args:
        groups: names of each class.
        background: as for `parse_vocabulary`.
        unique: a name may belong to one class only; numbered lists keep theirs, the first class wins a tie.
    """
    classes: list[tuple[str, ...]] = []
    literal: set[str] = set()
    seen: set[str] = set()
    repeated: list[str] = []
    blank = 0
    for group in groups:
        names = []
        if not unique:
            seen.clear()
        for written in map(_clean, group):
            name = _unquoted(written)
            if name and name != written:
                literal.add(name)
            key = name.casefold()
            if not name:
                blank += 1
            elif key in seen:
                repeated.append(name)
            else:
                seen.add(key)
                names.append(name)
        if names:
            classes.append(tuple(names))
    if not classes:
        raise VocabularyError("Type at least one class name.")
    _check_number(sum(map(len, classes)))
    notes = []
    if blank:
        notes.append("1 blank name was left out." if blank == 1 else f"{blank} blank names were left out.")
    if repeated:
        notes.append(f"Named more than once, counted once: {_some(repeated)}.")
    other = _background(background, [name for names in classes for name in names])
    return Vocabulary(tuple(classes), other, tuple(notes), frozenset(literal))


def _background(background: str | None, typed: Sequence[str]) -> tuple[str, ...]:
    """Names of "everything else" not said by a typed name or its last word, also in the plural."""
    wanted = (background or "none").strip() or "none"
    if wanted.casefold() == "none":
        return ()
    names = default_background() if wanted == "default" else map(_clean, re.split(r"[;,|\n\r]", wanted))
    # Whoever types "dining table" does not want "table" to win it.
    keys = {key for name in typed for key in _whole_and_last(name.casefold())}
    forms = _forms(keys)
    kept: dict[str, str] = {}
    for name in filter(None, names):
        key = name.casefold()
        if key not in forms and not singulars(key) & keys:
            kept.setdefault(key, name)
    _check_number(len(kept))
    return tuple(kept.values())


def singulars(name: str) -> set[str]:
    """What an English name may be the plural of; a few wrong guesses do no harm."""
    forms = set()
    if name.endswith("s"):
        forms.add(name[:-1])
    if name.endswith("es"):
        forms.add(name[:-2])
    if name.endswith("ies"):
        forms.add(name[:-3] + "y")
    return forms


def _unquoted(name: str) -> str:
    """A name without the double quotation marks around it."""
    quoted = len(name) > 1 and name[0] in _QUOTES and name[-1] in _QUOTES
    return name[1:-1].strip() if quoted else name


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
