"""GKC on a pyramid: one pass proposes masks and names them; CLIP's image tower is not asked again.

See `ovs_core.methods.gkc.student`. Inference as the official code's parts say (its evaluation branch cannot
be run): soft-max over names with "no object" among them, masks weighed by their class probabilities. Of
several names of a class the best one counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from ovs_core.evidence.base import class_counts
from ovs_core.evidence.proposals import MaskProposals
from ovs_core.methods.base import Answer, Kinds, Point, check_point
from ovs_core.methods.gkc.student import GkcHead, Proposed, name_logits, with_dense
from ovs_core.methods.gkc.teacher import Looked, Teacher
from ovs_core.methods.gkc.teacher_views import Lesson, teacher_views
from ovs_core.methods.gkc.views import GkcTrace, gkc_views
from ovs_core.methods.mask_classification.head import best_names
from ovs_core.methods.photo_pyramid import PhotoPyramid
from ovs_core.options import Options
from ovs_core.types import Pyramid, TextBank


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
        head: trained on this tower.
        resize_masks: order of steps of the answer, see `MaskProposals`.
        teacher: frozen CLIP, for views alone; None leaves its views out.
    """

    head: GkcHead
    resize_masks: bool = False
    teacher: Teacher | None = None

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
        maps: Sequence[Tensor] = [level[None].float() for level in pyramid.maps]
        if self.head.config.reads_dense:
            maps = with_dense(maps, pyramid.dense[None].float())
        proposed = self.head.propose(maps, attention=attention)
        embeddings = self.head.embeddings(proposed.decoded.predictions[-1])[0]
        rows = self.head.with_void(text.embeddings.to(embeddings))
        names = name_logits(embeddings[None], rows, self.head.logit_scale)[0]
        return Named(proposed, embeddings, names, best_names(names, class_counts(text.vocabulary)))

    @torch.no_grad()
    def ask(
        self,
        features: Looked,
        text: TextBank,
        options: Options,
        *,
        views: Kinds = frozenset(),
        point: Point = None,
    ) -> Answer:
        """Masks and their classes; views are those of `ovs_core.methods.gkc.captions.GKC_VIEWS`."""
        check_point(point)
        pyramid = features.pyramid if isinstance(features, PhotoPyramid) else features
        named = self.name_masks(pyramid, text, attention="query_attention" in views)
        probabilities = named.classes.softmax(dim=1)
        proposals = MaskProposals(
            named.proposed.decoded.predictions[-1].masks[0],
            probabilities[:, :-1],
            probabilities[:, -1],
            text.vocabulary,
            pyramid.image_size,
            pyramid.frame,
            pyramid.padded,
            self.resize_masks,
        )
        if not views:
            return Answer(proposals)
        rows = text.embeddings.to(named.embeddings)
        trace = GkcTrace(proposals, named.names, named.embeddings, rows, named.proposed.decoded, point)
        shown = gkc_views(trace, views)
        if self.teacher is not None:
            shown += teacher_views(Lesson(trace, self.teacher, features), views)
        return Answer(proposals, shown)
