"""CLIP's text tower: one unit embedding per class name, the mean over prompt templates.

Each prompt's embedding is L2-normalised, the templates of a name are averaged, the mean is normalised again
(Radford et al., arXiv 2103.00020, section 3.1.4).

Two things make this cheap without changing the result. The tower is causal and read at the end-of-text
token, so nothing behind the last end-of-text token of a batch can matter: prompts, sorted by length, are cut
there. And a row depends on the tower, the templates and the name alone, so rows are remembered, in memory
and on disk. For that to hold to the last bit, prompts of different names never share a batch: what was asked
before cannot change an answer.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
    insert_context,
    whole_words,
)
from ovs_core.encoders.text_rows import RowFiles, RowMemory, Rows, row_key
from ovs_core.types import TextBank, Vocabulary

BATCH_PROMPTS = 20  # of the 80 templates: short prompts do not wait for long ones, matrices stay large


@dataclass(frozen=True, eq=False)
class TextTower:
    """The parts of a causal CLIP text tower, wherever open_clip keeps them.

    Attributes:
        token_embedding: ids to (.., C).
        positions: (context length, C).
        transformer: blocks that take (B, L, C) and an additive mask.
        mask: causal, (context length, context length), 0 or -inf.
        ln_final: applied to the tokens that leave the blocks.
        projection: (C, D) matrix, linear layer, or None.
        eos_id: id of the end-of-text token to read at; None reads at the largest id, which is the same in
            CLIP's BPE.
    """

    token_embedding: nn.Module
    positions: Tensor
    transformer: nn.Module
    mask: Tensor
    ln_final: nn.Module
    projection: Tensor | nn.Module | None
    eos_id: int | None

    @property
    def context_length(self) -> int:
        """Longest prompt in tokens, start and end of text included."""
        return len(self.positions)

    def read_at(self, ids: Tensor) -> Tensor:
        """Place of the first end-of-text token in each row of ids (B, L), (B,)."""
        return ids.argmax(dim=1) if self.eos_id is None else (ids == self.eos_id).int().argmax(dim=1)

    def embed(self, ids: Tensor) -> Tensor:
        """Embeddings (B, D), not normalised, of prompts with ids (B, L); L up to the context length.

        Equal to open_clip's `encode_text` on the same prompts, whose ids are never cut.
        """
        ends = self.read_at(ids)
        return self._read(self.token_embedding(ids[:, : int(ends.max()) + 1]), ends)

    def embed_context(self, ids: Tensor, context: Tensor, position: ClassPosition = "end") -> Tensor:
        """Embeddings (B, D), not normalised, of prompts with learned vectors in them.

        Args:
            ids: of `ovs_core.encoders.prompts.context_prompts`, (B, L).
            context: the vectors, (M, C) for all prompts or (B, M, C); gradients flow to them.
            position: where the class name stands.
        """
        ends = self.read_at(ids)
        tokens = self.token_embedding(ids[:, : int(ends.max()) + 1])  # (B, L, C)
        return self._read(insert_context(tokens, context, ends, position), ends)

    def embed_deep(self, ids: Tensor, states: Tensor) -> Tensor:
        """Embeddings (B, D), not normalised, of prompts whose first words are overwritten before every block.

        Args:
            ids: of filled templates, (B, L).
            states: (blocks, m, C) for the places 1..m; gradients flow to them.

        Raises:
            ValueError: if they are for a tower of another width or number of blocks, or leave no room for a
                name.
        """
        self.check_states(states)
        ends = self.read_at(ids)
        shortest = int(ends.min()) - 1
        if states.shape[1] > shortest:
            raise ValueError(f"language prompts must fit texts of {shortest} tokens, got {states.shape[1]}")
        return self._read(self.token_embedding(ids[:, : int(ends.max()) + 1]), ends, states)

    @torch.no_grad()
    def word_states(self, ids: Tensor) -> Tensor:
        """What stands at the places behind the start of text before every block, (blocks, L - 1, C).

        Args:
            ids: of a start of text and words, (L,), without an end of text.
        """
        length = len(ids)
        x = self.token_embedding(ids[None]).to(self.positions.dtype) + self.positions[:length]  # (1, L, C)
        states = []
        for block in self._blocks():
            states.append(x[0, 1:])
            x = block(x, attn_mask=self.mask[:length, :length].to(x.dtype))
        return torch.stack(states)

    def check_states(self, states: Tensor) -> None:
        """Return if language prompts (blocks, m, C) are for a tower of this width and number of blocks.

        Raises:
            ValueError: if they are not.
        """
        expected = (len(self._blocks()), self.positions.shape[1])
        if states.ndim != 3 or (states.shape[0], states.shape[2]) != expected:
            raise ValueError(
                f"language prompts must be ({expected[0]}, m, {expected[1]}), got {tuple(states.shape)}"
            )

    def _blocks(self) -> Sequence[nn.Module]:
        blocks: Any = self.transformer.resblocks
        return blocks

    def _read(self, tokens: Tensor, ends: Tensor, states: Tensor | None = None) -> Tensor:
        """Embeddings (B, D) of embedded prompts (B, L, C), read at `ends` (B,); `states` overwrite words."""
        length = tokens.shape[1]
        x = tokens.to(self.positions.dtype) + self.positions[:length]  # (B, L, C)
        mask = self.mask[:length, :length].to(x.dtype)
        if states is None:
            x = self.transformer(x, attn_mask=mask)
        else:
            for own, block in zip(states.to(x.dtype), self._blocks(), strict=True):
                own = own.expand(len(x), -1, -1)  # (B, m, C)
                x = block(torch.cat([x[:, :1], own, x[:, 1 + own.shape[1] :]], dim=1), attn_mask=mask)
        x = self.ln_final(x[torch.arange(len(x), device=x.device), ends])  # (B, C)
        if self.projection is None:
            return x
        return self.projection(x) if isinstance(self.projection, nn.Module) else x @ self.projection


def text_tower(model: nn.Module) -> TextTower:
    """Find the text tower in an open_clip model: its attributes (`CLIP`) or `model.text` (`CustomTextCLIP`).

    Raises:
        ValueError: if it is not causal or not read at its end-of-text token, so that it may not be cut.
    """
    text: Any = getattr(model, "text", model)
    pool = getattr(text, "text_pool_type", None) or getattr(text, "pool_type", None)
    causal = getattr(text, "attn_mask", None) is not None
    if pool not in ("argmax", "eos") or not causal or getattr(text, "cls_emb", None) is not None:
        raise ValueError(
            "the text tower must be a causal CLIP transformer read at its end-of-text token, "
            f"got {type(text).__name__}"
        )
    eos_id = getattr(text, "text_eos_id", None) or getattr(text, "eos_id", None)
    return TextTower(
        token_embedding=text.token_embedding,
        positions=text.positional_embedding,
        transformer=text.transformer,
        mask=text.attn_mask,
        ln_final=text.ln_final,
        projection=text.text_projection,
        eos_id=eos_id if pool == "eos" else None,
    )


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
            progress: called with (names done, names in all) after each name.
            cancel: looked at before each name.

        Raises:
            ValueError: if there is no template, or one without `{}`.
            Cancelled: if `cancel` was set; names done by then are remembered.
        """
        if not templates:
            raise ValueError("templates must hold at least one prompt, got none")
        rows: list[Tensor] = []
        advance(0, len(vocabulary.rows), progress, cancel)
        for done, name in enumerate(vocabulary.rows, start=1):
            rows.append(self._row(name, templates))
            advance(done, len(vocabulary.rows), progress, cancel)
        return TextBank(vocabulary, torch.stack(rows).to(self._device))

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

    def _row(self, name: str, templates: tuple[str, ...]) -> Tensor:
        """Unit embedding (D,) of one name on the CPU: remembered, or on disk, or from the tower."""
        key = row_key(self.identity, templates, name)
        return self._remembered(key, lambda: self._encode(name, templates))

    def _remembered(self, key: str, encode: Callable[[], Tensor]) -> Tensor:
        """A row by its key: from memory, from disk, or made by `encode` and kept in both."""
        row: Tensor | None = self._memory.get("rows", key)
        if row is not None:
            return row
        row = None if self._disk is None else self._disk.read(key)
        if row is None:
            row = encode()
            if self._disk is not None:
                self._disk.write(key, row)
        self._memory.put("rows", key, row, row.nbytes)
        return row

    @torch.no_grad()
    def _encode(self, name: str, templates: tuple[str, ...]) -> Tensor:
        ids = self._tokenize([fill(template, name) for template in templates])  # (P, context length)
        ids = ids[self._tower.read_at(ids).argsort(stable=True)].to(self._device)  # short prompts first
        batches = [self._tower.embed(batch).float() for batch in torch.split(ids, BATCH_PROMPTS)]
        prompts = F.normalize(torch.cat(batches), dim=-1)  # (P, D)
        return F.normalize(prompts.mean(dim=0), dim=0).cpu()
