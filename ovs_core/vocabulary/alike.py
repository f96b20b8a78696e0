"""Words of two classes that mean nearly the same to a text tower: no method can tell their pixels apart."""

from __future__ import annotations

import torch

from ovs_core.types import TextBank

_MOST_PAIRS = 3  # in one note
_MOST_NAMES = 100  # longer lists are benchmarks': nobody typed them, and nobody can join their classes


def alike_names(bank: TextBank, least: float) -> tuple[tuple[str, str, float], ...]:
    """Names of different typed classes with a cosine of at least `least`, the most alike first.

    Args:
        bank: unit embeddings (S, D) of the names.
        least: cosine in [-1, 1].

    Returns:
        (name, name of a later class, cosine) of each pair of classes: their two most alike names.
    """
    vocabulary = bank.vocabulary
    labels = [label for label in vocabulary.row_label if label]  # those of `other` come last
    rows = bank.embeddings[: len(labels)].float()
    cosines = rows @ rows.T  # (S, S)
    best: dict[tuple[int, int], tuple[str, str, float]] = {}
    for first, second in torch.nonzero(cosines.triu(1) >= least).tolist():
        pair, value = (labels[first], labels[second]), float(cosines[first, second])
        if pair[0] != pair[1] and value > best.get(pair, ("", "", -1.0))[2]:
            best[pair] = (vocabulary.rows[first], vocabulary.rows[second], value)
    return tuple(sorted(best.values(), key=lambda pair: -pair[2]))


def alike_notes(bank: TextBank, least: float) -> tuple[str, ...]:
    """Say which classes are nearly the same, and what helps; nothing where none are or the list is long."""
    typed = sum(map(len, bank.vocabulary.classes))
    pairs = alike_names(bank, least) if typed <= _MOST_NAMES else ()
    if not pairs:
        return ()
    told = ", ".join(
        f'"{first}" and "{second}" (cosine {value:.2f})' for first, second, value in pairs[:_MOST_PAIRS]
    )
    more = f" and {len(pairs) - _MOST_PAIRS} more pairs" if len(pairs) > _MOST_PAIRS else ""
    return (
        f"Nearly the same to the model: {told}{more}. Pixels are split arbitrarily between them; "
        "join them as one class with |.",
    )
