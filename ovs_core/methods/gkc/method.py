"""GKC on a pyramid: one pass proposes masks and names them; CLIP's image tower is not asked again.

See `ovs_core.methods.gkc.student`. Inference as the official code's parts say (its evaluation branch cannot
be run): soft-max over names with "no object" among them, masks weighed by their class probabilities. Of
several names of a class the best one counts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from ovs_core.methods.base import Kinds, Point, expect_pyramid
from ovs_core.methods.gkc.student import GkcHead, Proposed, name_logits
from ovs_core.methods.gkc.views import Inside, gkc_views
from ovs_core.methods.mask_head import best_names, class_counts
from ovs_core.types import Features, MaskProposals, Pyramid, Segmentation, TextBank


class Named(NamedTuple):
    """What GKC says of one photo.

    Attributes:
        proposed: masks, a batch of one.
        embeddings: of the queries in the joint space, (N, D), not normalised.
        names: logits per name, "no object" last, (N, S + 1).
        classes: logits per class, "no object" last, (N, K + 1).
    """

    proposed: Proposed
    embeddings: Tensor
    names: Tensor
    classes: Tensor


@dataclass(frozen=True, eq=False)
class Gkc:
    """A trained head on one tower.

    Attributes:
        name: registry name.
        head: trained on this tower.
        resize_masks: order of steps of the answer, see `MaskProposals`.
    """

    name: str
    head: GkcHead
    resize_masks: bool = False

    def __post_init__(self) -> None:
        self.head.eval().requires_grad_(False)

    @torch.no_grad()
    def name_masks(self, pyramid: Pyramid, text: TextBank, *, attention: bool = False) -> Named:
        """Masks of a photo and what they are called, in float32.

        Args:
            pyramid: from the tower the head was trained on.
            text: unit rows from the same model's text tower, of the prompts the head was trained with.
            attention: keep cross-attention maps of every layer.

        Raises:
            ValueError: if maps or text are of another width than the head.
        """
        proposed = self.head.propose([one[None].float() for one in pyramid.maps], attention=attention)
        embeddings = self.head.embeddings(proposed.decoded.predictions[-1])[0]
        rows = self.head.with_void(text.embeddings.to(embeddings))
        names = name_logits(embeddings[None], rows, self.head.logit_scale)[0]
        return Named(proposed, embeddings, names, best_names(names, class_counts(text.vocabulary)))

    @torch.no_grad()
    def segment(
        self, features: Features | Pyramid, text: TextBank, *, views: Kinds = frozenset(), point: Point = None
    ) -> Segmentation:
        """Masks and their classes; views are those of `GKC_VIEWS`."""
        pyramid = expect_pyramid(features, self.name)
        if point is not None and not all(0 <= side <= 1 for side in point):
            raise ValueError(f"point must be (row, column), each in [0, 1], got {point}")
        named = self.name_masks(pyramid, text, attention="query_attention" in views)
        shares = named.classes.softmax(dim=1)
        masks = named.proposed.decoded.predictions[-1].masks[0]
        proposals = MaskProposals(
            masks,
            shares[:, :-1],
            shares[:, -1],
            text.vocabulary,
            pyramid.image_size,
            pyramid.frame,
            pyramid.padded,
            self.resize_masks,
        )
        if not views:
            return Segmentation(proposals)
        inside = Inside(proposals, named.names, named.proposed.decoded, point)
        return Segmentation(proposals, gkc_views(inside, views))
