"""From class names to the token ids a CLIP text tower reads, with learned vectors among them if wanted.

Learned contexts are CoOp's (arXiv 2109.01134, section 3.2): M free vectors where a template has words, the
same for all classes or one set per class. Written from the paper; held to its official code by tests.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor

from ovs_core.vocabulary.clip_words import clip_words

Tokenizer = Callable[[Sequence[str]], Tensor]
ClassPosition = Literal["end", "middle", "front"]

SLOT = "{}"
PLACEHOLDER = "X"  # one token of CLIP's BPE
OTHER_TOKENS = 4  # start of text, a name of one token, full stop, end of text
_WORD_END = "</w>"


def fill(template: str, name: str) -> str:
    """Put `name` where the template says `{}`; the name is text only, whatever it contains.

    Raises:
        ValueError: if the template has no `{}`.
    """
    if SLOT not in template:
        raise ValueError(f"a prompt template needs a {SLOT} where the class name goes, got {template!r}")
    return template.replace(SLOT, name)


def clip_tokenizer(context_length: int) -> Tokenizer:
    """CLIP's byte-pair tokenizer (its vocabulary comes inside open_clip): prompts to ids (N, context_length).

    Ids are: start of text, the prompt, end of text, zeros. A prompt that is too long is cut, its end-of-text
        kept.
    """
    # The one that the module made: making another takes a quarter of a second.
    tokenize: Callable[..., Tensor] = clip_words("tokenizer").tokenize
    return lambda prompts: tokenize(list(prompts), context_length=context_length)


def context_prompts(tokenize: Tokenizer, names: Sequence[str], length: int) -> Tensor:
    """Ids (N, context length) of "X .. X NAME." with `length` placeholders for learned vectors.

    Underscores in names are read as blanks, as in CoOp.

    Raises:
        ValueError: if that many vectors leave no room for a name.
    """
    start = " ".join([PLACEHOLDER] * length)
    ids = tokenize([f"{start} {name.replace('_', ' ')}." for name in names])
    room = ids.shape[1] - OTHER_TOKENS
    if not 1 <= length <= room:
        raise ValueError(f"a learned context must have 1 to {room} vectors, got {length}")
    return ids


def insert_context(tokens: Tensor, context: Tensor, ends: Tensor, position: ClassPosition = "end") -> Tensor:
    """Put learned vectors into embedded prompts, (N, L, C).

    Args:
        tokens: embedded ids of `context_prompts`, (N, L, C), before positions are added.
        context: (M, C) for all prompts, or (N, M, C).
        ends: place of the end-of-text token of each prompt, (N,).
        position: where the class name stands: behind the vectors, between their halves, or in front.
    """
    length = context.shape[-2]
    vectors = context.to(tokens.dtype).expand(len(tokens), -1, -1)  # (N, M, C)
    first, rest = tokens[:, :1], tokens[:, 1 + length :]
    if position == "end":
        return torch.cat([first, vectors, rest], dim=1)
    before = length // 2 if position == "middle" else 0
    rows = []
    for row, own, end in zip(rest, vectors, ends.tolist(), strict=True):
        name = end - length - 2  # tokens of the name: all but start, vectors and full stop
        rows.append(torch.cat([own[:before], row[:name], own[before:], row[name:]]))
    return torch.cat([first, torch.stack(rows)], dim=1)


def whole_words() -> tuple[tuple[int, ...], tuple[str, ...]]:
    """Ids and spelling of the tokens of CLIP's BPE that are words of letters on their own."""
    tokenizer = clip_words("tokenizer").SimpleTokenizer()
    spelled = {
        index: bytes(tokenizer.byte_decoder[letter] for letter in piece.removesuffix(_WORD_END))
        for index, piece in tokenizer.decoder.items()
        if piece.endswith(_WORD_END)
    }
    # Pieces are bytes, each written as a letter: a dash would read as three of them.
    words = {index: word.decode("utf-8", "replace") for index, word in spelled.items()}
    words = {index: word for index, word in words.items() if word.isalpha()}
    return tuple(words), tuple(words.values())
