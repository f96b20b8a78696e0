"""Words that a small text tower was never taught: whoever types one is told so, with what it may have meant.

A tower answers for any string, and nothing in the answer says that "Tempel" means nothing to it. Its recipe
writes down every word it was taught, in a file beside the weights.
"""

from __future__ import annotations

import re
from collections.abc import Set as AbstractSet
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path

from ovs_core.types import Vocabulary
from ovs_core.vocabulary import read_vocabulary, singulars

KnownWords = AbstractSet[str]
"""Single words in lower case."""
FILLERS = frozenset({"a", "an", "and", "at", "by", "for", "in", "my", "of", "on", "or", "the", "to", "with"})
NEAR_LISTS = ("@cocostuff171", "@ade847")  # what is suggested
_SPELT_ALIKE = 0.8  # of difflib's ratio in [0, 1]
_NAMED_IN_NOTE = 5
_WORD = re.compile(r"[^\W\d_]+(?:['\u2019-][^\W\d_]+)*")


def read_known_words(path: Path) -> KnownWords:
    """Read a file with a word a line; `#` begins a comment.

    Raises:
        OSError, ValueError: if the file cannot be read.
    """
    lines = path.read_text(encoding="utf-8").splitlines()
    return frozenset(line for line in lines if line and not line.startswith("#"))


def words_of(name: str) -> tuple[str, ...]:
    """Words of a name in lower case, without such as "of" and "the"."""
    return tuple(word for word in _WORD.findall(name.casefold()) if word not in FILLERS)


def unknown_names(vocabulary: Vocabulary, known: KnownWords) -> tuple[str, ...]:
    """First names of the classes of which no name holds a word that was taught."""
    return tuple(
        names[0]
        for names in vocabulary.asked
        if not any(_is_known(word, known) for name in names for word in words_of(name))
    )


def with_unknown_noted(vocabulary: Vocabulary, known: KnownWords) -> Vocabulary:
    """The vocabulary with a note about typed classes that were never taught; no note if `known` is empty."""
    names = unknown_names(vocabulary, known) if known else ()
    if not names:
        return vocabulary
    told = ", ".join(f"“{name}”" for name in names[:_NAMED_IN_NOTE])
    more = f" and {len(names) - _NAMED_IN_NOTE} more" if len(names) > _NAMED_IN_NOTE else ""
    near = dict.fromkeys(word for name in names[:_NAMED_IN_NOTE] for word in _spelt_alike(name))
    hint = f" Did you mean {' or '.join(f'“{word}”' for word in near)}?" if near else ""
    note = f"The model was never taught {told}{more}: it knows everyday English words.{hint}"
    return replace(vocabulary, notes=(*vocabulary.notes, note))


def _is_known(word: str, known: KnownWords) -> bool:
    parts = (word, *singulars(word), *re.split(r"[-'\u2019]", word))
    return any(part in known for part in parts if part not in FILLERS)


def _spelt_alike(name: str) -> list[str]:
    names = [name for text in NEAR_LISTS for names in read_vocabulary(text, "none").classes for name in names]
    return get_close_matches(name.casefold(), names, n=1, cutoff=_SPELT_ALIKE)
