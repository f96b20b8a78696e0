"""From known masks to what a batch is to teach: words drawn per region, class lists, teachers, captions."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ovs_core.encoders.text import TextEncoder
from ovs_core.methods.gkc.synonyms import (
    REGION_PROMPT,
    Sampling,
    clean_name,
    synonym_probabilities,
    synonyms_of,
)
from ovs_core.training.gkc_losses import GROUNDED_WORDS
from ovs_core.training.gkc_model import Lesson
from ovs_core.training.gkc_words import choose_synonym, class_list, stacked_lists
from ovs_core.training.losses import Target
from ovs_core.training.processes import Processes
from ovs_core.types import UNLISTED, Vocabulary
from ovs_core.vocabulary import singulars

NOUN_DROPPED = 0.25  # how often a caption's noun is left out


@dataclass(frozen=True, eq=False)
class Words:
    """Classes that training learns, and every word for them.

    Attributes:
        classes: names as the data set has them; a mask's class is a place in this list.
        synonyms: words of each class, its cleaned name first.
        rows: unit embeddings of all words in the prompts of training, by word.
        region_rows: of all words in `REGION_PROMPT`, for comparing them with regions.
        log_scale: logarithm of CLIP's scale.
    """

    classes: tuple[str, ...]
    synonyms: tuple[tuple[str, ...], ...]
    rows: Mapping[str, Tensor]
    region_rows: Mapping[str, Tensor]
    log_scale: Tensor

    @property
    def plain(self) -> Tensor:
        """Rows of the plain names, (K, D)."""
        return torch.stack([self.rows[names[0]] for names in self.synonyms])

    @property
    def every(self) -> tuple[Tensor, tuple[int, ...]]:
        """Rows of all synonyms of all classes, (S, D), and how many each class has."""
        rows = torch.stack([self.rows[word] for names in self.synonyms for word in names])
        return rows, tuple(len(names) for names in self.synonyms)


def learn_words(
    classes: Sequence[str],
    table: Mapping[str, tuple[str, ...]],
    text: TextEncoder,
    templates: tuple[str, ...],
    log_scale: Tensor,
    extra: Sequence[str] = (),
) -> Words:
    """Embed every word once.

    Args:
        classes: names as the data set has them.
        table: from `read_synonyms`.
        text: CLIP's, frozen.
        templates: prompts of training.
        log_scale: logarithm of CLIP's scale.
        extra: further words whose rows are wanted: nouns of captions.
    """
    synonyms = tuple(synonyms_of(name, table) for name in classes)
    every = tuple(dict.fromkeys([*(word for names in synonyms for word in names), *extra]))
    vocabulary = Vocabulary(tuple((word,) for word in every))
    rows, regions = (
        dict(zip(every, text.embed(vocabulary, prompts).embeddings, strict=True))
        for prompts in (templates, (REGION_PROMPT,))
    )
    return Words(tuple(classes), synonyms, rows, regions, log_scale)


def make_lesson(
    words: Words,
    targets: Sequence[Target],
    regions: Sequence[Tensor],
    sampling: Sampling,
    rngs: Sequence[np.random.Generator],
    *,
    every_name: bool = False,
    captions: Sequence[Sequence[str]] | None = None,
) -> Lesson:
    """What one batch teaches.

    Shorter class lists are filled up with rows of zeros: their cosine is 0, a negative that teaches nothing.
    The code's padding (a prompt of zero tokens, encoded) is one more fixed direction instead.

    Args:
        words: classes and words.
        targets: masks and classes, one per picture.
        regions: frozen CLIP's embedding of each true mask's region, (n, D) each.
        sampling: how a region's word is drawn.
        rngs: draws, one per picture: what it is taught does not depend on which others are here.
        every_name: compare with all synonyms in the plain class loss, not with plain names alone.
        captions: nouns of each picture's caption; None leaves grounding out.
    """
    plain_names = tuple(names[0] for names in words.synonyms)
    lists, labels, rows = [], [], []
    for target, seen, rng in zip(targets, regions, rngs, strict=True):
        known = (target.classes != UNLISTED).nonzero()[:, 0].tolist()
        segments = []
        for place in known:
            label = int(target.classes[place])
            segments.append((label, _word(words, label, seen[place], sampling, rng)))
        listed = class_list(plain_names, segments)
        lists.append(torch.stack([words.rows[name] for name in listed.names]))
        own = torch.full_like(target.classes, UNLISTED)
        own[known] = torch.tensor(listed.labels, dtype=own.dtype, device=own.device)
        labels.append(own)
        words_of_masks = lists[-1].new_zeros(len(own), lists[-1].shape[1])
        words_of_masks[known] = lists[-1][list(listed.labels)]
        rows.append(words_of_masks)
    plain, counts = words.every if every_name else (words.plain, (1,) * len(words.classes))
    nouns = None
    if captions is not None:
        nouns = [torch.stack([words.rows[w] for w in own]) if own else plain[:0] for own in captions]
    padding = lists[0].new_zeros(lists[0].shape[1])
    return Lesson(targets, plain, counts, stacked_lists(lists, padding), labels, rows, list(regions), nouns)


def with_shared_length(lesson: Lesson, processes: Processes) -> Lesson:
    """A lesson whose class lists are filled up to the longest one of all processes.

    Rows of zeros are negatives, so each process needs as many of them as one that has the whole batch.
    """
    if lesson.lists is None:
        return lesson
    lengths = lesson.lists.new_zeros(processes.count)
    lengths[processes.rank] = lesson.lists.shape[1]
    longest = int(processes.add(lengths).max())
    lists = F.pad(lesson.lists, (0, 0, 0, longest - lesson.lists.shape[1]))
    return dataclasses.replace(lesson, lists=lists)


def _word(words: Words, label: int, region: Tensor, sampling: Sampling, rng: np.random.Generator) -> str:
    names = words.synonyms[label]
    if sampling == "plain" or len(names) == 1:
        return names[0]
    rows = torch.stack([words.region_rows[name] for name in names])
    chances = synonym_probabilities(region, rows, words.log_scale).cpu().numpy()
    return choose_synonym(names, chances, sampling, rng)


def read_captions(path: Path) -> Mapping[int, tuple[str, ...]]:
    """Captions of each photo by its number, from COCO's `captions.json`.

    Raises:
        OSError, ValueError: if the file cannot be read.
    """
    captions: dict[int, tuple[str, ...]] = {}
    for entry in json.loads(path.read_text(encoding="utf-8"))["annotations"]:
        number = int(entry["image_id"])
        captions[number] = (*captions.get(number, ()), str(entry["caption"]))
    return captions


def caption_nouns(caption: str, known: Mapping[str, str]) -> tuple[str, ...]:
    """Nouns of a caption that have a row, in order, none twice; of "hot dog stand" the longest known part.

    Deviation: official code takes every word that NLTK's tagger calls a noun; here a noun is a known word.

    Args:
        caption: one sentence.
        known: from `known_nouns`.
    """
    letters = "".join(letter if letter.isalnum() or letter in "'-" else " " for letter in caption.lower())
    tokens = letters.split()
    longest = max((name.count(" ") + 1 for name in known), default=0)
    nouns: dict[str, None] = {}
    place = 0
    while place < len(tokens):
        for length in range(min(longest, len(tokens) - place), 0, -1):
            phrase = " ".join(tokens[place : place + length])
            form = next((form for form in (phrase, *sorted(singulars(phrase))) if form in known), None)
            if form is not None:
                nouns[known[form]] = None
                place += length
                break
        else:
            place += 1
    return tuple(nouns)


def known_nouns(table: Mapping[str, tuple[str, ...]]) -> Mapping[str, str]:
    """Every word of a synonym table, and the word that stands for it in a caption: itself."""
    return {word: word for names in table.values() for word in (*names, clean_name(names[0]))}


def some_nouns(nouns: Sequence[str], rng: np.random.Generator) -> tuple[str, ...]:
    """The nouns of one caption that are used: each left out now and then, five at most."""
    return tuple(noun for noun in nouns if rng.random() >= NOUN_DROPPED)[:GROUNDED_WORDS]
