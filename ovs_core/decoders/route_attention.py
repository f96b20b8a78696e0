"""Route attention: self-attention in which a window of tokens reads only the windows most related to it.

Paper: LDVC (arXiv 2403.08426) names it local consensus self-attention; the windows, their affinity and the
choice are those of BiFormer's bi-level routing attention (2303.08810). Held to rayleizhu/BiFormer (MIT) by
tests; written from the papers.

    q_w, k_w = mean of q, k over a window;  R = q_w k_w^T / sqrt(C);  each window reads its k_top largest of R

No gradient goes through the choice. Two quirks of the official code are settings: attention is scaled by the
full width instead of a head's, and the zero padding that fills windows up counts as tokens. Ours masks it: a
padded token is in no mean and is nobody's key.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_GROUP_BYTES_CPU = 2 << 20  # of gathered keys and values

Scale = Literal["head", "full"]
Padding = Literal["masked", "counted"]


@dataclass(frozen=True)
class RouteConfig:
    """How tokens are routed. Windows and k_top are inferred (BiFormer's at stride 16), not LDVC's own.

    Attributes:
        windows: per side of the map.
        k_top: windows that each window reads.
        scale: attention logits are divided by the root of a head's width, or of the full width (BiFormer).
        padding: whether the tokens that fill windows up are masked, or count as tokens (BiFormer).
        lepe: add a depth-wise 3 x 3 convolution of the values (BiFormer's local enhancement).
    """

    windows: int = 8
    k_top: int = 16
    scale: Scale = "head"
    padding: Padding = "masked"
    lepe: bool = False

    def __post_init__(self) -> None:
        if self.windows < 1:
            raise ValueError(f"windows must be at least 1 per side, got {self.windows}")
        if not 1 <= self.k_top <= self.windows**2:
            raise ValueError(
                f"k_top must lie in 1..{self.windows**2}, the number of windows, got {self.k_top}"
            )


class Routes(NamedTuple):
    """Who reads whom, W = windows * windows, row-major.

    Attributes:
        affinity: of each window to each other, (B, W, W); -inf to windows of padding alone where masked.
        chosen: windows that each window reads, most related first, (B, W, k_top).
        window: (rows, columns) of tokens in a window.
    """

    affinity: Tensor
    chosen: Tensor
    window: tuple[int, int]


class Routed(NamedTuple):
    """What route attention gives.

    Attributes:
        output: (B, H, W, C).
        routes: who read whom; None where every token read every token.
        weights: (B * W, heads, s, k_top * s) attention of a window's s tokens, row-major, to those of the
            chosen windows, most related first; None unless asked for.
    """

    output: Tensor
    routes: Routes | None
    weights: Tensor | None


class RouteAttention(nn.Module):
    """Multi-head self-attention over a map, routed by windows.

    Args:
        width: channels, divisible by `heads`.
        heads: attention heads.
        config: windows and quirks.
        dropout: of attention weights, in training.
    """

    def __init__(self, width: int, heads: int, config: RouteConfig, dropout: float = 0.0) -> None:
        super().__init__()
        self.heads, self.config, self.dropout = heads, config, dropout
        self.q, self.k, self.v, self.proj = (nn.Linear(width, width) for _ in range(4))
        self.lepe = nn.Conv2d(width, width, 3, padding=1, groups=width) if config.lepe else None

    def forward(self, x: Tensor, *, everywhere: bool = False, weights: bool = False) -> Routed:
        """Attend on a map (B, H, W, C) of any size.

        Args:
            x: the map.
            everywhere: let every token read every token, as if k_top were all windows.
            weights: return attention weights as well (slower).
        """
        if everywhere:
            return Routed(self._everywhere(x), None, None)
        size, n = (x.shape[1], x.shape[2]), self.config.windows
        x = F.pad(x, (0, 0, 0, -size[1] % n, 0, -size[0] % n))  # (B, Hp, Wp, C)
        padded = (x.shape[1], x.shape[2])
        real = real_tokens(size, padded, n, x.device) if self._masks(size, padded) else None
        values = self.v(x)
        q, k, v = (split_windows(tokens, n) for tokens in (self.q(x), self.k(x), values))  # (B, W, s, C)
        affinity, chosen = route(q.detach(), k.detach(), self.config.k_top, real)
        y, attention = self._attend(q, k, v, chosen, real, weights)
        y = merge_windows(y, n, padded)[:, : size[0], : size[1]]
        y = self.proj(y + self._local(values, size)) if self.lepe is not None else self.proj(y)
        return Routed(y, Routes(affinity, chosen, (padded[0] // n, padded[1] // n)), attention)

    def _masks(self, size: tuple[int, int], padded: tuple[int, int]) -> bool:
        return self.config.padding == "masked" and size != padded

    def _scale(self, width: int) -> float:
        return float(width if self.config.scale == "full" else width // self.heads) ** -0.5

    def _attend(
        self, q: Tensor, k: Tensor, v: Tensor, chosen: Tensor, real: Tensor | None, weights: bool
    ) -> tuple[Tensor, Tensor | None]:
        """Output (B, W, s, C) of windows of tokens, and the attention weights where asked."""
        batch, count, tokens, width = q.shape
        offset = torch.arange(batch, device=q.device)[:, None, None] * count
        places = (chosen + offset).flatten(0, 1)  # (B*W, k_top), of B * W windows
        shape = (batch * count, tokens, self.heads, width // self.heads)
        queries, keys, values = (tensor.reshape(shape) for tensor in (q, k, v))
        both = torch.cat([keys, values], dim=3)  # (B*W, s, heads, 2 d)
        scale, dropout = self._scale(width), self.dropout if self.training else 0.0
        mixed, attention = [], []
        for part in _groups(len(places), places.shape[1] * tokens * both[0, 0].nbytes, q.device):
            own = places[part]
            gathered = both.index_select(0, own.flatten()).view(len(own), -1, self.heads, both.shape[3])
            key, value = gathered.transpose(1, 2).chunk(2, dim=3)  # (G, heads, k_top*s, d)
            query = queries[part].transpose(1, 2)  # (G, heads, s, d)
            mask = None if real is None else real[own % count].view(len(own), 1, 1, -1)
            mixed.append(
                F.scaled_dot_product_attention(
                    query, key, value, attn_mask=mask, dropout_p=dropout, scale=scale
                )
            )
            if weights:
                attention.append(attention_weights(query, key, scale, mask))
        y = torch.cat(mixed).transpose(1, 2).reshape(batch, count, tokens, width)
        return y, torch.cat(attention) if weights else None

    def _everywhere(self, x: Tensor) -> Tensor:
        size = (x.shape[1], x.shape[2])
        values = self.v(x)
        q, k, v = (split_heads(tokens.flatten(1, 2), self.heads) for tokens in (self.q(x), self.k(x), values))
        dropout = self.dropout if self.training else 0.0
        y = F.scaled_dot_product_attention(q, k, v, dropout_p=dropout, scale=self._scale(x.shape[-1]))
        y = y.transpose(1, 2).reshape(x.shape)
        return self.proj(y + self._local(values, size) if self.lepe is not None else y)

    def _local(self, values: Tensor, size: tuple[int, int]) -> Tensor:
        """The convolution of the values (B, Hp, Wp, C) on the map itself, (B, H, W, C)."""
        if self.lepe is None:
            return torch.zeros_like(values[:, : size[0], : size[1]])
        if self.config.padding == "masked":
            values = values[:, : size[0], : size[1]]
        local: Tensor = self.lepe(values.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return local[:, : size[0], : size[1]]


def _groups(windows: int, nbytes: int, device: torch.device) -> Iterator[slice]:
    """Windows to attend at a time: on a CPU as many as stay in its cache, which halves the time."""
    step = max(1, _GROUP_BYTES_CPU // nbytes) if device.type == "cpu" else windows
    yield from (slice(start, start + step) for start in range(0, windows, step))


def split_heads(x: Tensor, heads: int) -> Tensor:
    """Tokens (B, L, C) as heads have them, (B, heads, L, C / heads)."""
    return x.reshape(*x.shape[:2], heads, -1).transpose(1, 2)


def split_windows(x: Tensor, windows: int) -> Tensor:
    """Cut a map (B, Hp, Wp, C) into windows * windows windows of s tokens, row-major: (B, W, s, C)."""
    batch, height, width, channels = x.shape
    x = x.view(batch, windows, height // windows, windows, width // windows, channels)
    return x.transpose(2, 3).reshape(batch, windows * windows, -1, channels)


def merge_windows(x: Tensor, windows: int, size: tuple[int, int]) -> Tensor:
    """Undo `split_windows`: (B, W, s, C) to (B, Hp, Wp, C)."""
    batch, _, _, channels = x.shape
    height, width = size
    x = x.view(batch, windows, windows, height // windows, width // windows, channels)
    return x.transpose(2, 3).reshape(batch, height, width, channels)


def real_tokens(size: tuple[int, int], padded: tuple[int, int], windows: int, device: torch.device) -> Tensor:
    """Which tokens of which window are no padding, (W, s) bool."""
    rows = torch.arange(padded[0], device=device) < size[0]
    columns = torch.arange(padded[1], device=device) < size[1]
    return split_windows((rows[:, None] & columns)[None, :, :, None], windows)[0, :, :, 0]


def route(q: Tensor, k: Tensor, k_top: int, real: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Affinity (B, W, W) of windows, and for each the k_top it reads, most related first, (B, W, k_top).

    Args:
        q: queries of windows of tokens, (B, W, s, C).
        k: keys of the same.
        k_top: windows to choose.
        real: (W, s) False for padding, which no mean counts; a window of nothing else has affinity -inf.
    """
    if real is None:
        q_windows, k_windows = q.mean(dim=2), k.mean(dim=2)  # (B, W, C)
    else:
        part = real.to(q.dtype) / real.sum(dim=1, keepdim=True).clamp(min=1)
        q_windows, k_windows = (torch.einsum("ws,bwsc->bwc", part, tokens) for tokens in (q, k))
    affinity = q_windows @ k_windows.transpose(1, 2) * q.shape[-1] ** -0.5
    if real is not None:
        affinity = affinity.masked_fill(~real.any(dim=1), float("-inf"))
    return affinity, affinity.topk(k_top, dim=2).indices


def attention_weights(q: Tensor, k: Tensor, scale: float, mask: Tensor | None) -> Tensor:
    """Soft-maxed attention of heads (G, heads, L, d), (G, heads, L, M); 0 where `mask` is False."""
    logits = q @ k.transpose(2, 3) * scale
    return (logits if mask is None else logits.masked_fill(~mask, float("-inf"))).softmax(dim=3)
