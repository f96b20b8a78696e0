"""A causal CLIP text tower, taken out of an open_clip model: from ids, vectors or states to embeddings.

It is read at the end-of-text token, so nothing behind the last end-of-text token of a batch can matter: a
batch is cut there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ovs_core.encoders.prompts import ClassPosition, insert_context


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
