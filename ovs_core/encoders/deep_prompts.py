"""Deep prompts as values: learnt tokens that stand in a tower's sequence, block by block.

Visual prompts are VPT's (arXiv 2203.12119): n tokens between the class token and the patches. Language
prompts are those of LDVC (arXiv 2403.08426): m tokens in place of the first words of a template such as
"a photo of a {}". Towers take both as arguments (`ovs_core.encoders.clip_vit`, `ovs_core.encoders.text`) and
stay as they are.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from ovs_core.encoders.prompts import SLOT, fill


@dataclass(frozen=True, eq=False)
class VisualPrompts:
    """Prompt tokens of an image tower, numbered like its blocks, from 0.

    Attributes:
        tokens: (n, C) or per picture (B, n, C) each. The first are inserted before block 0, the l-th replace
            them before block l. One entry alone is VPT's shallow form: the tokens stay and evolve. Of two or
            more, but fewer than the tower has blocks, the prompts are taken out before the first block that
            has none, as ZegCLIP's official code does.
    """

    tokens: tuple[Tensor, ...]

    def __post_init__(self) -> None:
        shapes = sorted({tuple(prompt.shape) for prompt in self.tokens})
        if len(shapes) != 1 or len(shapes[0]) not in (2, 3) or not shapes[0][-2]:
            raise ValueError(f"visual prompts must be (n, C) or (B, n, C) alike, one per block, got {shapes}")

    @property
    def count(self) -> int:
        """Prompt tokens in the sequence, n."""
        return self.tokens[0].shape[-2]

    @property
    def width(self) -> int:
        """Channels of a token, C."""
        return self.tokens[0].shape[-1]

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the tokens and their number; part of a cache key."""
        return _digest(self.tokens)

    def fitting(self, width: int, blocks: int) -> VisualPrompts:
        """The same prompts.

        Raises:
            ValueError: if they are for a tower of another width or of fewer blocks.
        """
        if self.width != width or len(self.tokens) > blocks:
            raise ValueError(
                f"visual prompts must be {width} wide for at most {blocks} blocks, "
                f"got {self.width} wide for {len(self.tokens)}"
            )
        return self

    def entering(self, x: Tensor, block: int, patches: int) -> Tensor:
        """The sequence that enters a block.

        Args:
            x: what left the block before, or at block 0 what left the stem: class token, prompts if there are
                any yet, patches; (B, L, C).
            block: number of the block, from 0.
            patches: patch tokens at the end of the sequence.
        """
        first, rest = x[:, :1], x[:, x.shape[1] - patches :]
        if block < len(self.tokens):
            own = self.tokens[block].to(x.dtype)
            own = own.expand(len(x), -1, -1)  # (B, n, C)
            return torch.cat([first, own, rest], dim=1)
        return x if len(self.tokens) == 1 else torch.cat([first, rest], dim=1)


@dataclass(frozen=True, eq=False)
class LanguagePrompts:
    """Prompt tokens of a text tower, shared by all class names.

    The form is inferred, the paper's text was not at hand: before every block the places 1..m behind the
    start of text are overwritten. With the states that the template's own words have there, the tower says
    what it says without prompts: attention is causal, so these states depend on no class name.

    Attributes:
        states: (blocks, m, C), one set per block of the tower.
        template: text with a `{}` for the class name, whose words before it are m tokens.
    """

    states: Tensor
    template: str = "a photo of a {}"

    def __post_init__(self) -> None:
        if self.states.ndim != 3 or not self.states.shape[1]:
            raise ValueError(f"language prompts must be (blocks, m, C), got {tuple(self.states.shape)}")
        fill(self.template, "")

    @property
    def count(self) -> int:
        """Prompt tokens in the sequence, m."""
        return self.states.shape[1]

    @cached_property
    def digest(self) -> str:
        """SHA-256 of states and template; part of a cache key."""
        return hashlib.sha256(f"{self.template}\n{_digest([self.states])}".encode()).hexdigest()

    def prompts(self, names: Sequence[str]) -> list[str]:
        """The filled templates."""
        return [fill(self.template, name) for name in names]


def template_start(template: str) -> str:
    """What a template says before the class name."""
    fill(template, "")
    return template.split(SLOT, 1)[0].strip()


def _digest(tensors: Sequence[Tensor]) -> str:
    digest = hashlib.sha256()
    for tensor in tensors:
        plain = tensor.detach().to("cpu", torch.float32).contiguous()
        digest.update(f"{tuple(plain.shape)}".encode())
        digest.update(plain.numpy().tobytes())
    return digest.hexdigest()
