"""MAFT+: masks from the tower's own pyramid, named by features that were tuned to follow masks.

Paper: Jiao et al., "Collaborative Vision-Text Representation Optimizing for Open-Vocabulary Segmentation",
ECCV 2024, arXiv 2408.00744; official code jiaosiyu1999/MAFT-Plus fd12806 (MIT). The tower's stride-32 map is
pooled inside each mask, taken through the tower's own head and compared with names that content-dependent
transfer adapted to the photo. Of the trained class head only the probability of "no object" is used.

Deviations: none in numbers. Hidden "everything else" names, if there are any, take part as one more class.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ovs_core.decoders.text_transfer import ImageTokens, ToJointSpace, Transferred, image_tokens
from ovs_core.evidence.base import class_counts
from ovs_core.methods.base import Answer, Kinds, Point
from ovs_core.methods.mask_classification.frame import FrozenDense, segment_masks
from ovs_core.methods.mask_classification.head import (
    Classified,
    MaskHead,
    Proposed,
    best_names,
    log_probabilities,
    name_logits,
)
from ovs_core.options import Option, Options
from ovs_core.types import Pyramid, TextBank, Vocabulary

PER_PIXEL = Option(
    "per_pixel",
    "switch",
    False,
    "Words adapt to the photo place by place, not by the mixed tokens that official weights learnt; with the "
    "embedded model they always do.",
)
OPTIONS = (PER_PIXEL,)


@dataclass(frozen=True, eq=False)
class MaftPlus:
    """A head with content-dependent transfer, on one tower.

    Attributes:
        head: trained on this tower.
        to_joint_space: the tower's head, vectors (n, C) of the dense map to (n, D), not normalised.
        logit_scale: logarithm of CLIP's own scale.
        image_tokens: "official" for the authors' weights, see `ovs_core.decoders.text_transfer`.
        frozen: from a photo's pyramid the dense map (C, h, w) of the tower as it was before tuning; None
            where that tower is not at hand. Only views read it.
    """

    head: MaskHead
    to_joint_space: ToJointSpace
    logit_scale: Tensor
    image_tokens: ImageTokens = "official"
    frozen: FrozenDense | None = None

    def __post_init__(self) -> None:
        if self.head.config.transfer is None:
            raise ValueError("head must have content-dependent transfer; one without it is FC-CLIP's")
        self.head.eval().requires_grad_(False)

    @property
    def resize_masks(self) -> bool:
        """Whether masks are resized before they are weighed: where official code answers panoptically too."""
        return self.head.config.transfer == "panoptic"

    def ask(
        self,
        features: Pyramid,
        text: TextBank,
        options: Options,
        *,
        views: Kinds = frozenset(),
        point: Point = None,
    ) -> Answer:
        """Masks and their classes; views are those of `MAFT_PLUS_VIEWS`."""
        method = replace(self, image_tokens="per_pixel") if options.get(PER_PIXEL.name) else self
        return segment_masks(
            method,
            features,
            text,
            views,
            point,
            frozen=self.frozen,
            spatial_transfer=method.image_tokens == "per_pixel",
        )

    @torch.no_grad()
    def name_masks(self, proposed: Proposed, dense: Tensor, vocabulary: Vocabulary) -> Classified:
        """Compare masks with names adapted to the photo, whose dense map is (C, h, w)."""
        transferred = self.transfer(proposed.names, dense[None])
        rows = transferred.rows[0]
        logits = name_logits(proposed.embeddings, rows, self.logit_scale.to(rows))
        classes = best_names(logits, class_counts(vocabulary))
        void = proposed.in_vocabulary.softmax(dim=1)[:, -1]
        probabilities = log_probabilities(classes[:, :-1].softmax(dim=1), void)
        return Classified(proposed, rows, classes, logits, probabilities, transferred.attention[0])

    def transfer(self, names: Tensor, dense: Tensor) -> Transferred:
        """Adapt unit rows (S + 1, D) to pictures with dense maps (B, C, h, w)."""
        tokens = image_tokens(dense, self.to_joint_space, self.image_tokens).float()
        return self.head.adapt(names, tokens)
