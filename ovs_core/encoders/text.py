"""CLIP's text tower: one unit embedding per class name, the mean over prompt templates.

Each prompt's embedding is L2-normalised, the templates of a name are averaged, the mean is normalised again
(Radford et al., arXiv 2103.00020, section 3.1.4).

Two things make this cheap without changing the result. The tower is causal and read at the end-of-text
token, so nothing behind the last end-of-text token of a batch can matter: prompts, sorted by length, are cut
there. And a row depends on the tower, the templates and the name alone, so rows are remembered, in memory
and on disk. For that to hold to the last bit, prompts of different names share a batch only where each is one
prompt, of as many tokens as the others, in a batch of a fixed size, filled up if need be: a row of a matrix
product is then the same in every place of it, and what was asked before or beside cannot change an answer.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ovs_core.devices import Cancel, Report, advance
from ovs_core.encoders.deep_prompts import LanguagePrompts, template_start
from ovs_core.encoders.prompts import (
    ClassPosition,
    Tokenizer,
    clip_tokenizer,
    context_prompts,
    fill,
    whole_words,
)
from ovs_core.encoders.text_rows import RowFiles, RowMemory, Rows, row_key
from ovs_core.encoders.text_tower import text_tower
from ovs_core.types import TextBank, Vocabulary

BATCH_PROMPTS = 20  # of the 80 templates: short prompts do not wait for long ones, matrices stay large
NAMES_AT_ONCE = 16  # of one prompt each: 0.4 to 0.6 ms a name instead of 4.5, and a lone one takes 7


class TextEncoder:
    """A text tower that remembers what it was asked; takes the model over (evaluation mode, no gradients).

    Args:
        model: open_clip model with a causal text tower.
        identity: weights and precision in one string (`ovs_core.encoders.clip_vit.tower_identity`).
        device: where `model` lives; embeddings come out there, in float32.
        tokenizer: prompts to ids; None takes CLIP's byte-pair tokenizer.
        cache_dir: folder for rows on disk, made when needed; None keeps them in memory only.
        memory: keeps rows between questions, e.g. the engine's cache; None keeps every one of them.
    """

    def __init__(
        self,
        model: nn.Module,
        identity: str,
        device: torch.device,
        *,
        tokenizer: Tokenizer | None = None,
        cache_dir: Path | None = None,
        memory: RowMemory | None = None,
    ) -> None:
        self.identity = identity
        self._tower = text_tower(model.eval().requires_grad_(False))
        self._device = device
        self._tokenize = tokenizer or clip_tokenizer(self._tower.context_length)
        self._disk = None if cache_dir is None else RowFiles(cache_dir)
        self._memory: RowMemory = Rows() if memory is None else memory

    def embed(
        self,
        vocabulary: Vocabulary,
        templates: tuple[str, ...],
        *,
        progress: Report = None,
        cancel: Cancel = None,
    ) -> TextBank:
        """Unit embeddings of every name, float32.

        Args:
            vocabulary: names; equal ones are encoded once.
            templates: prompts with a `{}` for the name, at least one.
            progress: called with (names done, names in all) after each name, or a batch of them.
            cancel: looked at before each.

        Raises:
            ValueError: if there is no template, or one without `{}`.
            Cancelled: if `cancel` was set; names done by then are remembered.
        """
        if not templates:
            raise ValueError("templates must hold at least one prompt, got none")
        keys = {name: self._key(name, templates) for name in vocabulary.rows}
        rows = {name: row for name, key in keys.items() if (row := self._known(key)) is not None}
        advance(len(rows), len(keys), progress, cancel)
        for made in self._made([name for name in keys if name not in rows], templates):
            rows.update({name: self._kept(keys[name], row) for name, row in made.items()})
            advance(len(rows), len(keys), progress, cancel)
        return TextBank(vocabulary, torch.stack([rows[name] for name in vocabulary.rows]).to(self._device))

    def embed_contexts(
        self,
        names: Sequence[str],
        vectors: Tensor,
        position: ClassPosition = "end",
        *,
        progress: Report = None,
        cancel: Cancel = None,
    ) -> Tensor:
        """Unit embeddings (V, S, D), float32, of names S in each of V learned contexts.

        Args:
            names: class names; each is encoded once per set of contexts and then remembered.
            vectors: the contexts, (V, M, C) with C the width of this tower's tokens.
            position: where the class name stands.
            progress: called with (names done, names in all) after each name.
            cancel: looked at before each name.

        Raises:
            ValueError: if the contexts are of another width or too long.
            Cancelled: if `cancel` was set; names done by then are remembered.
        """
        width = self._tower.positions.shape[1]
        if vectors.ndim != 3 or vectors.shape[2] != width:
            raise ValueError(f"contexts must be (V, M, {width}), got {tuple(vectors.shape)}")
        vectors = vectors.detach().to(self._device, torch.float32).contiguous()
        digest = hashlib.sha256(vectors.cpu().numpy().tobytes()).hexdigest()
        rows: list[Tensor] = []
        advance(0, len(names), progress, cancel)
        for done, name in enumerate(names, start=1):
            rows.append(self._context_rows(name, vectors, digest, position))
            advance(done, len(names), progress, cancel)
        return torch.stack(rows, dim=1).to(self._device)

    def template_states(self, template: str) -> LanguagePrompts:
        """Language prompts that change nothing: the states of the template's own first words.

        Raises:
            ValueError: if the template says nothing before the class name.
        """
        ids = self._tokenize([template_start(template)]).to(self._device)
        words = ids[0, : int(self._tower.read_at(ids))]  # start of text, then words
        return LanguagePrompts(self._tower.word_states(words), template)

    def embed_prompted(
        self,
        vocabulary: Vocabulary,
        prompts: LanguagePrompts,
        *,
        progress: Report = None,
        cancel: Cancel = None,
    ) -> TextBank:
        """Unit embeddings of every name in deep language prompts, float32.

        Args:
            vocabulary: names; each is encoded once per set of prompts and then remembered.
            prompts: what stands where the template has its first words.
            progress: called with (names done, names in all) after each name.
            cancel: looked at before each name.

        Raises:
            ValueError: if the prompts are for another tower or of another length than the template's words.
            Cancelled: if `cancel` was set; names done by then are remembered.
        """
        self._tower.check_states(prompts.states)
        ids = self._tokenize([template_start(prompts.template)])
        words = int(self._tower.read_at(ids)) - 1
        if prompts.count != words:
            raise ValueError(
                f"language prompts must be {words} tokens, as {prompts.template!r} has before the name, "
                f"got {prompts.count}"
            )
        rows: list[Tensor] = []
        advance(0, len(vocabulary.rows), progress, cancel)
        for done, name in enumerate(vocabulary.rows, start=1):
            rows.append(self._prompted_row(name, prompts))
            advance(done, len(vocabulary.rows), progress, cancel)
        return TextBank(vocabulary, torch.stack(rows).to(self._device))

    def nearest_words(self, vectors: Tensor) -> tuple[tuple[tuple[str, ...], ...], Tensor]:
        """The word whose token lies nearest to each context vector, and how far away it is.

        Euclidean distance to the token table, as in CoOp's section 4.4; only tokens that are whole words.

        Args:
            vectors: contexts, (V, M, C).

        Returns:
            Words, one tuple of M per context, and distances (V, M).
        """
        ids, words = whole_words()
        index = torch.tensor(ids, device=self._device)
        table = self._tower.token_embedding(index).float()  # (W, C)
        distances = torch.cdist(vectors.to(table).flatten(0, 1), table)  # (V*M, W)
        nearest = distances.min(dim=1)
        length = vectors.shape[1]
        spelled = [words[index] for index in nearest.indices.tolist()]
        rows = tuple(tuple(spelled[at : at + length]) for at in range(0, len(spelled), length))
        return rows, nearest.values.reshape(vectors.shape[:2])

    @torch.no_grad()
    def _context_rows(self, name: str, vectors: Tensor, digest: str, position: ClassPosition) -> Tensor:
        """Unit embeddings (V, D) of one name on the CPU: remembered, or on disk, or from the tower."""

        def encode() -> Tensor:
            ids = context_prompts(self._tokenize, [name], vectors.shape[1]).to(self._device)
            embeddings = self._tower.embed_context(ids.expand(len(vectors), -1), vectors, position)
            return F.normalize(embeddings.float(), dim=-1).cpu().flatten()

        key = row_key(self.identity, ("learned context", digest, str(tuple(vectors.shape)), position), name)
        return self._remembered(key, encode).reshape(len(vectors), -1)

    @torch.no_grad()
    def _prompted_row(self, name: str, prompts: LanguagePrompts) -> Tensor:
        """Unit embedding (D,) of one name on the CPU: remembered, or on disk, or from the tower."""

        def encode() -> Tensor:
            ids = self._tokenize(prompts.prompts([name])).to(self._device)
            embeddings = self._tower.embed_deep(ids, prompts.states.to(self._device))
            return F.normalize(embeddings[0].float(), dim=0).cpu()

        return self._remembered(row_key(self.identity, ("deep prompts", prompts.digest), name), encode)

    def _key(self, name: str, templates: tuple[str, ...]) -> str:
        how = (f"{NAMES_AT_ONCE} at once", *templates) if len(templates) == 1 else templates
        return row_key(self.identity, how, name)

    def _remembered(self, key: str, encode: Callable[[], Tensor]) -> Tensor:
        """A row by its key: from memory, from disk, or made by `encode` and kept in both."""
        row = self._known(key)
        return self._kept(key, encode()) if row is None else row

    def _known(self, key: str) -> Tensor | None:
        """A row by its key, (D,) on the CPU, from memory or disk; None if it was never made."""
        row: Tensor | None = self._memory.get("rows", key)
        if row is None and self._disk is not None and (row := self._disk.read(key)) is not None:
            self._memory.put("rows", key, row, row.nbytes)
        return row

    def _kept(self, key: str, row: Tensor) -> Tensor:
        """The same row, kept in memory and on disk."""
        if self._disk is not None:
            self._disk.write(key, row)
        self._memory.put("rows", key, row, row.nbytes)
        return row

    @torch.no_grad()
    def _made(self, names: Sequence[str], templates: tuple[str, ...]) -> Iterator[dict[str, Tensor]]:
        """Unit embeddings (D,) of names on the CPU, a name or a batch of them at a time."""
        if len(templates) > 1:
            for name in names:
                ids = self._tokenize([fill(template, name) for template in templates])  # (P, context length)
                ids = ids[self._tower.read_at(ids).argsort(stable=True)]  # short prompts first
                parts = [self._units(batch) for batch in torch.split(ids, BATCH_PROMPTS)]
                yield {name: F.normalize(torch.cat(parts).mean(dim=0), dim=0).cpu()}
            return
        if not names:
            return
        ids = self._tokenize([fill(templates[0], name) for name in names])  # (S, context length)
        ends = self._tower.read_at(ids)
        for end in sorted(set(ends.tolist())):
            for some in (ends == end).nonzero()[:, 0].split(NAMES_AT_ONCE):
                filled = torch.cat([some, some[:1].expand(NAMES_AT_ONCE - len(some))])
                units = self._units(ids[filled]).cpu()
                yield {names[index]: units[row].clone() for row, index in enumerate(some.tolist())}

    def _units(self, ids: Tensor) -> Tensor:
        """Unit embeddings (B, D) of prompts (B, L)."""
        return F.normalize(self._tower.embed(ids.to(self._device)).float(), dim=-1)
