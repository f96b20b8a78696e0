"""Names as people write them: cleaned, asked in a better form where one is known, with a note of that."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

from ovs_core.vocabulary.class_tables import Name, VocabularyError
from ovs_core.vocabulary.spelling import Lexicon, asked_form

MAX_NAME_LENGTH = 200
MAX_NAMES = 2000
# Zero-width space, soft hyphen, word joiner, byte order mark and the controls that turn the text around them.
_DECEPTIVE = frozenset(
    "\u00ad\u200b\u200e\u200f\u2060\ufeff\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
)
_NAMED_IN_NOTE = 5


class Reading:
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
            written = clean(name.text)
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
            notes.append(f"Named more than once, counted once: {some(self._repeated)}.")
        if self._changed:
            pairs = [f"{written} as {query}" for written, query in self._changed.items()]
            asked = some(pairs, _NAMED_IN_NOTE)
            notes.append(
                f'Asked without what stands around the words: {asked} ("quotation marks" ask to the letter).'
            )
        return tuple(notes)


def clean(name: str) -> str:
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


def check_number(count: int) -> None:
    """Refuse lists that no text tower should be asked to embed at once."""
    if count > MAX_NAMES:
        raise VocabularyError(f"A list can have up to {MAX_NAMES:,} names; this one has {count:,}.")


def some(names: Sequence[str], limit: int = 10) -> str:
    """The first few names for a note."""
    text = ", ".join(names[:limit])
    return text if len(names) <= limit else f"{text} and {len(names) - limit} more"
