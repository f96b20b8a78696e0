"""Better-known words beside rare ones: what stands in for a word that a small text tower hardly knows.

A tower that learnt from few words places a rare one ("settee") badly, though a dictionary could tell it what
is meant. So a class of one rare name is asked by its near words too, as if the user had typed them behind
`|`, unless the name stood in quotation marks. The dictionary is a file beside the tower's weights
(`recipes.mini.near_words` makes it).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

from ovs_core.types import Vocabulary
from ovs_core.vocabulary import singulars

NearWords = Mapping[str, tuple[str, ...]]
"""Rare words in lower case, and the better-known words for each."""
_NAMED_IN_NOTE = 5


def read_near_words(path: Path) -> NearWords:
    """Read lines of a word, a tab, and its near words between commas; `#` begins a comment.

    Raises:
        OSError, ValueError: if the file cannot be read or a line is not of that form.
    """
    table = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            word, near = line.split("\t")
            table[word] = tuple(near.split(","))
    return MappingProxyType(table)


def with_near_words(vocabulary: Vocabulary, table: NearWords) -> Vocabulary:
    """Ask every class that has one name, and a rare one, by its near words too.

    A near word that the user typed, or that two classes would share, is not added: it would ask for another
    class. What is added is taken off the hidden names, and a note says what was added.
    """
    asked = vocabulary.asked
    typed = {form for names in asked for name in names for form in _forms(name)}
    literal = [names[0] in vocabulary.literal for names in vocabulary.classes]
    near = [() if quoted else _near(names, table) for names, quoted in zip(asked, literal, strict=True)]
    wanted = Counter(word for words in near for word in words)
    added = [tuple(word for word in words if wanted[word] == 1 and word not in typed) for words in near]
    if not any(added):
        return vocabulary
    taken = {word for words in added for word in words}
    other = tuple(name for name in vocabulary.other if taken.isdisjoint(_forms(name)))
    classes = tuple(names + words for names, words in zip(vocabulary.classes, added, strict=True))
    queries = tuple(
        names + words for names, words in zip(vocabulary.queries, added, strict=bool(vocabulary.queries))
    )
    note = _note({names[0]: words for names, words in zip(asked, added, strict=True) if words})
    notes = (*vocabulary.notes, note)
    return replace(vocabulary, classes=classes, other=other, notes=notes, queries=queries)


def _near(names: tuple[str, ...], table: NearWords) -> tuple[str, ...]:
    """Near words of a class; none if the user gave it several names."""
    if len(names) > 1:
        return ()
    longest_first = sorted(_forms(names[0]), key=lambda form: (-len(form), form))
    return next((table[form] for form in longest_first if form in table), ())


def _forms(name: str) -> frozenset[str]:
    """A name in lower case and what it may be the plural of."""
    key = name.casefold()
    return frozenset((key, *singulars(key)))


def _note(added: Mapping[str, tuple[str, ...]]) -> str:
    told = [f"{name} as {' or '.join(words)}" for name, words in list(added.items())[:_NAMED_IN_NOTE]]
    rest = len(added) - len(told)
    more = f" and {rest} more" if rest else ""
    return (
        f'Asked by better-known words too: {", ".join(told)}{more} ("quotation marks" ask for a word alone).'
    )
