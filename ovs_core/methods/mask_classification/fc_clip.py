"""FC-CLIP: a frozen convolutional CLIP as backbone of the mask generator and as second opinion on each mask.

Paper: Yu et al., "Convolutions Die Hard: Open-Vocabulary Segmentation with Single Frozen Convolutional CLIP",
NeurIPS 2023, arXiv 2308.02487; official code bytedance/fc-clip (Apache-2.0). The trained class
head and the tower's own pooled features are joined by a geometric mean, which trusts the head more on classes
it was trained on.

Deviations: none in numbers. Hidden "everything else" names, if there are any, take part as one more class.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ovs_core.decoders.text_transfer import ToJointSpace
from ovs_core.evidence.base import class_counts
from ovs_core.methods.base import Answer, Kinds, Point
from ovs_core.methods.mask_classification.frame import segment_masks
from ovs_core.methods.mask_classification.head import (
    Classified,
    MaskHead,
    Proposed,
    best_names,
    log_probabilities,
    name_logits,
)
from ovs_core.options import Options
from ovs_core.types import Pyramid, TextBank, Vocabulary

SEEN_EXPONENT, UNSEEN_EXPONENT = 0.4, 0.8  # alpha and beta of the official configurations


@dataclass(frozen=True, eq=False)
class FcClip:
    """A head on one frozen tower.

    Attributes:
        head: trained on this tower.
        to_joint_space: the tower's head, vectors (n, C) of the dense map to (n, D), not normalised.
        logit_scale: logarithm of CLIP's own scale.
        seen: every name, synonyms included, of the classes that the head was trained on.
        resize_masks: order of steps of the answer, see `MaskProposals`; True where official code also
            answers panoptically, as FC-CLIP's COCO weights do.
    """

    head: MaskHead
    to_joint_space: ToJointSpace
    logit_scale: Tensor
    seen: frozenset[str]
    resize_masks: bool = False

    def __post_init__(self) -> None:
        self.head.eval().requires_grad_(False)

    def ask(
        self,
        features: Pyramid,
        text: TextBank,
        options: Options,
        *,
        views: Kinds = frozenset(),
        point: Point = None,
    ) -> Answer:
        """Masks and their classes; views are those of `FC_CLIP_VIEWS`."""
        return segment_masks(self, features, text, views, point)

    @torch.no_grad()
    def name_masks(self, proposed: Proposed, dense: Tensor, vocabulary: Vocabulary) -> Classified:
        """Join what the trained head and the tower's own features say of each mask; `dense` is not read."""
        logits = name_logits(proposed.embeddings, proposed.names, self.logit_scale.to(proposed.names))
        classes = best_names(logits, class_counts(vocabulary))
        seen = seen_classes(vocabulary, self.seen).to(logits.device)
        joined = geometric_ensemble(proposed.in_vocabulary[:, :-1], classes[:, :-1], seen)
        void = proposed.in_vocabulary.softmax(dim=1)[:, -1]
        return Classified(proposed, proposed.names, classes, logits, log_probabilities(joined, void))


def geometric_ensemble(
    in_vocabulary: Tensor,
    out_vocabulary: Tensor,
    seen: Tensor,
    exponents: tuple[float, float] = (SEEN_EXPONENT, UNSEEN_EXPONENT),
) -> Tensor:
    """Join two opinions on (N, K) classes by p_in^(1 - a) * p_out^a, then a soft-max of their logarithm.

    Args:
        in_vocabulary: logits of the trained head.
        out_vocabulary: logits of the tower's features.
        seen: (K,) True for classes the head was trained on.
        exponents: a for these, a for the others.
    """
    weight = torch.where(seen, exponents[0], exponents[1]).to(in_vocabulary)  # (K,)
    known, unknown = in_vocabulary.log_softmax(dim=1), out_vocabulary.log_softmax(dim=1)
    return ((1 - weight) * known + weight * unknown).softmax(dim=1)


def seen_classes(vocabulary: Vocabulary, seen: frozenset[str]) -> Tensor:
    """Whether each class, and last `other` if it has names, shares a name with training, (K,) bool."""
    groups = [*vocabulary.asked, vocabulary.other] if vocabulary.other else vocabulary.asked
    return torch.tensor([not seen.isdisjoint(group) for group in groups])
