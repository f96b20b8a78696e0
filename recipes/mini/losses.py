"""What a picture teaches: a vocabulary typed for it, and losses of the soft-max over its names.

For each picture a vocabulary is typed as a user would (its classes, some distractors, the hidden "everything
else" names), and the soft-max over names is trained on what is known of each pixel.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ovs_core.encoders.mini import STRIDE
from ovs_core.encoders.upsampling import FINER
from ovs_core.training.data import Sample
from ovs_core.types import IGNORE, UNLISTED
from ovs_core.vocabulary import parse_vocabulary

LABEL_STRIDE = STRIDE // FINER  # pixels per label that the loss sees
TOP, BOTTOM = 0.35, 0.12  # share of a tile that is surely its thing, surely not
REST_WEIGHT = 0.5  # of "surely not" against "surely"
HINT_TOP, HINT_WEIGHT, HINT_PIXELS = 0.12, 0.2, 20
HINTS_CHANCE, NO_DISTRACTOR_CHANCE = 0.5, 0.4

WordTable = Callable[[tuple[str, ...]], Tensor]  # names to unit embeddings (S, D)


class SampledVocabulary(NamedTuple):
    """A vocabulary typed for a sample.

    Attributes:
        rows: names, (S,): of the groups, then hints, then names that may be there, then distractors, then
            everything else.
        row_label: label of each row, (S,), group i being i + 1; 0 = everything else.
        hints: how many labels behind the groups are hints.
        maybe: how many behind those are names that may be there.
    """

    rows: tuple[str, ...]
    row_label: tuple[int, ...]
    hints: int
    maybe: int = 0


def typed_rows(sample: Sample, rng: np.random.Generator) -> SampledVocabulary:
    """Type a vocabulary for `sample` as a user might."""
    hints = sample.hints if rng.random() < HINTS_CHANCE else ()
    labelled = {name for names in sample.groups for name in names}
    hints = tuple(h for h in hints if h not in labelled)
    maybe = tuple(name for name in sample.maybe if name not in labelled and name not in hints)
    count = 0
    if rng.random() >= NO_DISTRACTOR_CHANCE and sample.absent:
        count = int(rng.integers(1, len(sample.absent) + 1))
    distractors = rng.permutation(sample.absent)[:count].tolist() if count else []
    classes = [*sample.groups, *hints, *maybe, *distractors]
    # A picture without any known thing is asked for nothing but everything else.
    vocabulary = parse_vocabulary(classes or ["nothing"])
    return SampledVocabulary(vocabulary.rows, vocabulary.row_label, len(hints), len(maybe))


def sample_loss(logits: Tensor, row_label: Tensor, hints: int, sample: Sample, maybe: int = 0) -> Tensor:
    """Loss of one picture, a scalar.

    Args:
        logits: (S, h, w) on the grid of every LABEL_STRIDE-th pixel.
        row_label: label of each row, (S,), as `typed_rows` gives it.
        hints: how many labels behind the groups are hints.
        sample: what is known of the picture.
        maybe: how many behind the hints are names that unclaimed pixels may show.
    """
    start = LABEL_STRIDE // 2
    labels = (
        torch.from_numpy(sample.labels[start::LABEL_STRIDE, start::LABEL_STRIDE]).long().flatten()
    )  # (h*w,)
    logp = logits.flatten(1).log_softmax(dim=0)  # (S, h*w)
    groups = len(sample.groups)
    if not sample.placed:
        return _tile_loss(logp, row_label, labels, groups)
    hint_loss = _hint_loss(logp, row_label, groups, hints, labels == UNLISTED)
    return _placed_loss(logp, row_label, labels, groups, hints + maybe) + HINT_WEIGHT * hint_loss


def _placed_loss(logp: Tensor, row_label: Tensor, labels: Tensor, groups: int, free: int) -> Tensor:
    """Every labelled pixel shows one of the names of its label; unclaimed ones may show a `free` one too."""
    unclaimed = (row_label == 0) | ((row_label > groups) & (row_label <= groups + free))
    parts, shares = [], []
    for label in range(UNLISTED, groups):
        where = labels == label
        if where.any():
            rows = unclaimed if label == UNLISTED else row_label == label + 1
            parts.append(-logp[rows][:, where].logsumexp(dim=0).mean())
            shares.append(float(where.float().mean()))
    if not parts:
        return logp.sum() * 0
    # Half of the loss counts pixels, half counts classes: mIoU asks for small ones too.
    share, known = torch.tensor(shares), (labels > IGNORE).float().mean()
    return (torch.stack(parts) * (0.5 * share + 0.5 * (share > 0).float() / len(parts) * known)).sum()


def _tile_loss(logp: Tensor, row_label: Tensor, labels: Tensor, groups: int) -> Tensor:
    """Pixels of a tile that look most like its name are it; those that look least like it are not."""
    parts = []
    rest = logp[row_label == 0].logsumexp(dim=0)
    for label in range(groups):
        where = labels == label
        own = logp[row_label == label + 1].logsumexp(dim=0)[where]
        order = (own - rest[where]).detach().argsort()
        low, high = order[: int(BOTTOM * len(order))], order[-int(TOP * len(order)) :]
        parts += [-own[high].mean(), -REST_WEIGHT * rest[where][low].mean()]
    return torch.stack(parts).mean()


def _hint_loss(logp: Tensor, row_label: Tensor, groups: int, hints: int, where: Tensor) -> Tensor:
    """Each name from a caption is right for the unclaimed pixels that look most like it."""
    total = logp.new_zeros(())
    free = int(where.sum())
    if not hints or free < HINT_PIXELS:
        return total
    for label in range(groups + 1, groups + hints + 1):
        own = logp[row_label == label].logsumexp(dim=0)[where]
        total = total - own.topk(max(1, int(HINT_TOP * free))).values.mean()
    return total / hints


def belief_loss(
    scaled: Tensor, words: WordTable, names: tuple[str, ...], believed: Tensor, samples: list[Sample]
) -> Tensor:
    """Divergence of typing the teacher's names from what the teacher believes, mean over tokens.

    Tokens whose mask says something where the teacher sees none of its names are left out: the mask is right.

    Args:
        scaled: scale x unit embeddings of the tokens, (B, h*w, D).
        words: the text tower's word table.
        names: the teacher's, K of them.
        believed: probabilities (B, 1 + K, h, w), row 0 everything else.
        samples: the B pictures.
    """
    vocabulary = parse_vocabulary(names)
    label = torch.tensor(vocabulary.row_label)  # (S,), 0 = everything else
    logits = scaled @ words(vocabulary.rows).T  # (B, h*w, S)
    parts = [logits[..., label == k].logsumexp(dim=-1) for k in range(1 + len(names))]
    logp = torch.stack(parts, dim=-1).log_softmax(dim=-1)  # (B, h*w, 1 + K)
    target = believed.flatten(2).transpose(1, 2)
    start = STRIDE // 2
    labels = torch.from_numpy(np.stack([sample.labels[start::STRIDE, start::STRIDE] for sample in samples]))
    placed = torch.tensor([sample.placed for sample in samples])
    known = (labels.flatten(1) > UNLISTED) & placed[:, None]
    counts = ~(known & (target.argmax(dim=-1) == 0))
    divergence = (target * (target.clamp(min=1e-8).log() - logp)).sum(dim=-1)
    return (divergence * counts).sum() / counts.sum().clamp(min=1)
