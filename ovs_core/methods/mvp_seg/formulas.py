"""The formulas of MVP-SEG (arXiv 2304.06957) as pure functions, for inference, views and training alike.

Axis letters as in `ovs_core.types`; V prompts (the global one first, then k views). See
`ovs_core.methods.mvp_seg` for the formulas and for what was inferred.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def fused_scores(features: Tensor, views: Tensor) -> Tensor:
    """Sum over views of the cosines, (..., S, h, w), as one product with the summed embeddings.

    Args:
        features: unit features, (..., D, h, w).
        views: unit text embeddings of the k views, (k, S, D).
    """
    return torch.einsum("sd,...dhw->...shw", views.sum(dim=0), features)


def view_scores(features: Tensor, prompts: Tensor) -> Tensor:
    """Cosine of each prompt apart, (..., V, S, h, w), from (..., D, h, w) and (V, S, D)."""
    return torch.einsum("vsd,...dhw->...vshw", prompts, features)


def pooling_weights(scores: Tensor, gamma: float) -> Tensor:
    """Soft-max over positions of gamma * scores, for scores (..., S, h, w)."""
    return (gamma * scores).flatten(-2).softmax(dim=-1).reshape(scores.shape)


def gate_logits(scores: Tensor, gamma: float, tau2: float | Tensor) -> Tensor:
    """pooled_c / tau2, (..., S), from the global prompt's cosines (..., S, h, w); g_c is its sigmoid."""
    return (scores * pooling_weights(scores, gamma)).sum(dim=(-2, -1)) / tau2


def log_gate(scores: Tensor, gamma: float, tau2: float | Tensor) -> Tensor:
    """Logarithm of g_c, (..., S), from the global prompt's cosines (..., S, h, w)."""
    return F.logsigmoid(gate_logits(scores, gamma, tau2))


def log_probabilities(fused: Tensor, tau1: float | Tensor, log_gates: Tensor | None) -> Tensor:
    """Logarithm of m_c = softmax_c(tau1 * fused) * g_c, (..., S, h, w); of plain m_f without gates.

    Args:
        fused: sums of the views' cosines, (..., S, h, w).
        tau1: temperature.
        log_gates: log g_c, (..., S), or None.
    """
    logs = (tau1 * fused).log_softmax(dim=-3)
    return logs if log_gates is None else logs + log_gates[..., None, None]


def context_cosines(contexts: Tensor) -> Tensor:
    """|cos| between the means of contexts (V, M, C), (V, V)."""
    means = F.normalize(contexts.mean(dim=-2), dim=-1)
    return (means @ means.T).abs()


def orthogonality(views: Tensor) -> Tensor:
    """OCLoss: sum over pairs i < j of |cos| between the mean vectors of contexts (k, M, C), a scalar.

    0 for orthogonal means, k (k - 1) / 2 for equal ones; there its gradient is zero: equal ones stay so.
    """
    return context_cosines(views).triu(diagonal=1).sum()
