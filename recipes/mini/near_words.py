"""Which words stand in for which: a dictionary for `ovs_core.encoders.near_words`, made from WordNet."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from ovs_core.encoders.known_words import words_of
from ovs_core.training.data import CAMVID_NAMES, SYNONYMS
from recipes.mini.labelled_sets import DECLARED
from recipes.mini.words import (
    ADJECTIVES,
    PHYSICAL_ENTITY,
    Senses,
    Synsets,
    descendants,
    read_wordnet,
    tagged_senses,
    visible_nouns,
)

PERSON = "00007846"  # WordNet 3.0 offset of `person`: what people are called is no dictionary's business here
LEVELS = 2  # up: a lorry is a truck, a skyscraper a building; three levels up is another thing
SENSES = 4  # of a word whose senses were never counted
# Drawn names that stand for too much to show what a rarer word means.
TOO_WIDE = frozenset({
    "vehicle", "furniture", "ground", "metal", "wood", "plastic", "paper", "cloth", "sign", "stone",
    "background", "people", "person", "pedestrian", "cyclist", "bicyclist",
})  # fmt: skip
KNOWN_HEAD = (
    "# Words that the text tower was taught. Made by recipes.mini.near_words from WordNet 3.0,\n"
    "# Copyright 2006 by Princeton University (see LICENSE.wordnet), and from class lists\n"
)
_WORD = re.compile(r"[a-z][a-z' -]+")
HEAD = (
    "# Rare words, a tab, better-known words. Made by recipes.mini.near_words from WordNet 3.0,\n"
    "# Copyright 2006 by Princeton University; see LICENSE.wordnet\n"
)


def drawn_names(coco: Iterable[str], background: Iterable[str]) -> frozenset[str]:
    """Names whose pixels the tower was shown, lower case: COCO's, CamVid's, their synonyms, hidden ones."""
    names = {*coco, *background, *(word for words in SYNONYMS.values() for word in words)}
    names.update(word for words in CAMVID_NAMES for word in words)
    return frozenset(name.lower() for name in names) - TOO_WIDE


def unlabelled_names(coco: Iterable[str], background: Iterable[str]) -> frozenset[str]:
    """Hidden names that no set labels: met only as what other pixels may be ("sea")."""
    sets = {word for names in DECLARED.values() for words in names.words.values() for word in words}
    return drawn_names((), background) - drawn_names({*coco, *sets}, ())


def nearest_drawn(
    synsets: Synsets,
    senses: Senses,
    tagged: Mapping[str, int],
    drawn: Collection[str],
    known: Collection[str],
    unlabelled: Collection[str] = (),
) -> dict[str, tuple[str, ...]]:
    """For each rare word the drawn names that mean the same, or what it is a kind of, up to two levels up.

    Looked at are the senses that were met in WordNet's tagged texts or, of a word that was not met at all,
    the first four; physical things only, and no people.

    Args:
        synsets: from `read_wordnet`.
        senses: the same.
        tagged: from `tagged_senses`.
        drawn: names that may stand in for others.
        known: further names that the tower learnt from photos; they need no help.
        unlabelled: those of `drawn` that may stand in, but need help themselves.
    """
    labelled = frozenset(drawn) - frozenset(unlabelled)
    physical = descendants(synsets, PHYSICAL_ENTITY) - descendants(synsets, PERSON)
    table = {}
    for word, offsets in senses.items():
        if word in labelled or word in known or not _WORD.fullmatch(word):
            continue
        met = tagged.get(word, 0)
        looked_at = offsets[:met] if met else offsets[:SENSES]
        if met and offsets[0] not in physical:  # mostly said of something no photo shows
            continue
        near = labelled if word in unlabelled else drawn
        names = [name for offset in looked_at for name in _drawn_above(synsets, physical, offset, near)]
        if names:
            table[word] = tuple(dict.fromkeys(names))
    return table


def write_near_words(
    path: Path, wordnet: Path, coco: Iterable[str], known: Collection[str], background: Iterable[str]
) -> None:
    """Write the dictionary.

    Args:
        path: the file.
        wordnet: folder of `data.noun` and `index.noun`.
        coco: COCO's names.
        known: further names that were learnt from photos.
        background: the hidden "everything else" names.
    """
    synsets, senses = read_wordnet(wordnet)
    coco, background = tuple(coco), tuple(background)
    drawn, unlabelled = drawn_names(coco, background), unlabelled_names(coco, background)
    table = nearest_drawn(synsets, senses, tagged_senses(wordnet), drawn, known, unlabelled)
    lines = [f"{word}\t{','.join(near)}\n" for word, near in sorted(table.items())]
    path.write_text(HEAD + "".join(lines), encoding="utf-8")


def write_known_words(path: Path, wordnet: Path, taught: Iterable[str]) -> None:
    """Write every single word that the text tower is taught.

    Args:
        path: the file.
        wordnet: folder of `data.noun` and `index.noun`, whose nouns for physical things are taught.
        taught: further names.
    """
    names = (*visible_nouns(*read_wordnet(wordnet)), *taught, *ADJECTIVES)
    words = sorted({word for name in names for word in words_of(name)})
    path.write_text(KNOWN_HEAD + "".join(f"{word}\n" for word in words), encoding="utf-8")


def _drawn_above(
    synsets: Synsets, physical: Collection[str], offset: str, drawn: Collection[str]
) -> list[str]:
    """Drawn names of a sense, or of the nearest sense above it that has some."""
    at: str | None = offset
    for _ in range(1 + LEVELS):
        if at is None or at not in physical or any(name[0].isupper() for name in synsets[at].names):
            return []
        names = [name.lower() for name in synsets[at].names if name.lower() in drawn]
        if names:
            return names
        at = synsets[at].above
    return []
