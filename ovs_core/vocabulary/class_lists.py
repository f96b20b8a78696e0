"""Class lists as people have them, typed, pasted or in files, into names with their numbers.

Typed text and lines of files are read here, tables and trees (CSV, JSON, YAML, pbtxt) in
`ovs_core.vocabulary.class_tables`. Nothing here knows what a name means: `ovs_core.vocabulary` cleans and
compares.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from ovs_core.vocabulary.class_tables import (
    OR,
    SEPARATORS,
    ClassList,
    Entry,
    Name,
    VocabularyError,
    split_names,
    table,
    tree,
)

_SENTENCE_END = re.compile(r"\s*\.(?:\s+|$)")
_ABBREVIATIONS = frozenset(
    (
        "st",
        "mt",
        "ft",
        "dr",
        "mr",
        "mrs",
        "ms",
        "jr",
        "sr",
        "no",
        "vs",
        "approx",
        "co",
        "inc",
        "ltd",
        "vol",
        "fig",
    )
)
_BULLET_BETWEEN = re.compile(r"\s+[\u2022\u00b7\u2219\u25cf\u25aa\u2023]\s+")
_MARK = re.compile(
    r"^\s*(?:(?:[-*+\u2022\u00b7\u25cf\u25aa\u25e6\u2023\u2013\u2014]|\d{1,4}[.)]|\[[ xX]?\])\s+)+"
)
_HEADING = re.compile(r"^\s*(?:classes|class names|names|labels|categories|objects)\s*:\s*", re.IGNORECASE)
_HASHTAGS = re.compile(r"\s?#[^\s#]+(?: #[^\s#]+)+\s?")
_COMMENT = re.compile(r"\s*(?:#|//)")
_TYPED_COMMENT = re.compile(r"\s*(?:#|//)\s")
_COMMENT_BEHIND = re.compile(r"\s+(?:#|//)\s.*$")

_COLOR = r"\d{1,3}\s*[\s,]\s*\d{1,3}\s*[\s,]\s*\d{1,3}"
_COLOR_CODE = re.compile(r"#[0-9a-fA-F]{6}(?:[0-9a-fA-F]{2})?")
_COLOR_FIRST = re.compile(rf"\s*{_COLOR}[\s,:;]+(?P<names>[^\d\s].*)")  # CamVid's label_colors.txt
_COLOR_LAST = re.compile(rf"\s*(?P<names>[^\d\s].*?)\s*[\s,:;]\s*{_COLOR}\s*(?::.*)?")  # CVAT's labelmap.txt
_COLOR_BETWEEN = re.compile(rf"\s*(?P<number>-?\d{{1,9}})[\s,:;]+{_COLOR}[\s,:;]+(?P<names>[^\d\s].*)")
_NUMBER_FIRST = re.compile(r"""\s*["']?(?P<number>-?\d{1,9})["']?\s*[:=,;\t]\s*(?P<names>.*)""")
_NUMBER_AND_BLANK = re.compile(r"\s*(?P<number>-?\d{1,9})\s+(?P<names>\S.*)")
_NUMBER_LAST = re.compile(r"\s*(?P<names>[^\W\d].*?)\s*[:=,;\t]\s*(?P<number>-?\d{1,9})\s*")
_LINE_FORMS = (_COLOR_BETWEEN, _COLOR_FIRST, _COLOR_LAST, _NUMBER_FIRST, _NUMBER_LAST)
_BLANK_AND_NUMBER = re.compile(r"\s*(?P<names>[^\W\d].*?)\s+(?P<number>\d{1,9})\s*")
_TYPED_NUMBER = re.compile(r"(?P<number>-?\d{1,9})\s*[:=]\s*(?P<names>[^\W\d].*)")
_TYPED_NUMBER_LAST = re.compile(r"(?P<names>[^\W\d].*[^\W\d])\s*[:=]\s*(?P<number>-?\d{1,9})")
_NUMBERED_ON_ONE_LINE = re.compile(r"\s+(?=\d{1,9}\s*:\s*[^\W\d])")


def typed_classes(text: str) -> ClassList:
    """Read what was typed or pasted into the field for words.

    Classes are separated by `;`, `,` and new lines, names of one class by `|`, in any script's form; a line
    may also be sentences of one word ("cat. blanket."). Text in double quotation marks is one name to the
    letter. Pasted JSON, YAML, Python lists, tables with a header and numbered lists are read as such.

    Args:
        text: anything.
    """
    if classes := tree(text) or table(text, typed=True):
        return classes
    filled = [line for line in (_HEADING.sub("", line, count=1) for line in _tidy(text)) if line.strip()]
    if len(filled) > 1:
        comments = [line for line in filled if _TYPED_COMMENT.match(line)]
        filled = [line for line in filled if not _TYPED_COMMENT.match(line)]
        if official := _matches(_TYPED_NUMBER, [line.strip() for line in filled]):
            return ClassList(_numbered(official), _about(comments))
    else:
        comments = []
    items = [item for line in filled for item in _typed_items(line)]
    return ClassList(_with_numbers(items), _about(comments))


def file_classes(text: str, ending: str) -> ClassList:
    """Read a file of classes, one a line, its names separated by `|`, `,` or `;`; or another program's list.

    Args:
        text: what it holds.
        ending: of its name, in lower case, as ".csv".

    Raises:
        VocabularyError: if it is JSON, YAML or XML in which no class names are found.
    """
    if classes := tree(text, ending) or table(text, ending=ending):
        return classes
    if text.lstrip()[:1] == "<":
        raise VocabularyError("The class list is a page or an XML file; write one class per line instead.")
    filled = _tidy(text)
    comments = [line for line in filled if _COMMENT.match(line)]
    lines = [_COMMENT_BEHIND.sub("", line) for line in filled if not _COMMENT.match(line)]
    entries = next(filter(None, (_in_form(form, lines) for form in _LINE_FORMS)), ())
    if not entries and len(lines) > 1:
        behind = _matches(_BLANK_AND_NUMBER, lines)
        entries = _in_form(_NUMBER_AND_BLANK, lines) or (_numbered(behind) if _in_order(behind) else ())
    if not entries:
        entries = tuple(Entry(_names(_MARK.sub("", line, count=1))) for line in lines)
    return ClassList(entries, _about(comments))


def _tidy(text: str) -> list[str]:
    """The lines that hold something, with single blanks: the patterns here are quick on such lines alone.

    A tab between words is kept, for it may separate cells; among other blanks it is one of them.
    """
    lines = (re.sub(r"\s+", lambda run: "\t" if run[0] == "\t" else " ", line) for line in text.splitlines())
    return [line for line in lines if line.strip()]


def _typed_items(line: str) -> list[tuple[Name, ...]]:
    """Classes of one line, each with its names."""
    line = _BULLET_BETWEEN.sub(";", _MARK.sub("", line, count=1))
    if not re.search(f"[{re.escape(SEPARATORS + OR)}]", line):
        if not re.match(r"\s*-?\d+\t", line):  # a row of a spreadsheet
            line = re.sub(r"(?<=\S)\t(?=\S)", ";", line)
        if _HASHTAGS.fullmatch(line):
            line = ";".join(line.split())
        if re.match(r"\s*\d{1,9}\s*:", line):
            line = _NUMBERED_ON_ONE_LINE.sub(";", line)
    # A separator at the end of a line is a habit, not a forgotten name.
    line = re.sub(f"[{re.escape(SEPARATORS)}]\\s*$", "", line)
    if not line.strip():
        return []
    items = split_names(line, SEPARATORS, OR)
    return [part for names in items for part in _sentences(names)]


def _sentences(names: tuple[Name, ...]) -> list[tuple[Name, ...]]:
    """A class, or several that full stops separate, as prompts of detectors are written."""
    if len(names) != 1 or names[0].literal:
        return [names]
    sentences: list[list[str]] = []
    last = ""
    for part in _SENTENCE_END.split(names[0].text):
        if sentences and (last.casefold() in _ABBREVIATIONS or "." in last or len(last) == 1):
            sentences[-1].append(part)
        elif part.strip():
            sentences.append([part.strip()])
        last = part.split()[-1] if part.strip() else ""
    if len(sentences) < 2:
        return [names]
    return [(Name(". ".join(parts).strip()),) for parts in sentences]


def _with_numbers(items: Sequence[tuple[Name, ...]]) -> tuple[Entry, ...]:
    """Entries of typed classes; numbers in front or behind are taken for such where every class has one."""
    firsts = [names[0].text if not names[0].literal else "" for names in items]
    for form in (_TYPED_NUMBER, _TYPED_NUMBER_LAST):
        if matches := _matches(form, firsts):
            return _renamed(items, matches)
    # "2 cars; 3 people" are words; "1 car; 2 people" may be, too, and then lose nothing by it.
    matches = _matches(_NUMBER_AND_BLANK, firsts)
    if len(items) > 1 and _in_order(matches):
        return _renamed(items, matches)
    return tuple(map(Entry, items))


def _renamed(items: Sequence[tuple[Name, ...]], matches: Sequence[re.Match[str]]) -> tuple[Entry, ...]:
    """The items with the number of their first name apart."""
    return tuple(
        Entry((Name(match["names"].strip()), *names[1:]), int(match["number"]))
        for names, match in zip(items, matches, strict=True)
    )


def _in_form(form: re.Pattern[str], lines: Sequence[str]) -> tuple[Entry, ...]:
    """Entries of lines that all have one form; nothing if one has not."""
    return _numbered(_matches(form, lines))


def _numbered(matches: Sequence[re.Match[str]]) -> tuple[Entry, ...]:
    """Entries of matches with "names", and "number" if the form has one."""
    groups = [match.groupdict() for match in matches]
    return tuple(
        Entry(_names(group["names"]), int(group["number"]) if "number" in group else None) for group in groups
    )


def _names(text: str) -> tuple[Name, ...]:
    """Names of one class on a line of its own."""
    names = split_names(text, "", OR + SEPARATORS)[0]
    return tuple(name for name in names if not _COLOR_CODE.fullmatch(name.text)) or names


def _matches(form: re.Pattern[str], lines: Sequence[str]) -> list[re.Match[str]]:
    """The match of every line; nothing if one does not match."""
    matches = [match for line in lines if (match := form.fullmatch(line))]
    return matches if len(matches) == len(lines) else []


def _in_order(matches: Sequence[re.Match[str]]) -> bool:
    """Whether the numbers count up from 0 or 1."""
    numbers = [int(match["number"]) for match in matches]
    return (
        bool(numbers) and numbers[0] in (0, 1) and numbers == [*range(numbers[0], numbers[0] + len(numbers))]
    )


def _about(comments: Sequence[str]) -> tuple[str, ...]:
    """Note on comments that were left out."""
    if not comments:
        return ()
    lines = "1 comment was" if len(comments) == 1 else f"{len(comments)} comments were"
    return (f"{lines} left out of the class list.",)
