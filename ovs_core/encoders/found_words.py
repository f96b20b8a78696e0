"""Words that a small text tower knows and hardly ever finds: whoever types one is told so, with the number.

Its recipe counts, on labelled photos that did not teach it, how much of what is asked for by a word is found,
and writes that down in a file beside the weights. The numbers are those of one file of weights and say so:
beside other weights they say nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ovs_core.types import Vocabulary
from ovs_core.vocabulary import singulars

FOUND_WORDS = "found_words.tsv"  # beside the weights
RARELY = 0.15  # IoU below which a word counts as rarely found
FEWEST_PHOTOS = 3  # of a word that is told of
_NAMED_IN_NOTE = 5
_HEAD = (
    "# Word, IoU in [0, 1], labelled photos with it, other names of the same between commas.\n"
    "# Made by recipes.mini.found_words: a photo's own classes typed, photos that did not teach.\n"
)
_OF = "# SHA-256 of the weights: "


@dataclass(frozen=True)
class FoundWord:
    """What was measured of a word.

    Attributes:
        word: as it was asked, in lower case.
        iou: of its pixels over all photos with it, in [0, 1].
        photos: how many.
        others: further names of the same, which were not asked.
    """

    word: str
    iou: float
    photos: int
    others: tuple[str, ...] = ()


FoundWords = Mapping[str, FoundWord]
"""What was measured, by each word and its further names."""


def weights_asked(tower: str, words: str | None) -> str:
    """What a table's numbers belong to: SHA-256 of the tower and, where there are any, of its tuned words."""
    return tower if words is None else f"{tower} {words}"


def read_found_words(path: Path, weights: str) -> FoundWords:
    """Read a file of `write_found_words`; nothing if it was measured with other weights.

    Args:
        path: the file.
        weights: that are used, by `weights_asked`.

    Raises:
        OSError, ValueError: if it cannot be read or a line is of another form.
    """
    lines = path.read_text(encoding="utf-8").splitlines()
    if f"{_OF}{weights}" not in lines:
        return {}
    measured = []
    for line in lines:
        if line and not line.startswith("#"):
            word, iou, photos, others = line.split("\t")
            names = tuple(name for name in others.split(",") if name)
            measured.append(FoundWord(word, float(iou), int(photos), names))
    table = {name: found for found in measured for name in found.others}
    return {**table, **{found.word: found for found in measured}}


def write_found_words(path: Path, weights: str, found: Sequence[FoundWord]) -> None:
    """Write what was measured, a word a line.

    Args:
        path: the file.
        weights: that were asked, by `weights_asked`.
        found: the words.
    """
    lines = (f"{one.word}\t{one.iou:.3f}\t{one.photos}\t{','.join(one.others)}\n" for one in found)
    path.write_text(f"{_HEAD}{_OF}{weights}\n{''.join(lines)}", encoding="utf-8")


def rarely_found(vocabulary: Vocabulary, table: FoundWords) -> dict[str, FoundWord]:
    """First names of the typed classes that are rarely found, and what was measured of each.

    A class of several names is as good as the best of them; one with a name that nobody measured may be good.
    """
    rare = {}
    for names, asked in zip(vocabulary.classes, vocabulary.asked, strict=True):
        measured = [_measured(name, table) for name in asked]
        known = [found for found in measured if found is not None]
        if len(known) == len(names) and (best := max(known, key=lambda found: found.iou)).iou < RARELY:
            rare[names[0]] = best
    return rare


def with_rarely_found_noted(vocabulary: Vocabulary, table: FoundWords) -> Vocabulary:
    """The vocabulary with a note about typed classes that are rarely found; no note if there are none."""
    rare = rarely_found(vocabulary, table)
    if not rare:
        return vocabulary
    told = [_told(name, found) for name, found in [*rare.items()][:_NAMED_IN_NOTE]]
    more = f" and {len(rare) - len(told)} more" if len(rare) > len(told) else ""
    note = f"The embedded model rarely finds {_listed(told)}{more}."
    return replace(vocabulary, notes=(*vocabulary.notes, note))


def _measured(name: str, table: FoundWords) -> FoundWord | None:
    forms = (name.casefold(), *sorted(singulars(name.casefold()), key=len, reverse=True))
    return next((table[form] for form in forms if form in table), None)


def _told(name: str, found: FoundWord) -> str:
    asked = "" if _is_form(name, found.word) else f"asked as “{found.word}”: "
    return f"“{name}” ({asked}IoU {100 * found.iou:.0f} % on {found.photos} labelled photos)"


def _is_form(name: str, word: str) -> bool:
    return word in (name.casefold(), *singulars(name.casefold()))


def _listed(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
